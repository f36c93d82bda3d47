"""Who may look at whom, and with what bias: small frozen values that any kernel reads a tile at a time.

A rule never holds a square of queries by keys unless someone hands it one (`Dense`, `DenseBias`). It answers for the
rows and columns it is asked about, and says which keys a span of rows can reach at all:

    Causal      Window(1, 0)  Prefix(2)   Lengths([3])  Segments([0, 0, 1, 1])
    x . . .     x . . .       x x . .     x x x .       x x . .
    x x . .     x x . .       x x . .     x x x .       x x . .
    x x x .     . x x .       x x x .     x x x .       . . x x
    x x x x     . . x x       x x x x     x x x .       . . x x

Letters: B batch, T queries, S keys, H heads; t and s are the rows and columns of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, reduce
from itertools import pairwise
from numbers import Integral
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError

Span = range | Tensor  # rows or columns of a tile: a run of them, or any indices [t]
Extent = tuple[int, int, int, int]  # a broadcast shape of [B, H, T, S]
FAR = 1 << 40  # farther than any key stands from its query
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Interval = tuple[Tensor, Tensor]  # of each query, the first key it sees and one past the last: [1 or B, t]


# ---------------------------------------------------------------------------------------------------------------- frame


@dataclass(frozen=True, eq=False)
class Frame:
    """Where rules are read: how many queries and keys there are, and which key each query stands on."""

    batch: int
    heads: int
    n_queries: int
    n_keys: int
    diagonal: int | Tensor  # query i stands on key i + diagonal; [B, 1, 1, 1] where sequences differ
    device: torch.device

    @cached_property
    def lowest(self) -> int:
        return self.diagonal if isinstance(self.diagonal, int) else -largest(-self.diagonal)

    @cached_property
    def highest(self) -> int:
        return largest(self.diagonal)

    def distance(self, rows: Span, columns: Span) -> Tensor:
        """How far right of its query each key stands: [1, 1, t, s], or [B, 1, t, s] where sequences differ."""
        return index(columns, self.device) - self.stand(rows)

    def stand(self, rows: Span) -> Tensor:
        """The key that each query stands on: [1, 1, t, 1], or [B, 1, t, 1] where sequences differ."""
        return index(rows, self.device)[None, None, :, None] + self.diagonal


def largest(n: int | Tensor) -> int:
    """The largest of some whole numbers; 0 if there are none."""
    if isinstance(n, int):
        return n
    return int(n.max()) if n.numel() else 0


def index(span: Span, device: torch.device) -> Tensor:
    """The span as a tensor of indices."""
    return torch.arange(span.start, span.stop, device=device) if isinstance(span, range) else span


def take(x: Tensor, dim: int, span: Span) -> Tensor:
    """Rows or columns of a tensor that may be broadcast (size 1) along them."""
    n = x.shape[dim]
    if not isinstance(span, range):
        return x if n == 1 else x.index_select(dim, span)
    return x if n in (1, len(span)) else x.narrow(dim, span.start, len(span))


def four(x: Tensor) -> Tensor:
    """A tensor of up to four axes as [B, H, T, S], missing ones in front."""
    return x.reshape((1,) * (4 - x.dim()) + tuple(x.shape))


def check_broadcast(name: str, x: Tensor, frame: Frame) -> None:
    """Refuse a mask or bias that does not broadcast to [B, H, T, S]."""
    full = (frame.batch, frame.heads, frame.n_queries, frame.n_keys)
    if x.device != frame.device:
        raise ArgumentError(f"{name} must be on the device of query, {frame.device}; found {x.device}")
    if any(have not in (1, want) for have, want in zip(x.shape, full, strict=True)):
        hint = " (a padding mask [B, S] is written mask[:, None, None, :], or lengths=)" if name == "mask" else ""
        raise ArgumentError(f"{name} must broadcast to [B, H, T, S] = {list(full)}; found {list(x.shape)}{hint}")


def check_count(name: str, n: object) -> None:
    """Refuse anything but a whole number of at least 0."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 0:
        raise ArgumentError(f"{name} must be a whole number of at least 0; found {n!r}")


