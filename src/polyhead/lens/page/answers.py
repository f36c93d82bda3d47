"""What a page asks for by a path of numbers becomes bytes; a server and a file of one's own give the same ones."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock, Thread
from time import sleep
from typing import Any, TypeVar

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, PolyheadError
from polyhead.lens.page import wire
from polyhead.lens.page.bundle import stations
from polyhead.lens.page.maps import GRADIENTS, GRID, Maps, kept
from polyhead.lens.page.metrics import of_every_row
from polyhead.lens.page.scene import SLICE, Kept, Scene, Shown

T = TypeVar("T")
HELD = 32 << 20  # bytes of answers that are remembered
OPEN = 4  # calls whose queries and keys are held open
YIELD = 0.0005  # seconds in which a thread that waits can begin
ROW = re.compile(r"s/([1-9]\d{0,5})/", re.ASCII)  # before the paths of another sequence of a batch than the first
SECOND = "b/"  # before the paths of the recording that the first is compared with


@dataclass(frozen=True)
class Answer:
    """Bytes, and what they are."""

    body: bytes
    type: str = "application/octet-stream"


@dataclass(eq=False)
class Answers:
    """What can be asked of one recording, or of two that are compared.

    Every path is matched whole, and only numbers in it mean anything: there is nothing else to be found.
    """

    scenes: Sequence[Scene]
    maps: OrderedDict[tuple[int, int], Maps] = field(default_factory=OrderedDict[tuple[int, int], Maps])
    others: dict[int, Scene] = field(default_factory=dict[int, Scene])
    remembered: OrderedDict[str, Answer] = field(default_factory=OrderedDict[str, Answer])
    bytes: int = 0
    making: dict[str, Lock] = field(default_factory=dict[str, Lock])
    lock: Lock = field(default_factory=Lock)
    looking: Lock = field(default_factory=Lock)  # a head is looked at alone: two cores are not fought for

    def __post_init__(self) -> None:
        if not 1 <= len(self.scenes) <= 2:
            raise ArgumentError(f"A page shows one recording, or compares two; found {len(self.scenes)}.")

    def get(self, path: str) -> Answer | None:
        """The answer to a path, None where there is none; whoever asks while it is being made waits for it."""
        with self.lock:
            if found := self.held(path):
                return found
            alone = self.making.setdefault(path, Lock())
        with alone:
            with self.lock:
                if found := self.held(path):  # made by the one that was waited for
                    return found
            try:
                found = self.made(path)
                if found is not None:
                    with self.lock:
                        self.remember(path, found)
            finally:
                with self.lock:
                    self.making.pop(path, None)
        return found

    def held(self, path: str) -> Answer | None:
        if path in self.remembered:
            self.remembered.move_to_end(path)
        return self.remembered.get(path)

    def ahead(self) -> None:
        """Begin what a page asks for first, before it asks."""
        Thread(target=self.get, args=(f"thumbs/{self.scenes[0].opens}.bin",), daemon=True).start()

    def shown(self, which: int) -> Scene:
        """The first recording or the second (odd), of which sequence (the half); those that somebody asked for stay."""
        row, second = divmod(which, 2)
        if row == 0:
            return self.scenes[second]
        if which not in self.others:
            self.others[which] = replace(self.scenes[second], row=row)
        return self.others[which]

    def remember(self, path: str, answer: Answer) -> None:
        if path not in self.remembered:  # which another thread may have made meanwhile
            self.bytes += len(answer.body)
        self.remembered[path] = answer
        while self.bytes > HELD:
            _, gone = self.remembered.popitem(last=False)
            self.bytes -= len(gone.body)

    def made(self, path: str) -> Answer | None:
        """The answer, looked up anew."""
        row = ROW.match(path)
        path = path[row.end() :] if row else path
        second = int(path.startswith(SECOND))
        which, path = 2 * int(row[1] if row else 0) + second, path.removeprefix(SECOND)
        if second >= len(self.scenes) or which // 2 >= self.scenes[second].batch:
            return None
        for pattern, method in PATHS:
            if found := pattern.fullmatch(path):
                asked = which, *(int(n) for n in found.groups())
                try:
                    if method in LONG:
                        return method(self, *asked)
                    with self.looking:
                        return method(self, *asked)
                except (PolyheadError, IndexError):  # of a call without rows, of a file that is damaged
                    return None
        return None

    # ---------------------------------------------------------------------------------------------------- answers

    def scene(self, which: int, kept: Kept | None = None) -> Answer:
        """kept: for a file, what it keeps."""
        told = self.shown(which).told(kept) | ({"compare": True} if len(self.scenes) > 1 and which % 2 == 0 else {})
        return as_json(told)

    def ruler(self, which: int, part: int, number: int) -> Answer | None:
        told = self.shown(which).chunk(part, number)
        return None if told is None else as_json(told)

    def media(self, which: int, what: str, part: int, number: int) -> Answer | None:
        held = self.shown(which).media(part, what, number)
        return None if held is None else Answer(held)

    def thumbs(self, which: int, call: int) -> Answer | None:
        return self.thumbnails(which, call, fine=False)

    def fine(self, which: int, call: int) -> Answer | None:
        return self.thumbnails(which, call, fine=True)

    def thumbnails(self, which: int, call: int, *, fine: bool) -> Answer | None:
        with self.looking:
            maps = self.of(which, call)
        if maps.call.level == "rows":
            return small(wire.picture(torch.stack(self.each(maps, lambda head: maps.thumb(head, fine=fine)))))
        found = maps.call.statistics.max_map
        found = maps.call.statistics.mean_map if found is None else found
        return None if found is None else small(wire.picture(shrunk(found[maps.row])))

    def each(self, maps: Maps, look: Callable[[int], T]) -> list[T]:
        """What is seen of every head; between two of them, others may look."""
        found: list[T] = []
        for head in range(maps.size[0]):
            with self.looking:
                found.append(look(head))
            sleep(YIELD)
        return found

    def metrics(self, which: int) -> Answer | None:
        """[calls, H, M], NaN where there is none: of a call whose rows were not kept, or are damaged."""
        return self.tabled(which, self.shown(which).calls)

    def metrics_of(self, which: int, call: int) -> Answer | None:
        """Those of one call [1, H, M], for models whose table is too large for one answer."""
        return self.tabled(which, [self.shown(which).calls[call]])

    def tabled(self, which: int, calls: Sequence[Shown]) -> Answer | None:
        scene = self.shown(which)
        keys = [metric.key for metric in scene.metrics]
        table = torch.full((len(calls), max(call.facts.shape[1] for call in scene.calls), len(keys)), torch.nan)
        for n, call in enumerate(calls):
            for key, x in self.measured(which, call).items():
                if key in keys:
                    table[n, : len(x), keys.index(key)] = x.float()
        return small(wire.floats(table))

    def measured(self, which: int, call: Shown) -> dict[str, Tensor]:
        """The metrics of a call's heads by key, [H] each."""
        if call.facts.level != "rows":
            return {}
        try:
            with self.looking:
                maps = self.of(which, call.id)
                asked = self.shown(which).asked(call, maps.call)
                if asked.short:
                    return of_every_row(asked)
            told = self.each(maps, lambda head: maps.sampled(head, asked))
        except PolyheadError:
            return {}
        keys = {key for one in told for key in one}
        return {key: torch.tensor([one.get(key, torch.nan) for one in told]) for key in keys}

    def whole(self, which: int, call: int, head: int) -> Answer | None:
        found = self.of(which, call, head).whole(head)
        return None if found is None else small(wire.halves(found))

    def pulls(self, which: int, call: int, head: int, weighting: int) -> Answer | None:
        found = self.of(which, call, head).whole(head, weighting)
        return None if found is None else small(wire.signed(found))

    def tile(self, which: int, call: int, head: int, weighting: int, level: int, i: int, j: int) -> Answer | None:
        if level > 32:
            return None
        found = self.of(which, call, head).tile(head, weighting, level, i, j)
        if found is None:
            return None
        return small(wire.signed(found, coarse=True) if weighting & GRADIENTS else wire.picture(found))

    def row(self, which: int, call: int, head: int, weighting: int, query: int) -> Answer | None:
        maps = self.of(which, call, head, query)
        return small(wire.floats(maps.best_of_row(head, weighting, query)))

    def column(self, which: int, call: int, head: int, weighting: int, key: int) -> Answer | None:
        found = self.of(which, call, head, key=key).best_of_column(head, weighting, key)
        return None if found is None else small(wire.floats(found))

    def band(self, which: int, call: int, head: int, weighting: int) -> Answer | None:
        return small(wire.picture(self.of(which, call, head).band(head, weighting)))

    def entropy(self, which: int, call: int, head: int, weighting: int) -> Answer | None:
        return small(wire.floats(self.of(which, call, head).entropies(head, weighting)))

    def lesson(self, which: int, call: int, head: int, query: int, key: int, number: int) -> Answer | None:
        """A slice of the lesson of a cell; the last one is shorter than the others, or empty."""
        scene, maps = self.shown(which), self.of(which, call, head, query, key)
        if scene.lessons is None:
            return None
        told = scene.lessons.told(scene.calls[call], maps.call, (head, query, key))
        begin = number * SLICE
        return None if told is None or begin > len(told) else Answer(told[begin : begin + SLICE])

    def stations(self, which: int) -> Answer:
        """The script of lessons, which the page runs when it first needs it."""
        return Answer(stations().script.encode(), "text/javascript")

    def style(self, which: int) -> Answer:
        return Answer(stations().style.encode(), "text/css")

    def norms(self, which: int, call: int) -> Answer | None:
        maps = self.of(which, call)
        return small(wire.halves(maps.call.norms.values[maps.row]))

    def norms_of(self, which: int, call: int, head: int) -> Answer | None:
        maps = self.of(which, call, head)
        return small(wire.halves(maps.call.norms.values[maps.row, head]))

    def cell(self, which: int, call: int, head: int, query: int, key: int) -> Answer | None:
        return small(wire.floats(self.of(which, call, head, query, key).cell(head, query, key)))

    def of(self, which: int, call: int, head: int = 0, query: int = 0, key: int = 0) -> Maps:
        """The maps of a call; raises IndexError for places that it has not."""
        scene = self.shown(which)
        if call >= len(scene.calls):
            raise IndexError(call)
        _, H, T, S = scene.calls[call].facts.shape
        if head >= H or query >= T or key >= S:
            raise IndexError((head, query, key))
        return kept(self.maps, (which, call), OPEN, lambda: Maps(scene.call(call), scene.row, scene.sinks(call)))


