"""Pairs of ids enter, how likely each target word is for each source word leaves: IBM model 1, learned by counting.

Every target word of a pair is a translation of one of its source words, or of none, each as likely as what was counted
so far says; by these shares it is counted anew, a few times (Brown et al. 1993, "The mathematics of statistical machine
translation", section 4.1; the EM algorithm). What has no source of its own, such as articles, gathers at none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 5  # of counting; later ones hardly change what is best
CELLS = 1 << 22  # pairs of a source and a target word that are looked at at a time

Ids = Sequence[int]
Progress = Callable[[], None]


@dataclass(frozen=True)
class Lexicon:
    """Of each source word the target words that it was seen with, source by source, target by target: `targets` [n],
    how likely each is of its source, `likely` [n], and where each source's begin, `starts` [source words + 1]."""

    starts: NDArray[np.int64]
    targets: NDArray[np.int64]
    likely: NDArray[np.float64]

    def best(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The `k` likeliest target words of each source word: where each begins, and the words, likeliest first."""
        source = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        order = np.lexsort((self.targets, -self.likely, source))
        rank = np.arange(len(order)) - self.starts[source]  # sources stay where they are
        kept = rank < k
        counts = np.bincount(source[kept], minlength=len(self.starts) - 1)
        return np.concatenate(([0], counts.cumsum())), self.targets[order][kept]


@dataclass(frozen=True)
class Part:
    """Some pairs' cells, target word by target word: the place of each in the table, and how many each word has."""

    places: NDArray[np.int32]
    counts: NDArray[np.int64]


def lexicon(
    pairs: Iterable[tuple[Ids, Ids]], *, sources: int, targets: int, progress: Progress | None = None
) -> Lexicon:
    """Learn from pairs of ids (source, target), below `sources` and `targets`. `progress` hears of each round."""
    keys, parts = table(cells(pairs, none=sources, targets=targets))
    source = keys // targets
    likely = np.ones(len(keys))
    for _ in range(ROUNDS):
        counted = np.zeros(len(keys))
        for part in parts:
            chance = likely[part.places]
            whole = np.add.reduceat(chance, part.counts.cumsum() - part.counts)  # of each target word
            counted += np.bincount(part.places, chance / np.repeat(whole, part.counts), minlength=len(keys))
        likely = counted / np.bincount(source, counted, minlength=sources + 1)[source]
        if progress:
            progress()
    starts = np.searchsorted(source, np.arange(sources + 1))
    end = starts[-1]  # what none was counted with is of no source
    return Lexicon(starts, keys[:end] % targets, likely[:end])


def cells(
    pairs: Iterable[tuple[Ids, Ids]], *, none: int, targets: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every target word with every source word of its pair, and with `none`, as source * targets + target; and how
    many such cells each target word has. So many at a time."""
    keys, counts, held = list[NDArray[np.int64]](), list[NDArray[np.int64]](), 0
    for left, right in pairs:
        both = np.array([*left, none])[None, :] * targets + np.array(right)[:, None]  # [target, source]
        keys.append(both.ravel())
        counts.append(np.full(len(right), len(left) + 1))
        held += both.size
        if held >= CELLS:
            yield np.concatenate(keys), np.concatenate(counts)
            keys, counts, held = [], [], 0
    if keys:
        yield np.concatenate(keys), np.concatenate(counts)


def table(parts: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> tuple[NDArray[np.int64], list[Part]]:
    """Every cell once, ascending, and the parts' cells as places among them."""
    own, apart = list[NDArray[np.int64]](), list[Part]()
    for keys, counts in parts:
        once, places = np.unique(keys, return_inverse=True)
        own.append(once)
        apart.append(Part(places.astype(np.int32), counts))
    whole = np.unique(np.concatenate(own))
    among = [np.searchsorted(whole, once).astype(np.int32) for once in own]
    return whole, [Part(there[part.places], part.counts) for there, part in zip(among, apart, strict=True)]
