"""Vectors [B, T, D] become scores of labels: of the whole [B, L], or of every place [B, T, L]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyhead.core.dropout import dropout
from polyhead.core.mlp import bend_of


class Labels(nn.Module):
    """Of a whole text or image, read from its first vector, through one more bent layer where `through` names one."""

    def __init__(self, width: int, n_labels: int, *, through: str | None = None, p: tuple[float, float] = (0.0, 0.0)):
        super().__init__()
        self.dense = nn.Identity() if through is None else nn.Linear(width, width)
        self.bend = nn.Identity() if through is None else bend_of(through)
        self.p = p  # dropout before the layer, and after it
        self.out = nn.Linear(width, n_labels)

    def forward(self, x: Tensor) -> Tensor:
        first = dropout(x[:, 0], self.p[0], self.training)  # [B, D]
        return self.out(dropout(self.bend(self.dense(first)), self.p[1], self.training))


class PlaceLabels(nn.Linear):
    """Of every place: its kind, or, with two labels, whether the answer begins and ends here."""

    def __init__(self, width: int, n_labels: int, *, p: float = 0.0):
        super().__init__(width, n_labels)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(dropout(x, self.p, self.training))


class Vectors(nn.Module):
    """The vectors themselves; `pooled` is the layer over the first one that pretraining left, where there is one."""

    def __init__(self, width: int, *, pooled: bool):
        super().__init__()
        self.dense = nn.Linear(width, width) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x

    def pooled(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, D]."""
        return torch.tanh(self.dense(x[:, 0]))
