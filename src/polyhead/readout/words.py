"""Vectors [B, T, D] become scores for every word [B, T, V]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Words(nn.Linear):
    """x E^T + b, where E may be the embedding that the words came in by (Press and Wolf 2017).

    `fixed_bias` [1, V] is a buffer that some files carry; training leaves it alone.
    """

    fixed_bias: Tensor

    def __init__(self, width: int, n_words: int, *, tied: nn.Embedding | None = None):
        super().__init__(width, n_words, bias=False)
        if tied is not None:
            self.weight = tied.weight
        self.register_buffer("fixed_bias", torch.zeros(1, n_words))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.fixed_bias[0])


def shifted(target: Tensor, start_id: int) -> Tensor:
    """What the decoder reads while it learns to say `target` [B, T]: the same words, one place later."""
    return torch.cat((target.new_full((len(target), 1), start_id), target[:, :-1]), dim=1)
