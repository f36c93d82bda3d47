"""What heads do as bars: one metric of every head, with its interval, and what a head of chance would get."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polyhead.lens.draw.labels import shown
from polyhead.lens.figures import sheet
from polyhead.lens.figures.drawing import BLUE, INK, LINE, ORANGE, SOFT, Box, Curve, Drawing, Label, width_of
from polyhead.lens.figures.maps import WIDE
from polyhead.lens.figures.sheet import EDGE
from polyhead.lens.figures.wording import Language, said
from polyhead.lens.roles.result import Attention, Heads
from polyhead.lens.roles.result import Row as Number

MOST = 48  # heads that are drawn; the table has all
STEP = 19.0
PALE = "#dfe6ee"  # round what is drawn on a bar


def called(call: Attention, head: int, language: Language) -> str:
    """What a bar is called: the part of the model, the layer there, and the head."""
    if language == "en":
        return call.label(head)
    return f"{said(call.part, language)} {call.layer}.{head}"


def bars(heads: Heads, metric: str, language: Language) -> tuple[Drawing, list[Number]]:
    """The heads with most of a metric, best first. Raises ArgumentError for one that was not measured."""
    m = heads.place(metric)
    order = [at for at in heads.ranked(metric) if not np.isnan(heads.values[(*at, m)])][:MOST]
    what = heads.metrics[m]
    inputs = int(heads.inputs[:, m].max(initial=0))
    reach = [float(x) for at in order for x in (heads.values[(*at, m)], heads.high[(*at, m)], heads.chance[at[0], m])]
    low = min(
        [
            0.0,
            *(float(heads.values[(*at, m)]) for at in order),
            *(float(x) for at in order if not np.isnan(x := heads.low[(*at, m)])),
        ]
    )
    top = max([x for x in reach if not np.isnan(x)], default=1.0) or 1.0
    about = what.about_zh if language == "zh" else what.about_en
    told = [about.rstrip(".。") + ("。" if language == "zh" else ".")]
    told += [said("role", language) if inputs == 1 else said("roles", language, inputs)]
    told += [said("interval", language)] if any(not np.isnan(heads.low[(*at, m)]) for at in order) else []
    told += [said("chance", language)] if any(not np.isnan(heads.chance[c, m]) for c, _ in order) else []
    name = what.zh if language == "zh" else what.en
    drawing, y = sheet.headed(
        said("of", language, shown(Path(heads.model).name or heads.model), name), told, "", WIDE, language
    )
    labels = [called(heads.calls[c], h, language) for c, h in order]
    x = EDGE + max((width_of(label) for label in labels), default=0.0) + 12
    room = WIDE - EDGE - 74 - x

    def at(value: float) -> float:
        return x + room * (value - low) / max(top - low, 1e-12)

    drawing.add(Curve(((at(0), y - 2), (at(0), y + len(order) * STEP + 2)), LINE))
    for n, ((c, h), label) in enumerate(zip(order, labels, strict=True)):
        middle, value = y + (n + 0.5) * STEP, float(heads.values[c, h, m])
        start, end = sorted((at(0), at(value)))
        drawing.add(Label(x - 8, middle, label, 12, "end"))
        drawing.add(Box(start, middle - 6, end - start, 12, BLUE, title=f"{label}: {value:.4g}"))
        a, b, chance = float(heads.low[c, h, m]), float(heads.high[c, h, m]), float(heads.chance[c, m])
        if not np.isnan(a + b):
            drawing.add(
                Curve(((at(a), middle), (at(b), middle)), PALE, 3.4),
                Curve(((at(a), middle), (at(b), middle)), INK, 1.6),
            )
        if not np.isnan(chance):
            mark = (at(chance), middle - 8), (at(chance), middle + 8)
            drawing.add(Curve(mark, PALE, 4.4), Curve(mark, ORANGE, 2.2))
        drawing.add(Label(WIDE - EDGE, middle, f"{value:.3g}", 11, "end", colour=SOFT))
    drawing.height = y + len(order) * STEP + EDGE
    return drawing, [row for row in heads.rows(sort=metric) if row.metric == metric]
