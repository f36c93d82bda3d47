"""Sound becomes x [B, T, D]: a log-mel picture is read by two convolutions, the second of which halves its length, and
places are added (Radford et al. 2022, 2.2).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core.dropout import dropout
from polyhead.core.run import Run


class Frames(nn.Module):
    """Log-mel [B, bands, 2 T] -> [B, T, D]."""

    def __init__(self, bands: int, width: int, positions: nn.Module, *, p: float):
        super().__init__()
        self.first = nn.Conv1d(bands, width, kernel_size=3, padding=1)
        self.second = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.positions, self.p = positions, p

    def forward(self, mel: Tensor, run: Run) -> Tensor:
        x = F.gelu(self.second(F.gelu(self.first(mel)))).transpose(1, 2)
        return dropout(x + self.positions(run.span(x.shape[1])), self.p, self.training)
