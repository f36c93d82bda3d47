"""What a person wants to know of a call's weights, as one frozen value: `attend(..., observe=Observe(links=8))`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator.request import chosen, whole_numbers
from polyhead.operator.rules import Dense, Frame, Keys, Rule, check_count

Region = Rule | Tensor | Sequence[int] | range
Reduction = Literal["each", "group sum", "group mean", "mean"]
REDUCTIONS = ("each", "group sum", "group mean", "mean")


@dataclass(frozen=True, kw_only=True, eq=False)
class Observe:
    """The statistics that `attend` gives beside its output; without any of them, only what a record always holds.

    Of each query:

    links       how many of its strongest keys to name, with their weights.
    entropy     -sum p log p, in nats.
    squares     sum p^2; one over it is the number of keys effectively looked at.
    distance    mean distance, mean offset and its spread, between the places of query and key.
    mass        the weight on parts of the map, by name: {"first": range(1), "verbs": [3, 7], "near": Window(4, 0)}. A
                part is a range or list of keys, a boolean tensor that broadcasts to [B, H, T, S], or a rule.

    Of the map:

    received    the weight that each key receives from all queries.
    mean_map    (rows, columns): the map in a grid; a cell holds the weight on its keys, averaged over its queries.
    max_map     (rows, columns): the same grid; a cell holds its largest weight, so that thin bright lines survive.
    rows, columns, rectangles    exact weights of these queries, of these keys, and of (rows, columns) ranges.

    heads       how `mass`, `received`, `mean_map` and the exact weights are told: of "each" query head, as "group sum"
                or "group mean" of the heads that share a key head, or as the "mean" of all heads. All else is told of
                each head.
    """

    links: int = 0
    entropy: bool = False
    squares: bool = False
    distance: bool = False
    mass: Mapping[str, Region] = field(default_factory=dict[str, Region])
    received: bool = False
    mean_map: tuple[int, int] | None = None
    max_map: tuple[int, int] | None = None
    rows: Sequence[int] | Tensor | None = None
    columns: Sequence[int] | Tensor | None = None
    rectangles: Sequence[tuple[range, range]] = ()
    heads: Reduction = "each"

    def __post_init__(self) -> None:
        check_count("links", self.links)
        if not isinstance(cast(object, self.mass), Mapping) or not all(
            isinstance(cast(object, n), str) for n in self.mass
        ):
            raise ArgumentError(f'mass must be parts of the map by name, {{"first": range(1)}}; found {self.mass!r}')
        for name in ("entropy", "squares", "distance", "received"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(f"{name} must be True or False; found {getattr(self, name)!r}")
        if not isinstance(cast(object, self.rectangles), Sequence):
            raise ArgumentError(f"rectangles must be pairs of ranges (rows, columns); found {self.rectangles!r}")
        for name, grid in (("mean_map", self.mean_map), ("max_map", self.max_map)):
            if grid is not None:
                check_grid(name, grid)
        if self.heads not in REDUCTIONS:
            known = ", ".join(f"'{name}'" for name in REDUCTIONS)
            raise ArgumentError(f"heads must be one of {known}; found {self.heads!r}")

    @property
    def scans(self) -> bool:
        """Whether every weight must be looked at once."""
        row = self.links > 0 or self.entropy or self.squares or self.distance
        return row or self.received or self.mean_map is not None or self.max_map is not None

    def check(self, frame: Frame) -> None:
        """Raise ArgumentError where the map of this call cannot give what is asked."""
        if self.links > frame.n_keys:
            raise ArgumentError(f"links must be at most the number of keys, {frame.n_keys}; found {self.links}")
        for name, part in self.regions(frame).items():
            try:
                part.check(frame)
            except ArgumentError as refused:
                raise ArgumentError(f"mass '{name}': {refused}") from None
        for name, some, n in (("rows", self.rows, frame.n_queries), ("columns", self.columns, frame.n_keys)):
            if some is not None:
                chosen(name, some, n, frame.device)
        for rectangle in self.rectangles:
            if not isinstance(cast(object, rectangle), tuple) or len(rectangle) != 2:
                raise ArgumentError(f"rectangles must be pairs of ranges (rows, columns); found {rectangle!r}")
            spans = zip(("rows", "columns"), rectangle, (frame.n_queries, frame.n_keys), strict=True)
            for name, span, n in spans:
                if not (is_range(span) and 0 <= span.start and span.stop <= n):
                    raise ArgumentError(
                        f"rectangles must be pairs of ranges inside the map of {frame.n_queries} x {frame.n_keys};"
                        f" found {name} {span!r}"
                    )

    def regions(self, frame: Frame) -> dict[str, Rule]:
        """The parts of the map whose weight is asked, as rules."""
        return {name: self.region(name, region, frame) for name, region in self.mass.items()}

    @staticmethod
    def region(name: str, region: Region, frame: Frame) -> Rule:
        """A part of the map as a rule."""
        if isinstance(region, Rule):
            return region
        if isinstance(region, Tensor) and region.dtype == torch.bool:
            return Dense(region)
        keys = whole_numbers(region, frame.device)
        if keys is None:
            raise ArgumentError(
                f"mass '{name}' must be a range or list of keys, a boolean tensor or a rule; found {region!r}"
            )
        return Keys(keys)

    @staticmethod
    def everything(links: int = 8, grid: tuple[int, int] = (64, 64)) -> Observe:
        """All that one look at every weight can tell."""
        return Observe(
            links=links, entropy=True, squares=True, distance=True, received=True, mean_map=grid, max_map=grid
        )


def check_grid(name: str, grid: object) -> None:
    sizes = cast(tuple[object, ...], grid) if isinstance(grid, tuple) else ()
    if len(sizes) != 2 or not all(type(n) is int and n > 0 for n in sizes):
        raise ArgumentError(f"{name} must be (rows, columns), whole numbers above 0; found {grid!r}")


def is_range(span: object) -> bool:
    return isinstance(span, range) and span.step == 1 and span.start <= span.stop
