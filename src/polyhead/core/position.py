"""Positions that act inside attention, as values: each one says what it does to queries, keys and scores.

A kind that has nothing to do in one of the three places inherits doing nothing there, so that attention asks no
questions. Rotary positions are in `rotary.py`; those that act once, on x before the first block, in `embedding/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polyhead.core.run import Run
from polyhead.operator import Alibi, Buckets


@dataclass(frozen=True)
class Position:
    """No position inside attention: queries and keys stay as they are, scores get no bias."""

    def added(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """What queries and keys are projected from; values are always projected from x itself."""
        return x

    def turns(self, run: Run, n: int, width: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """What all layers turn queries and keys of the run's next n places by; made once, by the stack."""
        return None

    def rotated(self, heads: Tensor, run: Run) -> Tensor:
        """Queries or keys [B, H, T, K] of the run's next T places."""
        return heads

    def bias(self, n_heads: int) -> nn.Module | None:
        """A module that makes the bias of every layer of a stack, or None."""
        return None


@dataclass(frozen=True)
class RelativeBias(Position):
    """A learned bias for each head and bucket of distance, shared by all layers (Raffel et al. 2020, section 2.1)."""

    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = True

    def bias(self, n_heads: int) -> nn.Module:
        return BucketTable(self, n_heads)


class BucketTable(nn.Module):
    """The table behind `RelativeBias`; calling it gives the bias as a rule, which costs nothing until it is read."""

    def __init__(self, kind: RelativeBias, n_heads: int):
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.zeros(kind.buckets, n_heads))

    def forward(self) -> Buckets:
        return Buckets(self.weight, bidirectional=self.kind.bidirectional, max_distance=self.kind.max_distance)


@dataclass(frozen=True)
class LinearBias(Position):
    """ALiBi: scores fall linearly with distance, at a fixed slope for each head (Press et al. 2022)."""

    def bias(self, n_heads: int) -> nn.Module:
        return Slopes(n_heads)


class Slopes(nn.Module):
    """The geometric slopes of ALiBi: 2^(-8/n), 2^(-16/n), ... for n heads, interleaved when n is no power of two."""

    slopes: Tensor

    def __init__(self, n_heads: int):
        super().__init__()
        whole = 2 ** math.floor(math.log2(n_heads))
        slopes = [2 ** (-8 * (h + 1) / whole) for h in range(whole)]
        slopes += [2 ** (-4 * (2 * h + 1) / whole) for h in range(n_heads - whole)]
        self.register_buffer("slopes", torch.tensor(slopes), persistent=False)

    def forward(self) -> Alibi:
        return Alibi(self.slopes)


@dataclass(frozen=True)
class AddedInEveryLayer(Position):
    """The same embedding is added to what queries and keys of every layer are made from (Carion et al. 2020)."""

    def added(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        return x if embedding is None else x + embedding