def check_tensor(name: str, x: object) -> Tensor:
    """Refuse anything but a tensor."""
    if not isinstance(x, Tensor):
        raise ArgumentError(f"{name} must be a torch tensor; found {type(x).__name__}")
    return x


def check_per_sequence(name: str, x: object, frame: Frame, most: int | None = None) -> None:
    """Refuse anything but one whole number per sequence, [B], from 0 to `most`."""
    x = check_tensor(name, x)
    if tuple(x.shape) != (frame.batch,) or x.dtype not in WHOLE or x.device != frame.device:
        raise ArgumentError(
            f"{name} must be whole numbers of shape [B] = [{frame.batch}] on {frame.device};"
            f" found {list(x.shape)}, {x.dtype}, on {x.device}"
        )
    if not x.numel() or x.is_meta:
        return
    low, high = int(x.min()), int(x.max())
    if low < 0 or (most is not None and high > most):
        bounds = "at least 0" if most is None else f"from 0 to {most}"
        raise ArgumentError(f"{name} must be {bounds}; found {low if low < 0 else high}")


# ---------------------------------------------------------------------------------------------------------------- masks


class Rule:
    """Which pairs of query and key are visible. With `&`, a pair is visible if both rules say so."""

    follows_diagonal = False  # whether it reads positions, so that packed segments must line up

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor | None:
        """True where a query may look: boolean, broadcastable to [B, H, t, s]; None if the tile hides nothing."""
        raise NotImplementedError

    def extent(self, frame: Frame) -> Extent | None:
        """The most that `visible` of all rows and columns could take; None if it hides nothing."""
        raise NotImplementedError

    def reach(self, frame: Frame, rows: range) -> range:
        """Outer bounds of the keys that these rows may see."""
        return range(frame.n_keys)

    def interval(self, frame: Frame, rows: range) -> Interval | None:
        """The keys that each of these queries sees, from the first to one past the last, each [1 or B, t]; they may lie
        outside the map. None where they need not be an interval."""
        return None

    def check(self, frame: Frame) -> None:
        """Raise ArgumentError if this rule cannot be read in this frame."""

    def parts(self) -> tuple[Rule, ...]:
        return (self,)

    def __and__(self, other: Rule | Tensor | None) -> Rule:
        if other is None:
            return self
        return Every(self.parts() + rule(other).parts())

    def __rand__(self, other: Tensor | None) -> Rule:
        return self & other


class BlockMask(Protocol):
    """FlexAttention's BlockMask, of which function and shape are read; known without an import of FlexAttention."""

    @property
    def mask_mod(self) -> Callable[..., Tensor]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


Mask = Tensor | Rule | BlockMask  # what mask= accepts


def rule(mask: Mask) -> Rule:
    """What `mask=` accepts, as a rule."""
    if isinstance(mask, Rule):
        return mask
    if isinstance(mask, Tensor):
        return Dense(mask)
    function, shape = getattr(mask, "mask_mod", None), tuple(getattr(mask, "shape", ()))
    if function is None or len(shape) != 4:
        raise ArgumentError(f"mask must be a boolean tensor, a rule, a BlockMask or None; found {type(mask).__name__}")
    if getattr(function, "__name__", "") == "noop_mask":
        raise ArgumentError("a BlockMask is read by its mask_mod, and this one has none; make it by create_block_mask")
    return MaskMod(function, batch=shape[0] > 1, heads=shape[1] > 1, shape=shape)


@dataclass(frozen=True, eq=False)
class Every(Rule):
    """Rules that must all agree; made by `&`."""

    rules: tuple[Rule, ...]

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor | None:
        tiles = [tile for each in self.rules if (tile := each.visible(frame, rows, columns)) is not None]
        return reduce(torch.logical_and, tiles) if tiles else None

    def extent(self, frame: Frame) -> Extent | None:
        extents = [extent for each in self.rules if (extent := each.extent(frame)) is not None]
        return broadcast(extents) if extents else None

    def reach(self, frame: Frame, rows: range) -> range:
        spans = [each.reach(frame, rows) for each in self.rules]
        return range(max(span.start for span in spans), min(span.stop for span in spans))

    def interval(self, frame: Frame, rows: range) -> Interval | None:
        low = torch.zeros(1, len(rows), dtype=torch.long, device=frame.device)
        high = torch.full_like(low, frame.n_keys)
        for each in self.rules:
            found = each.interval(frame, rows)
            if found is None:
                return None
            low, high = torch.maximum(low, found[0]), torch.minimum(high, found[1])
        return low, high.expand_as(low)

    def check(self, frame: Frame) -> None:
        for each in self.rules:
            each.check(frame)

    def parts(self) -> tuple[Rule, ...]:
        return self.rules


