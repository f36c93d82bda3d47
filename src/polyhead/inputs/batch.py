"""Lengths enter, batches of at most so many tokens leave as a plan; rows of ids become one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from polyhead.errors import ArgumentError

Indices = NDArray[np.int64]


def pad(rows: Sequence[ArrayLike], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids side by side: (ids [B, T], lengths [B]), both int64, padded on the right."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))  # type: ignore[arg-type]
    width = int(lengths.max(initial=0))
    ids = np.full((len(rows), width), pad_id, np.int64)
    if width:
        ids[np.arange(width) < lengths[:, None]] = np.concatenate(rows)  # type: ignore[arg-type]
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def plan_batches(
    source_lengths: ArrayLike,
    target_lengths: ArrayLike,
    *,
    budget: int,
    seed: int,
    epoch: int,
    indices: ArrayLike | None = None,
    max_rows: int | None = None,
    window: int = 1 << 15,
) -> list[Indices]:
    """Batches of indices that cost at most `budget` padded tokens, source and target together.

    indices: what to visit this epoch (`Corpus.epoch`), repeats allowed; None visits every pair once.
    A pair that alone costs more than the budget is a batch of its own; `short` leaves it out beforehand.
    The indices are shuffled, pairs of like lengths grouped within each `window` of them, and the batches shuffled, all
    of it determined by (seed, epoch).
    """
    if budget < 1 or window < 1 or (max_rows is not None and max_rows < 1):
        raise ArgumentError(f"budget ({budget}), window ({window}) and max_rows ({max_rows}) must be at least 1.")
    sources, targets = np.asarray(source_lengths, np.int64), np.asarray(target_lengths, np.int64)
    if sources.shape != targets.shape:
        raise ArgumentError(f"There are {len(sources)} source lengths but {len(targets)} target lengths.")
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(np.arange(len(sources)) if indices is None else np.asarray(indices, np.int64))
    batches: list[Indices] = []
    for start in range(0, len(order), window):
        batches += _cut(_grouped(order[start : start + window], sources, targets), sources, targets, budget, max_rows)
    return [batches[i] for i in random.permutation(len(batches))]


def short(source_lengths: ArrayLike, target_lengths: ArrayLike, longest: int) -> NDArray[np.bool_]:
    """Which pairs have at most `longest` tokens on either side."""
    return np.maximum(source_lengths, target_lengths) <= longest


def padding_share(batches: Sequence[Indices], source_lengths: ArrayLike, target_lengths: ArrayLike) -> float:
    """The part of all tokens in the batches that is padding, from 0 to 1."""
    sources, targets = np.asarray(source_lengths), np.asarray(target_lengths)
    cost = sum(len(rows) * int(sources[rows].max() + targets[rows].max()) for rows in batches)
    return 1 - sum(int(sources[rows].sum() + targets[rows].sum()) for rows in batches) / cost if cost else 0.0


def _grouped(rows: Indices, sources: Indices, targets: Indices) -> Indices:
    """By target length, and within it by source length: up, then down, so that neighbours are alike everywhere."""
    target, source = targets[rows], sources[rows]
    return rows[np.lexsort((np.where(target % 2, -source, source), target))]


def _cut(rows: Indices, sources: Indices, targets: Indices, budget: int, max_rows: int | None) -> list[Indices]:
    """Consecutive batches, each as long as the budget allows."""
    most = min(budget, max_rows or budget)
    batches: list[Indices] = []
    start = 0
    while start < len(rows):
        ahead = rows[start : start + most]
        widest = np.maximum.accumulate(sources[ahead]) + np.maximum.accumulate(targets[ahead])
        over = widest * np.arange(1, len(ahead) + 1) > budget
        count = max(1, int(np.argmax(over)) if over.any() else len(ahead))
        batches.append(ahead[:count])
        start += count
    return batches
