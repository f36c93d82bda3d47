"""Weights and words become lines for a terminal: one head as a heat map, all heads as small maps, the strongest links.

Letters: H heads, T words that look (rows), S words looked at (columns).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isnan

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text

from polyhead.errors import ArgumentError
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.labels import fit, graphemes, pad

Weights = NDArray[np.floating]
SENTENCE = "row = the word that looks, column = the word looked at; weights of softmax"
TALLEST = 12  # letters of a label that stands upright


@dataclass(frozen=True)
class Axes:
    """The words along the sides of a map. `quiet` columns (end of sentence, padding) are drawn but never named as a
    strongest link, unless nothing else is left."""

    rows: Sequence[str]
    columns: Sequence[str]
    quiet: Collection[int] = ()

    @property
    def named(self) -> list[int]:
        n = len(self.columns)
        return [j for j in range(n) if j not in self.quiet] or list(range(n))

    def unnamed(self, canvas: Canvas) -> str:
        """Which columns are never named, as the end of a sentence; nothing where all are."""
        some = [
            *dict.fromkeys(
                canvas.labels([self.columns[j] for j in sorted({*range(len(self.columns))} - {*self.named})])
            )
        ]
        return (
            f"; left out: {', '.join(some[:4])}{f' and {len(some) - 4} more' if len(some) > 4 else ''}" if some else ""
        )

    def check(self, weights: Weights, *shape: str) -> None:
        wanted = (len(self.rows), len(self.columns))
        if weights.ndim != len(shape) or weights.shape[-2:] != wanted:
            heads = "heads, " if "H" in shape else ""
            expected = f"[{heads}{wanted[0]} rows, {wanted[1]} columns]"
            raise ArgumentError(f"The weights have shape {list(weights.shape)}; the words ask for {expected}.")
        if not weights.size:
            raise ArgumentError(f"There is nothing to draw: the weights have shape {list(weights.shape)}.")


def head_map(weights: Weights, axes: Axes, *, title: str, canvas: Canvas, values: bool = False) -> list[Text]:
    """One head [T, S], one cell a weight; `values` writes each weight in per cent.

    Columns that do not fit into the width go on below. Labels stand upright where they are long. Raises ArgumentError
    if weights and words disagree, as the other pictures do.
    """
    axes.check(weights, "T", "S")
    top = _top(weights)
    left, head = canvas.labels(axes.rows), canvas.labels(axes.columns)
    margin = max(map(cell_len, left)) + 1
    layout = _layout(head, canvas.width - margin, least=4 if values else 2)
    lines = [Text(f"{title}: {SENTENCE}."), canvas.legend(top), Text()]
    for first in range(0, len(head), layout.across):
        panel = slice(first, first + layout.across)
        lines += [Text(" " * margin + line) for line in layout.header(head[panel], canvas.ellipsis)]
        for label, row in zip(left, weights[:, panel], strict=True):
            texts = [f"{100 * weight:3.0f}" if values and not isnan(weight) else "" for weight in row]
            cells = (canvas.cell(weight / top, layout.cell, text) for weight, text in zip(row, texts, strict=True))
            lines.append(_row(label, margin, cells, layout.gap))
        lines.append(Text())
    return lines


def head_grid(weights: Weights, axes: Axes, *, title: str, canvas: Canvas) -> list[Text]:
    """Every head of a layer [H, T, S] as a small map with its strongest link in words; all maps share one scale.

    A map wider than the terminal shows the largest weight of each square, and says so.
    """
    axes.check(weights, "H", "T", "S")
    top = _top(weights)
    side = max(ceil(len(axes.columns) / canvas.width), 1)
    small = _largest(weights, side)
    zoom = 2 if small.shape[2] <= 12 else 1
    panel = min(max(small.shape[2] * zoom, 18), canvas.width)
    lines = [Text(f"{title}: {SENTENCE}."), canvas.legend(top)]
    for side_of, words in (("rows, from above:", axes.rows), ("columns, from left:", axes.columns)):
        lines.append(Text(fit(" ".join([side_of, *canvas.labels(words)]), canvas.width, canvas.ellipsis), "dim"))
    if unnamed := axes.unnamed(canvas):
        lines.append(Text(f"Above each map, its strongest link{unnamed}."))
    if side > 1:
        lines.append(Text(f"Each cell is the largest of {side} x {side} weights."))
    panels = [
        [
            Text(f"head {number}", "bold"),
            Text(_strongest(head, axes, canvas, panel)),
            *_small_map(picture / top, zoom, canvas),
        ]
        for number, (head, picture) in enumerate(zip(weights, small, strict=True))
    ]
    across = max((canvas.width + 2) // (panel + 2), 1)
    for first in range(0, len(panels), across):
        lines.append(Text())
        lines += _beside(panels[first : first + across], panel, gap=2)
    return [*lines, Text()]


def links(weights: Weights, axes: Axes, *, title: str, canvas: Canvas) -> list[Text]:
    """For every word that looks and every head of a layer [H, T, S]: the word it looks at most, and the weight.

    Heads too many for the width go on below.
    """
    axes.check(weights, "H", "T", "S")
    top, named = _top(weights), axes.named
    left, head = canvas.labels(axes.rows), canvas.labels(axes.columns)
    margin = max(map(cell_len, left)) + 1
    longest = max(cell_len(head[j]) for j in named)
    cell = max(min(longest, 9, canvas.width - margin - 4) + 4, len("head 00"))
    across = _share(len(weights), (canvas.width - margin + 1) // (cell + 1))

    def written(row: Weights) -> Text:
        best = named[int(np.nan_to_num(row[named], nan=-1.0).argmax())]
        label = pad(fit(head[best], cell - 4, canvas.ellipsis), cell - 4)
        return canvas.cell(row[best] / top, cell, label + f"{100 * row[best]:.0f}%".rjust(4))

    said = f"{title}: row = the word that looks; in each column the word that one head looks at most"
    lines = [Text(f"{said}{axes.unnamed(canvas)}.")]
    for first in range(0, len(weights), across):
        some = weights[first : first + across]
        names = " ".join(pad(f"head {first + i}", cell) for i in range(len(some)))
        lines += [Text(), Text(" " * margin + names, "bold")]
        lines += [_row(label, margin, map(written, some[:, i]), gap=1) for i, label in enumerate(left)]
    return [*lines, Text()]


@dataclass(frozen=True)
class _Layout:
    """How the columns of a map are set: cells a column, cells between columns, columns side by side, labels upright."""

    cell: int
    gap: int
    across: int
    upright: bool

    def header(self, labels: Sequence[str], ellipsis: str) -> list[str]:
        space = " " * self.gap
        if not self.upright:
            return [space.join(pad(label, self.cell, "center") for label in labels)]
        stacks = [graphemes(label) for label in labels]
        stacks = [s if len(s) <= TALLEST else [*s[: TALLEST - 1], ellipsis] for s in stacks]
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


def _row(label: str, margin: int, cells: Iterator[Text], gap: int) -> Text:
    """A word that looks, and what stands beside it."""
    return Text(pad(label, margin - 1, "right") + " ").append_text(Text(" " * gap).join(cells))


def _small_map(shares: Weights, zoom: int, canvas: Canvas) -> Iterator[Text]:
    """[T, S] as lines: two weights to a cell, each a square; without colour one weight to a cell."""
    if not (canvas.colours and canvas.blocks) or np.isnan(shares).any():
        for row in shares:
            yield Text().join(canvas.cell(share, zoom) for share in row)
        return
    shares = shares.repeat(zoom, 0).repeat(zoom, 1)
    for i in range(0, len(shares), 2):
        lower = shares[i + 1] if i + 1 < len(shares) else [None] * shares.shape[1]
        yield Text().join(canvas.halves(*pair) for pair in zip(shares[i], lower, strict=True))


def _beside(panels: Sequence[Sequence[Text]], width: int, gap: int) -> Iterator[Text]:
    """Blocks of lines, side by side, each `width` cells wide."""
    for i in range(max(map(len, panels))):
        line = Text()
        for panel in panels:
            part = panel[i] if i < len(panel) else Text()
            line.append_text(part).append(" " * (width - part.cell_len + gap))
        line.rstrip()
        yield line


def _strongest(head: Weights, axes: Axes, canvas: Canvas, width: int) -> str:
    """The strongest link of a head [T, S] in words, which are cut where they are longer than `width` cells allow."""
    named = axes.named
    i, j = divmod(int(np.nan_to_num(head[:, named], nan=-1.0).argmax()), len(named))
    look, looked = canvas.labels([axes.rows[i], axes.columns[named[j]]])
    percent = f"{100 * head[i, named[j]]:.0f}%"
    room = width - len(f" {canvas.arrow}  {percent}")
    look = fit(look, max(room - cell_len(looked), room // 2), canvas.ellipsis)
    looked = fit(looked, room - cell_len(look), canvas.ellipsis)
    return f"{look} {canvas.arrow} {looked} {percent}"


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
