"""A lesson becomes one HTML file that needs nothing else: numbers in base64, script and style allowed by hash."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import ArgumentError
from polyhead.lens.learn.caught import Caught, caught, place_of, without_places
from polyhead.lens.learn.cutting import Cut
from polyhead.lens.learn.ending import Ending, endings, pushes
from polyhead.lens.learn.lesson import Lesson, speaks, swapped
from polyhead.lens.learn.said import LANGUAGES, sentences
from polyhead.lens.learn.telling import percent, pushing, small
from polyhead.lens.learn.working import Breaks, cut_sentence, one_by_one, out_of, work
from polyhead.lens.page.bundle import lesson_page

LARGEST = 1_900_000  # bytes of the file
SWAPS = 28  # pairs of words, at most


@dataclass(frozen=True)
class Size:
    """How much a page carries: how numbers are written, how many features of the large matrices, how many swaps, and
    whether all heads."""

    kind: str
    features: int | None
    swaps: int
    heads: bool = True


SIZES = (
    Size("f32", None, SWAPS), Size("f16", None, SWAPS), Size("f16", 64, SWAPS), Size("f16", 16, SWAPS // 4),
    Size("f16", 8, 0), Size("f16", 8, 0, heads=False),
)  # fmt: skip


def html(lesson: Lesson, lang: str) -> str:
    """The largest page that is small enough. Raises ArgumentError where none is."""
    if lang not in LANGUAGES:
        raise ArgumentError(f"lang must be one of {', '.join(LANGUAGES)}, found {lang!r}.")
    around = readings(lesson)
    broken = spoken(lesson)
    for size in SIZES:
        page = assembled(data(lesson, lang, around, broken, size))
        if len(page.encode()) <= LARGEST:
            return page
    raise ArgumentError(
        f"The page of this lesson would be larger than {LARGEST / 1e6:.1f} MB: the model has {lesson.caught.x.shape[1]}"
        f" features and the text {len(lesson.source.ids)} pieces; give a shorter text."
    )


def assembled(held: dict[str, Any]) -> str:
    return lesson_page(as_json(held)).html


def as_json(held: dict[str, Any]) -> bytes:
    """A lesson as JSON; a character that none can be sent as is written as its number."""
    return json.dumps(held, separators=(",", ":")).encode("ascii")


# ------------------------------------------------------------------------------------------------------- what it holds


@dataclass(frozen=True, eq=False)
class Read:
    """One way in which the model read the text."""

    kind: str  # plain, positions, swap
    names: tuple[str, str]
    numbers: tuple[int, int]
    rows: Cut
    columns: Cut
    order: tuple[list[int], list[int]] | None
    caught: Caught
    says: Ending | None


def readings(lesson: Lesson) -> list[Read]:
    """The text as it is, without positions where the model has some, and with two words swapped, neighbours first."""
    nothing = ("", ""), (0, 0)
    found = [Read("plain", *nothing, lesson.rows, lesson.columns, None, lesson.caught, lesson.ending)]
    try:
        bare = replace(lesson.loaded, model=without_places(lesson.loaded.model))
    except ArgumentError:
        pass
    else:
        [end] = endings(bare, [lesson.source.ids]) if lesson.ending else [None]
        met = caught(bare.model, lesson.given, lesson.part, lesson.layer)
        found.append(Read("positions", *nothing, lesson.rows, lesson.columns, None, met, end))
    words = lesson.source.words
    named = [w for w, label in enumerate(words.labels) if speaks(label) and w not in words.signs]
    pairs = sorted(combinations(named, 2), key=lambda pair: (pair[1] - pair[0] > 1, pair))[:SWAPS]
    moved = [swapped(lesson.source, *pair) for pair in pairs]
    ends = (
        endings(lesson.loaded, [source.ids for source, _ in moved]) if lesson.ending and moved else [None] * len(moved)
    )
    for (one, other), (source, order), end in zip(pairs, moved, ends, strict=True):
        rows, columns = lesson.rows is lesson.source, lesson.columns is lesson.source
        stay = [list(range(len(side.ids))) for side in (lesson.rows, lesson.columns)]
        met = caught(lesson.loaded.model, (source.ids, *lesson.given[1:]), lesson.part, lesson.layer)
        found.append(
            Read(
                "swap", (words.labels[one], words.labels[other]), (one, other),
                source if rows else lesson.rows, source if columns else lesson.columns,
                (order if rows else stay[0], order if columns else stay[1]), met, end,
            )
        )  # fmt: skip
    return found


def spoken(lesson: Lesson) -> dict[str, str]:
    """What the model says with one thing broken in this layer."""
    if lesson.ending is None:
        return {}
    layer = lesson.loaded.model.get_submodule(place_of(lesson.part, lesson.layer))
    hidden = not lesson.caught.visible.all()
    every = {"scale": Breaks(scale=False), **{f"head:{h}": Breaks(heads_off=(h,)) for h in range(lesson.heads)}}
    if lesson.part == "encoder":
        every["mask"] = Breaks(mask=not hidden)
    found = {name: endings(lesson.loaded, [lesson.source.ids], layer, breaks)[0] for name, breaks in every.items()}
    return {name: spelled(end) for name, end in found.items() if end is not None}


def spelled(end: Ending | None) -> str:
    if end is None:
        return ""
    return end.text or ", ".join(f"{word} {percent(p)}" for word, p in end.next)


def data(lesson: Lesson, lang: str, around: Sequence[Read], broken: dict[str, str], size: Size) -> dict[str, Any]:
    """All that the page knows, ready for JSON."""
    met, p, K = lesson.caught, lesson.caught.projections, lesson.width
    T, S = len(met.x), len(met.memory)
    swaps = [read for read in around if read.kind == "swap"][: size.swaps]
    rest = [read for read in around if read.kind != "swap"]
    has = [size.heads or h == lesson.head for h in range(p.heads)]
    out, only = kept_out(lesson, size), None if size.heads else lesson.head
    sides = [lesson.rows] if lesson.rows is lesson.columns else [lesson.rows, lesson.columns]
    parts = ["|".join(side.labels[i] for i in n) for side in sides for n in side.words.pieces if len(n) > 1]
    causal = np.array_equal(met.visible[0], np.tril(np.ones((T, S), bool)))
    return {
        "version": 1, "lang": lang, "texts": {name: sentences(name) for name in LANGUAGES},
        "text": lesson.text, "name": lesson.name, "part": lesson.part, "cross": lesson.part == "cross",
        "layer": lesson.layer, "layers": lesson.layers, "head": lesson.head, "heads": p.heads, "keyHeads": p.key_heads,
        "hasHead": has, "width": K, "scale": met.scale, "softcap": met.softcap, "post": met.post,
        "divides": bool(np.isclose(met.scale, K**-0.5)),
        "maskKind": "none" if met.visible.all() else "causal" if causal else "some",
        "placesInside": met.bias is not None or not np.array_equal(met.query, met.asked),
        "row": lesson.row, "column": lesson.column, "off": small(lesson.off), "whole": lesson.source.whole,
        "read": len(lesson.source.ids), "apart": lesson.source.apart, "joined": ", ".join(parts),
        "signs": list(dict.fromkeys(side.words.labels[w] for side in sides for w in side.words.signs)),
        "next": bool(lesson.ending and lesson.ending.next), "rounded": size.kind == "f16",
        "swapsLeft": len(swaps) < len([read for read in around if read.kind == "swap"]), "saysBroken": broken,
        "cut": [cuts(lesson, h) for h in range(p.heads)],
        "pushes": None if lesson.part == "encoder" else pushing_all(lesson),
        "parallel": {"H": p.heads, "T": T, "S": S, "apart": small(one_by_one(met))},
        "projections": projected(lesson, size),
        "outFeatures": list(map(int, out)), "out": coded(out_of(met)[:, :, out], size.kind, only),
        "gram": None if len(out) == p.out.shape[1] else coded(
            np.stack([w @ w.T for w in out_of(met)]), size.kind, only),
        "outBias": None if p.out_bias is None else coded(p.out_bias[out], "f32"),
        "readings": [reading(read, lesson, size, out) for read in [*rest, *swaps]],
    }  # fmt: skip


def reading(read: Read, lesson: Lesson, size: Size, out: Sequence[int]) -> dict[str, Any]:
    """What the layer met in one reading; where only one head is kept, also what all others wrote."""
    met, working = read.caught, work(read.caught)
    head = None if size.heads else lesson.head
    group = None if head is None else head // (met.query.shape[0] // met.key.shape[0])
    rest = working.output - working.parts[lesson.head]
    return {
        "kind": read.kind, "name": "-".join(map(str, read.numbers)) if read.kind == "swap" else "",
        "one": read.names[0], "other": read.names[1], "says": spelled(read.says),
        "rows": read.rows.labels, "columns": read.columns.labels,
        "order": None if read.order is None else {
            "rows": list(map(int, read.order[0])), "columns": list(map(int, read.order[1]))},
        "x": coded(met.x, size.kind), "memory": coded(met.memory, size.kind) if lesson.part == "cross" else None,
        "stream": None if met.post else coded(met.stream, size.kind),
        "query": coded(met.query, size.kind, head), "key": coded(met.key, size.kind, group),
        "value": coded(met.value, size.kind, group), "visible": coded(met.visible.astype(np.uint8), "u8"),
        "bias": None if met.bias is None else coded(met.bias, size.kind, head),
        "rest": None if head is None else coded(rest[:, out], size.kind),
    }  # fmt: skip


def pushing_all(lesson: Lesson) -> list[list[list[str]]] | None:
    """By head and row, which words the head's part would raise and lower, ready to be read."""
    found = pushes(lesson.loaded, lesson.working.parts)
    return None if found is None else [[[", ".join(pushing(end)) for end in ends] for ends in rows] for rows in found]


