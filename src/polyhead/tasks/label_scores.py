"""Probabilities of labels and the labels there are become scores: accuracy, F1 of each label, thresholds that serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import DataError

Probabilities = NDArray[np.floating]  # [n, L]
Truth = NDArray[np.bool_]  # [n, L]: which labels each thing has
Counts = NDArray[np.integer]
Shares = NDArray[np.float64]
FLOOR = 1e-12  # a probability of 0 would cost infinity
LEAST, MOST = 0.05, 0.95  # thresholds that are looked for
SWEPT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # those that are told for all labels alike


@dataclass(frozen=True)
class LabelScore:
    """How well one label is found: `n` things have it; of those given it, `precision` do; of those n, `recall` got it.

    f1 is 2 p r / (p + r); 0 where nothing was found. threshold: the least probability at which it is given, where
    labels do not exclude each other.
    """

    label: str
    n: int
    precision: float
    recall: float
    f1: float
    threshold: float | None = None


@dataclass(frozen=True)
class Sweep:
    """What one threshold for all labels would give."""

    threshold: float
    precision: float
    recall: float
    micro_f1: float
    macro_f1: float


@dataclass(frozen=True)
class LabelScores:
    """Scores of n things, from 0 to 1, higher is better, but for the loss: nats for each thing, or for each label.

    accuracy: the share whose labels are all right. micro_f1 counts every label given alike, macro_f1 is the mean of the
    labels' own F1.
    """

    n: int
    loss: float
    accuracy: float
    micro_f1: float
    macro_f1: float
    labels: tuple[LabelScore, ...]
    sweep: tuple[Sweep, ...] = ()  # of labels that do not exclude each other

    def values(self) -> dict[str, float]:
        """The scores of the whole by name."""
        return {name: getattr(self, name) for name in SCORES}


SCORES = ("loss", "accuracy", "micro_f1", "macro_f1")


def label_scores(
    p: Probabilities, truth: Truth, names: Sequence[str], *, thresholds: Sequence[float] | None = None
) -> LabelScores:
    """Scores of probabilities [n, L]: with a threshold for each label, of those above it; without, of the likeliest."""
    if p.shape != truth.shape or not len(p):
        raise DataError(
            f"There are probabilities of {list(p.shape)} and labels of {list(truth.shape)}; expected as many."
        )
    p = p.astype(np.float64)
    if thresholds is None:
        given = np.zeros_like(truth)
        given[np.arange(len(p)), p.argmax(1)] = True
        loss = -np.log(np.maximum(p[truth], FLOOR)).mean()
    else:
        given = p >= np.asarray(thresholds)
        loss = -np.log(np.maximum(np.where(truth, p, 1 - p), FLOOR)).mean()
    each = tally(given, truth)
    rows = zip(names, each.n, each.precision, each.recall, each.f1, thresholds or [None] * len(names), strict=True)
    return LabelScores(
        n=len(p),
        loss=float(loss),
        accuracy=float((given == truth).all(1).mean()),
        micro_f1=float(each.whole.f1),
        macro_f1=float(each.f1.mean()),
        labels=tuple(LabelScore(name, int(k), float(a), float(b), float(c), t) for name, k, a, b, c, t in rows),
        sweep=() if thresholds is None else tuple(swept(tally(p >= at, truth), at) for at in SWEPT),
    )


class Tally(NamedTuple):
    """How many have a label, how many were given it, and how many of these rightly: of each [L], or of all together."""

    n: Counts
    found: Counts
    right: Counts

    @property
    def precision(self) -> Shares:
        return share(self.right, self.found)

    @property
    def recall(self) -> Shares:
        return share(self.right, self.n)

    @property
    def f1(self) -> Shares:
        return share(2 * self.right, self.n + self.found)

    @property
    def whole(self) -> Tally:
        return Tally(*(counts.sum() for counts in self))


def tally(given: Truth, truth: Truth) -> Tally:
    return Tally(truth.sum(0), given.sum(0), (given & truth).sum(0))


def swept(each: Tally, threshold: float) -> Sweep:
    whole = each.whole
    return Sweep(threshold, float(whole.precision), float(whole.recall), float(whole.f1), float(each.f1.mean()))


def share(part: Counts, whole: Counts) -> Shares:
    """part / whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def best_thresholds(p: Probabilities, truth: Truth) -> list[float]:
    """For each label the threshold from 0.05 to 0.95 that gives the best F1 here; 0.5 for a label that nothing has.

    Of equal ones the nearest to 0.5. Chosen on data, they flatter the scores on that same data.
    """
    return [best_threshold(p[:, label].astype(np.float64), truth[:, label]) for label in range(p.shape[1])]


def best_threshold(p: NDArray[np.float64], truth: Truth) -> float:
    if not truth.any():
        return 0.5
    order = np.argsort(-p, kind="stable")
    sorted_p, right = p[order], np.cumsum(truth[order])  # right: of the first 1, 2, ... n
    f1 = np.concatenate([[0.0], 2 * right / (np.arange(1, len(p) + 1) + truth.sum())])  # of the first 0, 1, ... n
    upper, lower = np.concatenate([[1.0], sorted_p]), np.concatenate([sorted_p, [0.0]])  # it lies above, up to
    low, high = np.maximum(lower, LEAST), np.minimum(upper, MOST)
    possible = low < high
    best = possible & (f1 >= f1[possible].max() - 1e-12)
    middle = (low + high)[best] / 2
    return float(middle[np.abs(middle - 0.5).argmin()])


def truth_of(rows: Sequence[Sequence[int]], n_labels: int) -> Truth:
    """Which labels each thing has, from their numbers."""
    truth = np.zeros((len(rows), n_labels), np.bool_)
    for row, labels in enumerate(rows):
        truth[row, list(labels)] = True
    return truth
