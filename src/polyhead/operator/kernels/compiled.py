"""The loops as a kernel: about as fast as SDPA's on a CPU, with softcap, sinks, any mask, and statistics on the way.

Gradients come from the same output and log-sum-exp: by SDPA's flash kernel where it serves, else by `blockwise`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polyhead.operator import loops
from polyhead.operator.answers import Sums
from polyhead.operator.kernels import blockwise, fused
from polyhead.operator.kernels.pieces import pieces
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request, finite

SCORES = 1 << 22  # with fewer, SDPA is as fast or faster, and nothing need be compiled
HALVES = (torch.float16, torch.bfloat16)


def can(request: Request) -> str | None:
    """None, or why the loops cannot serve."""
    if request.dropout > 0:
        return "the loops drop no weights"
    if (reason := loops.can(request)) is not None:
        return reason
    return None if request.finite or finite(request.value) else "value holds NaN or Inf"


def slower(request: Request) -> str | None:
    """None where this is the fastest kernel by measurement, or the reason why not."""
    (B, H, T, _), S = request.query.shape, request.key.shape[2]
    if B * H * T * S < SCORES:
        return f"the loops pay from {SCORES:,} scores on, and here are {B * H * T * S}"
    if (documents := pieces(request)) and max(H * (stop - start) ** 2 for _, start, stop in documents) < SCORES:
        return f"SDPA takes the {len(documents)} segments one by one, none of which has {SCORES:,} scores"
    if request.query.dtype in HALVES and fused.can(request) is None:
        return "SDPA is faster in half precision"
    return None


def room(request: Request) -> int:
    """Scaled queries, keys in panels, and a block of rows for each thread; masks and biases a part at a time."""
    rule, bias = loops.written(request)
    written = loops.WRITTEN * ((0 if rule is None else 1) + (0 if bias is None else 4))
    block = loops.BLOCK * (request.key.shape[2] + request.query.shape[3] + request.value.shape[3])
    return 4 * (request.query.numel() + request.key.numel() + torch.get_num_threads() * block) + written


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for."""
    out, found, _ = see(request, Observe())
    return out, found if lse else None


def see(request: Request, observe: Observe) -> tuple[Tensor, Tensor, Sums]:
    """Output, log-sum-exp, and what is observed, from one look. What is observed does not change the output."""
    seen: list[Sums] = []

    def forward(*_: object) -> tuple[Tensor, Tensor]:
        found = loops.look(request.detached(), observe)
        assert found.out is not None and found.lse is not None
        seen.append(found.sums)
        return found.out, found.lse

    plan = blockwise.plan_of(request, None, 0.0)
    backward = fused.backward(request) if fused.fuses(request) else blockwise.backward
    tensors = (request.query, request.key, request.value, request.weights, request.sinks)
    out, lse = blockwise.apply(plan, forward, backward, *tensors)
    return out, lse, seen[0]
