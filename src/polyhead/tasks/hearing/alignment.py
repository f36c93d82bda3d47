"""Weights of heads that follow the speech become times: each token is given the stretch of sound that it was heard in.

weights [H, T, S]  ->  over tokens: mean 0, deviation 1  ->  median of neighbours  ->  mean of heads  ->  the path of
least cost through the negative [T, S], which never goes back (Radford et al. 2022; dynamic time warping: Sakoe and
Chiba 1978).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Ints = NDArray[np.int64]


def starts_of(weights: Tensor, *, width: int) -> Ints:
    """Weights [H, T, S] of T tokens on S places of the sound -> the place at which each token begins, [T].

    width: of the median, an odd number of places.
    """
    rows, places = warped(-attention_map(weights, width).double().cpu().numpy())
    return places[np.flatnonzero(np.diff(rows, prepend=-1))]


def attention_map(weights: Tensor, width: int) -> Tensor:
    """Weights [H, T, S] -> one map [T, S]: what of each place stands out among the tokens, without single spikes."""
    spread, mean = torch.std_mean(weights, dim=1, keepdim=True, correction=0)
    standing = (weights - mean) / spread.masked_fill(spread == 0, 1.0)  # a place that no token looks at says nothing
    return median(standing, width).mean(0)


def median(x: Tensor, width: int) -> Tensor:
    """The median of `width` neighbours along the last axis of [H, T, S], mirrored at its ends."""
    half = width // 2
    if x.shape[-1] <= half:
        return x
    return F.pad(x, (half, half), mode="reflect").unfold(-1, width, 1).median(-1).values


def warped(cost: NDArray[np.float64]) -> tuple[Ints, Ints]:
    """The cheapest path from corner to corner of cost [T, S], by one row, one place or both at a time: its rows, its
    places.

    Costs are summed along lines from one edge to the other on which no point depends on another, all at once.
    """
    T, S = cost.shape
    way = np.zeros((T, S), np.int8)  # 0: both, 1: one row, 2: one place
    older = np.full(T + 1, np.inf)  # sums on the line before the last, by row + 1
    old = np.full(T + 1, np.inf)
    older[0] = 0.0  # before the first corner
    for line in range(T + S - 1):
        low, high = max(0, line - S + 1), min(T - 1, line) + 1
        rows = np.arange(low, high)
        both, row, place = older[low:high], old[low:high], old[low + 1 : high + 1]
        choice = np.where((both < row) & (both < place), 0, np.where((row < both) & (row < place), 1, 2))
        way[rows, line - rows] = choice
        new = np.full(T + 1, np.inf)
        new[low + 1 : high + 1] = cost[rows, line - rows] + np.choose(choice, (both, row, place))
        older, old = old, new
    path: list[tuple[int, int]] = []
    i, j = T - 1, S - 1
    while i >= 0 and j >= 0:
        path.append((i, j))
        step = 1 if j == 0 else 2 if i == 0 else way[i, j]
        i, j = i - (step != 2), j - (step != 1)
    found: Any = np.array(path[::-1], np.int64).T
    return found[0], found[1]
