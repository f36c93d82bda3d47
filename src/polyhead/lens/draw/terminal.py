"""Weights and words become lines for a terminal: one head as a heat map, all heads as small maps, the strongest links.

Letters: H heads, T words that look (rows), S words looked at (columns). A cell is one place of the terminal; a Chinese
character takes two. Colour is used where the terminal has 256 colours or more and NO_COLOR is not set; shades of block
characters elsewhere, and ASCII where the encoding has no blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isnan

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from polyhead.errors import ArgumentError
from polyhead.lens.draw.colour import colour, in_cube, ink_on
from polyhead.lens.draw.labels import fit, graphemes, pad, printable

Weights = NDArray[np.floating]
SENTENCE = "row = the word that looks, column = the word looked at; weights of softmax"
LONGEST_LABEL = 20  # cells; what is longer is cut with an ellipsis


@dataclass(frozen=True, kw_only=True)
class Ink:
    """What the terminal can show: how many colours, where fewer than 256 count as none; and its encoding."""

    colours: int  # 0, 256 or 16,777,216
    encoding: str = "utf-8"

    @classmethod
    def of(cls, console: Console) -> Ink:
        many = {} if console.no_color else {"truecolor": 16_777_216, "256": 256}
        return cls(colours=many.get(console.color_system or "", 0), encoding=console.encoding)

    @property
    def blocks(self) -> bool:
        return self.encoding.lower().startswith("utf")

    @property
    def shades(self) -> str:
        return "·░▒▓█" if self.blocks else ".:+#@"

    @property
    def arrow(self) -> str:
        return "→" if self.blocks else "->"

    @property
    def ellipsis(self) -> str:
        return "…" if self.blocks else "~"

    def labels(self, tokens: Sequence[str]) -> list[str]:
        return [fit(printable(token, self.encoding), LONGEST_LABEL, self.ellipsis) for token in tokens]

    def cell(self, share: float, width: int, text: str = "") -> Text:
        """One weight, as a share of the scale, `width` cells wide; `text` is written on it. NaN is shown as ?."""
        if isnan(share):
            return Text("?" * width)
        if not self.colours:
            return Text(pad(text, width, "center") if text else self.shades[min(int(share * 5), 4)] * width)
        ground, ink = self.paint(share)
        return Text(pad(text, width, "center"), Style(color=ink, bgcolor=ground))

    def halves(self, upper: float, lower: float | None) -> Text:
        """Two weights, one above the other, in one cell."""
        ground = None if lower is None else self.paint(lower)[0]
        return Text("▀", Style(color=self.paint(upper)[0], bgcolor=ground))

    def paint(self, share: float) -> tuple[Color, Color]:
        """The colour of a share, and the colour to write on it with."""
        if self.colours == 256:
            number, rgb = in_cube(share)
            return Color.from_ansi(number), Color.from_rgb(*ink_on(rgb))
        rgb = colour(share)
        return Color.from_rgb(*rgb), Color.from_rgb(*ink_on(rgb))


def head_map(
    weights: Weights,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    ink: Ink,
    width: int = 80,
    values: bool = False,
) -> list[Text]:
    """One head, one cell a weight.

    weights [T, S]; rows T words; columns S words. `values` writes each weight in per cent. Columns that do not fit into
    `width` cells go on below. Labels stand upright where they are long. Errors: ArgumentError if the shapes disagree.
    """
    weights = _checked(weights, rows, columns, heads=False)
    top = _top(weights)
    left, head = ink.labels(rows), ink.labels(columns)
    margin = max(map(cell_len, left)) + 1
    layout = _layout(head, width - margin, least=4 if values else 2)
    lines = [Text(f"{title}: {SENTENCE}."), legend(top, ink), Text()]
    for first in range(0, len(head), layout.across):
        panel = slice(first, first + layout.across)
        lines += [Text(" " * margin + line) for line in layout.header(head[panel])]
        for label, row in zip(left, weights[:, panel], strict=True):
            line = Text(pad(label, margin - 1, "right") + " ")
            for weight in row:
                text = f"{100 * weight:3.0f}" if values and not isnan(weight) else ""
                line.append_text(ink.cell(weight / top, layout.cell, text)).append(" " * layout.gap)
            lines.append(line)
        lines.append(Text())
    return lines


def head_grid(
    weights: Weights,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    ink: Ink,
    width: int = 80,
    quiet: Collection[int] = (),
) -> list[Text]:
    """Every head of a layer as a small map with its strongest link in words; all maps share one scale.

    weights [H, T, S]; rows T words; columns S words. `quiet` columns (end of sentence, padding) are drawn but not named
    as the strongest link. A map wider than the terminal shows the largest weight of each square, and says so.
    """
    weights = _checked(weights, rows, columns, heads=True)
    top = _top(weights)
    side = max(ceil(len(columns) / width), 1)
    small = _largest(weights, side)
    zoom = 2 if small.shape[2] <= 12 else 1
    panel = min(max(small.shape[2] * zoom, 18), width)
    lines = [Text(f"{title}: {SENTENCE}."), legend(top, ink)]
    if side > 1:
        lines.append(Text(f"Each cell is the largest of {side} x {side} weights."))
    panels = [
        [
            Text(f"head {number}", "bold"),
            Text(_link(head, rows, columns, quiet, ink, panel)),
            *_small_map(picture / top, zoom, ink),
        ]
        for number, (head, picture) in enumerate(zip(weights, small, strict=True))
    ]
    across = max((width + 2) // (panel + 2), 1)
    for first in range(0, len(panels), across):
        lines.append(Text())
        lines += _beside(panels[first : first + across], panel, gap=2)
    return [*lines, Text()]


def links(
    weights: Weights,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    ink: Ink,
    width: int = 80,
    quiet: Collection[int] = (),
) -> list[Text]:
    """For every word that looks and every head: the word it looks at most, and the weight.

    weights [H, T, S]; rows T words; columns S words; `quiet` columns are never named. Heads too many for `width` cells
    go on below.
    """
    weights = _checked(weights, rows, columns, heads=True)
    top = _top(weights)
    left, head = ink.labels(rows), ink.labels(columns)
    margin = max(map(cell_len, left)) + 1
    named = _named(len(columns), quiet)
    cell = max(min(max(cell_len(head[j]) for j in named), 9) + 4, len("head 00"))
    across = _share(len(weights), (width - margin + 1) // (cell + 1))
    lines = [Text(f"{title}: row = the word that looks; in each column the word that one head looks at most.")]
    for first in range(0, len(weights), across):
        some = weights[first : first + across]
        names = " ".join(pad(f"head {first + i}", cell) for i in range(len(some)))
        lines += [Text(), Text(" " * margin + names, "bold")]
        for i, label in enumerate(left):
            line = Text(pad(label, margin - 1, "right") + " ")
            for row in some[:, i]:
                best = named[int(np.nan_to_num(row[named], nan=-1.0).argmax())]
                text = pad(fit(head[best], cell - 4, ink.ellipsis), cell - 4) + f"{100 * row[best]:.0f}%".rjust(4)
                line.append_text(ink.cell(row[best] / top, cell, text)).append(" ")
            lines.append(line)
    return [*lines, Text()]


def plain(text: str, ink: Ink) -> str:
    """A line of text with its spaces, safe to print."""
    return " ".join(printable(part, ink.encoding) for part in text.split(" ") if part)


def legend(top: float, ink: Ink) -> Text:
    """The scale, from nothing to the largest weight shown."""
    line = Text("0% ")
    if ink.colours:
        for step in range(20):
            line.append_text(ink.cell(step / 19, 1))
    else:
        line.append(ink.shades)
    return line.append(f" {100 * top:.0f}%")


@dataclass(frozen=True)
class _Layout:
    """How the columns of a map are set: cells a column, cells between columns, columns side by side, labels upright."""

    cell: int
    gap: int
    across: int
    upright: bool

    def header(self, labels: Sequence[str]) -> list[str]:
        space = " " * self.gap
        if not self.upright:
            return [space.join(pad(label, self.cell, "center") for label in labels)]
        stacks = [graphemes(label) for label in labels]
        height = max(map(len, stacks))
        stacks = [[""] * (height - len(stack)) + stack for stack in stacks]  # the last letter stands on the map
        return [space.join(pad(part, self.cell, "center") for part in line) for line in zip(*stacks, strict=True)]


def _layout(labels: Sequence[str], width: int, least: int) -> _Layout:
    """Level labels while they are short and fit; else upright ones, close together if need be; else several panels."""
    longest = max(map(cell_len, labels))
    level = max(longest, least)
    if longest <= 8 and len(labels) * (level + 1) <= width:
        return _Layout(level, 1, len(labels), upright=False)
    gap = 1 if len(labels) * (least + 1) <= width else 0
    return _Layout(least, gap, _share(len(labels), width // (least + gap)), upright=True)


def _share(total: int, most: int) -> int:
    """How many of `total` things to set in one panel that holds `most`, so that all panels are about equally full."""
    return ceil(total / ceil(total / max(most, 1)))


def _small_map(shares: Weights, zoom: int, ink: Ink) -> Iterator[Text]:
    """[T, S] as lines: two weights to a cell, each a square; without colour one weight to a cell."""
    if not (ink.colours and ink.blocks) or np.isnan(shares).any():
        for row in shares:
            yield Text().join(ink.cell(share, zoom) for share in row)
        return
    shares = shares.repeat(zoom, 0).repeat(zoom, 1)
    for i in range(0, len(shares), 2):
        lower = shares[i + 1] if i + 1 < len(shares) else [None] * shares.shape[1]
        yield Text().join(ink.halves(*pair) for pair in zip(shares[i], lower, strict=True))


def _beside(panels: Sequence[Sequence[Text]], width: int, gap: int) -> Iterator[Text]:
    """Blocks of lines, side by side, each `width` cells wide."""
    for i in range(max(map(len, panels))):
        line = Text()
        for panel in panels:
            part = panel[i] if i < len(panel) else Text()
            line.append_text(part).append(" " * (width - part.cell_len + gap))
        line.rstrip()
        yield line


def _link(
    head: Weights, rows: Sequence[str], columns: Sequence[str], quiet: Collection[int], ink: Ink, width: int
) -> str:
    """The strongest link of a head [T, S] in words, which are cut where they are longer than `width` cells allow."""
    named = _named(len(columns), quiet)
    seen = np.nan_to_num(head[:, named], nan=-1.0)
    i, j = divmod(int(seen.argmax()), len(named))
    look, looked = ink.labels([rows[i], columns[named[j]]])
    percent = f"{100 * head[i, named[j]]:.0f}%"
    room = width - len(f" {ink.arrow}  {percent}")
    look = fit(look, max(room - cell_len(looked), room // 2), ink.ellipsis)
    looked = fit(looked, room - cell_len(look), ink.ellipsis)
    return f"{look} {ink.arrow} {looked} {percent}"


def _named(n: int, quiet: Collection[int]) -> list[int]:
    """The columns that may be named as the strongest: all but the quiet ones, unless nothing else is left."""
    return [j for j in range(n) if j not in quiet] or list(range(n))


def _largest(weights: Weights, side: int) -> Weights:
    """[H, T, S] -> the largest weight of every square of `side` x `side`, so that thin bright lines survive."""
    if side == 1:
        return weights
    H, T, S = weights.shape
    padded = np.pad(weights, ((0, 0), (0, -T % side), (0, -S % side)), constant_values=0)
    return padded.reshape(H, ceil(T / side), side, ceil(S / side), side).max(axis=(2, 4))


def _top(weights: Weights) -> float:
    """The end of the scale: 1, or the largest weight shown where all are small, so that a long text is not all dark."""
    largest = float(np.nan_to_num(weights, nan=0.0).max())
    return largest if 0 < largest < 0.25 else 1.0


def _checked(weights: Weights, rows: Sequence[str], columns: Sequence[str], *, heads: bool) -> Weights:
    weights = np.asarray(weights, dtype=np.float64)
    wanted = (len(rows), len(columns))
    if weights.ndim != 2 + heads or weights.shape[-2:] != wanted:
        expected = f"[{'heads, ' if heads else ''}{wanted[0]} rows, {wanted[1]} columns]"
        raise ArgumentError(f"The weights have shape {list(weights.shape)}; the words ask for {expected}.")
    if not weights.size:
        raise ArgumentError(f"There is nothing to draw: the weights have shape {list(weights.shape)}.")
    return weights
