"""What was found out about a call's weights, as plain values with their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Links:
    """The strongest keys of each query, best first; of equal ones the leftmost.

    weights  [B, H, T, k] their weights.
    keys     [B, H, T, k] their places, int64; -1, with weight 0, where a query sees fewer than k keys.
    """

    weights: Tensor
    keys: Tensor


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Statistics:
    """The answers to an `Observe`; None, or empty, where it did not ask.

    Numbers are float32 (float64 for float64 inputs), before dropout, and of the keys alone: with a sink a row's weights
    sum to less than 1. A query that may look nowhere has zeros everywhere, and no links. H becomes G where `Observe`
    asks for groups, and 1 for the mean of all heads.

    links       of each query, see `Links`.
    entropy     [B, H, T] -sum p log p, in nats.
    squares     [B, H, T] sum p^2.
    distance    [B, H, T] the mean of |key's place - query's place|.
    offset      [B, H, T] the mean of key's place - query's place: below 0 it looks back.
    spread      [B, H, T] the standard deviation of that offset.
    mass        by name, [B, H, T] the weight on each part of the map.
    received    [B, H, S] the weight that each key receives from all queries.
    mean_map    [B, H, R, C] the weight on a cell's keys, averaged over its queries: a row of the grid sums to 1.
    max_map     [B, H, R, C] the largest weight in a cell.
    rows        [B, H, r, S], columns [B, H, T, c], rectangles [B, H, t, s] exact weights.
    row_error   the most that a row's sum was off from what it must be: how exact these numbers are.
    way         how they were found: by the "kernel" on its way, or by a look of their own, in "loops", "identities" or
                "tiles"; and `reasons` why not in a faster way.
    """

    links: Links | None = None
    entropy: Tensor | None = None
    squares: Tensor | None = None
    distance: Tensor | None = None
    offset: Tensor | None = None
    spread: Tensor | None = None
    mass: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    received: Tensor | None = None
    mean_map: Tensor | None = None
    max_map: Tensor | None = None
    rows: Tensor | None = None
    columns: Tensor | None = None
    rectangles: tuple[Tensor, ...] = ()
    row_error: float | None = None
    way: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        asked = [f.name for f in fields(self) if f.name not in ("row_error", "way", "reasons")]
        told = [
            name
            for name in asked
            if getattr(self, name) is not None and not isinstance(getattr(self, name), tuple | dict)
        ]
        told += [name for name in ("mass", "rectangles") if getattr(self, name)]
        return f"Statistics of {', '.join(told) or 'nothing'}" + (f", found in {self.way}" if self.way else "")

    @property
    def effective_keys(self) -> Tensor | None:
        """[B, H, T] 1 / sum p^2: how many keys a query would look at evenly to be as spread; 0 where it sees none."""
        if self.squares is None:
            return None
        return 1 / self.squares.masked_fill(self.squares == 0, torch.inf)  # so that gradients are 0 there too


@dataclass(frozen=True, eq=False)
class Sums:
    """What one look at every weight adds up, before it is divided and named; None where it was not asked.

    mass, entropy (sum p (lse - s)), squares, offset (sum p x), offset2 (sum p x^2), distance (sum p |x|): float64
    [B, H, T], where x is key's place - query's place. scores, keys [B, H, T, k]: the links. received [B, H, S] float64.
    mean_map [B, H, R, C]: sums. max_map [B, H, R, C]. parts [B, H, T], float64: the weight on those parts of the map,
    by name, that were told on the way.
    """

    mass: Tensor
    entropy: Tensor
    squares: Tensor
    offset: Tensor | None
    offset2: Tensor | None
    distance: Tensor | None
    scores: Tensor | None
    keys: Tensor | None
    received: Tensor | None
    mean_map: Tensor | None
    max_map: Tensor | None
    parts: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True)
class Grid:
    """A map of T x S in R x C cells: row i falls into cell i R // T; a grid finer than the map is the map itself."""

    queries: int
    keys: int
    rows: int
    columns: int

    @classmethod
    def of(cls, grid: tuple[int, int], queries: int, keys: int) -> Grid:
        return cls(queries, keys, min(grid[0], queries), min(grid[1], keys))

    def row(self, i: int) -> int:
        return i * self.rows // self.queries

    def column(self, j: int) -> int:
        return j * self.columns // self.keys

    def row_ends(self) -> list[int]:
        """Where each cell's rows end: the last i with i R // T = r, and one more."""
        return [-(-(r + 1) * self.queries // self.rows) for r in range(self.rows)]

    def column_ends(self) -> list[int]:
        return [-(-(c + 1) * self.keys // self.columns) for c in range(self.columns)]
