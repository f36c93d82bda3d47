"""Logits and targets go in, one summed loss comes out: cross entropy with label smoothing, padding left aside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def label_smoothed(logits: Tensor, targets: Tensor, *, padding: int, smoothing: float = 0.0) -> Tensor:
    """The sum over targets of cross entropy against (1 - e) one-hot + e / V (Szegedy et al. 2016, section 7).

    logits [..., V] in any float type, targets [...] of integers; rows whose target is `padding` count nothing.
    Equal to `torch.nn.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=padding, reduction="sum")`, but it
    keeps the logits alone for the backward pass, where that one keeps a second array as large in float32.
    Returns a float32 scalar (float64 for float64 logits).
    """
    return _LabelSmoothed.apply(logits.flatten(0, -2), targets.flatten(), padding, smoothing)  # [N, V], [N]


class _LabelSmoothed(torch.autograd.Function):
    """With p = softmax(x): loss = logsumexp(x) - (1 - e) x_t - e mean(x), gradient = p - (1 - e) one-hot - e / V."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, padding: int, e: float) -> Tensor:
        counts = t != padding  # [N]
        t = t.where(counts, 0)
        wide = x if x.dtype == torch.float64 else x.float()
        lse = wide.logsumexp(-1)  # [N]
        ctx.save_for_backward(x, t, counts, lse)
        ctx.e = e
        loss = lse - (1 - e) * wide.gather(-1, t[:, None])[:, 0]
        if e:
            loss = loss - e * wide.mean(-1)
        return loss.where(counts, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        x, t, counts, lse = ctx.saved_tensors
        g = (x - lse[:, None]).exp_()  # [N, V], in the type of lse
        if ctx.e:
            g -= ctx.e / x.shape[-1]
        g.scatter_add_(-1, t[:, None], torch.full_like(lse, ctx.e - 1)[:, None])
        g *= slope
        g.masked_fill_(~counts[:, None], 0)
        return g.to(x.dtype), None, None, None
