"""What a request costs, counted from its shapes and rules: arithmetic, traffic, and the room that a kernel needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from polyhead.operator.kernels.blockwise import spans
from polyhead.operator.request import Request

ROWS = 1 << 22  # pairs that are looked at together where a mask must be counted


@dataclass(frozen=True)
class Cost:
    """pairs: queries and keys that may look at each other, over all heads. flops: 2 (K + Kv) for each, a multiply-add
    being two. traffic: bytes of query, key, value, output, mask and bias, each once."""

    pairs: int
    flops: int
    traffic: int


def cost(request: Request) -> Cost:
    """The cost of a request, whatever the kernel."""
    query, key, value = request.query, request.key, request.value
    seen = pairs(request)
    out = query.shape[0] * query.shape[1] * query.shape[2] * value.shape[3]
    numbers = query.numel() + key.numel() + value.numel() + out
    held = [] if request.rule is None else [x for part in request.rule.parts() for x in vars(part).values()]
    if request.bias is not None:
        held.append(request.bias.weights)
    extra = sum(x.numel() * x.element_size() for x in held if isinstance(x, torch.Tensor))
    return Cost(seen, 2 * (query.shape[3] + value.shape[3]) * seen, numbers * query.element_size() + extra)


def pairs(request: Request) -> int:
    """How many queries and keys may look at each other."""
    frame, rule = request.frame, request.rule
    B, H, T, S = frame.batch, frame.heads, frame.n_queries, frame.n_keys
    if rule is None:
        return B * H * T * S
    found = rule.interval(frame, range(T))
    if found is not None:
        low, high = (end.clamp(0, S) for end in found)
        lengths = (high - low).clamp(min=0)
        return int(lengths.sum()) * (B if len(lengths) == 1 else 1) * H
    total, columns = 0, range(S)
    for rows in spans(range(T), max(1, ROWS // max(1, B * H * S))):
        visible = rule.visible(frame, rows, columns)
        shape = (B, H, len(rows), S)
        total += B * H * len(rows) * S if visible is None else int(visible.expand(shape).sum())
    return total
