"""A step of decoding: a few queries at many keys, in loops compiled for a CPU that read a cache as it lies.

SDPA, which is made for many queries, spends more on each head than its few products take (docs/log.md, 2026-11-30).
"""

# pyright: basic
from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from polyhead.operator import loops
from polyhead.operator.request import Request

PLAIN = (Tensor, nn.Parameter)
FEW = 16  # queries of a step
DTYPES = (torch.float32, torch.bfloat16)
PAYS = 1 << 11  # scores of a step from which it pays; a short sentence alone need not wait for numba's import
WIDEST = 16  # numbers of the widest vector, to which a row is filled up
SCORES = 1 << 22  # most of a sequence that a thread writes out
ALONE = 1 << 16  # multiplications that one thread has done before another is awake
levels, compiles = cast(Any, forward_ad), torch.compiler.is_compiling
traces, maps = cast(Any, torch)._C._is_tracing, cast(Any, torch)._C._functorch.peek_interpreter_stack
TRACED = "whoever compiles, traces, maps or differentiates forward sees no loops"


def can(request: Request) -> str | None:
    """None, or why the loops of a step cannot serve."""
    if traced():
        return TRACED
    (_, H, T, _), S = request.query.shape, request.key.shape[2]
    if T > FEW:
        return f"a step has up to {FEW} queries, and here are {T}"
    if (missing := loops.missing()) is not None:
        return missing
    tensors = (request.query, request.key, request.value)
    if any(x.device.type != "cpu" for x in tensors) or request.query.dtype not in DTYPES:
        here = f"{request.query.dtype} on {request.query.device}"
        return f"the loops of a step take float32 and bfloat16 on a CPU; here is {here}"
    if not plain(request.query, request.key, request.value, request.weights):
        return "the loops of a step read plain tensors, and here is a subclass"
    held = tensors if request.weights is None else (*tensors, request.weights)
    if torch.is_grad_enabled() and any(x.requires_grad for x in held):
        return "the loops of a step give no gradients"
    if request.score_mod is not None or request.softcap is not None:
        return "the loops of a step do not bend scores"
    if request.sinks is not None or request.dropout > 0:
        return "the loops of a step have no sinks and drop no weights"
    if not (request.query.numel() and request.value.numel()):
        return "there is nothing to look at"
    if H * T * S > SCORES:
        return f"the loops of a step would write out {H * T * S} scores of a sequence, more than {SCORES}"
    if any(x.stride(3) != 1 for x in tensors):
        return "the loops of a step read features that lie side by side"
    return None


def slower(request: Request) -> str | None:
    """None where this is the fastest kernel by measurement, or the reason why not."""
    if traced():  # a comparison of sizes would be part of what is traced
        return TRACED
    (B, H, T, _), S = request.query.shape, request.key.shape[2]
    if T >= S:
        return f"a step has fewer queries than keys, and here are {T} and {S}"
    return None if B * H * T * S >= PAYS else f"a step pays from {PAYS:,} scores on, and here are {B * H * T * S}"


def traced() -> bool:
    """Whether more is wanted of a call than its numbers."""
    return compiles() or levels._current_level >= 0 or traces() or maps() is not None


def plain(*tensors: Tensor | None) -> bool:
    """Whether these are numbers at an address, and no subclass's idea of them."""
    return all(x is None or type(x) in PLAIN for x in tensors)


def room(request: Request) -> int:
    """The output, a desk for each thread with the weights of a sequence, mask and bias."""
    (B, H, T, K), (S, V) = request.query.shape, request.value.shape[2:]
    numbers = B * H * T * V + torch.get_num_threads() * H * T * (S + WIDEST + K + V)
    return 4 * numbers + written_room(request)


def written_room(request: Request) -> int:
    """Bytes of mask and bias as they are written out, at most."""
    extents = [x.extent(request.frame) for x in (request.rule, request.bias) if x is not None]
    return 4 * sum(math.prod(extent) for extent in extents if extent is not None)


def written(request: Request) -> tuple[Tensor | None, Tensor | None]:
    """Mask and bias of all pairs [B, H, T, S], as views of what is written out."""
    frame, (B, H, T, _), S = request.frame, request.query.shape, request.key.shape[2]
    visible = None if request.rule is None else request.rule.visible(frame, range(T), range(S))
    bias = None if request.bias is None else request.bias.tile(request.bias.weights.detach(), frame, range(T), range(S))
    return (
        None if visible is None else visible.expand(B, H, T, S),
        None if bias is None else bias.float().expand(B, H, T, S),
    )


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for. No row depends on another."""
    query, key, value = request.query, request.key, request.value
    (B, H, T, K), (G, S), V = query.shape, key.shape[1:3], value.shape[3]
    mask, added = written(request)
    out = query.new_empty(B, T, H, V).transpose(1, 2)
    found = query.new_empty(B, H, T, dtype=torch.float32) if lse else None
    threads = min(loops.thread_count(), B * G) if B * H * T * S * K > ALONE else 1
    held = (query, key, value, out, found, mask, added)
    loops.step(
        threads,
        min(-(-threads // B), G),
        [0 if x is None else x.data_ptr() for x in held],
        (int(query.dtype == torch.bfloat16), B, H, H // G, T, S, K, V),
        request.scale,
        (
            *query.stride()[:3],
            *key.stride()[:3],
            *value.stride()[:3],
            *((0, 0, 0, 0) if mask is None else mask.stride()),
            *((0, 0, 0, 0) if added is None else added.stride()),
        ),
    )
    return out, found