@dataclass(frozen=True)
class Causal(Rule):
    """Query i sees key j if j <= i + (S - T): the last query sees every key (bottom-right)."""

    follows_diagonal = True

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor | None:
        if isinstance(rows, range) and isinstance(columns, range):  # a tile below the diagonal costs nothing
            if columns.stop - 1 <= rows.start + frame.lowest:
                return None
        return index(columns, frame.device) <= frame.stand(rows)

    def extent(self, frame: Frame) -> Extent | None:
        return along_diagonal(frame) if frame.n_keys - 1 > frame.lowest else None

    def reach(self, frame: Frame, rows: range) -> range:
        return clip(0, rows.stop + frame.highest, frame)

    def interval(self, frame: Frame, rows: range) -> Interval:
        place = frame.stand(rows)[:, 0, :, 0]  # [1 or B, t]
        return torch.zeros_like(place), place + 1


@dataclass(frozen=True)
class Window(Rule):
    """A query sees from `left` keys before its own place to `right` keys after it, both included; None is no bound."""

    left: int | None
    right: int | None

    follows_diagonal = True

    def __post_init__(self) -> None:
        for name, bound in (("left", self.left), ("right", self.right)):
            if bound is not None:
                check_count(f"window {name}", bound)
                object.__setattr__(self, name, int(bound))

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor | None:
        left, right = self.left, self.right
        if isinstance(rows, range) and isinstance(columns, range):  # a bound that the tile does not meet costs nothing
            if left is not None and columns.start - (rows.stop - 1 + frame.highest) >= -left:
                left = None
            if right is not None and columns.stop - 1 - (rows.start + frame.lowest) <= right:
                right = None
        if left is None and right is None:
            return None
        distance = frame.distance(rows, columns)
        sides = ([] if left is None else [distance >= -left]) + ([] if right is None else [distance <= right])
        return reduce(torch.logical_and, sides)

    def extent(self, frame: Frame) -> Extent | None:
        return None if self.left is None and self.right is None else along_diagonal(frame)

    def reach(self, frame: Frame, rows: range) -> range:
        start = 0 if self.left is None else rows.start + frame.lowest - self.left
        stop = frame.n_keys if self.right is None else rows.stop + frame.highest + self.right
        return clip(start, stop, frame)

    def interval(self, frame: Frame, rows: range) -> Interval:
        place = frame.stand(rows)[:, 0, :, 0]  # [1 or B, t]
        low = torch.zeros_like(place) if self.left is None else place - min(self.left, FAR)
        return low, torch.full_like(place, frame.n_keys) if self.right is None else place + min(self.right, FAR) + 1


@dataclass(frozen=True, eq=False)
class Prefix(Rule):
    """The first `n` keys are seen by every query, later ones causally; `n` is a number, or one per sequence [B]."""

    n: int | Tensor

    follows_diagonal = True

    def __post_init__(self) -> None:
        if not isinstance(self.n, Tensor):
            check_count("Prefix n", self.n)
            object.__setattr__(self, "n", min(int(self.n), FAR))

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor | None:
        causal = Causal().visible(frame, rows, columns)
        n = self.n[:, None, None, None] if isinstance(self.n, Tensor) else self.n
        return None if causal is None else causal | (index(columns, frame.device) < n)

    def extent(self, frame: Frame) -> Extent | None:
        causal = Causal().extent(frame)
        return None if causal is None else (frame.batch if isinstance(self.n, Tensor) else causal[0], *causal[1:])

    def reach(self, frame: Frame, rows: range) -> range:
        return clip(0, max(largest(self.n), rows.stop + frame.highest), frame)

    def interval(self, frame: Frame, rows: range) -> Interval:
        place = frame.stand(rows)[:, 0, :, 0]  # [1 or B, t]
        high = torch.maximum(place + 1, self.n[:, None] if isinstance(self.n, Tensor) else torch.as_tensor(self.n))
        return torch.zeros_like(high), high

    def check(self, frame: Frame) -> None:
        if isinstance(self.n, Tensor):
            check_per_sequence("Prefix n", self.n, frame)


