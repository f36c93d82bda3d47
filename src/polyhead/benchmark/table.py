"""What was measured becomes lines of a terminal: a figure, its spread, its ratio and a bar for each engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from textwrap import wrap

from rich.cells import cell_len
from rich.text import Text

from polyhead.benchmark.result import Comparison, Line, Measured
from polyhead.benchmark.wording import Language, heading, said, writes

EIGHTHS = " ▏▎▍▌▋▊▉█"
LONGEST = 40  # columns of the longest bar
OURS, PEERS = "bright_blue", "bright_black"


def table(
    found: Measured, *, width: int, language: Language, show: Callable[[str], str] = str, blocks: bool = True
) -> Text:
    """The table of all comparisons, in so many columns. show: how a text of others is made safe. blocks: whether the
    terminal has the letters that bars are drawn with."""
    spread = found.rounds > 1
    heads = [head(each, language, spread=spread) for each in found.comparisons]
    every = [*heads, *(some for each in found.comparisons for some, _ in rows(each, spread=spread))]
    widths = [max(cell_len(some[i]) for some in every if len(some) > 1) for i in range(len(heads[0]))]
    widths[0] = max(cell_len(some[0]) for some in every)
    room = room_of(width, widths)
    most = max(each.ratios(line)[0] for each in found.comparisons for line in each.lines if line.speeds)
    text = Text()
    for each, names in zip(found.comparisons, heads, strict=True):
        text.append("\n" if text else "")
        text.append(show(heading(each, language)) + "\n\n", "bold")
        laid(text, names, widths, Text(" " * room), "bright_black")
        for some, line in rows(each, spread=spread):
            if not line.speeds:
                told = wrap(show(line.why), max(width - widths[0] - 2, 20))
                indent = "\n" + " " * (widths[0] + 2)
                text.append(f"{padded(some[0], widths[0])}  {indent.join(told)}\n", "bright_black")
                continue
            bar = drawn(each.ratios(line)[0] / most * room, room, blocks=blocks)
            laid(text, some, widths, Text(bar, OURS if line.engine == "polyhead" else PEERS))
        if any(line.parts for line in each.lines):
            text.append("\n")
            text.append_text(parted(each, widths[0], width, language, blocks=blocks))
    return text


def room_of(width: int, cells: Sequence[int]) -> int:
    """What cells leave for a bar behind them."""
    return min(max(width - sum(cells) - 2 * len(cells), 8), LONGEST)


def parted(of: Comparison, first: int, width: int, language: Language, *, blocks: bool) -> Text:
    """Where the time goes in engines that tell, in so many columns: three shares of each, and one bar that is cut into
    them. first: columns of the names."""
    names = ("products", "attention", "rest")
    widths = [first, *(max(4, cell_len(said(name, language))) for name in names)]
    room = room_of(width, [*widths, 0])
    text = Text()
    laid(
        text,
        [said("parts", language), *(said(name, language) for name in names), ""],
        [*widths, 0],
        Text(),
        "bright_black",
    )
    for line in of.lines:
        if line.parts:
            ends = [round(room * sum(line.parts.shares[:n])) for n in range(4)]
            signs = "█▓░" if blocks else "#=."
            bar = "".join(sign * (end - start) for sign, start, end in zip(signs, ends[:-1], ends[1:], strict=True))
            cells = [line.name, *(f"{share:.0%}" for share in line.parts.shares), ""]
            laid(text, cells, [*widths, 0], Text(bar, OURS if line.engine == "polyhead" else PEERS))
    return text


def head(of: Comparison, language: Language, *, spread: bool) -> list[str]:
    """The names of the columns; spread: whether there is one for it, of several rounds."""
    keys = ("engine", of.unit, *(["spread"] if spread else []), "ratio", "same" if writes(of) else "cosine")
    return [said(key, language) for key in keys]


def rows(of: Comparison, *, spread: bool) -> list[tuple[list[str], Line]]:
    """The cells of each line; of those of an engine that do not run for the same reason, one with their name."""
    found: list[tuple[list[str], Line]] = []
    for (engine, why), alike in groupby(of.lines, lambda line: (line.engine, line.why)):
        lines = list(alike)
        if why:
            whole = len(lines) == sum(line.engine == engine for line in of.lines)
            precisions = [] if whole and len(lines) > 1 else [", ".join(line.precision for line in lines)]
            found.append(([" ".join([engine, *precisions])], lines[0]))
        else:
            found += [(row(of, line, spread=spread), line) for line in lines]
    return found


def row(of: Comparison, line: Line, *, spread: bool) -> list[str]:
    agrees = "" if line.agrees is None else f"{line.agrees:.0%}" if writes(of) else f"{line.agrees:.4f}"
    spreads = [f"{line.spread:.0%}"] if spread else []
    return [line.name, figure(line.median), *spreads, f"{of.ratios(line)[0]:.2f}x", agrees]


def figure(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def laid(text: Text, cells: Sequence[str], widths: Sequence[int], bar: Text, style: str = "") -> None:
    """A line: the name at the left, figures at the right of their columns, the bar before the last."""
    name, *figures = (
        padded(cell, width, right=i > 0) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    text.append("  ".join([name, *figures[:-1]]) + "  ", style)
    text.append_text(bar)
    text.append(f"  {figures[-1]}\n", style)


def padded(cell: str, width: int, *, right: bool = False) -> str:
    """The cell in so many columns of a terminal, where a Chinese character takes two."""
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space


def drawn(length: float, room: int, *, blocks: bool) -> str:
    """A bar of so many columns, to an eighth of one."""
    if not blocks:
        return ("#" * round(length)).ljust(room)
    whole, rest = divmod(round(8 * length), 8)
    return (EIGHTHS[8] * whole + (EIGHTHS[rest] if rest else "")).ljust(room)
