"""Positions that act once, on x before the first block: places [B or 1, T] go in, vectors [B or 1, T, D] come out; or
places that follow one another, the same for all rows, as a slice, and vectors [T, D]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyhead.errors import ArgumentError


class Sinusoidal(nn.Module):
    """sin and cos of the place at D/2 speeds from 1 to 1/10000 (Vaswani et al. 2017, 3.5).

    `layout` "interleaved" puts sin and cos of one speed side by side, as the paper does; "halves" puts all sines
    first, as Marian does. The table is computed, never saved.
    """

    table: Tensor

    def __init__(self, max_len: int, width: int, *, layout: str = "interleaved"):
        super().__init__()
        place = torch.arange(max_len, dtype=torch.float64)[:, None]
        speed = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        sines, cosines = (place * speed).sin(), (place * speed[: width // 2]).cos()
        table = torch.empty(max_len, width)
        if layout == "halves":
            table[:, : sines.shape[1]], table[:, sines.shape[1] :] = sines, cosines
        else:
            table[:, 0::2], table[:, 1::2] = sines, cosines
        self.register_buffer("table", table, persistent=False)

    def forward(self, places: Tensor | slice) -> Tensor:
        return _look_up(self.table, places)


class Learned(nn.Module):
    """One trained vector for each place (Gehring et al. 2017); `offset` rows at the start are not places."""

    def __init__(self, max_len: int, width: int, *, offset: int = 0):
        super().__init__()
        self.offset = offset
        self.weight = nn.Parameter(torch.randn(max_len + offset, width) * 0.02)

    def forward(self, places: Tensor | slice) -> Tensor:
        return _look_up(self.weight[self.offset :], places)


def _look_up(table: Tensor, places: Tensor | slice) -> Tensor:
    stop = places.stop if isinstance(places, slice) else int(places[:, -1].max()) + 1 if places.shape[1] else 0
    if stop > len(table):
        raise ArgumentError(f"The sequence reaches position {stop}, but the model knows only {len(table)}; shorten it")
    found = table[places]
    return found.clone() if isinstance(places, slice) else found  # a view of its parameter is no output of a module