@dataclass(frozen=True, eq=False)
class Lengths(Rule):
    """Padding on the right: key j of sequence b is hidden if j >= keys[b].

    With `queries`, rows i >= queries[b] are empty, and the diagonal of `Causal`, `Window`, `Prefix` and of the biases
    is each sequence's own: query i stands on key i + keys[b] - queries[b]. Without it, on i + (S - T).
    """

    keys: Tensor  # [B]
    queries: Tensor | None = None  # [B]

    def diagonal(self) -> Tensor:
        """The key on which each sequence's query 0 stands, [B, 1, 1, 1], where queries are counted."""
        assert self.queries is not None
        return (self.keys.long() - self.queries.long())[:, None, None, None]

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor:
        inside = index(columns, frame.device) < self.keys[:, None, None, None]  # [B, 1, 1, s]
        if self.queries is None:
            return inside
        return inside & (index(rows, frame.device)[:, None] < self.queries[:, None, None, None])

    def extent(self, frame: Frame) -> Extent:
        return (frame.batch, 1, 1 if self.queries is None else frame.n_queries, frame.n_keys)

    def reach(self, frame: Frame, rows: range) -> range:
        if self.queries is not None and rows.start >= largest(self.queries):
            return range(0)
        return clip(0, largest(self.keys), frame)

    def interval(self, frame: Frame, rows: range) -> Interval:
        high = self.keys.long()[:, None].expand(-1, len(rows))  # a narrow type would not hold the places it meets
        if self.queries is not None:
            high = high.where(index(rows, frame.device) < self.queries[:, None], 0)
        return torch.zeros_like(high), high

    def check(self, frame: Frame) -> None:
        check_per_sequence("Lengths keys", self.keys, frame, frame.n_keys)
        if self.queries is not None:
            check_per_sequence("Lengths queries", self.queries, frame, frame.n_queries)


@dataclass(frozen=True, eq=False)
class Segments(Rule):
    """Packed documents: a query sees the keys whose number is its own. `keys` None: the same as `queries`."""

    queries: Tensor  # [B, T]
    keys: Tensor | None = None  # [B, S]

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor:
        own, theirs = self._ids()
        return (take(own, 1, rows)[:, :, None] == take(theirs, 1, columns)[:, None, :])[:, None]  # [B, 1, t, s]

    def extent(self, frame: Frame) -> Extent:
        return (frame.batch, 1, frame.n_queries, frame.n_keys)

    def reach(self, frame: Frame, rows: range) -> range:
        own, theirs = self._ids()
        mine = own[:, rows.start : rows.stop]
        if not mine.numel():
            return range(0)
        low, high = mine.amin(1, keepdim=True), mine.amax(1, keepdim=True)
        met = ((theirs >= low) & (theirs <= high)).any(0).nonzero()
        return range(int(met[0]), int(met[-1]) + 1) if len(met) else range(0)

    def check(self, frame: Frame) -> None:
        own, theirs = self._ids()
        for name, ids, n in (("queries", own, frame.n_queries), ("keys", theirs, frame.n_keys)):
            check_tensor(f"Segments {name}", ids)
            whole = ids.dtype in WHOLE or ids.dtype == torch.bool
            if tuple(ids.shape) != (frame.batch, n) or not whole or ids.device != frame.device:
                raise ArgumentError(
                    f"Segments {name} must be whole numbers of shape [{frame.batch}, {n}] on {frame.device};"
                    f" found {list(ids.shape)}, {ids.dtype}, on {ids.device}"
                )

    @property
    def runs(self) -> list[tuple[int, int, int]] | None:
        """Where the segments of the queries lie, as (row, start, stop) in order; None where one lies in several places.

        Found once for all the calls that share the rule, and anew where its numbers were changed.
        """
        now = None if self.queries.is_inference() else self.queries._version
        if "kept" not in self.__dict__ or self.__dict__["kept"][0] != now:
            self.__dict__["kept"] = now, self.found()
        return self.__dict__["kept"][1]

    def found(self) -> list[tuple[int, int, int]] | None:
        found: list[tuple[int, int, int]] = []
        for row, ids in enumerate(cast(list[list[int]], cast(Any, self.queries).tolist())):
            starts = [i for i in range(len(ids)) if i == 0 or ids[i] != ids[i - 1]]
            if len({ids[i] for i in starts}) < len(starts):
                return None
            found += [(row, start, stop) for start, stop in pairwise([*starts, len(ids)])]
        return found

    def _ids(self) -> tuple[Tensor, Tensor]:
        return self.queries, self.queries if self.keys is None else self.keys


