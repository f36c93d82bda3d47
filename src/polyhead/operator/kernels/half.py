"""Many queries in bfloat16 without gradients, as an encoder or a prompt has them, in loops that multiply by pairs.

PyTorch's SDPA makes float32 of bfloat16 on a CPU without AMX, and takes as long as with float32 (docs/decisions/0031).
"""

# pyright: basic
from __future__ import annotations

import torch
from torch import Tensor

from polyhead.operator import loops
from polyhead.operator.kernels.pieces import piece_of, pieces, together
from polyhead.operator.kernels.step import TRACED, plain, traced
from polyhead.operator.request import Request
from polyhead.operator.rules import Causal

MOST = 1 << 14  # keys of a head, laid out in a thread's caches
ROWS, WIDEST = 48, 32  # queries that meet them at a time, and keys of a panel, at most
PAYS = 1 << 17  # scores from which it pays; a short text alone need not wait for numba's import


def can(request: Request) -> str | None:
    """None, or why the loops of bfloat16 cannot serve."""
    if traced():
        return TRACED
    if documents := pieces(request):  # each is a call of its own
        return next((reason for each in documents if (reason := can(piece_of(request, each)))), None)
    if (missing := loops.missing()) is not None:
        return missing
    tensors = (request.query, request.key, request.value)
    if any(x.device.type != "cpu" for x in tensors) or request.query.dtype != torch.bfloat16:
        here = f"{request.query.dtype} on {request.query.device}"
        return f"the loops of bfloat16 take it on a CPU; here is {here}"
    if not loops.multiplies_halves():
        return "the loops of bfloat16 need a processor that multiplies it by pairs (AVX512-BF16)"
    if not plain(*tensors):
        return "the loops of bfloat16 read plain tensors, and here is a subclass"
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return "the loops of bfloat16 give no gradients"
    if not (request.rule is None or (isinstance(request.rule, Causal) and isinstance(request.frame.diagonal, int))):
        return "the loops of bfloat16 hide nothing but what is to come"
    if request.bias is not None or request.score_mod is not None or request.softcap is not None:
        return "the loops of bfloat16 do not bend scores"
    if request.sinks is not None or request.dropout > 0:
        return "the loops of bfloat16 have no sinks and drop no weights"
    if not (request.query.numel() and request.value.numel()):
        return "there is nothing to look at"
    if request.key.shape[2] > MOST:
        return f"the loops of bfloat16 lay out up to {MOST:,} keys, and here are {request.key.shape[2]:,}"
    if request.query.shape[3] % 2 or any(x.stride(3) != 1 for x in tensors):
        return "the loops of bfloat16 read pairs of features that lie side by side"
    if request.poisoned:
        return "query, key or value holds NaN or Inf while something is hidden, and a product would let it leak"
    return None


def slower(request: Request) -> str | None:
    """None where this is the fastest kernel by measurement, or the reason why not."""
    if request.query.dtype != torch.bfloat16:
        return "the loops of bfloat16 are for it alone"
    if traced():  # a comparison of sizes would be part of what is traced
        return TRACED
    (B, H, T, _), S = request.query.shape, request.key.shape[2]
    if B * H * T * S < PAYS:
        return f"the loops of bfloat16 pay from {PAYS:,} scores on, and here are {B * H * T * S}"
    if loops.multiplies_tiles():
        return "SDPA is as fast where a processor multiplies bfloat16 by tiles (AMX)"
    return None


def room(request: Request) -> int:
    """The output, and a desk for each thread: keys and values laid out, scores and weights of some queries."""
    (B, H, T, K), (S, V) = request.query.shape, request.value.shape[2:]
    return 2 * B * H * T * V + torch.get_num_threads() * (2 * (S + WIDEST) * (K + V + 3 * ROWS) + 4 * ROWS * V)


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for. No row depends on another."""
    if documents := pieces(request):
        outs, levels = zip(*(run(piece_of(request, each), lse) for each in documents), strict=True)
        return together(outs, len(request.query)), together(levels, len(request.query)) if lse else None
    query, key, value = request.query, request.key, request.value
    query = query if query.stride(2) % 2 == 0 else query.contiguous()
    (B, H, T, _), (S, V) = query.shape, value.shape[2:]
    out = query.new_empty(B, T, H, V).transpose(1, 2)
    found = query.new_empty(B, H, T, dtype=torch.float32) if lse else None
    last = S if request.rule is None else request.frame.lowest
    loops.half(query, key, value, out, found, last, request.scale)
    return out, found
