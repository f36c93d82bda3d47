"""Bars in groups: as long as their values, on one scale, each group under its name, nothing outside the sheet."""

from __future__ import annotations

import pytest

from polyhead.lens.figures.drawing import BLUE, Box, Curve, Label, width_of
from polyhead.lens.figures.groups import WIDE, Bar, grouped
from polyhead.lens.figures.sheet import EDGE

BARS = [
    Bar("a translator", "ours fp32", 4.0, 3.0, 5.0, True),
    Bar("a translator", "theirs", 1.0, 1.0, 1.0, False),
    Bar("an encoder", "ours fp32", 0.5, 0.25, 0.75, True),
]


def test_bars_and_intervals_are_as_long_as_their_numbers_on_one_scale() -> None:
    drawing = grouped("A title", ["A sentence."], BARS, "A note " * 60, "en", mark=1.0)
    boxes = [shape for shape in drawing.shapes if isinstance(shape, Box)]
    unit = boxes[0].width / BARS[0].value
    assert [box.width / unit for box in boxes] == pytest.approx([bar.value for bar in BARS])
    assert [box.fill == BLUE for box in boxes] == [True, False, True]
    start = boxes[0].x
    lines = [shape.points for shape in drawing.shapes if isinstance(shape, Curve) and shape.thick == 1.6]
    for ((low, _), (high, _)), bar in zip(lines, BARS, strict=True):
        assert ((low - start) / unit, (high - start) / unit) == pytest.approx((bar.low, bar.high))
    labels = [shape for shape in drawing.shapes if isinstance(shape, Label)]
    assert [label.text for label in labels if label.size == 13] == ["a translator", "an encoder"]
    for label in labels:
        right = label.x if label.anchor == "end" else label.x + width_of(label.text, label.size)
        assert 0 <= label.x <= right <= WIDE and 0 <= label.y <= drawing.height - EDGE / 2
