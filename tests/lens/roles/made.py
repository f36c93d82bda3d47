"""Attention made by hand: weights that somebody wants become a call whose softmax gives just these."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from polyhead.lens.recording import Call, Norms
from polyhead.operator import Rule, Statistics, attend

NOTHING = -60.0  # a score that leaves a weight of 1e-26


def call_of(
    weights: Tensor, *, kind: Literal["self", "cross"] = "self", rule: Rule | None = None, name: str = "made"
) -> Call:
    """A call [B, H, T, S] with these weights, in float64: queries are their logarithms, keys the unit vectors."""
    B, H, _, S = weights.shape
    query = weights.double().log().clamp(min=NOTHING)
    key = torch.eye(S, dtype=torch.float64).expand(B, H, S, S)
    value = torch.zeros(B, H, S, 1, dtype=torch.float64)
    _, record = attend(query, key, value, mask=rule, scale=1.0)
    kept = record.request.without_values()
    norms = Norms(torch.ones(B, H, S), after=False)
    return Call(name, kind, record.kernel, {}, record.lse, norms, Statistics(), kept)


def at(T: int, S: int, key: Any) -> Tensor:
    """Weights [T, S] of a head that looks at one key: key(i), or at key 0 where there is no such key."""
    found = torch.zeros(T, S)
    for i in range(T):
        j = key(i)
        found[i, j if 0 <= j < S else 0] = 1.0
    return found


def drawn(*shape: int, seed: int = 0, hidden: Tensor | None = None) -> Tensor:
    """Random weights whose rows sum to one, zero where hidden."""
    scores = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scores if hidden is None else scores.masked_fill(hidden, -torch.inf)).softmax(-1)
