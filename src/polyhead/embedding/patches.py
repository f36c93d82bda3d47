"""Images become x [B, N, D]: each patch a vector, its place added, and before them the vectors that will hold the whole
(Dosovitskiy et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyhead.core.dropout import dropout
from polyhead.core.run import Run
from polyhead.errors import ArgumentError


class Patches(nn.Module):
    """Pixels [B, C, height, width] -> [B, firsts + N, D].

    first: whether a vector of its own stands before the patches. second: and one that listens to a teacher (DeiT).
    bias: of the patches' product. norm: of what comes out. rows: whether files hold the vectors before the patches as
    [D] and the places as [firsts + N, D], without an axis for the batch.
    """

    def __init__(
        self, size: tuple[int, int], patch: tuple[int, int], channels: int, width: int, *, second: bool, p: float,
        first: bool = True, bias: bool = True, norm: nn.Module | None = None, rows: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.shape, self.p = (channels, *size), p
        self.project = nn.Conv2d(channels, width, kernel_size=patch, stride=patch, bias=bias)
        one = (width,) if rows else (1, 1, width)
        self.first = nn.Parameter(torch.randn(one) * 0.02) if first else None
        self.second = nn.Parameter(torch.randn(one) * 0.02) if second else None
        count = (size[0] // patch[0]) * (size[1] // patch[1]) + first + second
        self.positions = nn.Parameter(torch.randn((count, width) if rows else (1, count, width)) * 0.02)
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, pixels: Tensor, run: Run) -> Tensor:
        if tuple(pixels.shape[1:]) != self.shape:
            raise ArgumentError(
                f"pixels must have shape [B, channels, height, width] = [B, {', '.join(map(str, self.shape))}];"
                f" found {list(pixels.shape)}"
            )
        patches = self.project(pixels).flatten(2).transpose(1, 2)  # [B, N, D]
        firsts = [x.expand(pixels.shape[0], 1, -1) for x in (self.first, self.second) if x is not None]
        return self.norm(dropout(torch.cat((*firsts, patches), dim=1) + self.positions, self.p, self.training))
