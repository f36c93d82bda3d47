"""Short sequences in training: whole heads at a time, there and back, in loops compiled for a CPU.

SDPA's flash kernel cuts long sequences into tiles; for a sentence it spends more on each head than its few products
take, and more yet on the way back (docs/decisions/0029).
"""

# pyright: basic
from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import loops
from polyhead.operator.kernels import blockwise
from polyhead.operator.kernels.blockwise import Plan
from polyhead.operator.kernels.step import DTYPES, TRACED, plain, traced, written, written_room
from polyhead.operator.request import Request, finite

SHORT = 128  # queries or keys of a short sequence
WIDE = 256  # features of a head
PAYS = 1 << 14  # scores from which it pays
SEEDS = 1 << 32  # draws of a dropout, and what they begin from
NEAR = 1 << 13  # numbers of a head's keys, or values, that leave the second cache to the rest


def can(request: Request) -> str | None:
    """None, or why the loops of short sequences cannot serve."""
    if traced():
        return TRACED
    (_, _, T, K), (S, V) = request.query.shape, request.value.shape[2:]
    if max(T, S) > SHORT:
        return f"a short sequence has up to {SHORT} queries and keys, and here are {T} and {S}"
    if max(K, V) > WIDE:
        return f"the loops of short sequences take heads of up to {WIDE} features, and here are {max(K, V)}"
    tensors = (request.query, request.key, request.value)
    dtype = request.query.dtype
    if any(x.device.type != "cpu" for x in tensors) or dtype not in DTYPES:
        here = f"{dtype} on {request.query.device}"
        return f"the loops of short sequences take float32 and bfloat16 on a CPU; here is {here}"
    if not plain(*tensors, request.weights):
        return "the loops of short sequences read plain tensors, and here is a subclass"
    if request.weights is not None and request.weights.requires_grad and torch.is_grad_enabled():
        return "the loops of short sequences give a bias no gradients"
    if request.score_mod is not None or request.softcap is not None:
        return "the loops of short sequences do not bend scores"
    if request.sinks is not None:
        return "the loops of short sequences have no sinks"
    if not (request.query.numel() and request.value.numel()):
        return "there is nothing to look at"
    if any(x.stride(3) != 1 for x in tensors):
        return "the loops of short sequences read features that lie side by side"
    if (missing := loops.missing()) is not None:
        return missing
    if request.poisoned:
        return "query, key or value holds NaN or Inf while something is hidden, and a product would let it leak"
    return None


def slower(request: Request) -> str | None:
    """None where this is the fastest kernel by measurement, or the reason why not."""
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (request.query, request.key, request.value))
    if not learns and request.dropout == 0:  # a forward that is to be made again, with gradients, drops the same
        return "the loops of short sequences are for training"
    if traced():  # a comparison of sizes would be part of what is traced
        return TRACED
    (B, H, T, _), S = request.query.shape, request.key.shape[2]
    if B * H * T * S < PAYS:
        return f"the loops of short sequences pay from {PAYS:,} scores on, and here are {B * H * T * S}"
    near = S * max(request.key.shape[3], request.value.shape[3])
    if max(T, S) <= SHORT and near > NEAR and request.query.dtype == torch.float32:
        return f"SDPA is as fast where keys or values of a head are more than {NEAR:,} numbers, and here are {near}"
    if request.query.device.type == "cpu" and loops.missing() is None and not loops.fuses():
        return "the loops of short sequences are fast where a processor multiplies and adds at once"
    return None


def room(request: Request) -> int:
    """A head's desk for each thread, mask and bias."""
    (_, _, T, K), (S, V) = request.query.shape, request.value.shape[2:]
    return 4 * torch.get_num_threads() * (T * K + 2 * S * K + T * S + (S + T) * V) + written_room(request)


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for. No sequence depends on another."""
    visible, bias = written(request)
    plan = replace(blockwise.plan_of(request, None, request.dropout), draw=kept)
    chance = plan.seed % SEEDS, bar_of(request.dropout), 1 / (1 - request.dropout)
    scale, hides = request.scale, request.hides  # not the request, whose tensors a graph would keep

    def forward(*_: object) -> tuple[Tensor, Tensor]:
        query, key, value = request.query.detach(), request.key.detach(), request.value.detach()
        out, level = rows(query, value.shape[3]), query.new_empty(query.shape[:3], dtype=torch.float32)
        loops.short(query, key, value, visible, bias, scale, chance, out, level)
        return out, level

    def backward(
        plan: Plan, query: Tensor, key: Tensor, value: Tensor, weights: Tensor | None, sinks: Tensor | None,
        out: Tensor, lse: Tensor, d_out: Tensor, *, learns: bool,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        if not cast(Any, torch)._C._has_storage(d_out):
            raise ArgumentError(
                "The loops of short sequences take the gradient of one output at a time, and here are several, as"
                " is_grads_batched or vectorize asks for; name another kernel, such as kernel='explicit'."
            )
        if hides and not finite(d_out):  # what is hidden from a row gets nothing of its NaN
            return blockwise.backward(plan, query, key, value, weights, sinks, out, lse, d_out, learns=learns)
        query, key, value, d_out = (x if x.stride(3) == 1 else x.contiguous() for x in (query, key, value, d_out))
        whole = rows(query, value.shape[3])
        if out.stride() != whole.stride():  # whoever kept it meanwhile may have laid it out anew
            out = whole.copy_(out)
        found = rows(query, query.shape[3]), rows(key, key.shape[3]), rows(value, value.shape[3])
        loops.short(query, key, value, visible, bias, scale, chance, out, lse.contiguous(), d_out, found)
        return *found, None, None

    tensors = (request.query, request.key, request.value, request.weights, request.sinks)
    out, level = blockwise.apply(plan, forward, backward, *tensors)
    return out, level if lse else None


def bar_of(share: float) -> int:
    """The draw of 32 bits from which a weight stays, where this share of them is to go."""
    return min(round(share * SEEDS), SEEDS - 1)


def kept(plan: Plan, rows: range, columns: range) -> Tensor:
    """What dropout multiplies the weights of a tile by, [B, H, t, s]: the draws of the loops, where they do not run."""
    frame = plan.frame
    row = torch.arange(frame.batch * frame.heads * frame.n_queries, device=frame.device).view(
        frame.batch, frame.heads, -1, 1
    )
    x = mixed(plan.seed % SEEDS + row[:, :, rows.start : rows.stop] * 0x9E3779B9, 16, 0x7FEB352D)
    x = mixed(x, 15, 0x846CA68B, torch.arange(columns.start, columns.stop, device=frame.device))
    x = mixed(mixed(x, 16, 0x7FEB352D), 15, 0x846CA68B)
    stay = (x ^ (x >> 16)) >= bar_of(plan.dropout)
    return stay.to(plan.dtype) / (1 - plan.dropout)


def mixed(x: Tensor, shift: int, factor: int, more: Tensor | int = 0) -> Tensor:
    """One round of a hash of 32 bits, in numbers of 64, where a product of two such must be made in halves."""
    x = x % SEEDS
    x = x ^ (x >> shift) ^ more
    return ((x & 0xFFFF) * factor + ((x >> 16) * (factor & 0xFFFF) << 16)) % SEEDS


def rows(like: Tensor, width: int) -> Tensor:
    """Room for [B, H, T, width], row by row, as the next layer reads it."""
    B, H, T, _ = like.shape
    return like.new_empty(B, T, H, width).transpose(1, 2)
