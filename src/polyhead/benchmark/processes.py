"""Engines in processes of their own take turns in rounds. An engine times its own work, so that the transport is never
in a figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from polyhead.processes import Process

PAUSE = 0.3  # seconds between two measurements, in which the threads of the engine before stop spinning

T = TypeVar("T")


class Engine(Process):
    """A process that measures one engine, and fetches nothing."""

    def __init__(
        self, *command: str, threads: int, paths: Sequence[Path] = (), errors: IO[Any] | None = None, **environment: str
    ) -> None:
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        quiet["KINETO_LOG_LEVEL"] = "99"  # of PyTorch's profiler, which says when it begins and ends
        super().__init__(*command, threads=threads, paths=paths, errors=errors, **quiet, **environment)

    def end(self) -> str:
        return f"The engine {self.name} ended at '{self.verb}'{self.last_words()}"

    def last_words(self) -> str:
        """What is known of an end that nobody asked for."""
        return ""


def interleaved(
    engines: Mapping[str, Callable[[], T]],
    *,
    rounds: int,
    say: str = "",
    warm: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, list[T]]:
    """A B C A B C ...: the answers of each, one a round; a first round, not kept, warms up. `tell` hears how far."""
    answers: dict[str, list[T]] = {name: [] for name in engines}
    for n in range(0 if warm else 1, rounds + 1):
        tell(f"{say}: round {n} of {rounds}" if n else f"{say}: warming up")
        for name, ask in engines.items():
            time.sleep(PAUSE)
            answer = ask()
            if n:
                answers[name].append(answer)
    return answers
