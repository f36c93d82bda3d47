"""Maps of heads: one large with the words of both sides, or all of a layer, or of a model, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from polyhead.errors import ArgumentError
from polyhead.lens.draw.labels import shown
from polyhead.lens.exactness import in_chinese
from polyhead.lens.figures import sheet
from polyhead.lens.figures.drawing import SOFT, Drawing, Label, cut, width_of
from polyhead.lens.figures.sheet import EDGE
from polyhead.lens.figures.views import Looking, Row, View
from polyhead.lens.figures.wording import said
from polyhead.lens.page.scene import Shown

WIDE = 760.0  # of a figure, at least
LARGE, SMALL = 40.0, 12.0  # a cell with words, at most and at least
MAP = 560.0  # the longer side of a map without room for words
SIDES = (132.0, 78.0)  # the longer side of a small map: of one layer, of a model
ACROSS = 16  # heads in a line, at most
ALL_BOXES = 8000  # cells of a sheet that are each a shape of SVG
WRITTEN = 20  # columns whose cells are wide enough for numbers


def head_map(looking: Looking, call: Shown, head: int, *, values: bool) -> tuple[Drawing, list[Row]]:
    """One head as a large map; `values` writes each weight in per cent."""
    view = looking.view(call, [head])
    weights, (R, C) = view.weights[0], view.weights.shape[1:]
    if values and max(R, C) > WRITTEN:
        raise ArgumentError(f"values are written on maps of up to {WRITTEN} x {WRITTEN} words; this one has {R} x {C}")
    cell = min(max(MAP / max(R, C), SMALL if max(R, C) <= 90 else 0.0), LARGE)
    across, down = max(cell, 60 / C), max(cell, 60 / R)
    rows, columns = sheet.ticks(view.rows, down, 14.0), sheet.ticks(view.columns, across, 14.0)
    top, over = sheet.height_above(columns, across)
    margin = max(width_of(text) for _, text, _ in rows) + 34
    width = max(WIDE, EDGE + margin + max(C * across, over) + EDGE)
    title = titled(looking, looking.name(call, head))
    drawing, y = sheet.headed(title, view.told, exactness(looking, call), width, looking.language)
    y = sheet.scale(drawing, EDGE, y) + 4
    x = EDGE + margin
    drawing.add(Label(x, y, said("looked", looking.language, view.columns.title) + " →", 12, bold=True, colour=SOFT))
    y += 10 + top
    drawing.add(
        Label(
            EDGE + 8,
            y,
            "← " + said("looks", looking.language, view.rows.title),
            12,
            "end",
            bold=True,
            colour=SOFT,
            angle=-90,
        )
    )
    sheet.cells(drawing, x, y, across, down, weights, view.rows, view.columns)
    if values:
        sheet.numbers(drawing, x, y, across, down, weights)
    sheet.left(drawing, x, y, rows)
    sheet.above(drawing, x, y, columns, across)
    tall = width_of(said("looks", looking.language, view.rows.title)) + 20
    drawing.height = y + max(R * down, tall) + EDGE
    return drawing, [*view.lines()]


def head_sheet(looking: Looking, calls: Sequence[Shown]) -> tuple[Drawing, list[Row]]:
    """Every head of one call as a small map, or of several, a line for each."""
    one = len(calls) == 1
    views = [looking.view(call, range(call.facts.shape[1])) if one else looking.small(call) for call in calls]
    side, most_heads = SIDES[not one], max(max(len(view.heads) for view in views), 1)
    across = min(most_heads, 5) if one else ceil(most_heads / ceil(most_heads / ACROSS))
    lines = [
        (said("layer", looking.language, view.call.layer), said(view.call.facts.part, looking.language))
        for view in views
    ]
    gap, left = 14.0, 0.0 if one else max(max(width_of(layer), width_of(part, 10)) for layer, part in lines) + 14
    width = max(WIDE, 2 * EDGE + left + across * (side + gap) - gap)
    what = (
        f"{looking.name(calls[0])} · {said('every head', looking.language)}"
        if one
        else said("every layer", looking.language)
    )
    told = dict.fromkeys(sentence for view in views for sentence in view.told)
    drawing, y = sheet.headed(titled(looking, what), [*told], exactness(looking, *calls), width, looking.language)
    most = sheet.BOXES if sum(view.weights.size for view in views) <= ALL_BOXES else 0
    if one:
        for key, axis in (("rows", views[0].rows), ("columns", views[0].columns)):
            line = said(key, looking.language, " ".join(map(sheet.short, axis.labels[:200])))
            drawing.add(Label(EDGE, y, cut(line, width - 2 * EDGE), 12, colour=SOFT))
            y += sheet.TALL
        y += 6
    y = sheet.scale(drawing, EDGE, y) + 8
    for view, (layer, part) in zip(views, lines, strict=True):
        for first in range(0, len(view.heads), across):
            some = range(first, min(first + across, len(view.heads)))
            if not one and first == 0:
                drawing.add(Label(EDGE, y + 26, layer, 12, bold=True), Label(EDGE, y + 42, part, 10, colour=SOFT))
            y += small_maps(looking, drawing, EDGE + left, y, side, gap, view, some, most)
    drawing.height = y + EDGE - 8
    return drawing, [line for view in views for line in view.lines()]


def small_maps(
    looking: Looking, drawing: Drawing, x: float, y: float, side: float, gap: float, view: View, some: range, most: int
) -> float:
    """A line of small maps, those of more cells than `most` as bitmaps; gives how tall it is."""
    R, C = view.weights.shape[1:]
    cell = side / max(R, C)
    wide, tall = max(C * cell, 14.0), max(R * cell, 14.0)
    for n, head in enumerate(some):
        at = x + n * (side + gap)
        drawing.add(Label(at, y + 6, said("head", looking.language, view.heads[head]), 11))
        sheet.cells(drawing, at, y + 16, wide / C, tall / R, view.weights[head], view.rows, view.columns, most)
    return tall + 16 + gap


def titled(looking: Looking, what: str) -> str:
    """What a figure is called: what it shows, and of what."""
    return said("of", looking.language, what, named(looking))


def named(looking: Looking) -> str:
    """What was seen, as a title."""
    seen = looking.seen
    if seen.source == "recording" and not seen.model:
        return said("recording", looking.language)
    return shown(seen.source if seen.target is None else f"{seen.source} → {seen.target}")


def exactness(looking: Looking, *calls: Shown) -> str:
    """How exact the numbers are, and of which attention they are if of one."""
    zh = looking.language == "zh"
    told = dict.fromkeys(shown(call.facts.exactness) for call in calls)
    line = ("；" if zh else "; ").join(in_chinese(one) if zh else one for one in told)
    if len(calls) == 1:
        line = f"{shown(calls[0].facts.name)}{'：' if zh else ': '}{line}"
    return (line[:1].upper() + line[1:] if len(calls) > 1 else line) + ("。" if zh else ".")
