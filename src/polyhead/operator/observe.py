"""What a person wants to know of a call's weights, as one frozen value: `attend(..., observe=Observe(links=8))`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator.rules import Dense, Frame, Keys, Rule

Region = Rule | Tensor | Sequence[int] | range
Reduction = Literal["each", "group sum", "group mean", "mean"]
REDUCTIONS = ("each", "group sum", "group mean", "mean")


@dataclass(frozen=True, kw_only=True)
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

    heads       how `mass`, `received`, the maps and the exact weights are told: of "each" query head, as "group sum" or
                "group mean" of the heads that share a key head, or as the "mean" of all heads. What is not linear in the
                weights (links, entropy, squares, distance, max_map) is always told of each head.
    """

    links: int = 0
    entropy: bool = False
    squares: bool = False
    distance: bool = False
    mass: Mapping[str, Region] = field(default_factory=dict)
    received: bool = False
    mean_map: tuple[int, int] | None = None
    max_map: tuple[int, int] | None = None
    rows: Sequence[int] | Tensor | None = None
    columns: Sequence[int] | Tensor | None = None
    rectangles: Sequence[tuple[range, range]] = ()
    heads: Reduction = "each"

    def __post_init__(self) -> None:
        if not isinstance(self.links, int) or self.links < 0:
            raise ArgumentError(f"links must be a whole number of at least 0; found {self.links!r}")
        for name in ("mean_map", "max_map"):
            grid = getattr(self, name)
            if grid is not None and not (
                isinstance(grid, tuple) and len(grid) == 2 and all(isinstance(n, int) and n > 0 for n in grid)
            ):
                raise ArgumentError(f"{name} must be (rows, columns), whole numbers above 0; found {grid!r}")
        if self.heads not in REDUCTIONS:
            known = ", ".join(f"'{name}'" for name in REDUCTIONS)
            raise ArgumentError(f"heads must be one of {known}; found {self.heads!r}")

    @property
    def scans(self) -> bool:
        """Whether every weight must be looked at once."""
        return bool(
            self.links
            or self.entropy
            or self.squares
            or self.distance
            or self.received
            or self.mean_map
            or self.max_map
        )

    def check(self, frame: Frame) -> None:
        """Raise ArgumentError where the map of this call cannot give what is asked."""
        if self.links > frame.n_keys:
            raise ArgumentError(f"links must be at most the number of keys, {frame.n_keys}; found {self.links}")
        for name, region in self.mass.items():
            part = self.region(name, region, frame)
            part.check(frame)
        for rows, columns in self.rectangles:
            for name, span, n in (("rows", rows, frame.n_queries), ("columns", columns, frame.n_keys)):
                if not isinstance(span, range) or span.step != 1 or span.start < 0 or span.stop > n:
                    raise ArgumentError(
                        f"rectangles must be pairs of ranges inside the map of {frame.n_queries} x {frame.n_keys};"
                        f" found {name} {span!r}"
                    )

    @staticmethod
    def region(name: str, region: Region, frame: Frame) -> Rule:
        """A part of the map as a rule."""
        if isinstance(region, Rule):
            return region
        if isinstance(region, Tensor) and region.dtype == torch.bool:
            return Dense(region)
        keys = torch.as_tensor(list(region) if isinstance(region, range) else region, device=frame.device)
        keys = keys if keys.numel() else keys.long()
        if keys.dim() != 1 or keys.is_floating_point() or keys.dtype == torch.bool:
            raise ArgumentError(
                f"mass '{name}' must be a range or list of keys, a boolean tensor or a rule; found {region!r}"
            )
        return Keys(keys.to(torch.long))

    @staticmethod
    def everything(links: int = 8, grid: tuple[int, int] = (64, 64)) -> Observe:
        """All that one look at every weight can tell."""
        return Observe(
            links=links, entropy=True, squares=True, distance=True, received=True, mean_map=grid, max_map=grid
        )

    def names(self) -> list[str]:
        """What is asked for, by field."""
        return [f.name for f in fields(self) if f.name != "heads" and has(getattr(self, f.name))]


def has(value: object) -> bool:
    return value is not None if isinstance(value, Tensor) else bool(value)
