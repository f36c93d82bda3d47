"""Attention as people write it themselves, in all the ways that were found in the wild, and what it must come to."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as imported_before

HEADS, WIDTH, LONG = 4, 32, 9


class Way(Protocol):
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor: ...


def fused(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def fused_with_mask(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    return imported_before(q, k, v, attn_mask=visible)


def written_out(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(q.shape[-1]))
    return F.softmax(scores.masked_fill(~visible, float("-inf")), dim=-1) @ v


def written_in_place(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    scores = q @ k.mT
    scores /= math.sqrt(q.shape[-1])
    scores.masked_fill_(~visible, -1e30)
    return scores.softmax(-1) @ v


def by_einsum(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bhqk,bkhd->bhqd", (scores + torch.where(visible, 0.0, -1e9)).softmax(-1), v)


def by_where(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return torch.where(visible, scores, torch.finfo(scores.dtype).min).softmax(-1) @ v


def hidden_first_by_where(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return torch.where(~visible, torch.tensor(-torch.inf), scores).softmax(-1) @ v


def added_in_product(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    B, H, T, K = q.shape
    mask = torch.zeros(visible.shape).masked_fill(~visible, -torch.inf).expand(B * H, T, T)
    scores = torch.baddbmm(mask, q.reshape(B * H, T, K), k.reshape(B * H, T, K).mT, alpha=K**-0.5)
    return torch.bmm(scores.softmax(-1), v.reshape(B * H, T, K)).view(B, H, T, K)


WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        fused, fused_with_mask, written_out, written_in_place, by_einsum, by_where, hidden_first_by_where,
        added_in_product,
    )
}  # fmt: skip


class CausalSelfAttention(nn.Module):
    """A layer around one of the ways."""

    def __init__(self, way: Way, dropout: float = 0.0) -> None:
        super().__init__()
        self.way, self.num_heads = way, HEADS
        self.qkv, self.out, self.drop = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Dropout(dropout)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        visible = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return self.out(self.drop(self.way(*self.heads(x), visible).transpose(1, 2).flatten(2)))


def two(way: Way, **how: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(CausalSelfAttention(way, **how), CausalSelfAttention(way, **how)).eval()


def x(seed: int = 1, long: int = LONG) -> Tensor:
    return torch.randn(2, long, WIDTH, generator=torch.Generator().manual_seed(seed))


def wanted(model: nn.Sequential, given: Tensor) -> list[Tensor]:
    """The weights of each layer in float64, by the formula."""
    found: list[Tensor] = []
    double = model.double()
    given = given.double()
    with torch.no_grad():
        for layer in double:
            assert isinstance(layer, CausalSelfAttention)
            q, k, v = layer.heads(given)
            scores = q @ k.mT / math.sqrt(q.shape[-1])
            weights = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf).softmax(
                -1
            )
            found.append(weights)
            given = layer.out((weights @ v).transpose(1, 2).flatten(2))
    model.float()
    return found
