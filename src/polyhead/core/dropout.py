"""Dropout (Srivastava et al. 2014) that draws sixteen random bits an element, not a whole number.

Drawing is most of the cost of dropout on a CPU; four elements share one 64-bit draw from torch's own generator, so that
a saved generator state still decides everything. p is rounded to 1/65536.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 1 << 16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x with each element zeroed with probability p and the others divided by 1 - p; x itself when not training."""
    if not training or p == 0:
        return x
    cut = round(p * STEPS)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= cut - STEPS // 2
    return x * kept.to(x.dtype).mul_(STEPS / (STEPS - cut) if cut < STEPS else 0.0)
