"""The parts that most figures share: a heading with its sentences, a scale, labels along the sides of a map, a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyhead.lens.draw.labels import fit
from polyhead.lens.figures.bitmap import LEAST, colours, hexed, ink, png
from polyhead.lens.figures.drawing import (
    INK,
    LINE,
    SOFT,
    Bitmap,
    Box,
    Curve,
    Drawing,
    Label,
    cut,
    spaced,
    width_of,
    wrapped,
)
from polyhead.lens.figures.views import Side, Weights
from polyhead.lens.figures.wording import Language

EDGE = 24.0  # of paper around all
TALL = 17.0  # from line to line of sentences
BOXES = 3600  # cells that are each a shape of SVG, with its words under the pointer; more are one bitmap
MARKS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)
LONGEST = 20  # cells of a terminal that a label may be long


def headed(
    title: str, sentences: Sequence[str], exactness: str, width: float, language: Language
) -> tuple[Drawing, float]:
    """A sheet with its heading, and where the room under it begins."""
    text = ("" if language == "zh" else " ").join(sentences)
    sheet = Drawing(width, 0.0, title, f"{text} {exactness}".strip(), language)
    sheet.add(Label(EDGE, EDGE + 8, cut(title, width - 2 * EDGE, 17), 17, bold=True))
    y = EDGE + 36
    for line, colour in [(line, INK) for line in wrapped(text, width - 2 * EDGE)] + [
        (line, SOFT) for line in wrapped(exactness, width - 2 * EDGE)
    ]:
        sheet.add(Label(EDGE, y, line, 12, colour=colour))
        y += TALL
    return sheet, y + 8


def scale(sheet: Drawing, x: float, y: float, *, width: float = 240.0) -> float:
    """The ramp with its marks in per cent; gives where the room under it begins."""
    ramp = np.linspace(0.0, 1.0, 128)[None] ** 2
    sheet.add(Bitmap(x, y, width, 10, png(colours(ramp))), Box(x, y, width, 10, stroke=LINE, thick=0.75))
    for mark in MARKS:
        at = x + width * mark**0.5
        sheet.add(Curve(((at, y + 10), (at, y + 14)), SOFT, 0.75))
        sheet.add(Label(at, y + 22, f"{100 * mark:.0f}{' %' if mark == 1 else ''}", 10.5, "middle", colour=SOFT))
    return y + 40


def cells(
    sheet: Drawing, x: float, y: float, across: float, down: float, weights: Weights, rows: Side, columns: Side,
    most: int = BOXES,
) -> None:  # fmt: skip
    """A map [rows, columns] whose cells are so large; at most so many of them are boxes."""
    R, C = weights.shape
    painted = colours(weights)
    if R * C > most:
        sheet.add(
            Bitmap(x, y, C * across, R * down, png(painted, least=min(int(4 * max(C * across, R * down)), LEAST)))
        )
    else:
        sheet.add(
            *(
                Box(
                    x + j * across, y + i * down, across, down, hexed(painted[i, j]),
                    title=f"{rows.labels[i]} → {columns.labels[j]}: {percent(weights[i, j])}",
                )
                for i in range(R) for j in range(C)
            )
        )  # fmt: skip
    sheet.add(Box(x, y, C * across, R * down, stroke=LINE, thick=0.75))


def numbers(sheet: Drawing, x: float, y: float, across: float, down: float, weights: Weights) -> None:
    """The weights in per cent on their cells."""
    painted = colours(weights)
    for (i, j), weight in np.ndenumerate(weights):
        at = (x + (j + 0.5) * across, y + (i + 0.5) * down)
        sheet.add(
            Label(*at, "?" if np.isnan(weight) else f"{100 * weight:.0f}", 10.5, "middle", colour=ink(painted[i, j]))
        )


def ticks(side: Side, cell: float, least: float) -> list[tuple[float, str, bool]]:
    """The labels that have room along an axis, each with the middle of its cell in pixels and whether it is a sign."""
    n = len(side.labels)
    several = cell < least
    return [
        ((i + 0.5) * cell, (f"{side.places[i]} " if several else "") + short(side.labels[i]), i in side.signs)
        for i in spaced(n, int(n * cell / least) if several else n)
    ]


def short(label: str) -> str:
    return fit(label, LONGEST)


def left(sheet: Drawing, x: float, y: float, marks: Sequence[tuple[float, str, bool]], size: float = 12.0) -> None:
    """Labels of rows, ending at x."""
    sheet.add(*(Label(x - 6, y + at, text, size, "end", colour=SOFT if sign else INK) for at, text, sign in marks))


def above(sheet: Drawing, x: float, y: float, marks: Sequence[tuple[float, str, bool]], cell: float) -> None:
    """Labels of columns, over y: level where there is room, else slanted, else upright."""
    angle = slant(marks, cell)
    for at, text, sign in marks:
        anchor = "start" if angle else "middle"
        lift = 4 if angle else 10
        sheet.add(Label(x + at, y - lift, text, 12, anchor, colour=SOFT if sign else INK, angle=angle))


def slant(marks: Sequence[tuple[float, str, bool]], cell: float) -> float:
    widest = max((width_of(text) for _, text, _ in marks), default=0.0)
    apart = marks[1][0] - marks[0][0] if len(marks) > 1 else cell
    return 0.0 if widest + 6 <= apart else -45.0 if apart >= 18 else -90.0


def height_above(marks: Sequence[tuple[float, str, bool]], cell: float) -> tuple[float, float]:
    """The room that labels of columns take above a map, and to the right of it."""
    widest = max((width_of(text) for _, text, _ in marks), default=0.0)
    match slant(marks, cell):
        case 0.0:
            return 20.0, 0.0
        case -45.0:
            return 0.71 * widest + 14, max((at + 0.71 * width_of(text) for at, text, _ in marks), default=0.0)
        case _:
            return widest + 10, 0.0


def percent(weight: float) -> str:
    return "?" if np.isnan(weight) else f"{100 * weight:.3g} %"
