"""A lesson becomes what is said at each station: its sentences, its grids of numbers and its worked sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from polyhead.lens.learn.ending import pushes
from polyhead.lens.learn.lesson import Lesson
from polyhead.lens.learn.said import filled, say, sentences
from polyhead.lens.learn.working import Sum, out_of, summed
from polyhead.operator.kernels.reference import Array

SHOWN = 6


@dataclass(frozen=True, eq=False)
class Worked:
    """A number in full: `about` it in words, its terms, which `labels` name, and what is said or done with it after."""

    about: str = ""
    sum: Sum | None = None
    labels: list[str] = field(default_factory=list[str])
    after: str = ""


@dataclass(frozen=True, eq=False)
class Station:
    """One of the nine.

    plain    what happens, in words.  shapes  (letters, numbers).
    grid     rows of numbers: (label, numbers); heads the labels above them; note what they are.
    worked   the numbers of the pinned cell that are worked in full.
    """

    name: str
    title: str
    plain: str
    formula: str
    shapes: list[tuple[str, tuple[int, ...]]]
    grid: list[tuple[str, Sequence[float]]]
    heads: list[str]
    note: str
    worked: list[Worked]
    question: str
    answer: str


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def number(x: float) -> str:
    """Four digits after the point, or four that count where it is large."""
    return f"{x:.4f}" if abs(x) < 1000 else f"{x:.4g}"


def small(x: float) -> str:
    """A small difference, as a number that nobody has to decode."""
    return f"{float(f'{x:.1g}'):.12f}".rstrip("0").rstrip(".") if x >= 1e-12 else "0" if x == 0 else "0.000000000001"


def linked(lesson: Lesson, lang: str, weights: Array | None = None) -> list[str]:
    """Of every word, in plain words, where it looks most: signs look at nothing that would be said."""
    weights = cast(Array, lesson.weights()[lesson.head] if weights is None else weights)
    rows, columns = lesson.rows.words, lesson.columns.words
    own = lesson.part != "cross"
    told: list[str] = []
    for i, label in enumerate(rows.labels):
        if i in rows.signs and len(rows.labels) > len(rows.signs):
            continue
        first, *more = np.argsort(-weights[i], kind="stable")[:2]
        self_ = own and first == i
        line = say(
            lang,
            "looks_self" if self_ else "looks",
            row=label,
            col=columns.labels[first],
            percent=percent(weights[i, first]),
        )
        if more and weights[i, more[0]] >= 0.1:
            j = more[0]
            key = "then_self" if own and j == i else "then"
            line += say(lang, key, col=columns.labels[j], percent=percent(weights[i, j]))
        told.append(line + say(lang, "stop"))
    return told


def told(lesson: Lesson, lang: str) -> dict[str, Any]:
    """What the sentences of the stations are filled with."""
    met, p = lesson.caught, lesson.caught.projections
    visible = lesson.working.visible[lesson.head]
    mine = np.linalg.norm(lesson.working.parts[:, lesson.row], axis=-1)
    return {
        "T": len(met.x), "S": len(met.memory), "D": met.x.shape[1], "K": lesson.width, "H": p.heads,
        "HK": p.heads * lesson.width, "root": number(lesson.width**0.5), "scale": number(met.scale),
        "row": lesson.rows.labels[lesson.row], "col": lesson.columns.labels[lesson.column],
        "head": lesson.head, "hidden": int((~visible).sum()), "pairs": visible.size,
        "share": percent(mine[lesson.head] / mine.sum()),
    }  # fmt: skip


def plain_of(lesson: Lesson, lang: str, place: int) -> str:
    """The sentence of a station, as it is for this model."""
    station, met = sentences(lang)["stations"][place], lesson.caught
    visible = lesson.working.visible[lesson.head]
    key = "plain"
    if place == 0:
        inside = met.query is not met.asked and not np.array_equal(met.query, met.asked)
        key = "plain_inside" if inside or met.bias is not None else "plain_later" if lesson.layer else "plain"
    if place == 3 and not np.isclose(met.scale, lesson.width**-0.5):
        key = "plain_none" if met.scale == 1 else "plain_other"
    if place == 4 and not visible.all():
        key = "plain_causal" if np.array_equal(visible, np.tril(np.ones(visible.shape, bool))) else "plain_some"
    if place == 8 and met.post:
        key = "plain_post"
    said = station[key]
    space = " " if lang == "en" else ""
    if place == 4 and met.bias is not None:
        said += space + station["plain_bias"]
    elif place == 4 and visible.all():
        said += space + sentences(lang)["unchanged"]
    return filled(said, **told(lesson, lang))


def pushed(lesson: Lesson, lang: str) -> str:
    """What the head's part would do to the words' scores, as a sentence; nothing where it leads to no words."""
    h, i = lesson.head, lesson.row
    found = None if lesson.part == "encoder" else pushes(lesson.loaded, lesson.working.parts[h : h + 1, i : i + 1])
    if found is None:
        return ""
    up, down = (", ".join(pushing(end)) for end in found[0][0])
    return say(lang, "pushes", row=lesson.rows.labels[i], head=h, up=up, down=down)


def pushing(end: Sequence[tuple[str, float]]) -> list[str]:
    return [f"“{word}” {value:+.2f}" for word, value in end]


def stations(lesson: Lesson, lang: str) -> list[Station]:
    """All nine, in their order."""
    met, w, p, h = lesson.caught, lesson.working, lesson.caught.projections, lesson.head
    i, j, g, K, D = lesson.row, lesson.column, h // (p.heads // p.key_heads), lesson.width, met.x.shape[1]
    words, T, S = told(lesson, lang), len(met.x), len(met.memory)
    row, col = words["row"], words["col"]
    c = int(np.abs(met.query[h, i] * met.key[g, j]).argmax())
    v = int(np.abs(w.weights[h, i, j] * met.value[g, j]).argmax())
    f = int(np.abs(w.parts[h, i]).argmax())
    names = [f"{n}" for n in range(1, SHOWN + 1)]
    columns = lesson.columns.labels
    first = say(lang, "features_first", n=min(SHOWN, D), D=D)
    of_head = say(lang, "first_of_head", n=min(SHOWN, K), K=K, head=h)

    def matrix(x: Array) -> list[tuple[str, Sequence[float]]]:
        return [(label, numbers.tolist()) for label, numbers in zip(lesson.rows.labels, x, strict=True)]

    hidden = np.where(w.visible[h], w.scaled[h], -np.inf)
    top = max(float(hidden[i].max()), 0.0) if np.abs(hidden[i][np.isfinite(hidden[i])]).max(initial=0) > 30 else 0.0
    powers = np.exp(hidden[i] - top)
    ones = np.ones(S)
    by = f"/ {words['root']}" if np.isclose(w.scale, K**-0.5) else f"× {number(w.scale)}"
    scaled = f"{number(w.raw[h, i, j])} {by} = {number(w.raw[h, i, j] * w.scale)}"
    shapes = [
        [("x", (T, D))],
        [("q", (p.heads, T, K)), ("k", (p.key_heads, S, K)), ("v", (p.key_heads, S, K))],
        [("q·k", (p.heads, T, S))], [("s", (p.heads, T, S))], [("s", (p.heads, T, S))], [("P", (p.heads, T, S))],
        [("z", (p.heads, T, K))], [("W_O", p.out.shape), ("out", (T, D))], [("x + out", (T, D))],
    ]  # fmt: skip
    grids = [
        ([(row, met.x[i, :SHOWN].tolist()),
          *([] if i == j and lesson.part != "cross" else [(col, met.memory[j, :SHOWN].tolist())])], names, first),
        ([("q " + row, met.query[h, i, :SHOWN].tolist()), ("k " + col, met.key[g, j, :SHOWN].tolist()),
          ("v " + col, met.value[g, j, :SHOWN].tolist())], names, of_head),
        (matrix(w.raw[h]), columns, ""),
        (matrix(w.scaled[h]), columns, ""),
        (matrix(hidden) if met.bias is not None or not w.visible[h].all() else [], columns, ""),
        (matrix(w.weights[h]), columns, ""),
        ([(row, w.found[h, i, :SHOWN].tolist())], names, of_head),
        ([(row, w.output[i, :SHOWN].tolist())], names, first),
        ([(say(lang, "stream"), met.stream[i, :SHOWN].tolist()), (say(lang, "adds"), w.output[i, :SHOWN].tolist()),
          (say(lang, "becomes"), w.after[i, :SHOWN].tolist())], names, first),
    ]  # fmt: skip
    features = [say(lang, "feature", c=n + 1) for n in range(max(D, K))]
    out_bias = None if p.out_bias is None else float(p.out_bias[f])
    every = [
        [],
        [projected(lesson, lang, "q", c), projected(lesson, lang, "k", c), projected(lesson, lang, "v", v)],
        [Worked(say(lang, "worked_score", row=row, col=col), summed(met.query[h, i], met.key[g, j]), features)],
        [Worked(after=scaled)],
        [],
        [Worked(
            say(lang, "worked_softmax", row=row), summed(powers, ones), columns, (say(lang, "shifted") if top else "")
            + f"{say(lang, 'weight')}: {number(powers[j])} / {number(powers.sum())} = {number(w.weights[h, i, j])}")],
        [Worked(
            say(lang, "worked_value", row=row, c=v + 1), summed(w.weights[h, i], met.value[g, :, v]), columns)],
        [Worked(
            say(lang, "worked_part", row=row, head=h, c=f + 1, K=K), summed(w.found[h, i], out_of(met)[h, :, f]),
            features),
         Worked(
            say(lang, "worked_out", row=row, c=f + 1), summed(w.parts[:, i, f], np.ones(p.heads), more=out_bias),
            [say(lang, "head_n", head=n) for n in range(p.heads)], pushed(lesson, lang))],
        [Worked(
            say(lang, "worked_add", row=row, c=f + 1),
            after=f"{number(met.stream[i, f])} + {number(w.output[i, f])} = {number(w.after[i, f])}")],
    ]  # fmt: skip
    formulas = (
        "x", "q = x W_q,  k = x W_k,  v = x W_v", "q · k", "s = q · k / √d", "s + mask", "P = softmax(s)", "z = Σ P v",
        "out = [z of every head] W_O", "x + out",
    )  # fmt: skip
    return [
        Station(
            text["name"], text["title"], plain_of(lesson, lang, n), formulas[n], shapes[n], grid, heads, note, worked,
            filled(text["question"], **words), filled(text["answer"], **words),
        )
        for n, (text, (grid, heads, note), worked) in enumerate(
            zip(sentences(lang)["stations"], grids, every, strict=True)
        )
    ]  # fmt: skip


def projected(lesson: Lesson, lang: str, which: Literal["q", "k", "v"], c: int) -> Worked:
    """Feature c of the query, the key or the value of the pinned cell: the sum that projects it, and what it is when it
    is multiplied, where the model norms or turns it first."""
    met, h = lesson.caught, lesson.head
    p = met.projections
    g = h // (p.heads // p.key_heads)
    read, n, weight, bias, used = {
        "q": (met.x[lesson.row], h, p.query, p.query_bias, met.query[h, lesson.row]),
        "k": (met.memory[lesson.column], g, p.key, p.key_bias, met.key[g, lesson.column]),
        "v": (met.memory[lesson.column], g, p.value, p.value_bias, met.value[g, lesson.column]),
    }[which]
    at = n * lesson.width + c
    total = summed(read, weight[:, at], more=None if bias is None else float(bias[at]))
    same = np.isclose(used[c], total.total, rtol=1e-9, atol=1e-12)
    row, col = lesson.rows.labels[lesson.row], lesson.columns.labels[lesson.column]
    return Worked(
        say(lang, f"worked_{which}", row=row, col=col, c=c + 1, D=len(read)), total,
        [say(lang, "feature", c=f + 1) for f in range(len(read))],
        "" if same else say(lang, "worked_then", value=number(used[c])),
    )  # fmt: skip


def numbers(lesson: Lesson, lang: str) -> dict[str, Any]:
    """The lesson as values for JSON: labels, shapes, weights, worked sums, links, and what breaking changed."""
    h, broken = lesson.head, lesson.broken
    found: dict[str, Any] = {
        "text": lesson.text, "model": lesson.name, "part": lesson.part, "layer": lesson.layer, "head": h,
        "off": lesson.off, "rows": lesson.rows.labels, "columns": lesson.columns.labels, "row": lesson.row,
        "column": lesson.column, "weights": lesson.working.weights[h].tolist(), "links": linked(lesson, lang),
        "stations": [
            {"name": station.name, "shapes": {letter: list(shape) for letter, shape in station.shapes},
             "says": station.plain, "sums": [terms_of(each) for each in station.worked if each.sum is not None]}
            for station in stations(lesson, lang)
        ],
    }  # fmt: skip
    if lesson.ending is not None:
        found["says"] = lesson.ending.text or lesson.ending.next
    if broken is not None:
        found["broken"] = {
            "what": [key.removeprefix("broken_") for key, _ in broken.done], "weights": broken.weights[h].tolist(),
            "says": None if broken.ending is None else broken.ending.text or broken.ending.next,
        }  # fmt: skip
    return found


def terms_of(worked: Worked) -> dict[str, Any]:
    """A worked sum by the names of its terms."""
    total = worked.sum
    assert total is not None
    terms = [[worked.labels[i], left, right, product] for i, (left, right), product in total.terms]
    return {
        "about": worked.about, "terms": terms, "others": total.others, "rest": total.rest, "bias": total.more,
        "total": total.total,
    }  # fmt: skip
