"""What a figure shows of a recording: the weights of some heads in as many cells as a sheet has room for, and the words
of both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyhead.errors import ArgumentError
from polyhead.lens.axes import Words, axis
from polyhead.lens.draw.labels import printable
from polyhead.lens.draw.words import merge
from polyhead.lens.figures.wording import Language, said
from polyhead.lens.page.maps import GRID, NORMS, Maps
from polyhead.lens.page.scene import ALONE, TITLES, Shown
from polyhead.lens.rulers import Frames, Patches, Ruler
from polyhead.lens.see import Seen
from polyhead.operator.answers import Grid

MOST = 256  # places of a side that each have a cell
Weighting = Literal["weight", "norm"]
Weights = NDArray[np.floating[Any]]


class Row(NamedTuple):
    """One number of a figure, as a line of TSV. query, key: numbers of the first places that the cell stands for."""

    call: str
    layer: int
    head: int | str
    query: int
    key: int
    weight: float
    query_label: str
    key_label: str


@dataclass(frozen=True)
class Side:
    """Cells along an axis: what they are called, the first place of each, and which hold a sign and no word."""

    title: str
    labels: tuple[str, ...]
    places: tuple[int, ...]
    signs: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class View:
    """Heads of one call.

    heads    their numbers, or a name where several are one.
    weights  [heads, rows, columns].
    told     sentences on how the numbers came about.
    """

    call: Shown
    heads: tuple[int | str, ...]
    rows: Side
    columns: Side
    weights: Weights
    told: tuple[str, ...]

    def lines(self) -> Iterator[Row]:
        """Every number."""
        for n, head in enumerate(self.heads):
            for i, query in enumerate(self.rows.places):
                for j, key in enumerate(self.columns.places):
                    yield Row(
                        self.call.facts.name, self.call.layer, head, query, key, float(self.weights[n, i, j]),
                        self.rows.labels[i], self.columns.labels[j],
                    )  # fmt: skip


@dataclass(frozen=True)
class Looking:
    """How to look at a recording."""

    seen: Seen
    weighting: Weighting = "weight"
    language: Language = "en"

    @property
    def number(self) -> int:
        return NORMS if self.weighting == "norm" else 0

    def maps(self, call: Shown) -> Maps:
        found = self.seen.scene.call(call.id)
        _ = found.record  # or raise, where only statistics were kept
        return Maps(found, self.seen.scene.row, self.seen.scene.sinks(call.id))

    def rulers(self, call: Shown) -> tuple[Ruler, Ruler]:
        parts = self.seen.scene.parts
        return parts[call.rows], parts[call.columns]

    def view(self, call: Shown, heads: Sequence[int]) -> View:
        """The map of some heads: every weight of a short one by words, of a long one cells of exact rows."""
        maps, (T, S) = self.maps(call), call.facts.shape[2:]
        rows, columns = self.sides(call)
        if len(rows.labels) <= MOST and len(columns.labels) <= MOST and T * S <= MOST * MOST * 64:
            weights = np.stack([merge(self.exact(maps, head), rows.pieces, columns.pieces) for head in heads])
            joined = (said("joined", self.language),) if rows.joined or columns.joined else ()
            left, top = self.named(call.rows, rows, call.offset), self.named(call.columns, columns, 0)
            return View(call, tuple(heads), left, top, weights, (*self.sentences(call), *joined))
        level, side = maps.levels, 1 << maps.levels
        tiles = [maps.tile(head, self.number, level, 0, 0) for head in heads]
        weights = np.stack([tile.double().cpu().numpy() for tile in tiles if tile is not None])
        left = self.long(call.rows, range(0, T, side), call.offset)
        top = self.long(call.columns, range(0, S, side), 0)
        told = said("sampled", self.language, T=T, S=S, side=side)
        return View(call, tuple(heads), left, top, weights, (*self.sentences(call), told))

    def small(self, call: Shown) -> View:
        """All heads of a call in at most 32 x 32 cells each."""
        maps, (H, T, S) = self.maps(call), call.facts.shape[1:]
        weights = torch.stack([maps.thumb(head) for head in range(H)]).double().cpu().numpy()
        grid = Grid.of((GRID, GRID), T, S)
        left = self.long(call.rows, [0, *grid.row_ends()[:-1]], call.offset)
        top = self.long(call.columns, [0, *grid.column_ends()[:-1]], 0)
        told = (said("thumbs", self.language),) if (T, S) != weights.shape[1:] else ()
        return View(
            call,
            tuple(range(H)),
            left,
            top,
            weights,
            (said("axes", self.language), said("weight", self.language), *told),
        )

    def exact(self, maps: Maps, head: int) -> Weights:
        """[T, S] of one head."""
        _, T, S = maps.size
        rows = torch.arange(T, device=maps.call.lse.device)
        return maps.weights(head, self.number, rows, range(S)).double().cpu().numpy()

    def row(self, call: Shown, head: int, query: int) -> Weights:
        """[S] of one query."""
        maps = self.maps(call)
        rows = torch.tensor([query], device=maps.call.lse.device)
        return maps.weights(head, self.number, rows, range(maps.size[2]))[0].double().cpu().numpy()

    def sides(self, call: Shown) -> tuple[Words, Words]:
        """The places of both axes, those of one word together; frames stay each by itself."""
        rows, columns = self.rulers(call)
        _, _, T, S = call.facts.shape
        words = self.seen.by_words
        return (
            axis(rows, call.offset, T, by_words=words and not isinstance(rows, Frames)),
            axis(columns, 0, S, by_words=words and not isinstance(columns, Frames)),
        )

    def named(self, part: str, words: Words, offset: int) -> Side:
        labels = tuple(printable(label) for label in words.labels)
        return Side(self.title(part), labels, tuple(offset + run[0] for run in words.pieces), frozenset(words.signs))

    def long(self, part: str, first: Sequence[int], offset: int) -> Side:
        """An axis whose cells stand for several places each, from the first on."""
        ruler = self.seen.scene.parts[part]
        labels = [axis(ruler, offset + n, 1, by_words=False).labels[0] for n in first]
        return Side(self.title(part), tuple(map(printable, labels)), tuple(offset + n for n in first))

    def title(self, part: str) -> str:
        """What the places of a part are, in words."""
        scene = self.seen.scene
        both = TITLES[part] if len(scene.parts) > 1 else ALONE[scene.parts[part].kind]
        return both[self.language == "zh"]

    def sentences(self, call: Shown) -> tuple[str, ...]:
        """What rows, columns and numbers are."""
        after = said("after", self.language) if call.facts.norms_after else ""
        return said("axes", self.language), said(self.weighting, self.language, after)

    def name(self, call: Shown, head: int | None = None) -> str:
        """How a person calls a layer, or one of its heads."""
        space = " " if self.language == "en" else ""
        parts = [said("layer", self.language, call.layer)]
        parts += [] if head is None else [said("head", self.language, head)]
        return space.join(parts) + f" · {said(call.facts.part, self.language)}"


def choose(seen: Seen, name: str | int | None, part: Any, layer: int | None) -> Shown:
    """The call that was asked for: by its name or its number, or by part and layer; else the first that there is."""
    calls = seen.scene.calls
    if name is None:
        return seen.call(seen.known(part), seen.layers(part)[0] if layer is None else layer)
    if part is not None or layer is not None:
        raise ArgumentError("call names one attention, so part and layer say nothing beside it; leave them out")
    if isinstance(name, int):
        if not 0 <= name < len(calls):
            raise ArgumentError(f"the recording has calls 0 to {len(calls) - 1}, but call is {name}")
        return calls[name]
    _ = seen.recording[name]  # or raise, saying what there is
    return [call for call in calls if call.facts.name == name][-1]


def patches_of(looking: Looking, call: Shown) -> Patches:
    """The picture under the keys of a call. Raises ArgumentError where there is none."""
    _, columns = looking.rulers(call)
    if not isinstance(columns, Patches) or not columns.picture:
        raise ArgumentError(
            f"{call.facts.name} looks at {columns.kind} without a picture; of an image that a model of `see` read, or"
            " with Patches(..., picture=) among recording.rulers, there is one"
        )
    return columns


def frames_of(looking: Looking, call: Shown) -> Frames:
    """The sound under the keys of a call. Raises ArgumentError where there is none."""
    _, columns = looking.rulers(call)
    if not isinstance(columns, Frames):
        raise ArgumentError(
            f"{call.facts.name} looks at {columns.kind}, and kind='sound' is drawn of frames of a sound"
        )
    return columns