@dataclass(frozen=True, eq=False)
class Dense(Rule):
    """A boolean tensor that broadcasts to [B, H, T, S]; True = may look."""

    mask: Tensor

    def __post_init__(self) -> None:
        check_tensor("mask", self.mask)
        if self.mask.dtype != torch.bool:
            hint = "pass a float mask as bias=" if self.mask.is_floating_point() else "write mask != 0"
            raise ArgumentError(f"mask must be boolean (True = may look); found {self.mask.dtype}: {hint}")
        if self.mask.dim() > 4:
            raise ArgumentError(f"mask must have at most 4 axes, [B, H, T, S]; found {list(self.mask.shape)}")
        if self.mask.dim() < 4:
            object.__setattr__(self, "mask", four(self.mask))

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor:
        return take(take(self.mask, 2, rows), 3, columns)

    def extent(self, frame: Frame) -> Extent:
        B, H, T, S = self.mask.shape
        return B, H, T, S

    def check(self, frame: Frame) -> None:
        check_broadcast("mask", self.mask, frame)


@dataclass(frozen=True, eq=False)
class Keys(Rule):
    """Only these keys are seen, by every query."""

    keys: Tensor  # [n] places

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor:
        return torch.isin(index(columns, frame.device), self.keys)[None, None, None]

    def extent(self, frame: Frame) -> Extent:
        return (1, 1, 1, frame.n_keys)

    def reach(self, frame: Frame, rows: range) -> range:
        return range(int(self.keys.min()), int(self.keys.max()) + 1) if self.keys.numel() else range(0)

    def check(self, frame: Frame) -> None:
        outside = self.keys[(self.keys < 0) | (self.keys >= frame.n_keys)]
        if outside.numel():
            raise ArgumentError(f"keys must lie between 0 and {frame.n_keys - 1}; found {int(outside[0])}")


@dataclass(frozen=True)
class MaskMod(Rule):
    """FlexAttention's mask_mod: mask_mod(b, h, i, j) is True where query i of head h may look at key j.

    Each argument is an index without axes, and tensors may be read at it; the function is mapped over tiles, so nothing
    is written out. `batch` and `heads` say whether it depends on b and on h; those it does not depend on are 0.
    """

    mask_mod: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    batch: bool = True
    heads: bool = True
    shape: tuple[int, ...] | None = None  # [1 or B, 1 or H, T, S] for which a BlockMask was made

    def visible(self, frame: Frame, rows: Span, columns: Span) -> Tensor:
        ends = (frame.batch if self.batch else 1, frame.heads if self.heads else 1)
        places = (
            *(torch.arange(n, device=frame.device) for n in ends),
            index(rows, frame.device),
            index(columns, frame.device),
        )
        if not all(map(len, places)):
            return torch.ones([len(place) for place in places], dtype=torch.bool, device=frame.device)
        return mapped(self.mask_mod, 4)(*places)  # [1 or B, 1 or H, t, s]

    def extent(self, frame: Frame) -> Extent:
        return (frame.batch if self.batch else 1, frame.heads if self.heads else 1, frame.n_queries, frame.n_keys)

    def check(self, frame: Frame) -> None:
        full = [frame.batch, frame.heads, frame.n_queries, frame.n_keys]
        if self.shape is not None and any(
            n not in ends for n, *ends in zip(self.shape, full, [1, 1, *full[2:]], strict=True)
        ):
            raise ArgumentError(
                f"a BlockMask must be made for [1 or B, 1 or H, T, S] = {full} as this call; found {list(self.shape)}"
            )
        zeros = torch.zeros(4, dtype=torch.long, device=frame.device)
        found = tried("mask_mod(b, h, i, j)", lambda: self.mask_mod(*zeros))
        if not (isinstance(found, Tensor) and found.dtype == torch.bool and not found.dim()):
            raise ArgumentError(
                f"mask_mod must give one boolean tensor without axes (True = may look); found {found!r}"
            )
        ends = range(0, frame.n_queries, max(1, frame.n_queries - 1)), range(0, frame.n_keys, max(1, frame.n_keys - 1))
        corners = [torch.tensor(end, device=frame.device) for end in ends]
        tried("mask_mod", lambda: self.visible(frame, *corners), MAPPED)


