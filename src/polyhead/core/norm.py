"""Norms as values: a recipe holds one, and `make` turns it into a module."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LayerNorm:
    """Centre, divide by the spread, scale and shift (Ba et al. 2016)."""

    eps: float = 1e-5

    def make(self, width: int) -> nn.Module:
        return nn.LayerNorm(width, eps=self.eps)


@dataclass(frozen=True)
class RMSNorm:
    """Divide by the root mean square and scale; nothing is centred (Zhang and Sennrich 2019)."""

    eps: float = 1e-6

    def make(self, width: int) -> nn.Module:
        return nn.RMSNorm(width, eps=self.eps)
