"""Numbers of many inputs become means, with intervals by drawing the inputs again (Efron 1979)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyhead.lens.roles.measure import LOST, Measured

Numbers = NDArray[np.float64]
TAIL = 2.5  # per cent at either end: an interval of 95 %


@dataclass(frozen=True, eq=False)
class Estimate:
    """Of each head [H]: the mean over inputs, its interval (NaN for one input), and of how many inputs at most."""

    mean: Numbers
    low: Numbers
    high: Numbers
    inputs: int


@dataclass(eq=False)
class Tally:
    """What inputs told of one attention, key by key: a row [H] for each input; offsets [H, rows] apart."""

    numbers: dict[str, list[Numbers]] = field(default_factory=dict[str, list[Numbers]])
    offsets: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])

    def add(self, found: Measured) -> None:
        for key, x in found.numbers.items():
            self.numbers.setdefault(key, []).extend(x.cpu().numpy().astype(np.float64))
        if found.offsets is not None:
            self.offsets.extend(found.offsets.cpu().numpy())

    def put(self, key: str, row: Numbers) -> None:
        """One more input's row [H]."""
        self.numbers.setdefault(key, []).append(row)

    def settled(self) -> dict[str, Numbers]:
        """By key, a row for each input [inputs, H]; the offset that most rows of all inputs share is found first."""
        found = {key: np.stack(rows) for key, rows in self.numbers.items()}
        if self.offsets:
            heads = len(self.offsets[0])
            most = np.array([commonest(np.concatenate([each[h] for each in self.offsets])) for h in range(heads)])
            shares = [share(each, most) for each in self.offsets]
            found["positional"] = np.stack(shares)
            found["offset"] = np.where(most == LOST, np.nan, most)[None].astype(np.float64)
        return found


def commonest(offsets: NDArray[np.int64]) -> int:
    """The offset of most rows; the nearest of equal ones."""
    values, counts = np.unique(offsets[offsets != LOST], return_counts=True)
    if not len(values):
        return LOST
    best = values[counts == counts.max()]
    return int(best[np.abs(best).argmin()])


def share(offsets: NDArray[np.int64], most: NDArray[np.int64]) -> Numbers:
    """The share of a text's rows [H, rows] whose offset is each head's commonest."""
    counted = (offsets != LOST).sum(1)
    hits = ((offsets == most[:, None]) & (offsets != LOST)).sum(1)
    return np.divide(hits, counted, out=np.full(len(hits), np.nan), where=counted > 0)


def draws(inputs: int, resamples: int, seed: int = 0) -> Numbers:
    """How often each input is drawn [resamples, inputs]."""
    chance = np.random.RandomState(seed)  # whose stream its makers promise never to change
    return chance.multinomial(inputs, np.full(inputs, 1 / inputs), size=resamples).astype(np.float64)


def estimate(rows: Numbers, resamples: int) -> Estimate:
    """The mean over inputs of rows [inputs, H], NaN left out, and its interval."""
    n, heads = rows.shape
    there = ~np.isnan(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, rows, 0.0).sum(0) / there.sum(0)
        low = high = np.full(heads, np.nan)
        if n > 1 and resamples > 1:
            drawn = draws(n, resamples)
            means = (drawn @ np.where(there, rows, 0.0)) / (drawn @ there)
            low, high = bounds(means)
    single = there.sum(0) < 2
    low, high = np.where(single, np.nan, low), np.where(single, np.nan, high)
    return Estimate(mean, low, high, int(there.sum(0).max(initial=0)))


def bounds(means: Numbers) -> tuple[Numbers, Numbers]:
    """The interval of means [resamples, ...] that were drawn again; draws that hold nothing are left out."""
    empty = np.isnan(means).all(0)
    filled = np.where(empty, 0.0, means)
    low, high = np.nanpercentile(filled, (TAIL, 100 - TAIL), axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)
