"""Plans of batches: everything once, within the budget, little padding, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyhead.errors import ArgumentError
from polyhead.inputs.batch import pad, padding_share, plan_batches, short

lengths = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=120)


@given(
    lengths=lengths,
    budget=st.integers(1, 400),
    max_rows=st.one_of(st.none(), st.integers(1, 9)),
    window=st.integers(1, 150),
    epoch=st.integers(0, 5),
)
def test_every_pair_comes_once_and_every_batch_keeps_the_budget(
    lengths: list[tuple[int, int]], budget: int, max_rows: int | None, window: int, epoch: int
) -> None:
    sources, targets = np.array(lengths, np.int32).reshape(-1, 2).T
    plan = plan_batches(sources, targets, budget=budget, seed=3, epoch=epoch, max_rows=max_rows, window=window)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert max_rows is None or len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * (sources[batch].max() + targets[batch].max()) <= budget


def everyday(n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Lengths like those of everyday sentences: the target follows the source, loosely."""
    random = np.random.default_rng(0)
    sources = 3 + random.poisson(random.gamma(3, 3, n))
    return sources, 3 + random.poisson(sources * 1.1)


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    sources, targets = everyday(2000)

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in plan_batches(sources, targets, budget=900, seed=seed, epoch=epoch)]

    assert plan(1, 2) == plan(1, 2)
    assert plan(1, 2) != plan(1, 3)
    assert plan(1, 2) != plan(2, 2)
    assert {frozenset(batch) for batch in plan(1, 2)} != {frozenset(batch) for batch in plan(1, 3)}


def test_little_of_a_batch_is_padding() -> None:
    sources, targets = everyday()
    plan = plan_batches(sources, targets, budget=1400, seed=0, epoch=0)
    assert padding_share(plan, sources, targets) < 0.05
    wide = plan_batches(sources, targets, budget=1400, seed=0, epoch=0, window=64)
    assert padding_share(wide, sources, targets) > 0.1  # the measure itself sees padding


def test_batches_of_all_lengths_are_mixed() -> None:
    sources, targets = everyday()
    plan = plan_batches(sources, targets, budget=1400, seed=0, epoch=0)
    widths = np.array([sources[batch].max() for batch in plan])
    half = len(plan) // 2
    assert abs(widths[:half].mean() - widths[half:].mean()) < 0.2 * widths.mean()


def test_only_the_indices_given_are_visited_as_often_as_given() -> None:
    sources, targets = everyday(50)
    plan = plan_batches(sources, targets, budget=200, seed=0, epoch=0, indices=[7, 7, 3, 49])
    assert sorted(i for batch in plan for i in batch) == [3, 7, 7, 49]


def test_long_pairs_can_be_left_out_beforehand() -> None:
    sources, targets = np.array([5, 9, 2]), np.array([9, 5, 10])
    kept = np.flatnonzero(short(sources, targets, 9))
    assert kept.tolist() == [0, 1]


@given(
    st.lists(st.lists(st.integers(0, 60_000), max_size=9), max_size=9), st.sampled_from([np.uint16, np.int32, np.int64])
)
def test_padding_puts_rows_side_by_side(rows: list[list[int]], dtype: type) -> None:
    ids, sizes = pad([np.array(row, dtype) for row in rows], 77)
    assert ids.dtype == sizes.dtype == torch.int64
    assert sizes.tolist() == [len(row) for row in rows]
    width = max(map(len, rows), default=0)
    assert ids.shape == (len(rows), width)
    assert ids.tolist() == [row + [77] * (width - len(row)) for row in rows]
    assert torch.equal(pad(rows, 77)[0], ids)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"budget \(0\)"):
        plan_batches([1], [1], budget=0, seed=0, epoch=0)
    with pytest.raises(ArgumentError, match="2 source lengths but 1 target lengths"):
        plan_batches([1, 2], [1], budget=10, seed=0, epoch=0)
