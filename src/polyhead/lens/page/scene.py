"""What a recording shows, as words: which calls there are, what their axes mean, and what nobody knows of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import ceil
from typing import Any, Protocol

from polyhead.errors import DataError
from polyhead.lens.backward import Target
from polyhead.lens.exactness import in_chinese
from polyhead.lens.page.metrics import Asked, metrics_for
from polyhead.lens.recording import Call, Facts, Recording
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.metrics import Metric
from polyhead.lens.rulers import Frames, Patches, Places, Ruler, Words, rulers_of

VERSION = 1
CHUNK = 2048  # labels in one answer
ALL = 256  # queries of a call whose thumbnails show every one
SLICE = 60_000  # bytes of a picture or a sound in one answer
LONGEST_TEXT = 20_000  # characters that stand in the scene itself
TITLES = {
    "encoder": ("what is read", "读入的内容"),
    "decoder": ("what was written so far", "已写出的内容"),
    "chosen": ("what is written next", "接下来写出的内容"),
}
ALONE = {  # where a model has one part only, and of images and sounds always
    "words": ("text", "文本"),
    "patches": ("image", "图像"),
    "frames": ("sound", "声音"),
    "places": ("places", "位置"),
}
ANY_TARGET = "what backward() was called on", "调用 backward() 的那个数"
NO_TARGET = (
    "no gradients were recorded; see again with --target, or watch(model, gradients=True)",
    "没有记录梯度；请用 --target 再看一次，或用 watch(model, gradients=True)",
)
NO_MODEL = (
    "To follow a cell the model runs again, and a recording holds no model; see the model with --text.",
    "跟着一格走要让模型再跑一次，而记录里没有模型；请用 see 模型 --text 来看。",
)
NOT_KEPT = ("This file does not keep the lesson of this layer.", "本文件没有收入这一层的演算。")
ONE_HEAD = ("Of all lessons, this file keeps only that of {}, head {}.", "演算之中，本文件只收入 {} 头 {} 的。")
TYPES = {"picture": "image/png", "mel": "image/png", "sound": "audio/wav"}


@dataclass(frozen=True)
class Shown:
    """A call of the scene: where it is in the model and in time, and on which rulers its axes lie.

    offset  the place on the ruler of its queries that query 0 stands on; above 0 where earlier ones lie in a cache.
    """

    id: int
    facts: Facts
    layer: int
    step: int
    rows: str
    columns: str
    offset: int


class Lessons(Protocol):
    """Who works a cell in full: lens/learn/following.py."""

    @property
    def why(self) -> tuple[str, str]: ...

    def of(self, shown: Shown) -> str | None: ...

    def reach(self, shown: Shown) -> tuple[int, int, int] | None: ...

    def told(self, shown: Shown, call: Call, cell: tuple[int, int, int], most: int = ...) -> bytes | None: ...


@dataclass(frozen=True)
class Kept:
    """What a file keeps of a scene.

    left_out  what it does not keep, in both languages.
    lessons   the heads whose lessons it keeps, by the number of their call.
    """

    left_out: Sequence[dict[str, str]] = ()
    lessons: Mapping[int, Sequence[int]] = field(default_factory=dict[int, Sequence[int]])


@dataclass(eq=False)
class Scene:
    """One sequence of a recording, as a page shows it.

    title, model  what a person calls it.
    language      of the page when it opens, "en" or "zh"; None: as the browser says.
    row           which sequence of the batch; the rulers are those of the first.
    lessons       who works a cell in full; None where there is no model.
    """

    recording: Recording
    title: str = ""
    model: str = ""
    language: str | None = None
    row: int = 0
    lessons: Lessons | None = None

    def __post_init__(self) -> None:
        if not self.recording.entries:
            raise DataError("There is nothing to see in a recording of no calls; record a model that runs.")

    @cached_property
    def facts(self) -> list[Facts]:
        return self.recording.facts()

    @property
    def batch(self) -> int:
        """How many sequences were recorded at once."""
        return self.facts[0].shape[0]

    @cached_property
    def calls(self) -> list[Shown]:
        """Every call in order, with its place."""
        layers, steps, passed = numbers([one.name for one in self.facts]), dict[str, int](), 0
        shown: list[Shown] = []
        for id, one in enumerate(self.facts):
            _, _, T, S = one.shape
            step = steps[one.name] = steps.get(one.name, -1) + 1
            if one.part == "decoder":
                passed = max(S - T, 0)
            offset = passed if one.part != "encoder" else 0
            rows, columns = self.axes(one, offset)
            shown.append(Shown(id, one, layers[one.name], step, rows, columns, offset))
        return shown

    def axes(self, one: Facts, offset: int) -> tuple[str, str]:
        """The names of the rulers under the queries and the keys of a call."""
        own = "encoder" if one.part == "encoder" else "decoder"
        chosen = self.given.get("chosen")
        writes = own == "decoder" and chosen is not None and chosen.count >= offset + one.shape[2]
        return "chosen" if writes else own, "encoder" if one.part == "cross" else own

    @cached_property
    def given(self) -> dict[str, Ruler]:
        """The rulers that the recording has for this sequence."""
        return rulers_of(self.recording.rulers) if self.row == 0 else {}

    @cached_property
    def parts(self) -> dict[str, Ruler]:
        """The rulers that calls lie on; one that does not fit its calls is replaced by mere places."""
        needed: dict[str, int] = {}
        for call in self.calls:
            _, _, T, S = call.facts.shape
            for name, n in ((call.rows, call.offset + T), (call.columns, S)):
                needed[name] = max(needed.get(name, 0), n)
        order = [name for name in ("encoder", "decoder", "chosen") if name in needed]
        return {
            name: ruler if (ruler := self.given.get(name)) is not None and ruler.count == needed[name] else
            Places(needed[name]) for name in order
        }  # fmt: skip

    def part(self, number: int) -> Ruler | None:
        parts = [*self.parts.values()]
        return parts[number] if number < len(parts) else None

    def call(self, number: int) -> Call:
        return self.recording.entries[number][1]()

    def sinks(self, number: int) -> tuple[int, ...]:
        """The keys of a call that gather weight and mean little: signs, and the first key of a self-attention."""
        call = self.calls[number]
        ruler, S = self.parts[call.columns], call.facts.shape[3]
        signs = (
            ruler.signs if isinstance(ruler, Words) else range(len(ruler.before)) if isinstance(ruler, Patches) else ()
        )
        first = (0,) if call.facts.kind == "self" and S else ()
        return tuple(sorted({place for place in (*first, *signs) if place < S}))

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The numbers of heads that there may be."""
        return metrics_for({ruler.kind for ruler in self.parts.values()}, {one.part for one in self.facts})

    def asked(self, shown: Shown, call: Call) -> Asked:
        """A call with its axes, as its heads are measured: queries are what was read, not what is written next."""
        _, _, T, _ = shown.facts.shape
        own = "decoder" if shown.rows == "chosen" and "decoder" in self.parts else shown.rows
        rows, columns = Axis.of(self.parts[own]), Axis.of(self.parts[shown.columns])
        if call.kind == "cross":
            rows = rows.places(shown.offset, min(shown.offset + T, rows.count))
        return Asked(call, rows, columns, self.row)

    @property
    def opens(self) -> int:
        """The call that one sees first: of a translation the last layer but one that looks at the source."""
        cross = [call.id for call in self.calls if call.facts.part == "cross"]
        return cross[max(0, len(cross) - 2)] if cross else len(self.calls) // 2

    def lesson_of(self, call: Shown, kept: Kept | None = None) -> str | None:
        """What lesson there is of a call: "whole", "window", "kept" in a file, or none."""
        if kept is not None:
            return "kept" if call.id in kept.lessons else None
        return None if self.lessons is None else self.lessons.of(call)

    def no_lesson(self, kept: Kept | None = None) -> dict[str, str]:
        """Why a call, or, in a file that has only one, a head has none."""
        en, zh = NO_MODEL if self.lessons is None else self.lessons.why if kept is None else NOT_KEPT
        for id, heads in kept.lessons.items() if kept is not None else ():
            if len(heads) < self.facts[id].shape[1]:
                en, zh = (text.format(self.facts[id].name, ", ".join(map(str, heads))) for text in ONE_HEAD)
        return {"en": en, "zh": zh}

    # --------------------------------------------------------------------------------------------------- as JSON

    def told(self, kept: Kept | None = None) -> dict[str, Any]:
        """The scene as JSON has it; kept: for a file, what it keeps."""
        return {
            "version": VERSION,
            "title": self.title,
            "language": self.language,
            "model": self.model,
            "torch": self.recording.version,
            "level": self.recording.level,
            "parts": {name: self.told_of(name, ruler) for name, ruler in self.parts.items()},
            "calls": [self.told_of_call(call, kept) for call in self.calls],
            "metrics": [asdict(metric) for metric in self.metrics],
            "missed": [asdict(one) for one in self.recording.missed],
            "batch": self.batch,
            "sinks": True,
            "opens": self.opens,
            "no_lesson": self.no_lesson(kept),
            "target": self.target(),
            "left_out": [*kept.left_out] if kept is not None else [],
        }

    def target(self) -> dict[str, Any]:
        """What gradients are of; or, where there are none, why."""
        there, target = any(one.gradients for one in self.facts), self.recording.target
        if target is None or target.there != there:
            target = Target(*(ANY_TARGET if there else NO_TARGET), there)
        return asdict(target)

    def told_of(self, name: str, ruler: Ruler) -> dict[str, Any]:
        """A part of the scene: what its ruler means, without its labels."""
        en, zh = ALONE[ruler.kind] if len(self.parts) == 1 or ruler.kind in ("patches", "frames") else TITLES[name]
        told: dict[str, Any] = {"kind": ruler.kind, "count": ruler.count, "title": {"en": en, "zh": zh}}
        match ruler:
            case Words() if len(ruler.text) > LONGEST_TEXT:
                told |= {"text_chunks": True}
            case Words():
                told |= {"text": ruler.text}
            case Patches():
                (width, height), before = ruler.size, [*ruler.before]
                told |= {"rows": ruler.rows, "columns": ruler.columns, "before": len(before), "before_names": before}
                told |= {"width": width, "height": height}
            case Frames():
                told |= {"seconds": ruler.seconds, "duration": ruler.duration}
            case Places():
                pass
        media = {
            what: {"type": TYPES[what], "bytes": len(x), "chunks": ceil(len(x) / SLICE)}
            for what, x in ruler.media().items()
        }
        return told | ({"media": media} if media else {})

    def told_of_call(self, call: Shown, kept: Kept | None = None) -> dict[str, Any]:
        one = call.facts
        _, H, T, S = one.shape
        return {
            "id": call.id, "name": one.name, "part": one.part, "kind": one.kind, "layer": call.layer, "step": call.step,
            "heads": H, "queries": T, "keys": S, "rows": call.rows, "columns": call.columns, "offset": call.offset,
            "lesson": self.lesson_of(call, kept), "lesson_heads": None if kept is None else kept.lessons.get(call.id),
            "reach": self.lessons.reach(call) if self.lessons is not None else None,
            "causal": one.causal, "level": one.level, "sampled": T > ALL, "kernel": one.kernel, "route": one.route,
            "exactness": one.exactness, "exactness_zh": in_chinese(one.exactness),
            "norms_after": one.norms_after, "gradients": one.gradients,
        }  # fmt: skip

    def chunk(self, part: int, number: int) -> dict[str, Any] | None:
        """The labels of 2,048 places of a part of words; None where there are none."""
        ruler = self.part(part)
        start, end = number * CHUNK, (number + 1) * CHUNK
        if not isinstance(ruler, Words) or start >= max(ruler.count, 1):
            return None
        told: dict[str, Any] = {
            "labels": ruler.labels[start:end],
            "signs": [place for place in ruler.signs if start <= place < end],
            "places": ruler.places[start:end],
            "words": ruler.words[start:end],
        }
        if len(ruler.text) > LONGEST_TEXT and told["places"]:
            first = min(place[0] for place in told["places"])
            last = max(place[1] for place in told["places"])
            told |= {"text": ruler.text[first:last], "text_start": first}
        return told

    def chunks(self, part: int) -> int:
        """How many answers the labels of a part take."""
        ruler = self.part(part)
        return ceil(max(ruler.count, 1) / CHUNK) if isinstance(ruler, Words) else 0

    def media(self, part: int, what: str, number: int) -> bytes | None:
        """A slice of a picture or a sound."""
        ruler = self.part(part)
        held = b"" if ruler is None else ruler.media().get(what, b"")
        return held[number * SLICE : (number + 1) * SLICE] or None

    def slices(self) -> Iterator[tuple[str, int, int]]:
        """Every slice of every picture and sound: what, part, number."""
        for part, ruler in enumerate(self.parts.values()):
            for what, x in ruler.media().items():
                yield from ((what, part, number) for number in range(ceil(len(x) / SLICE)))


def numbers(names: Sequence[str]) -> dict[str, int]:
    """The layer that each name of an attention speaks of: its only number, or, where some have none or several, its
    place among those whose names are alike."""
    found = {name: re.findall(r"(?<![^.])\d+(?![^.])", name) for name in dict.fromkeys(names)}
    if all(len(digits) == 1 for digits in found.values()):
        return {name: int(digits[0]) for name, digits in found.items()}
    seen: dict[str, int] = {}
    layers: dict[str, int] = {}
    for name in found:
        alike = re.sub(r"(?<![^.])\d+(?![^.])", "#", name.partition("#")[0])
        layers[name] = seen[alike] = seen.get(alike, -1) + 1
    return layers
