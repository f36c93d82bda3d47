"""Vectors [B, T, D] of texts or images become one each [B, E], in a space where both are, and two of these a score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core import Recipe, Run
from polyhead.core.attention import CrossAttention
from polyhead.core.mlp import MLP


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
        return self.project(x[torch.arange(x.shape[0], device=x.device), at])


class AtFirst(nn.Module):
    """Of an image: the vector before its patches, normed and projected."""

    def __init__(self, width: int, shared: int, *, norm: nn.Module):
        super().__init__()
        self.norm = norm
        self.project = nn.Linear(width, shared, bias=False)

    def forward(self, x: Tensor, pixels: Tensor) -> Tensor:
        return self.project(self.norm(x[:, 0]))


class AtLast(nn.Module):
    """Of a text that is filled up: the vector at its last place, projected."""

    def __init__(self, width: int, shared: int):
        super().__init__()
        self.project = nn.Linear(width, shared)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.project(x[:, -1])


class Probed(nn.Module):
    """Of an image: what a learned probe finds by looking at all its places, plus what an MLP makes of it (Zhai et al.
    2022, section 3.1, after Lee et al. 2019)."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, recipe.d_model) * recipe.d_model**-0.5)
        self.attn, self.norm, self.mlp = CrossAttention(recipe), recipe.norm.make(recipe.d_model), MLP(recipe)

    def forward(self, x: Tensor, pixels: Tensor) -> Tensor:
        run = Run(memory=x)
        found = self.attn(self.probe.repeat(x.shape[0], 1, 1), run)  # [B, 1, D]
        return (found + self.mlp(self.norm(found), run))[:, 0]


class Similarity(nn.Module):
    """How near texts [B, E] and images [I, E] are: their cosines [B, I], times a scale that was learned.

    scale: its logarithm (Radford et al. 2021, 2.3: the temperature). bias: what is added where a score is of a pair by
    itself, the logarithm of its odds (Zhai et al. 2023, section 3.2); None: scores are compared with each other.
    """

    def __init__(self, scale: float, *, bias: float | None = None):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale if bias is None else [scale]))
        self.bias = None if bias is None else nn.Parameter(torch.tensor([bias]))

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        scores = F.linear(unit(text), unit(image)) * self.scale.exp()
        return scores if self.bias is None else scores + self.bias


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1."""
    return x / x.norm(dim=-1, keepdim=True)
