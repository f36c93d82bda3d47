"""The weights of one call as pictures and lists: thumbnails, tiles, rows, columns and cells, of the rows they need.

Whatever is shown is the exact weight of a query; where there are too many queries for a picture, some of them stand for
their neighbours, and the largest weight among the keys of a cell stands for the cell, so that thin bright lines stay.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import TypeVar

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.lens.backward import slopes
from polyhead.lens.page.metrics import Asked, of_some_rows
from polyhead.lens.page.scene import ALL
from polyhead.lens.recording import Call
from polyhead.operator.answers import Grid
from polyhead.operator.single import Single

GRID = 32  # cells of a thumbnail, each way
SIDE = 256  # cells of a tile, each way
FINE = 8  # rows that stand for a row of cells of a fine thumbnail
MOST = 64  # keys that are named
HELD = 0.8  # of a row's weight: how many keys hold it is told
WHOLE = 32_000  # weights of a head that are sent at once
SQUARE = 1 << 24  # weights of a head that are looked at for one answer
SAMPLE, LEAST = 256, 32  # rows that metrics are measured on, at most and at least
SAMPLED = 1 << 20  # weights of a head that metrics are measured on, unless its rows are longer
NEAR, OCTAVE = 32, 8  # distances that stand alone, and the steps to twice as far from there on
NORMS, NO_SINKS, GRADIENTS = 1, 2, 4  # what a weighting adds up
T = TypeVar("T")


@dataclass(eq=False)
class Maps:
    """The heads of a call for sequence `row`.

    sinks  the keys that gather weight and mean little: special tokens, and the first key of a self-attention.
    """

    call: Call
    row: int = 0
    sinks: tuple[int, ...] = ()
    singles: OrderedDict[int, Single] = field(default_factory=OrderedDict[int, Single])
    sums: OrderedDict[tuple[int, int, int, int], Tensor] = field(
        default_factory=OrderedDict[tuple[int, int, int, int], Tensor]
    )

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """(H, T, S)."""
        _, H, T = self.call.lse.shape
        return H, T, self.call.norms.values.shape[2]

    @cached_property
    def levels(self) -> int:
        """The level whose one tile holds the whole map."""
        return max((ceil(max(self.size[1:]) / SIDE) - 1).bit_length(), 0)

    def head(self, head: int) -> Single:
        """One head, as a call of its own."""
        record = self.call.record  # or raise
        return kept(
            self.singles, head, self.size[0], lambda: Single.of(record.request, record.lse, row=self.row, head=head)
        )

    # ------------------------------------------------------------------------------------------------- weightings

    def factors(self, head: int, weighting: int) -> Tensor | None:
        """What the weight on each key is multiplied with before a row is brought to sum to 1 again, [S]."""
        if not weighting:
            return None
        norms = self.call.norms.values[self.row, head].float()
        factors = norms.clone() if weighting & NORMS else torch.ones_like(norms)
        if weighting & NO_SINKS:
            factors[list(self.sinks)] = 0.0
        return factors

    def slopes(self, head: int, rows: Tensor, columns: range) -> Tensor:
        """The gradients [t, s] of weights of a head; raises ArgumentError where none were recorded."""
        heard = self.call.backward
        if heard is None or heard.output is None:
            raise ArgumentError(f"{self.call.name} has no gradients")
        group = head * heard.value.shape[1] // heard.output.shape[1]
        gradient = heard.output[self.row, head].index_select(0, rows)
        value = heard.value[self.row, group, columns.start : columns.stop]
        return slopes(gradient[None, None], value[None, None], torch.float32)[0, 0]

    def pulls(self, head: int, weighting: int, rows: Tensor, columns: range) -> Tensor:
        """Weights times their gradients [t, s]: above 0 what raises the target, below 0 what lowers it."""
        p = self.head(head).weights(rows, columns).float()
        found = (p * self.slopes(head, rows, columns)).masked_fill(p == 0, 0.0)
        if weighting & NO_SINKS:
            found[:, [key - columns.start for key in self.sinks if key in columns]] = 0.0
        return found

    def total(self, head: int, weighting: int, rows: Tensor) -> Tensor:
        """What these rows sum to under a weighting, [t]; 1 where that is nothing."""
        factors = self.factors(head, weighting)
        assert factors is not None
        return something(self.head(head).weights(rows, range(self.size[2])).float() @ factors)

    def weights(self, head: int, weighting: int, rows: Tensor, columns: range, total: Tensor | None = None) -> Tensor:
        """The weights [t, s] of a head under a weighting."""
        if weighting & GRADIENTS:
            return self.pulls(head, weighting, rows, columns)
        p = self.head(head).weights(rows, columns).float()
        factors = self.factors(head, weighting)
        if factors is None:
            return p
        if len(columns) == self.size[2]:
            p = p * factors
            return p / something(p.sum(1))[:, None]
        total = self.total(head, weighting, rows) if total is None else total
        return p * factors[columns.start : columns.stop] / total[:, None]

    # --------------------------------------------------------------------------------------------------- pictures

    def thumb(self, head: int, *, fine: bool = False) -> Tensor:
        """[32, 32], or the map itself where it is smaller: every row of a short map, else one exact row, or some
        (`fine`), for each row of cells; a cell holds the largest weight."""
        _, T, S = self.size
        grid = Grid.of((GRID, GRID), T, S)
        each = FINE if fine or T <= ALL else 1
        rows = [spread(start, end, each) for start, end in pairwise([0, *grid.row_ends()])]
        p = self.head(head).weights(torch.cat(rows).to(self.call.lse.device), range(S)).float()  # [t, S]
        small = in_cells(p, grid)  # [t, C]
        return torch.stack([some.amax(0) for some in small.split([len(each) for each in rows])])

    def tile(self, head: int, weighting: int, level: int, i: int, j: int) -> Tensor | None:
        """[<=256, <=256] cells of 2^level x 2^level, of one exact row for each row of cells; None outside the map."""
        _, T, S = self.size
        side = 1 << level
        if level > self.levels or i * SIDE * side >= T or j * SIDE * side >= S:
            return None
        cells = torch.arange(i * SIDE, min((i + 1) * SIDE, ceil(T / side)), device=self.call.lse.device)
        rows = (cells * side + side // 2).clamp(max=T - 1)
        columns = range(j * SIDE * side, min((j + 1) * SIDE * side, S))
        total = None
        if weighting and not weighting & GRADIENTS and len(columns) < S:
            at = (head, weighting, level, i)
            total = kept(self.sums, at, 64, lambda: self.total(head, weighting, rows))
        p = self.weights(head, weighting, rows, columns, total)
        if side == 1:
            return p
        p = torch.nn.functional.pad(p, (0, -len(columns) % side)).unflatten(1, (-1, side))
        return farthest(p, 2) if weighting & GRADIENTS else p.amax(2)

    def whole(self, head: int, weighting: int = 0) -> Tensor | None:
        """[T, S] where that is little."""
        _, T, S = self.size
        if T * S > WHOLE:
            return None
        every = torch.arange(T, device=self.call.lse.device)
        return (
            self.pulls(head, weighting, every, range(S)) if weighting else self.head(head).weights(range(T), range(S))
        )

    def band(self, head: int, weighting: int) -> Tensor:
        """[distances, queries]: what each of some queries, spread over the map, gives to keys so far behind it, added
        up over distances that stand together (`behind`)."""
        _, T, S = self.size
        rows = spread(0, T, SAMPLE).to(self.call.lse.device)
        far = rows[:, None] + (S - T) - torch.arange(S, device=rows.device)  # [t, S]
        p = self.weights(head, weighting, rows, range(S)).masked_fill(far < 0, 0.0)
        places = behind(far.clamp(min=0))
        return p.new_zeros(len(rows), int(places.max()) + 1).scatter_add_(1, places, p).T

    def entropies(self, head: int, weighting: int) -> Tensor:
        """How undecided each of some queries is, spread over the map, in nats [t]; NaN of one that looks nowhere."""
        _, T, S = self.size
        rows = spread(0, T, SAMPLE).to(self.call.lse.device)
        p = self.weights(head, weighting, rows, range(S))
        return torch.special.entr(p).sum(1).masked_fill(p.sum(1) == 0, torch.nan)

    # ------------------------------------------------------------------------------------------------------ lists

    def best_of_row(self, head: int, weighting: int, query: int) -> Tensor:
        """[65, 2]: what the named keys hold together and how many keys hold most, then (key, weight), best first."""
        rows = torch.tensor([query], device=self.call.lse.device)
        p = self.weights(head, weighting, rows, range(self.size[2]))[0]
        sorted_p, keys = named(p)
        running = torch.sort(p.abs(), descending=True).values.cumsum(0)
        holders = int((running < HELD * running[-1]).sum()) + 1 if float(running[-1]) > 0 else 0
        return listed(sorted_p, keys, float(sorted_p.sum()), holders)

    def best_of_column(self, head: int, weighting: int, key: int) -> Tensor | None:
        """[65, 2]: what a key receives and of how many queries, then (query, weight), best first; None where a
        weighting asks for the sums of too many rows."""
        _, T, S = self.size
        summed = bool(weighting) and not weighting & GRADIENTS
        if summed and T * S > SQUARE:
            return None
        every = torch.arange(T, device=self.call.lse.device)
        total = None
        if summed:
            total = kept(
                self.sums, (head, weighting, -1, 0), 64,
                lambda: torch.cat([self.total(head, weighting, rows) for rows in every.split(SIDE)]),
            )  # fmt: skip
        p = self.weights(head, weighting, every, range(key, key + 1), total)[:, 0]
        weights, queries = named(p)
        return listed(weights, queries, float(p.sum()), T)

    def cell(self, head: int, query: int, key: int) -> Tensor:
        """[3, K]: the query, the key, and (scale, bias, score, log-sum-exp, weight, norm of the value), with the
        gradient of the weight where that was recorded."""
        single = self.head(head)
        q, k = single.request.query[0, 0, query].float(), single.request.key[0, 0, key].float()
        found, norm = single.score(query, key), float(self.call.norms.values[self.row, head, key])
        told = [single.request.scale, found.bias, found.score, float(single.lse[0, 0, query]), found.weight, norm]
        if self.call.facts.gradients:
            row = torch.tensor([query], device=self.call.lse.device)
            told.append(float(self.slopes(head, row, range(key, key + 1))))
        lines = q.new_zeros(3, max(len(q), len(told)))
        lines[0, : len(q)], lines[1, : len(k)], lines[2, : len(told)] = q, k, q.new_tensor(told)
        return lines

    def sampled(self, head: int, asked: Asked) -> dict[str, float]:
        """Metrics of some rows spread over the map."""
        _, T, S = self.size
        rows = spread(0, T, max(min(SAMPLE, SAMPLED // max(S, 1)), LEAST)).to(self.call.lse.device)
        single = self.head(head)
        return of_some_rows(asked, single.weights(rows, range(S)).float(), single.seen(rows, range(S)), rows)


def behind(far: Tensor) -> Tensor:
    """The line of a band that each distance is on: one each up to 32, then eight from any to twice as far."""
    octave = (torch.frexp(far.double()).exponent.long() - 1).clamp(min=5)  # 5: 32 to 63
    return torch.where(far < NEAR, far, NEAR + OCTAVE * (octave - 5) + (far >> (octave - 3)) % OCTAVE)


def something(sums: Tensor) -> Tensor:
    """What rows are divided by: their sums, or 1 where that is nothing."""
    return sums.masked_fill(sums == 0, 1.0)


def in_cells(p: Tensor, grid: Grid) -> Tensor:
    """Rows [t, S] in cells [t, C]: the largest weight of each."""
    S, C = grid.keys, grid.columns
    if S % C == 0:
        return p.unflatten(1, (C, -1)).amax(2)
    ends = torch.tensor([0, *grid.column_ends()], device=p.device)
    places = ends[:-1, None] + torch.arange(-(-S // C), device=p.device)  # [C, keys of a cell]
    return p[:, torch.minimum(places, ends[1:, None] - 1)].amax(2)


def named(p: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of some weights that are more than nothing, and where they are; of equal ones the leftmost. Where
    there are signs, the farthest from nothing."""
    places = torch.sort(p.abs(), descending=True, stable=True).indices[:MOST]
    weights = p[places]
    return weights[weights != 0], places[weights != 0]


def farthest(x: Tensor, dim: int) -> Tensor:
    """The numbers that are farthest from 0 along an axis, with their signs."""
    high, low = x.amax(dim), x.amin(dim)
    return torch.where(high >= -low, high, low)


def listed(weights: Tensor, places: Tensor, *first: float) -> Tensor:
    lines = torch.tensor([[-1.0, 0.0]], device=weights.device).repeat(1 + MOST, 1)
    lines[0] = torch.tensor(first)
    lines[1 : 1 + len(weights), 0], lines[1 : 1 + len(weights), 1] = places.float(), weights
    return lines


def spread(start: int, end: int, most: int) -> Tensor:
    """All places of [start, end), or so many of them, evenly spread; the middle one where one is wanted."""
    n = end - start
    if n <= most:
        return torch.arange(start, end)
    return start + (2 * torch.arange(most) + 1) * n // (2 * most)  # in whole numbers: half a step from either end


K = TypeVar("K")


def kept(store: OrderedDict[K, T], key: K, most: int, make: Callable[[], T]) -> T:
    """What is in the store, or is made and put there; the oldest goes."""
    if key not in store:
        store[key] = make()
        while len(store) > most:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]
