"""Logits and targets go in, one summed loss comes out: cross entropy with label smoothing, padding left aside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 1 << 19  # logits looked at together: they and what is made of them stay in a core's cache


def label_smoothed(logits: Tensor, targets: Tensor, *, padding: int, smoothing: float = 0.0) -> Tensor:
    """The sum over targets of cross entropy against (1 - e) one-hot + e / V (Szegedy et al. 2016, section 7).

    logits [..., V] in any float type, targets [...] of integers; rows whose target is `padding` count nothing.
    Equal to `torch.nn.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=padding, reduction="sum")`; it computes
    in float32 (float64 for float64 logits) whatever the logits' type, a few rows at a time, and makes the gradient
    while those rows are at hand, so that nothing but the gradient is kept.
    Returns a float32 scalar (float64 for float64 logits).
    """
    return _LabelSmoothed.apply(logits.flatten(0, -2), targets.flatten(), padding, smoothing)  # [N, V], [N]


class _LabelSmoothed(torch.autograd.Function):
    """With q = log softmax(x): loss = -(1 - e) q_t - e mean(q), gradient = exp(q) - (1 - e) one-hot - e / V."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, padding: int, e: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        words = x.shape[-1]
        total = x.new_zeros((), dtype=wide)
        gradient = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        rows = max(1, CHUNK // words)
        for start in range(0, len(x), rows):
            span = slice(start, start + rows)
            counts = t[span] != padding  # [n]
            place = t[span].where(counts, 0)[:, None]
            q = x[span].to(wide).log_softmax(-1)  # [n, V]
            loss = (1 - e) * q.gather(-1, place)[:, 0]
            if e:
                loss = loss + e * q.mean(-1)
            total -= loss.where(counts, 0).sum()
            if gradient is not None:
                g = q.exp_().sub_(e / words) if e else q.exp_()
                gradient[span] = g.scatter_add_(-1, place, g.new_full(place.shape, e - 1))
        if gradient is not None:
            gradient.index_fill_(0, (t == padding).nonzero()[:, 0], 0)
        ctx.save_for_backward(gradient)
        ctx.given = False
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        # as in training, which divides by the targets of all batches at the end; whoever comes again gets a copy
        if not ctx.given and slope.device.type == "cpu" and slope == 1:
            ctx.given = True
            return gradient, None, None, None
        return gradient * slope.to(gradient.dtype), None, None, None
