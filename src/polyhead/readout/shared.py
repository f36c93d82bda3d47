"""Vectors [B, T, D] of texts or images become one each [B, E], in a space where both are, and two of these a score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AtEnd(nn.Module):
    """Of a text: the vector at its end sign, projected.

    end_id: the end sign, whose first place counts; None: the place of the largest id, which it is in vocabularies that
    have it last.
    """

    def __init__(self, width: int, shared: int, *, end_id: int | None):
        super().__init__()
        self.end_id = end_id
        self.project = nn.Linear(width, shared, bias=False)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        at = (ids if self.end_id is None else (ids == self.end_id).int()).argmax(-1)  # [B]
        return self.project(x[torch.arange(len(x), device=x.device), at])


class AtFirst(nn.Module):
    """Of an image: the vector before its patches, normed and projected."""

    def __init__(self, width: int, shared: int, *, norm: nn.Module):
        super().__init__()
        self.norm = norm
        self.project = nn.Linear(width, shared, bias=False)

    def forward(self, x: Tensor, pixels: Tensor) -> Tensor:
        return self.project(self.norm(x[:, 0]))


class Similarity(nn.Module):
    """How near texts [B, E] and images [I, E] are: their cosines [B, I], times a scale that was learned.

    `scale` is its logarithm (Radford et al. 2021, 2.3: the temperature).
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        return F.linear(unit(text), unit(image)) * self.scale.exp()


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1."""
    return x / x.norm(dim=-1, keepdim=True)