MAPPED = "could not be mapped over the corners of the map; write it without if, by torch.where, & and |"


def tried(name: str, call: Callable[[], object], what: str = "could not be called with tensors without axes") -> object:
    """What a function of the caller's gives for a first pair; raises ArgumentError where it cannot be called so."""
    try:
        return call()
    except Exception as broken:
        why = str(broken).strip().splitlines()[0] if str(broken).strip() else type(broken).__name__
        raise ArgumentError(f"{name} {what}: {why}") from broken


def mapped(function: Callable[..., Tensor], axes: int) -> Callable[..., Tensor]:
    """A function of so many indices, as a function of as many runs of them: its result has an axis for each."""
    for axis in reversed(range(axes)):
        function = torch.vmap(function, in_dims=tuple(0 if n == axis else None for n in range(axes)))
    return function


def along_diagonal(frame: Frame) -> Extent:
    return (1 if isinstance(frame.diagonal, int) else frame.batch, 1, frame.n_queries, frame.n_keys)


def clip(start: int, stop: int, frame: Frame) -> range:
    return range(max(start, 0), min(stop, frame.n_keys))


def broadcast(extents: Sequence[Extent]) -> Extent:
    """The shape that holds all of these; every size is 1 or the full one."""
    B, H, T, S = (max(sizes) for sizes in zip(*extents, strict=True))
    return B, H, T, S


# --------------------------------------------------------------------------------------------------------------- scores


@dataclass(frozen=True)
class ScoreMod:
    """FlexAttention's score_mod: score_mod(score, b, h, i, j) stands for the score, in the place of softcap and bias.

    Each argument is a tensor without axes, and tensors may be read at the indices; the function is mapped over tiles.
    It is differentiated by its score alone: a tensor that it reads and that learns is refused.
    """

    score_mod: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

    def of(self, scores: Tensor, frame: Frame, rows: Span, columns: Span) -> Tensor:
        """Of the scaled scores of a tile, [B, H, t, s]."""
        if not scores.numel():
            return scores
        function, axes = self.score_mod, 4
        for axis in reversed(range(axes)):
            function = torch.vmap(function, in_dims=(0, *(0 if n == axis else None for n in range(axes))))
        ends = torch.arange(frame.batch, device=frame.device), torch.arange(frame.heads, device=frame.device)
        return function(scores, *ends, index(rows, frame.device), index(columns, frame.device)).to(scores.dtype)

    def slope(self, scores: Tensor, frame: Frame, rows: Span, columns: Span) -> Tensor:
        """Its derivative there, [B, H, t, s]."""
        with torch.enable_grad():
            scores = scores.detach().requires_grad_()
            return torch.autograd.grad(self.of(scores, frame, rows, columns).sum(), scores)[0]

    def check(self, frame: Frame) -> None:
        zeros = torch.zeros(4, dtype=torch.long, device=frame.device)
        found = tried(
            "score_mod(score, b, h, i, j)", lambda: self.score_mod(torch.zeros((), device=frame.device), *zeros)
        )
        if not (isinstance(found, Tensor) and found.is_floating_point() and not found.dim()):
            raise ArgumentError(f"score_mod must give one float tensor without axes; found {found!r}")
        if found.requires_grad:
            raise ArgumentError(
                "score_mod reads a tensor that requires a gradient, and is differentiated by its score alone;"
                " detach that tensor, or hand it in as bias="
            )
        ends = range(0, frame.n_queries, max(1, frame.n_queries - 1)), range(0, frame.n_keys, max(1, frame.n_keys - 1))
        corners = [torch.tensor(end, device=frame.device) for end in ends]
        scores = torch.zeros(frame.batch, frame.heads, *map(len, corners), device=frame.device)
        tried("score_mod", lambda: self.of(scores, frame, *corners), MAPPED)


