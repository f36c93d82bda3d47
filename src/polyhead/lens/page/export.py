"""A recording becomes one HTML file that needs nobody: the same answers by the same paths, as many as fit."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil
from pathlib import Path

from polyhead.errors import ArgumentError, PolyheadError
from polyhead.files import write_text
from polyhead.lens.page.answers import SECOND, Answers
from polyhead.lens.page.bundle import Page
from polyhead.lens.page.maps import GRADIENTS, SIDE, WHOLE
from polyhead.lens.page.scene import SLICE, Kept, Scene, Shown

MOST = 20_000_000  # bytes of a file, unless somebody says
LINKS = 600  # bytes of the links of one place, about
LESSON = 500_000  # bytes of a lesson, before it is packed
LISTED = 16_384  # metrics of heads in one answer
TILES = 16  # level-0 tiles of a head that are put together to its whole map


@dataclass(frozen=True)
class Group:
    """Answers that are kept as far as there is room, and what a reader misses without them, in two languages.

    least  about how many bytes they take, where they are many: they are not even begun where there is less room.
    """

    paths: Iterator[str]
    en: str
    zh: str
    least: int = 0


@dataclass(eq=False)
class Steps:
    """How many answers are done, of so many; `tell` hears their share."""

    of: int
    tell: Callable[[float], None]
    done: int = 0

    def go(self, n: int = 1) -> None:
        self.done += n
        self.tell(min(1.0, self.done / self.of))


@dataclass(eq=False)
class Chosen:
    """What went into a file, and of what a part stayed out."""

    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    left_out: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    size: int = 0
    lessons: list[dict[int, list[int]]] = field(default_factory=list[dict[int, list[int]]])  # heads by call, of scenes

    def miss(self, en: str, zh: str) -> None:
        """Say once what a reader misses."""
        told = {"what_en": en, "what_zh": zh}
        if told not in self.left_out:
            self.left_out.append(told)


def export(
    answers: Answers, path: Path, *, most: int = MOST, page: Callable[[Mapping[str, bytes]], Page],
    progress: Callable[[float], None] = lambda share: None,
) -> list[str]:  # fmt: skip
    """Write the file, whole or not at all; gives what it had to leave out, in English. progress: hears the share that
    is done, from 0 to 1.

    Raises WriteError, and ArgumentError where not even labels and thumbnails fit.
    """
    if type(most) is not int or most < 1:
        raise ArgumentError(f"the size of a page must be a whole number of bytes above 0; found {most!r}")
    empty = len(page({}).html.encode())
    kept = chosen(answers, most - empty, progress)
    for which in range(len(answers.scenes)):
        told = answers.scene(which, Kept(kept.left_out, kept.lessons[which]))
        kept.answers[prefixed(which, "scene.json")] = told.body
    write_text(path, page(kept.answers).html)
    return [one["what_en"] for one in kept.left_out]


def chosen(answers: Answers, room: int, tell: Callable[[float], None]) -> Chosen:
    """The answers that fit, the most needed first."""
    kept = Chosen()
    needed = [prefixed(number, path) for number, scene in enumerate(answers.scenes) for path in first(scene)]
    groups = [(number, counted(group)) for number, scene in enumerate(answers.scenes) for group in groups_of(scene)]
    steps = Steps(len(needed) + sum(n for _, (_, n) in groups), tell)
    for path in needed:
        body = answers.made(path)
        if body is not None:
            kept.answers[path] = body.body
            kept.size += cost(path, body.body)
        steps.go()
    if kept.size > room:
        raise ArgumentError(
            f"Labels and thumbnails alone take {kept.size:,} bytes of the {max(room, 0):,} that a file may have beside"
            " the page itself; let it be larger, or record fewer layers (watch(..., layers=...))"
        )
    for number, (group, n) in groups:
        before = steps.done
        fill(kept, answers, group, number, room, steps)
        steps.go(before + n - steps.done)  # those that stay out too
    if any(tiles(call) > TILES for scene in answers.scenes for call in scene.calls):
        kept.miss("the closest view of long maps", "长注意力图的最近视图")
        kept.miss("long maps with first token and signs hidden", "隐藏首词与符号的长注意力图")
    for number, scene in enumerate(answers.scenes):
        kept.lessons.append(lesson(kept, answers, scene, number, room))
    if any(scene.batch > 1 for scene in answers.scenes):
        kept.miss("all sequences but the first", "第一个以外的序列")
    kept.miss("queries, keys and scores of single pairs", "单个词对的查询、键和分数")
    return kept


def counted(group: Group) -> tuple[Group, int]:
    """How many answers a group has. What is many is not listed for that."""
    if group.least:
        return group, group.least // LINKS
    paths = [*group.paths]
    return replace(group, paths=iter(paths)), len(paths)


def fill(kept: Chosen, answers: Answers, group: Group, number: int, room: int, steps: Steps) -> None:
    """Keep the answers of a group as long as there is room."""
    paths = iter(()) if kept.size + group.least > room else group.paths
    full = kept.size + group.least > room
    for path in paths:
        answer = answers.made(prefixed(number, path))
        steps.go()
        if answer is None:
            continue
        size = cost(prefixed(number, path), answer.body)
        if full := kept.size + size > room:
            break
        kept.answers[prefixed(number, path)] = answer.body
        kept.size += size
    if full:
        kept.miss(group.en, group.zh)


def lesson(kept: Chosen, answers: Answers, scene: Scene, number: int, room: int) -> dict[int, list[int]]:
    """Keep the lesson of the call that one sees first, or none; gives the heads that are kept of it, by call."""
    call = scene.calls[scene.opens]
    if scene.lessons is None or scene.lessons.of(call) != "whole":
        return {}
    try:
        told = scene.lessons.told(call, scene.call(call.id), (0, 0, 0), LESSON)
    except PolyheadError:  # a model that is no more what it was
        return {}
    held = {} if told is None else {
        prefixed(number, f"lesson/{call.id}/0/0/0/{n}.bin"): told[n * SLICE : (n + 1) * SLICE]
        for n in range(len(told) // SLICE + 1)
    }  # fmt: skip
    code = {name: made.body for name in ("stations.js", "stations.css") if (made := answers.made(name))}
    size = sum(cost(path, body) for path, body in (held | code).items())
    kept.miss("the nine stations of other layers", "其他层的九站演算")
    if told is None or kept.size + size > room:
        kept.miss("the nine stations of a cell", "一格的九站演算")
        return {}
    kept.answers |= held | code
    kept.size += size
    heads = [head for head, has in enumerate(json.loads(told)["hasHead"]) if has]
    if len(heads) < call.facts.shape[1]:
        kept.miss("the nine stations of other heads", "其他头的九站演算")
    return {call.id: heads}


def prefixed(number: int, path: str) -> str:
    return (SECOND if number else "") + path


def cost(path: str, body: bytes) -> int:
    """The bytes of an answer in the file."""
    return len(json.dumps(path)) + 6 + len(base64.b64encode(zlib.compress(body, 9)))


def first(scene: Scene) -> Iterator[str]:
    """What no page can do without."""
    yield "scene.json"
    for part in range(len(scene.parts)):
        yield from (f"ruler/{part}/{chunk}.json" for chunk in range(scene.chunks(part)))
    for call in scene.calls:
        yield f"thumbs/{call.id}.bin"
    yield "metrics.bin"
    if len(scene.calls) * max(call.facts.shape[1] for call in scene.calls) * len(scene.metrics) > LISTED:
        yield from (f"metrics/{call.id}.bin" for call in scene.calls)


def groups_of(scene: Scene) -> list[Group]:
    """All else, in the order in which it is missed."""
    small = [call for call in scene.calls if call.facts.shape[2] * call.facts.shape[3] <= WHOLE]
    large = [call for call in scene.calls if call not in small]
    some = [call for call in large if tiles(call) <= TILES]
    heads = [(call, head) for call in large for head in range(call.facts.shape[1])]
    return [
        Group(
            (f"{what}/{part}/{number}.bin" for what, part, number in scene.slices()),
            "the picture or the sound", "图像或声音",
        ),
        Group(
            (f"whole/{call.id}/{head}.bin" for call in small for head in range(call.facts.shape[1])),
            "the weights of some heads", "部分注意力头的权重",
        ),
        Group(
            (path for call in scene.calls if call in small or call in some for path in norms(call)),
            "norms of values", "值向量的范数",
        ),
        Group(
            (
                f"whole/{call.id}/{head}/{GRADIENTS}.bin"
                for call in small if call.facts.gradients for head in range(call.facts.shape[1])
            ),
            "the gradients of some heads", "部分注意力头的梯度",
        ),
        Group(
            (f"tile/{call.id}/{head}/{how}/{level(call)}/0/0.bin" for call, head in heads for how in (1, 0)),
            "large pictures of some heads", "部分注意力头的大图",
        ),
        Group(
            (
                f"tile/{call.id}/{head}/{GRADIENTS}/{level(call)}/0/0.bin"
                for call, head in heads if call.facts.gradients
            ),
            "the gradients of some heads", "部分注意力头的梯度",
        ),
        Group(
            (
                f"{what}/{call.id}/{head}/{weighting}.bin"
                for call, head in heads for what in ("entropy", *(("band",) if call.facts.causal else ()))
                for weighting in (0, 1)
            ),
            "distances and entropies of some heads", "部分注意力头的距离与熵",
        ),
        Group(
            (
                f"tile/{call.id}/{head}/0/0/{i}/{j}.bin"
                for call in some for head in range(call.facts.shape[1])
                for i, j in product(*(range(ceil(n / SIDE)) for n in call.facts.shape[2:]))
            ),
            "exact maps of some heads", "部分注意力头的精确权重图",
        ),
        Group(
            (
                f"tile/{call.id}/{head}/{GRADIENTS}/0/{i}/{j}.bin"
                for call in some if call.facts.gradients for head in range(call.facts.shape[1])
                for i, j in product(*(range(ceil(n / SIDE)) for n in call.facts.shape[2:]))
            ),
            "the gradients of some heads", "部分注意力头的梯度",
        ),
        *(
            links(call, what, weighting) for call in large
            for what, weighting in (*([] if call in some else [("row", 1)]), ("row", 0), ("column", 0))
        ),
    ]  # fmt: skip


def norms(call: Shown) -> list[str]:
    """The norms that exact maps of a call are weighed with: of all heads at once, or, where that is much, of each."""
    _, H, _, S = call.facts.shape
    return [f"norms/{call.id}.bin"] if H * S <= WHOLE else [f"norms/{call.id}/{head}.bin" for head in range(H)]


def links(call: Shown, what: str, weighting: int) -> Group:
    """The strongest links of every query of a call ("row"), or of every key ("column")."""
    _, H, T, S = call.facts.shape
    n = T if what == "row" else S
    paths = (f"{what}/{call.id}/{head}/{weighting}/{place}.bin" for head in range(H) for place in range(n))
    return Group(paths, "the strongest links of single places", "单个位置最强的联系", LINKS * H * n)


def tiles(call: Shown) -> int:
    T, S = call.facts.shape[2:]
    return ceil(T / SIDE) * ceil(S / SIDE)


def level(call: Shown) -> int:
    """The level whose one tile holds the whole map of a call."""
    return max((ceil(max(call.facts.shape[2:]) / SIDE) - 1).bit_length(), 0)
