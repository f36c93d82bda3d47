"""Attention that somebody wrote out, product by product: a softmax is followed back to the queries and keys behind it.

    scores = query @ key^T      a product of batches of matrices begins a trail
    scores = scores * c + mask  what is done to it since is noted: a factor, a term, places that are hidden
    weights = softmax(scores)   the trail ends, and the queries, keys, factor and terms are known
    weights @ value             so are the values

The trail lies along the memory of tensors, so that views of them need no notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polyhead.lens.capture import masks
from polyhead.lens.capture.marks import memory
from polyhead.lens.capture.origin import NONE, Line
from polyhead.lens.capture.sighting import NOTHING, Sighting, Unseen
from polyhead.operator.rules import DenseBias


@dataclass(frozen=True, eq=False)
class Trail:
    """Scores on their way: left [N, T, K] times right [N, K, S], times a factor, plus terms, with places hidden.

    Where they went through a tanh, `inner` was their factor before it. Where a column was put behind them, that takes
    weight and has no value, `sinks` [H] are its scores.
    """

    left: Tensor
    right: Tensor
    factor: float = 1.0
    inner: float | None = None
    term: Tensor | None = None
    hidden: Tensor | None = None
    sinks: Tensor | None = None
    lines: tuple[Line, Line] = NONE, NONE  # of queries and of keys
    flat: bool = False  # whether they are a product of two matrices, which those of many other things are too
    lost: str = ""  # what was done to them that cannot be told

    @property
    def columns(self) -> int:
        return self.right.shape[2] + (self.sinks is not None)

    def whole(self, x: Tensor) -> bool:
        """Whether a tensor in the memory of the scores is all of them, with its keys along the last axis."""
        (N, T, _), S = self.left.shape, self.columns
        turned = x.dim() > 1 and min(x.shape[-2:]) > 1 and x.stride(-1) > x.stride(-2)
        return x.numel() == N * T * S and not turned

    def beside(self, x: Tensor) -> Trail:
        """The same, with terms that were added when heads had no axis of their own [B H, ...], as x has one now."""
        N = self.left.shape[0]
        if x.dim() != 4:
            return self

        def four(y: Tensor | None) -> Tensor | None:
            return y if y is None or y.dim() != 3 or len(y) != N else y.unflatten(0, x.shape[:2])

        return replace(self, term=four(self.term), hidden=four(self.hidden))

    def apart(self, place: int) -> Trail:
        """The same, with copies of what lies in this memory, which is about to be written to."""

        def own(x: Tensor | None) -> Tensor | None:
            return x.clone() if x is not None and memory(x) == place else x

        left, right = own(self.left), own(self.right)
        assert left is not None and right is not None
        return replace(self, left=left, right=right, term=own(self.term), hidden=own(self.hidden))

    def times(self, x: Any) -> Trail:
        number = number_of(x)
        if number is None and self.inner is None and isinstance(x, Tensor) and x.dim() and x.shape[-1] == 1:
            return self.row_by_row(x.detach())
        if number is None:
            return replace(self, lost="scores are multiplied by something that differs from key to key")
        return replace(self, factor=self.factor * number, term=None if self.term is None else self.term * number)

    def row_by_row(self, x: Tensor) -> Trail:
        """Times a number for each head or query, [..., H, T or 1, 1]: as if the queries had been multiplied."""
        N, T, K = self.left.shape
        if x.dim() > 2:
            lead = x.shape[:-2]
            rows = self.left.reshape(-1, *lead[1:], T, K) if len(lead) > 1 else self.left.reshape(-1, *lead, T, K)
            left = (rows * x).reshape(N, T, K)
        else:
            left = self.left * x
        return replace(self, left=left, term=None if self.term is None else self.term * x)

    def over(self, x: Any) -> Trail:
        number = number_of(x)
        if number is not None:
            return self.times(1 / number)
        return self.times(1 / x if isinstance(x, Tensor) else x)

    def plus(self, x: Any, sign: float = 1.0) -> Trail:
        if not isinstance(x, Tensor) or (x.shape[-1:] == (1,) and self.columns > 1):
            return self  # the same to all keys: no weight changes
        if self.sinks is not None:
            return replace(self, lost="something that differs from key to key is added to scores with a sink")
        x = x.detach() if sign == 1 else x.detach() * sign
        return replace(self, term=x if self.term is None else self.term + x)

    def sunk(self, parts: Sequence[Tensor], dim: int, *, first: bool) -> Trail:
        """With a column behind them [B, H, T, 1] that is one number for each head."""
        scores, *more = parts
        last = first and len(more) == 1 and more[0].dim() == 4 and more[0].shape[-1] == 1 and dim % 4 == 3
        if not last or self.sinks is not None or not self.whole(scores) or scores.shape[-1] != self.columns:
            return replace(self, lost="scores are joined by other numbers")
        sink = more[0].detach()[:1, :, :1]
        if not torch.equal(sink.expand_as(more[0]), more[0]):
            return replace(self, lost="a sink beside the scores differs from row to row")
        return replace(self, sinks=sink.flatten().clone())

    def bent(self) -> Trail:
        if self.inner is not None or self.term is not None or self.hidden is not None:
            return replace(self, lost="scores go through tanh after something was added to them")
        return replace(self, inner=self.factor, factor=1.0)

    def hide(self, where: Tensor, x: Any) -> Trail:
        number = number_of(x)
        if number is None or number > masks.FAR:
            return replace(self, lost="places of the scores are filled by something that does not hide them")
        return replace(self, hidden=where.detach() if self.hidden is None else self.hidden | where)


def number_of(x: Any) -> float | None:
    if isinstance(x, Tensor):
        return float(x) if x.numel() == 1 and not x.is_meta else None
    return float(x) if isinstance(x, int | float) else None


Step = Callable[[Trail, Sequence[Any], Mapping[str, Any]], Trail]


def where(trail: Trail, args: Sequence[Any], how: Mapping[str, Any]) -> Trail:
    """torch.where(visible, scores, number), or (hidden, number, scores)."""
    condition, first, second = args[:3]
    kept = isinstance(first, Tensor) and first.dim() > 0 and first.shape[-1] == trail.right.shape[-1]
    return trail.hide(~condition, second) if kept else trail.hide(condition, first)


STEPS: dict[str, Step] = {
    "mul": lambda trail, args, how: trail.times(args[1]),
    "div": lambda trail, args, how: trail.over(args[1]),
    "add": lambda trail, args, how: trail.plus(args[1], how.get("alpha", 1)),
    "sub": lambda trail, args, how: trail.plus(args[1], -how.get("alpha", 1)),
    "tanh": lambda trail, args, how: trail.bent(),
    "masked_fill": lambda trail, args, how: trail.hide(args[1], args[2]),
    "where": where,
    **dict.fromkeys(("clone", "_to_copy", "_unsafe_view", "_reshape_alias"), lambda trail, args, how: trail),
}
SHIFTS = ("add", "sub", "clone", "_to_copy", "_unsafe_view", "_reshape_alias")  # what may be done to scores with a sink
KEY_OF_ITS_OWN = "a column beside its scores has values, and so it is a key that was not multiplied with queries"
KEEPS = ("clone", "_to_copy", "_unsafe_view", "mul", "native_dropout", "view")  # of weights: still weights, or dropped


def begun(name: str, args: Sequence[Any], how: Mapping[str, Any]) -> Trail | None:
    """The trail that a product of batches begins."""
    if name == "mm":
        return Trail(args[0].detach()[None], args[1].detach()[None], flat=True)
    if name == "bmm":
        return Trail(args[0].detach(), args[1].detach())
    if name == "baddbmm":
        term, factor = args[0].detach(), number_of(how.get("alpha", 1))
        beta = number_of(how.get("beta", 1))
        return Trail(args[1].detach(), args[2].detach(), factor=factor or 1.0, term=term if beta == 1 else term * beta)
    return None


def followed(trail: Trail, name: str, args: Sequence[Any], how: Mapping[str, Any], n: int) -> Trail:
    """The trail after one more operation on its scores, which were its argument n."""
    if trail.lost:
        return trail
    step, first = STEPS.get(name), n == 0
    if name == "cat":
        return trail.sunk(args[0], args[1] if len(args) > 1 else 0, first=first)
    if name == "copy" and onto_itself(*args[:2]):  # as scores[...] += x ends
        return trail
    if trail.sinks is not None and name not in SHIFTS:
        return replace(trail, lost=f"scores with a sink go through {name}")
    if step is None:
        return replace(trail, lost=f"scores go through {name}")
    if not trail.whole(args[n]):
        return replace(trail, lost=f"a part of the scores goes through {name}")
    if not first and name in ("mul", "add"):
        args = [args[1], args[0]]
    elif not first and name != "where":
        return replace(trail, lost=f"scores go through {name}")
    try:
        return step(trail.beside(args[n]), args, how)
    except RuntimeError:  # they do not fit as the terms and factors of scores do; perhaps these are none
        return replace(trail, lost=f"scores go through {name} in a way that polyhead cannot follow")


def onto_itself(x: Tensor, y: Tensor) -> bool:
    return (x.data_ptr(), x.shape, x.stride()) == (y.data_ptr(), y.shape, y.stride())


def sighting(trail: Trail, scores: Tensor, dim: int, heads: int | None) -> Sighting:
    """The call behind a softmax of scores [..., T, S] or [B, H, T, S]. Raises Unseen."""
    if trail.lost:
        raise Unseen(trail.lost)
    if not scores.numel():
        raise Unseen(NOTHING)
    if dim % scores.dim() != scores.dim() - 1:
        raise Unseen("its softmax is not over the last axis")
    T, S = scores.shape[-2:]
    N = scores.numel() // (T * S)
    if not trail.whole(scores) or (trail.left.shape[0], trail.left.shape[1], trail.columns) != (N, T, S):
        raise Unseen("its scores are turned before the softmax")
    S = trail.right.shape[2]
    lead = scores.shape[:-2]
    H = lead[-1] if len(lead) > 1 else heads if heads and N % heads == 0 else 1

    def four(x: Tensor) -> Tensor:
        """What broadcast to the scores, as it broadcasts to [B, H, T, S]: windows of one picture count as sequences."""
        if x.dim() == 3 and len(lead) == 1:
            x = x.expand(N, *x.shape[1:]).unflatten(0, (N // H, H))
        if x.dim() <= 4:
            return masks.four(x)
        x = x.flatten(0, -4)
        return x if len(x) in (1, N // H) else x.repeat(N // H // len(x), 1, 1, 1)

    trail, rule, bias = trail.beside(scores), None, None
    if trail.term is not None:
        how = {"queries": T, "keys": S, "batch": N // H}
        rule, bias = masks.read(four(trail.term), causal=False, **how, device=scores.device)
    if trail.hidden is not None:
        rule = masks.merged(rule, masks.visible_as_rule(~four(trail.hidden), T, S))
    if bias is not None and bias.weights.dtype not in (trail.left.dtype, torch.float32):
        bias = DenseBias(bias.weights.to(trail.left.dtype))
    query = trail.left.reshape(N // H, H, T, -1)
    key = trail.right.mT.reshape(N // H, H, S, -1)
    scale = trail.factor if trail.inner is None else trail.inner * trail.factor
    softcap = None if trail.inner is None else trail.factor
    return Sighting("explicit", "written out", query, key, None, scale, rule, bias, softcap=softcap, sinks=trail.sinks)