# --------------------------------------------------------------------------------------------------------------- biases


class Bias:
    """What is added to the scores. A kernel reads a tile of it, and gives a tile's gradient back to its weights.

    `weights` is the one tensor that gradients reach; every method takes it as an argument, so that a kernel decides
    which graph it belongs to.
    """

    follows_diagonal = False
    name = "bias"

    @property
    def weights(self) -> Tensor:
        raise NotImplementedError

    def detached(self) -> Bias:
        """The same apart from any graph; a parameter, which begins one, stays what it is."""
        held = {f.name: getattr(self, f.name) for f in fields(cast(Any, self))}
        computed = {name: x.detach() for name, x in held.items() if isinstance(x, Tensor) and x.grad_fn is not None}
        return type(self)(**held | computed) if computed else self

    def tile(self, weights: Tensor, frame: Frame, rows: Span, columns: Span) -> Tensor:
        """The bias of these rows and columns, broadcastable to [B, H, t, s]."""
        raise NotImplementedError

    def along(self, distance: Tensor) -> Tensor | None:
        """What is added where a key lies so far right of its query, [n] -> [H, n]; None if it depends on more."""
        return None

    def add_gradient(self, into: Tensor, d_tile: Tensor, frame: Frame, rows: Span, columns: Span) -> None:
        """Add the gradient of a tile, d_tile [B, H, t, s], to the gradient of the weights."""
        raise NotImplementedError

    def extent(self, frame: Frame) -> Extent:
        """The shape of the whole bias."""
        raise NotImplementedError

    def check(self, frame: Frame) -> None:
        """Raise ArgumentError if this bias cannot be read in this frame."""


@dataclass(frozen=True, eq=False)
class DenseBias(Bias):
    """A float tensor that broadcasts to [B, H, T, S]. A value of -inf hides its pair, as a mask does."""

    tensor: Tensor

    def __post_init__(self) -> None:
        check_tensor("bias", self.tensor)
        if not self.tensor.is_floating_point():
            hint = "pass a boolean mask as mask=" if self.tensor.dtype == torch.bool else "write bias.float()"
            raise ArgumentError(f"bias must be a float tensor; found {self.tensor.dtype}: {hint}")
        if self.tensor.dim() > 4:
            raise ArgumentError(f"bias must have at most 4 axes, [B, H, T, S]; found {list(self.tensor.shape)}")
        if self.tensor.dim() < 4:
            object.__setattr__(self, "tensor", four(self.tensor))

    @property
    def weights(self) -> Tensor:
        return self.tensor

    def tile(self, weights: Tensor, frame: Frame, rows: Span, columns: Span) -> Tensor:
        return take(take(weights, 2, rows), 3, columns)

    def add_gradient(self, into: Tensor, d_tile: Tensor, frame: Frame, rows: Span, columns: Span) -> None:
        place = self.tile(into, frame, rows, columns)
        place += d_tile.sum_to_size(place.shape)

    def extent(self, frame: Frame) -> Extent:
        B, H, T, S = self.tensor.shape
        return B, H, T, S

    def check(self, frame: Frame) -> None:
        check_broadcast("bias", self.tensor, frame)


