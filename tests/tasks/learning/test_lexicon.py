"""IBM model 1: the counting of a plain loop, and the translations that a corpus was made of."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from polyhead.tasks.learning import lexicon as module
from polyhead.tasks.learning.lexicon import ROUNDS, lexicon

Pairs = list[tuple[list[int], list[int]]]


def corpus(n: int, *, sources: int, targets: int, seed: int) -> Pairs:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 7, (n, 2))
    return [(random.integers(0, sources, s).tolist(), random.integers(0, targets, t).tolist()) for s, t in lengths]


def by_a_plain_loop(pairs: Pairs, none: int) -> dict[tuple[int, int], float]:
    """How likely each target word is of each source word: the paper's sums, one at a time."""
    likely = defaultdict[tuple[int, int], float](lambda: 1.0)
    for _ in range(ROUNDS):
        counted, whole = defaultdict[tuple[int, int], float](float), defaultdict[int, float](float)
        for source, target in pairs:
            for t in target:
                total = sum(likely[s, t] for s in [*source, none])
                for s in [*source, none]:
                    counted[s, t] += likely[s, t] / total
                    whole[s] += likely[s, t] / total
        likely = defaultdict(float, {(s, t): count / whole[s] for (s, t), count in counted.items()})
    return likely


@pytest.mark.parametrize("cells", [1 << 22, 40])
def test_it_counts_as_the_plain_loop(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", cells)
    pairs = corpus(60, sources=9, targets=7, seed=1)
    found = lexicon(iter(pairs), sources=11, targets=8)
    wanted = {key: value for key, value in by_a_plain_loop(pairs, none=11).items() if key[0] < 11}
    sources = np.repeat(np.arange(11), np.diff(found.starts))
    assert {*zip(sources.tolist(), found.targets.tolist(), strict=True)} == set(wanted)
    for s, t, likely in zip(sources.tolist(), found.targets.tolist(), found.likely.tolist(), strict=True):
        assert likely == pytest.approx(wanted[s, t], rel=1e-9)


def test_the_best_are_the_likeliest_of_each_source_and_the_smaller_of_equals() -> None:
    found = lexicon(corpus(60, sources=9, targets=20, seed=2), sources=12, targets=20)
    starts, words = found.best(3)
    for s in range(12):
        place = slice(found.starts[s], found.starts[s + 1])
        ranked = sorted(zip((-found.likely[place]).tolist(), found.targets[place].tolist(), strict=True))
        assert words[starts[s] : starts[s + 1]].tolist() == [target for _, target in ranked[:3]]


def test_words_that_always_go_together_find_each_other() -> None:
    random = np.random.default_rng(3)
    meaning = random.permutation(40)
    pairs = [(row, [int(meaning[s]) for s in row[::-1]]) for row in random.integers(0, 40, (300, 6)).tolist()]
    starts, words = lexicon(pairs, sources=40, targets=40).best(1)
    assert starts.tolist() == list(range(41)) and words.tolist() == meaning.tolist()


def test_progress_hears_of_every_round() -> None:
    heard: list[int] = []
    lexicon([([0], [0])], sources=1, targets=1, progress=lambda: heard.append(1))
    assert len(heard) == ROUNDS
