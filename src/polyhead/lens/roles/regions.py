"""Parts of a map whose weight tells of a role, as rules that the operator sums over a tile at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.lens.roles.axis import Axis, masks, tokens
from polyhead.lens.roles.metrics import NEAR
from polyhead.operator.rules import (
    Dense,
    Extent,
    Frame,
    Interval,
    Rule,
    Segments,
    Span,
    along_diagonal,
    clip,
)

FARTHEST = 1 << 40


@dataclass(frozen=True)
class Apart(Rule):
    """Keys that stand from `low` to `high` places right of their query; below 0 is left of it, None is no bound."""

    low: int | None
    high: int | None

    follows_diagonal = True

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor:
        distance = frame.distance(rows, columns)
        seen = torch.ones_like(distance, dtype=torch.bool)
        seen = seen if self.low is None else seen & (distance >= self.low)
        return seen if self.high is None else seen & (distance <= self.high)

    def extent(self, frame: Frame) -> Extent | None:
        return along_diagonal(frame)

    def reach(self, frame: Frame, rows: range) -> range:
        start = 0 if self.low is None else rows.start + frame.lowest + self.low
        stop = frame.n_keys if self.high is None else rows.stop + frame.highest + self.high
        return clip(start, max(stop, 0), frame)

    def interval(self, frame: Frame, rows: range) -> Interval:
        place = frame.stand(rows)[:, 0, :, 0]  # [1 or B, t]
        low = torch.zeros_like(place) if self.low is None else (place + self.low).clamp(min=0)
        high = torch.full_like(place, frame.n_keys) if self.high is None else place + self.high + 1
        return low, torch.maximum(low, high)


def keys_at(some: Sequence[Sequence[int] | frozenset[int]], n: int, device: torch.device) -> Dense:
    """The keys at these places of each sequence."""
    return Dense(masks(some, n)[:, None, None, :].to(device))


def of_anything(columns: Sequence[Axis], S: int, device: torch.device) -> dict[str, Rule]:
    """What every map has: its first key, and signs and delimiters where there are any."""
    found: dict[str, Rule] = {"sink": keys_at([[0]], S, device)}
    for name, some in (("special", [a.special for a in columns]), ("delimiter", [a.delimiters for a in columns])):
        if any(some):
            found[name] = keys_at(some, S, device)
    return found


def of_lines(
    rows: Sequence[Axis], columns: Sequence[Axis], T: int, S: int, shift: int, device: torch.device
) -> dict[str, Rule]:
    """What maps of a text or a sound at itself have: offsets, and tokens that came before; `shift`, +1 or -1: where
    from the earlier token a prefix head looks."""
    found: dict[str, Rule] = {
        "previous": Apart(-1, -1), "next": Apart(1, 1), "itself": Apart(0, 0), "local": Apart(-NEAR, NEAR),
    }  # fmt: skip
    own, theirs = tokens(rows, T), tokens(columns, S)
    if own is not None and theirs is not None:
        own, theirs = own.to(device), theirs.to(device)
        nothing = torch.full_like(theirs[:, :1], -FARTHEST)
        after, before = torch.cat((nothing, theirs[:, :-1]), 1), torch.cat((theirs[:, 1:], nothing), 1)
        found["duplicate"] = Segments(own, theirs) & Apart(None, -1)
        found["prefix"] = (
            Segments(own, after) & Apart(None, 0) if shift == 1 else Segments(own, before) & Apart(None, -2)
        )
        if (block := columns[0].block) is not None:
            found["induction"] = Segments(own, after) & Apart(1 - block, 1 - block)
    return found


def of_patches(axis: Axis, device: torch.device) -> dict[str, Rule]:
    """What maps of an image at itself have: lines through the patch that looks, and each line of the image."""
    assert axis.grid is not None
    y, x = lines(axis)
    each: dict[str, Tensor] = {"row": y, "column": x, "falling": y - x, "rising": y + x}
    found: dict[str, Rule] = {"itself": Apart(0, 0)}
    for name, line in each.items():
        apart = torch.cat((-FARTHEST - torch.arange(axis.before), line))[None].to(device)
        found[name] = Segments(apart, apart)
    behind = torch.arange(axis.before, axis.count)
    for name, line, n in (("x", x, axis.grid[1]), ("y", y, axis.grid[0])):
        for at in range(n):
            found[f"{name}{at}"] = keys_at([behind[line == at].tolist()], axis.count, device)
    return found


def lines(axis: Axis) -> tuple[Tensor, Tensor]:
    """The row and the column of each patch, y and x, [patches]."""
    assert axis.grid is not None
    y, x = torch.meshgrid(torch.arange(axis.grid[0]), torch.arange(axis.grid[1]), indexing="ij")
    return y.flatten(), x.flatten()
