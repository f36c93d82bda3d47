"""Vectors [B, T, D] become scores for every word [B, T, V]."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from polyhead.core.linear import Linear, linear
from polyhead.core.mlp import bend_of


class Words(Linear):
    """x E^T + b, where E may be the embedding that the words came in by (Press and Wolf 2017)."""

    def __init__(self, width: int, n_words: int, *, tied: nn.Embedding | None = None, bias: bool = False):
        super().__init__(width, n_words, bias=bias)
        if tied is not None:
            self.weight = tied.weight

    @property
    def offsets(self) -> Tensor | None:
        """b [V]."""
        return self.bias

    def some(self, ids: Tensor, product: Callable[[Tensor, Tensor | None], nn.Module]) -> nn.Module:
        """The scores of these words alone, LongTensor [C]: a product made of their rows, [..., D] -> [..., C]."""
        return product(self.weight[ids], None if self.offsets is None else self.offsets[ids])


class FixedBiasWords(Words):
    """The same with a buffer [1, V] in the place of b, which some files carry; training leaves it alone."""

    fixed_bias: Tensor

    def __init__(self, width: int, n_words: int, *, tied: nn.Embedding | None = None):
        super().__init__(width, n_words, tied=tied)
        self.register_buffer("fixed_bias", torch.zeros(1, n_words))

    @property
    def offsets(self) -> Tensor:
        return self.fixed_bias[0]

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.fixed_bias[0])


class ScaledWords(nn.Module):
    """The same of x scaled by D^-1/2, as where words come in at unit size (Raffel et al. 2020), or left as it is."""

    def __init__(self, tokens: nn.Embedding, *, tied: bool, scaled: bool):
        super().__init__()
        self.words = Words(tokens.embedding_dim, tokens.num_embeddings, tied=tokens if tied else None)
        self.scale = tokens.embedding_dim**-0.5 if scaled else 1.0

    def some(self, ids: Tensor, product: Callable[[Tensor, Tensor | None], nn.Module]) -> nn.Module:
        """The scores of these words alone, as of `Words`."""
        twin = copy.copy(self)
        twin._modules = {"words": self.words.some(ids, product)}
        return twin

    def forward(self, x: Tensor) -> Tensor:
        return self.words(x * self.scale)


class HiddenWords(nn.Module):
    """Which word is hidden here: one more layer, bent and normed, before the words (Devlin et al. 2019, 3.1).

    width: of the vectors, where words are narrower.
    """

    def __init__(self, tokens: nn.Embedding, *, activation: str, eps: float, width: int | None = None):
        super().__init__()
        self.dense = Linear(width or tokens.embedding_dim, tokens.embedding_dim)
        self.bend = bend_of(activation)
        self.norm = nn.LayerNorm(tokens.embedding_dim, eps=eps)
        self.words = Words(tokens.embedding_dim, tokens.num_embeddings, tied=tokens, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.words(self.norm(self.bend(self.dense(x))))


def shifted(target: Tensor, start_id: int) -> Tensor:
    """What the decoder reads while it learns to say `target` [B, T]: the same words, one place later."""
    return torch.cat((target.new_full((len(target), 1), start_id), target[:, :-1]), dim=1)
