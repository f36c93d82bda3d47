"""Two texts side by side, with lines from the words that look to the words that they look at."""

from __future__ import annotations

from polyhead.lens.figures import sheet
from polyhead.lens.figures.drawing import BLUE, INK, SOFT, Curve, Drawing, Label, width_of
from polyhead.lens.figures.maps import WIDE, exactness, titled
from polyhead.lens.figures.sheet import EDGE
from polyhead.lens.figures.views import Looking, Row, Side, View, Weights
from polyhead.lens.figures.wording import said
from polyhead.lens.page.scene import Shown

LEAST = 0.05  # of a row: weaker links are left out
GAP = 330.0  # between the two sides
NUMBERED = 18.0  # from line to line, at least, where each word's largest weight is written beside it


def links(looking: Looking, call: Shown, head: int | None) -> tuple[Drawing, list[Row]]:
    """Lines from the words that look to those looked at: of one head, or of the mean of all."""
    H = call.facts.shape[1]
    found = looking.view(call, range(H) if head is None else [head])
    view = View(
        call,
        ("mean",) if head is None else (head,),
        found.rows,
        found.columns,
        found.weights.mean(0, keepdims=True),
        found.told,
    )
    weights, (R, C) = view.weights[0], view.weights.shape[1:]
    step = 24.0 if max(R, C) <= 60 else max(1400 / max(R, C), 3.0)
    one, two = (spread(side, step, max(R, C)) for side in (view.rows, view.columns))
    wide = max(width_of(text, 13) for _, text, _ in one) + 62
    right = max(width_of(text, 13) for _, text, _ in two) + 16
    heads = [said("looks", looking.language, view.rows.title), said("looked", looking.language, view.columns.title)]
    wide, right = max(wide, width_of(heads[0]) + 4), max(right, width_of(heads[1]) + 4)
    width = max(WIDE, wide + GAP + right + 2 * EDGE)
    name = looking.name(call, head) + (f" · {said('mean', looking.language, H)}" if head is None else "")
    numbered = step >= NUMBERED
    told = [said("links", looking.language), *([said("largest", looking.language)] if numbered else [])]
    told += [said("weak", looking.language, 100 * LEAST), *view.told[1:]]
    drawing, y = sheet.headed(titled(looking, name), told, exactness(looking, call), width, looking.language)
    spare = (width - 2 * EDGE - wide - GAP - right) / 2
    x0 = EDGE + spare + wide
    x1 = x0 + GAP
    drawing.add(
        Label(x0, y + 8, heads[0], 12, "end", True, SOFT), Label(x1, y + 8, heads[1], 12, bold=True, colour=SOFT)
    )
    y += 28
    middle = [[y + at for at in places(side, step, max(R, C))] for side in (view.rows, view.columns)]
    order = sorted((weights[i, j], i, j) for i in range(R) for j in range(C) if shows(weights, i, j))
    for weight, i, j in order:
        bend = GAP * 0.42
        way = ((x0 + 6, middle[0][i]), (x0 + bend, middle[0][i]), (x1 - bend, middle[1][j]), (x1 - 6, middle[1][j]))
        told_of = f"{view.rows.labels[i]} → {view.columns.labels[j]}: {sheet.percent(weight)}"
        drawing.add(Curve(way, BLUE, 0.8 + 6 * float(weight), 0.22 + 0.7 * float(weight), told_of))
    for at, text, sign in one:
        drawing.add(Label(x0, y + at, text, 13, "end", colour=SOFT if sign else INK))
    for at, text, sign in two:
        drawing.add(Label(x1, y + at, text, 13, colour=SOFT if sign else INK))
    if numbered:
        for i, at in enumerate(middle[0]):
            best = width_of(sheet.short(view.rows.labels[i]), 13) + 10
            drawing.add(Label(x0 - best, at, f"{100 * weights[i].max():.0f} %", 10.5, "end", colour=SOFT))
    drawing.height = y + max(R, C) * step + EDGE
    return drawing, [*view.lines()]


def shows(weights: Weights, i: int, j: int) -> bool:
    """Whether a link is drawn."""
    return bool(weights[i, j] >= LEAST or (weights[i, j] > 0 and weights[i].argmax() == j))


def places(side: Side, step: float, most: int) -> list[float]:
    """Where the words of a side stand, the shorter side in the middle."""
    n = len(side.labels)
    return [(most - n) * step / 2 + (i + 0.5) * step for i in range(n)]


def spread(side: Side, step: float, most: int) -> list[tuple[float, str, bool]]:
    before = (most - len(side.labels)) * step / 2
    return [(at + before, text, sign) for at, text, sign in sheet.ticks(side, step, 15.0)]
