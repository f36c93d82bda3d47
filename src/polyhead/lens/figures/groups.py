"""Numbers in groups as bars, each with its interval: one drawing, on a scale that begins at nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from polyhead.lens.figures import sheet
from polyhead.lens.figures.bars import PALE
from polyhead.lens.figures.drawing import BLUE, INK, LINE, SOFT, Box, Curve, Drawing, Label, cut, width_of, wrapped
from polyhead.lens.figures.sheet import EDGE
from polyhead.lens.language import Language

WIDE = 760.0
STEP = 22.0
GREY = "#9aa7b5"
ROOM = 64.0  # for the figure behind a bar


class Bar(NamedTuple):
    """own: whether it stands out."""

    group: str
    name: str
    value: float
    low: float
    high: float
    own: bool


def grouped(
    title: str,
    sentences: Sequence[str],
    bars: Sequence[Bar],
    notes: str,
    language: Language,
    *,
    mark: float | None = None,
) -> Drawing:
    """Bars one under the other, those of a group under its name. mark: a value with a line through all bars."""
    drawing, y = sheet.headed(title, sentences, "", WIDE, language)
    x = EDGE + max(width_of(bar.name) for bar in bars) + 12
    room = WIDE - EDGE - ROOM - x
    most = max(bar.high for bar in bars)

    def at(value: float) -> float:
        return x + room * value / most

    for group, some in groupby(bars, lambda bar: bar.group):
        inside = list(some)
        drawing.add(Label(EDGE, y + STEP / 2, cut(group, WIDE - 2 * EDGE, 13), 13, bold=True))
        y += STEP + 4
        end = y + len(inside) * STEP
        if mark is not None:
            drawing.add(Curve(((at(mark), y - 2), (at(mark), end + 2)), LINE))
        for bar in inside:
            middle = y + STEP / 2
            told = f"{bar.name}: {bar.value:.2f}x"
            drawing.add(
                Label(x - 8, middle, bar.name, 12, "end"),
                Box(x, middle - 7, at(bar.value) - x, 14, BLUE if bar.own else GREY, title=told),
                Curve(((at(bar.low), middle), (at(bar.high), middle)), PALE, 3.4),
                Curve(((at(bar.low), middle), (at(bar.high), middle)), INK, 1.6),
                Label(max(at(bar.high), at(bar.value)) + 8, middle, f"{bar.value:.2f}x", 12, bold=bar.own),
            )
            y += STEP
        drawing.add(Curve(((x, end - len(inside) * STEP - 2), (x, end + 2)), SOFT))
        y += 14
    for line in wrapped(notes, WIDE - 2 * EDGE, 11):
        drawing.add(Label(EDGE, y + 8, line, 11, colour=SOFT))
        y += 16
    drawing.height = y + EDGE
    return drawing
