"""Where heads look in a picture, and when in a sound."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from polyhead.errors import ArgumentError
from polyhead.lens.draw.labels import printable
from polyhead.lens.draw.words import merge
from polyhead.lens.figures import sheet
from polyhead.lens.figures.bitmap import png, veil
from polyhead.lens.figures.drawing import LINE, ORANGE, PAPER, SOFT, Bitmap, Box, Curve, Drawing, Label, width_of
from polyhead.lens.figures.maps import WIDE, exactness, named, titled
from polyhead.lens.figures.sheet import EDGE
from polyhead.lens.figures.views import Looking, Row, Side, View, frames_of, patches_of
from polyhead.lens.figures.wording import said
from polyhead.lens.page.scene import Shown
from polyhead.lens.rulers import Patches

LARGE, SMALL = 340.0, 150.0  # the longer side of a picture: of one head, of each of several
COLUMNS = 240  # stretches of a sound that are drawn, at most


def on_picture(looking: Looking, call: Shown, head: int | None, query: int | None) -> tuple[Drawing, list[Row]]:
    """Where one place of a picture looks on it: the picture itself beside one head, or all heads of the call."""
    patches, (H, T, S) = patches_of(looking, call), call.facts.shape[1:]
    query = 0 if query is None else query
    if not 0 <= query < T:
        raise ArgumentError(f"query is the place that looks, 0 to {T - 1}; found {query}")
    heads, before = [*range(H)] if head is None else [head], len(patches.before)
    rows = np.stack([looking.row(call, each, query) for each in heads])  # [heads, S]
    rows_side, columns_side = (
        looking.long(name, range(n), at) for name, n, at in ((call.rows, T, call.offset), (call.columns, S, 0))
    )
    who = Side(rows_side.title, (rows_side.labels[query],), (rows_side.places[query],))
    view = View(call, tuple(heads), who, columns_side, rows[:, None], looking.sentences(call)[1:])
    grids = rows[:, before : before + patches.rows * patches.columns].reshape(-1, patches.rows, patches.columns)
    framed = isinstance(looking.rulers(call)[0], Patches) and query >= before
    name = said("framed", looking.language) if framed else said("sign", looking.language, who.labels[0])
    told = [said("picture", looking.language, name), *view.told]
    drawing, y = sheet.headed(
        titled(looking, looking.name(call, head)), told, exactness(looking, call), WIDE, looking.language
    )
    side = LARGE if head is not None else SMALL
    wide, tall = side_by(patches, side)
    spots: list[int | None] = [None, *range(len(heads))]
    across = max(int((WIDE - 2 * EDGE + 14) // (wide + 14)), 1)
    for n, spot in enumerate(spots):
        x, top = EDGE + n % across * (wide + 14), y + n // across * (tall + 56)
        title = named(looking) if spot is None else looking.name(call, heads[spot])
        drawing.add(Bitmap(x, top + 20, wide, tall, patches.picture, sharp=False, title=title))
        if spot is not None:
            grid = grids[spot] / max(float(grids[spot].max()), 1e-12)
            drawing.add(Bitmap(x, top + 20, wide, tall, png(veil(grid)), title=title))
            drawing.add(Label(x, top + 8, said("head", looking.language, heads[spot]), 12, bold=True))
            drawing.add(
                Label(
                    x,
                    top + tall + 30,
                    said("light", looking.language, 100 * float(grids[spot].max())),
                    10.5,
                    colour=SOFT,
                )
            )
            if before:
                outside = said(
                    "beside",
                    looking.language,
                    100 * float(rows[spot, :before].sum()),
                    ", ".join(map(printable, patches.before)),
                )
                drawing.add(Label(x, top + tall + 44, sheet.cut(outside, wide + 12, 10.5), 10.5, colour=SOFT))
        if framed:
            row, column = divmod(query - before, patches.columns)
            cell = wide / patches.columns, tall / patches.rows
            at = (x + column * cell[0], top + 20 + row * cell[1])
            drawing.add(Box(*at, *cell, stroke=PAPER, thick=4), Box(*at, *cell, stroke=ORANGE, thick=2))
        drawing.add(Box(x, top + 20, wide, tall, stroke=LINE, thick=0.75))
    drawing.height = y + ceil(len(spots) / across) * (tall + 56) + EDGE - 8
    return drawing, [*view.lines()]


def side_by(patches: Patches, side: float) -> tuple[float, float]:
    """The width and the height of a picture whose longer side is so long."""
    width, height = patches.size if all(patches.size) else (patches.columns, patches.rows)
    return side * width / max(width, height), side * height / max(width, height)


def on_sound(looking: Looking, call: Shown, heads: Sequence[int]) -> tuple[Drawing, list[Row]]:
    """The time that each word looks at, under the sound: of one head, or of the mean of several."""
    frames = frames_of(looking, call)
    maps, (rows, _) = looking.maps(call), looking.sides(call)
    exact = np.mean([looking.exact(maps, head) for head in heads], axis=0)  # [T, S]
    heard = min(ceil(frames.duration / frames.seconds), frames.count) if frames.duration else frames.count
    step = ceil(heard / COLUMNS)
    runs = [[*range(i, min(i + step, heard))] for i in range(0, heard, step)]
    weights = merge(exact, rows.pieces, runs)
    left = looking.named(call.rows, rows, call.offset)
    times = tuple(f"{run[0] * frames.seconds:.2f} s" for run in runs)
    top = Side(looking.title(call.columns), times, tuple(run[0] for run in runs))
    head = heads[0] if len(heads) == 1 else "mean"
    late = 100 * float(exact[:, heard:].sum() / max(exact.sum(), 1e-12))
    told = [said("sound", looking.language, step * frames.seconds), looking.sentences(call)[1]]
    told += [said("joined", looking.language)] if rows.joined else []
    told += [said("unheard", looking.language, late)] if heard < frames.count else []
    name = looking.name(call, heads[0] if len(heads) == 1 else None)
    name += f" · {said('mean', looking.language, len(heads))}" if len(heads) > 1 else ""
    view = View(call, (head,), left, top, weights[None], tuple(told))
    labels = sheet.ticks(left, 20.0, 14.0)
    margin = max(width_of(text) for _, text, _ in labels) + 30
    width = 940.0
    across = (width - 2 * EDGE - margin) / len(runs)
    drawing, y = sheet.headed(titled(looking, name), told, exactness(looking, call), width, looking.language)
    y = sheet.scale(drawing, EDGE, y) + 4
    x = EDGE + margin
    if frames.mel:
        drawing.add(Bitmap(x, y, len(runs) * across, 84, frames.mel, span=heard / frames.count, sharp=False))
        drawing.add(Box(x, y, len(runs) * across, 84, stroke=LINE, thick=0.75))
        y += 92
    drawing.add(Label(EDGE + 8, y, "← " + said("looks", looking.language, left.title), 12, "end", True, SOFT, -90))
    sheet.cells(drawing, x, y, across, 20.0, weights, left, top)
    sheet.left(drawing, x, y, labels)
    tall = max(len(left.labels) * 20.0, 1.0)
    y += tall
    each = nice(heard * frames.seconds / 8)
    for n in range(int(heard * frames.seconds / each) + 1):
        at = x + min(n * each / frames.seconds / step, len(runs)) * across
        drawing.add(
            Curve(((at, y), (at, y + 5)), SOFT), Label(at, y + 14, f"{n * each:g}", 10.5, "middle", colour=SOFT)
        )
    drawing.add(
        Label(
            x + len(runs) * across,
            y + 32,
            f"{said('looked', looking.language, top.title)}, {said('seconds', looking.language)}",
            12,
            "end",
            True,
            SOFT,
        )
    )
    looks = width_of(said("looks", looking.language, left.title)) + 20
    drawing.height = y + max(40.0, looks - tall) + EDGE
    return drawing, [*view.lines()]


def nice(x: float) -> float:
    """The next of 1, 2, 5, 10, ... and of their tenths."""
    ten = 10.0 ** np.floor(np.log10(max(x, 1e-3)))
    return float(next(ten * n for n in (1, 2, 5, 10) if ten * n >= x * 0.999))
