"""What the loops do with one row, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyhead.operator.loops import rows, vectors
from polyhead.operator.loops.rows import CHUNK, HIDDEN, LANES

LENGTHS = [1, 7, 63, 64, 65, 640, 1000, CHUNK, CHUNK + 1, 2 * CHUNK + 130]


def scores(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, n).astype(np.float32)


def test_the_exponential_is_as_exact_as_it_says_and_ends_in_zero():
    x = -np.linspace(0, 87, 100_001, dtype=np.float32)
    found = np.array([vectors.exponential(each) for each in x], np.float64)
    wanted = np.exp(x.astype(np.float64))
    assert np.all(np.abs(found / wanted - 1) <= 2e-7 + 8e-8 * np.abs(x))
    assert found[0] == 1.0
    assert [vectors.exponential(np.float32(each)) for each in (-88.1, -1e4, HIDDEN)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("n", LENGTHS)
def test_maxima_of_lanes_are_those_of_every_64th_score(n: int):
    row, chunks = scores(n), -(-n // CHUNK)
    tops = np.zeros((chunks + 1, LANES), np.float32)
    rows.lane_tops(row, tops)
    filled = np.concatenate((row, np.full(-n % CHUNK, HIDDEN))).reshape(chunks, -1, LANES)
    np.testing.assert_array_equal(tops[:chunks], filled.max(1))
    np.testing.assert_array_equal(tops[chunks], filled.max((0, 1)))
    assert rows.highest(row) == row.max()


@pytest.mark.parametrize("n", LENGTHS)
def test_weights_and_their_sums(n: int):
    row = scores(n)
    level = row.max()
    p = np.exp(row.astype(np.float64) - level)
    mass, entropy, squares = rows.weigh(row, level)
    np.testing.assert_allclose(row, p, rtol=3e-6)
    np.testing.assert_allclose([mass, squares], [p.sum(), (p * p).sum()], rtol=1e-5)
    np.testing.assert_allclose(entropy, (p * np.log2(p)).sum(), rtol=1e-5)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("first", [0, -40, 5, -100_000])
def test_places_are_summed_in_float64(n: int, first: int):
    p, y = np.abs(scores(n)), np.arange(n) + float(first)
    found, wide = rows.place(p, float(first)), p.astype(np.float64)
    wanted = wide.sum(), (wide * y).sum(), (wide * y * y).sum(), (wide * abs(y)).sum()
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(start=st.integers(-5, 90), stop=st.integers(-5, 90))
def test_a_part_of_a_row_is_as_much_of_it_as_there_is(start: int, stop: int):
    row = np.abs(scores(70))
    wanted = sum(float(row[j]) for j in range(70) if start <= j < stop)
    assert rows.within(row, start, stop) == pytest.approx(wanted, rel=1e-5)