def shrunk(x: Tensor) -> Tensor:
    """Maps [H, R, C] in at most 32 x 32 cells; the largest of each."""
    return torch.nn.functional.adaptive_max_pool2d(x, [min(n, GRID) for n in x.shape[1:]])


def small(body: bytes) -> Answer | None:
    """An answer, unless it is larger than any may be."""
    return Answer(body) if len(body) <= wire.LARGEST else None


def as_json(told: Any) -> Answer:
    return Answer(json.dumps(told, separators=(",", ":")).encode("ascii"), "application/json")


def media_of(what: str) -> Callable[..., Answer | None]:
    return lambda answers, which, part, number: answers.media(which, what, part, number)


N, W, ALL = r"(\d{1,9})", r"([0-3])", r"([0-7])"  # ALL: with gradients too
PATHS: tuple[tuple[re.Pattern[str], Callable[..., Answer | None]], ...] = tuple(
    (re.compile(path, re.ASCII), method)
    for path, method in (
        (r"scene\.json", Answers.scene),
        (rf"ruler/{N}/{N}\.json", Answers.ruler),
        (rf"picture/{N}/{N}\.bin", media_of("picture")),
        (rf"sound/{N}/{N}\.bin", media_of("sound")),
        (rf"mel/{N}/{N}\.bin", media_of("mel")),
        (rf"thumbs/{N}\.bin", Answers.thumbs),
        (rf"thumbs/{N}/fine\.bin", Answers.fine),
        (r"metrics\.bin", Answers.metrics),
        (rf"metrics/{N}\.bin", Answers.metrics_of),
        (rf"whole/{N}/{N}\.bin", Answers.whole),
        (rf"whole/{N}/{N}/([46])\.bin", Answers.pulls),
        (rf"tile/{N}/{N}/{ALL}/{N}/{N}/{N}\.bin", Answers.tile),
        (rf"row/{N}/{N}/{ALL}/{N}\.bin", Answers.row),
        (rf"column/{N}/{N}/{ALL}/{N}\.bin", Answers.column),
        (rf"band/{N}/{N}/{W}\.bin", Answers.band),
        (rf"entropy/{N}/{N}/{W}\.bin", Answers.entropy),
        (rf"norms/{N}\.bin", Answers.norms),
        (rf"norms/{N}/{N}\.bin", Answers.norms_of),
        (rf"cell/{N}/{N}/{N}/{N}\.bin", Answers.cell),
        (rf"lesson/{N}/{N}/{N}/{N}/{N}\.bin", Answers.lesson),
        (r"stations\.js", Answers.stations),
        (r"stations\.css", Answers.style),
    )
)
LONG = (Answers.thumbs, Answers.fine, Answers.metrics, Answers.metrics_of)  # which take turns with others, head by head