def projected(lesson: Lesson, size: Size) -> dict[str, Any]:
    """Of queries, keys and values the features whose sums the page can write out: all, or those that count most and
    those of the pinned cell; by head, their columns of the projection and their biases."""
    met, K = lesson.caught, lesson.width
    p, (G, H) = met.projections, (len(met.key), len(met.query))
    most = K if size.features is None else max(min(size.features // 8, K), 1)
    h, i, j = lesson.head, lesson.row, lesson.column
    fits = np.abs(met.query).mean(1).reshape(G, H // G, K).sum(1) * np.abs(met.key).mean(1)  # [G, K]
    fits[h * G // H, np.abs(met.query[h, i] * met.key[h * G // H, j]).argmax()] = np.inf
    carries = np.abs(met.value).mean(1)
    carries[h * G // H, np.abs(met.value[h * G // H, j]).argmax()] = np.inf
    shared = np.sort(np.argsort(-fits, kind="stable")[:, :most])  # [G, F]
    own = np.sort(np.argsort(-carries, kind="stable")[:, :most])
    every = {
        "q": (np.repeat(shared, H // G, 0), p.query, p.query_bias),
        "k": (shared, p.key, p.key_bias), "v": (own, p.value, p.value_bias),
    }  # fmt: skip
    return {
        name: columns_of(*each, only=None if size.heads else h, of=H, kind=size.kind) for name, each in every.items()
    }


def columns_of(
    features: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None, *, only: int | None, of: int, kind: str
) -> dict[str, Any]:
    """The columns of a projection that make these features [N, F] of its N heads. only: head number `only` of `of`."""
    N = len(features)
    columns, one = weight.T.reshape(N, -1, weight.shape[0]), None if only is None else only * N // of
    return {
        "features": features.tolist(),
        "columns": coded(np.take_along_axis(columns, features[..., None], 1), kind, one),  # [N, F, D]
        "bias": None if bias is None else coded(np.take_along_axis(bias.reshape(N, -1), features, 1), "f32"),
    }


def kept_out(lesson: Lesson, size: Size) -> list[int]:
    """The features of the output that the page shows: all, or the first ones and those that the head writes most to."""
    D = lesson.caught.x.shape[1]
    if size.features is None or size.features >= D:
        return list(range(D))
    first = list(range(min(8, D)))
    most = np.argsort(-np.abs(lesson.working.parts).max((0, 1)), kind="stable")
    return sorted({*first, *most[: size.features].tolist()})


def cuts(lesson: Lesson, head: int) -> dict[str, Any] | None:
    """What cutting the sentence in two would lose of a head."""
    S, H = len(lesson.columns.ids), lesson.heads
    if S < 2:
        return None
    cut = cut_sentence(lesson.caught, lesson.working, head, 2, lesson.speaking)
    labels = lesson.columns.labels
    row, column = cut.lost
    share = lesson.working.weights[head, row, column]
    lost = {"row": lesson.rows.labels[row], "col": labels[column], "before": percent(share)}
    return {
        "n": len(cut.groups), "parts": " | ".join(" ".join(labels[j] for j in group) for group in cut.groups),
        "pairs": cut.pairs, "of": cut.of, "crosses": percent(cut.crosses), "H": H, "S": S, "most": -(-S // min(H, S)),
        "lost": lost if share > 0 else None,
    }  # fmt: skip


def coded(x: NDArray[Any], kind: str, only: int | None = None) -> dict[str, Any]:
    """An array as base64 of little-endian numbers; of the first axis `only` one, where the others are left out."""
    dtype = {"f32": "<f4", "f16": "<f2", "u8": "u1"}[kind]
    held = x if only is None else x[only]
    data = base64.b64encode(held.astype(dtype).tobytes()).decode()
    return {"shape": list(x.shape), "type": kind, "at": (only or 0) * x[0].size, "data": data}
