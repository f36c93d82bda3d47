"""How far the training is goes in; a live bar comes out on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column


class Screen(Protocol):
    """Where a training tells a person how it goes."""

    def say(self, text: str) -> None:
        """One line that stays."""
        ...

    def move(self, share: float, line: str) -> None:
        """After every step: the share done, 0 to 1, and the numbers of now."""
        ...

    def log(self, line: str) -> None:
        """The same numbers, as often as they are written to the metrics."""
        ...

    def close(self) -> None: ...


class Live:
    """One bar with its numbers, drawn in place; on a narrow terminal they take several lines, and none is cut off."""

    def __init__(self, console: Console) -> None:
        bar = BarColumn(min(24, console.width // 4), table_column=Column(no_wrap=True))
        numbers = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
        self.progress = Progress(bar, numbers, console=console)
        self.task = self.progress.add_task("", total=1.0)
        self.progress.start()

    def say(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False)

    def move(self, share: float, line: str) -> None:
        self.progress.update(self.task, completed=share, description=line)

    def log(self, line: str) -> None: ...

    def close(self) -> None:
        self.progress.stop()


class Plain:
    """A line each time, for files and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def move(self, share: float, line: str) -> None: ...

    def log(self, line: str) -> None:
        self.say(line)

    def close(self) -> None: ...


def screen(console: Console) -> Screen:
    """A bar where it can be drawn, lines where it cannot."""
    return Live(console) if console.is_terminal else Plain(console)


def line(step: int, values: Mapping[str, float], scores: Mapping[str, float], left: float | None) -> str:
    """The numbers of a step, the time left first and what the last evaluation found last:

    "left 0:41:10  epoch 3  step 1200  loss 2.410  lr 4.1e-04  5,480 tokens/s  valid loss 2.31  chrf 41.2".
    """
    parts = [
        *([] if left is None else [f"left {clock(left)}"]),
        f"epoch {values['epoch']:.0f}",
        f"step {step}",
        f"loss {values['train/loss']:.3f}",
        f"lr {values['lr']:.1e}",
        f"{values['tokens_per_second']:,.0f} tokens/s",
        *(f"{'valid loss' if name == 'loss' else name} {value:.4g}" for name, value in scores.items()),
    ]
    return "  ".join(parts)


def share_and_left(*, step: int, steps: int, seconds: float, limit: float, pace: float) -> tuple[float, float | None]:
    """How far the training is, 0 to 1, and the seconds to go, by the limit that comes first; a limit of 0 is none.

    `step` of `steps` at `pace` seconds a step, `seconds` of `limit`. Without a limit nobody knows: (0, None).
    """
    ends: list[tuple[float, float]] = []
    if steps:
        ends.append(((steps - step) * pace, step / steps))
    if limit:
        ends.append((limit - seconds, seconds / limit))
    left, share = min(ends, default=(None, 0.0))
    return min(1.0, share), None if left is None else max(0.0, left)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