@dataclass(frozen=True, eq=False)
class Alibi(Bias):
    """-slope times the distance between query and key, one slope per head (Press et al. 2022, arXiv 2108.12409)."""

    slopes: Tensor  # [H]

    follows_diagonal = True
    name = "Alibi slopes"

    @property
    def weights(self) -> Tensor:
        return self.slopes

    def tile(self, weights: Tensor, frame: Frame, rows: Span, columns: Span) -> Tensor:
        slopes = weights.to(torch.promote_types(weights.dtype, torch.float32))  # distances are too far for half width
        return -slopes[:, None, None] * frame.distance(rows, columns).abs()  # [1 or B, H, t, s]

    def along(self, distance: Tensor) -> Tensor:
        return -self.slopes.to(torch.promote_types(self.slopes.dtype, torch.float32))[:, None] * distance.abs()

    def add_gradient(self, into: Tensor, d_tile: Tensor, frame: Frame, rows: Span, columns: Span) -> None:
        into -= (d_tile * frame.distance(rows, columns).abs()).sum((0, 2, 3))

    def extent(self, frame: Frame) -> Extent:
        B, _, T, S = along_diagonal(frame)
        return B, frame.heads, T, S

    def check(self, frame: Frame) -> None:
        check_tensor("Alibi slopes", self.slopes)
        if tuple(self.slopes.shape) != (frame.heads,) or not self.slopes.is_floating_point():
            raise ArgumentError(
                f"Alibi slopes must be floats of shape [H] = [{frame.heads}];"
                f" found {list(self.slopes.shape)}, {self.slopes.dtype}"
            )


@dataclass(frozen=True, eq=False)
class Buckets(Bias):
    """T5's learned bias: distances fall into buckets, exact when near, logarithmic when far (Raffel et al. 2020, 2.1).

    `table` [n_buckets, H] is trainable. `bidirectional` gives half of the buckets to the keys on the right; otherwise
    those share the bucket of distance 0. From `max_distance` on, all keys share the last bucket.
    """

    table: Tensor  # [n_buckets, H]
    bidirectional: bool
    max_distance: int

    follows_diagonal = True
    name = "Buckets table"

    @property
    def weights(self) -> Tensor:
        return self.table

    def bucket(self, distance: Tensor) -> Tensor:
        """The row of the table that serves each distance (key minus query)."""
        n = self.table.shape[0] // (2 if self.bidirectional else 1)
        exact = n // 2
        far = distance.abs() if self.bidirectional else (-distance).clamp(min=0)
        # In float32, in this order: the borders of the buckets depend on the rounding of trained models.
        ratio = torch.log(far.clamp(min=1).float() / exact) / math.log(self.max_distance / exact) * (n - exact)
        found = torch.where(far < exact, far, (exact + ratio.long()).clamp(max=n - 1))
        return found + n * (distance > 0) if self.bidirectional else found

    def tile(self, weights: Tensor, frame: Frame, rows: Span, columns: Span) -> Tensor:
        return weights[self.bucket(frame.distance(rows, columns)[:, 0])].movedim(3, 1)  # [1 or B, H, t, s]

    def along(self, distance: Tensor) -> Tensor:
        return self.table[self.bucket(distance)].T

    def add_gradient(self, into: Tensor, d_tile: Tensor, frame: Frame, rows: Span, columns: Span) -> None:
        found = self.bucket(frame.distance(rows, columns))  # [1 or B, 1, t, s]
        d_tile = d_tile.sum_to_size(found.shape[0], *d_tile.shape[1:])
        into.index_add_(0, found.flatten(), d_tile.movedim(1, 3).flatten(0, 2))

    def extent(self, frame: Frame) -> Extent:
        B, _, T, S = along_diagonal(frame)
        return B, frame.heads, T, S

    def check(self, frame: Frame) -> None:
        check_tensor("Buckets table", self.table)
        check_count("Buckets max_distance", self.max_distance)
        least = 4 if self.bidirectional else 2
        if self.table.dim() != 2 or self.table.shape[1] != frame.heads or self.table.shape[0] < least:
            raise ArgumentError(
                f"Buckets table must have shape [n_buckets, H] = [at least {least}, {frame.heads}];"
                f" found {list(self.table.shape)}"
            )
        exact = self.table.shape[0] // (4 if self.bidirectional else 2)
        if self.max_distance <= exact:
            raise ArgumentError(
                f"Buckets max_distance must be above {exact}, the distances with a bucket each;"
                f" found {self.max_distance}"
            )
