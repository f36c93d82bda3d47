"""Every statistic of every call is what the weights of the reference, written out in float64, say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import Observe, Statistics, Window, attend, attention, explain
from polyhead.operator.kernels import reference
from polyhead.operator.statistics import WAYS, measure
from tests.operator.cases import TOLERANCE, Built, Case, build, cases

FLOATS = (torch.float64, torch.float32)
BY_NAME = {way.name: way for way in WAYS}


def told(built: Built, observe: Observe, way: str = "auto") -> Statistics | None:
    """The statistics of a case, from the reference's own log-sum-exp, so that only the look is on trial; or those that
    the compiled kernel finds on its way. None where these cannot serve."""
    if way == "kernel":
        query, key, value = (built.tensors[name] for name in ("query", "key", "value"))
        if explain(query, key, value, kernel="compiled", **built.how).chosen is None:
            return None
        return attend(query, key, value, kernel="compiled", observe=observe, **built.how)[1].statistics
    if BY_NAME[way].can(built.request()) is not None:
        return None
    request = built.request()
    dtype = torch.float64 if built.case.dtype == torch.float64 else torch.float32
    lse = torch.tensor(reference.attention(built.inputs()).lse, dtype=dtype)
    return measure(request, lse, observe, way=way)


def same(found: Tensor | None, wanted: np.ndarray, dtype: torch.dtype, exact: float = 1.0) -> None:
    assert found is not None and tuple(found.shape) == wanted.shape
    np.testing.assert_allclose(found.double().numpy(), wanted, rtol=0, atol=exact * TOLERANCE[dtype])


def cells(n: int, parts: int) -> np.ndarray:
    parts = min(n, parts)
    return np.array([i * parts // n for i in range(n)], int)


@settings(max_examples=150, deadline=None)
@given(case=cases(FLOATS), grid=st.tuples(st.integers(1, 12), st.integers(1, 12)), k=st.integers(1, 9))
def test_every_statistic_is_that_of_the_weights_written_out(case: Case, grid: tuple[int, int], k: int) -> None:
    built = build(case, grad=False)
    k = min(k, case.S)
    stages = reference.attention(built.inputs())
    p = stages.weights
    asked = Observe(
        links=k, entropy=True, squares=True, distance=True, received=True, mean_map=grid, max_map=grid,
        mass={"first": range(min(1, case.S)), "near": Window(1, 1), "odd": list(range(1, case.S, 2))},
    )  # fmt: skip
    for way in ("kernel", *BY_NAME):
        found = told(built, asked, way)
        if found is None:
            continue
        assert found.way == way and found.row_error is not None and found.row_error < TOLERANCE[case.dtype]
        same(found.entropy, -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1), case.dtype, 10)
        same(found.squares, (p**2).sum(-1), case.dtype)
        same(found.received, p.sum(2), case.dtype)

        x = np.array([[[built.distance(b, i, j) for j in range(case.S)] for i in range(case.T)] for b in range(case.B)])
        x = x.reshape(case.B, 1, case.T, case.S).astype(float)
        whole = p.sum(-1)
        whole[whole == 0] = 1.0
        mean = (p * x).sum(-1) / whole
        same(found.offset, mean, case.dtype, 10)
        same(found.distance, (p * abs(x)).sum(-1) / whole, case.dtype, 10)
        spread = np.sqrt(np.maximum((p * (x - mean[..., None]) ** 2).sum(-1) / whole, 0))
        spread[p.sum(-1) == 0] = 0
        assert found.spread is not None
        same(found.spread.square(), spread**2, case.dtype, 100)

        near = abs(x) <= 1
        same(found.mass["near"], (p * near).sum(-1), case.dtype)
        same(found.mass["odd"], p[..., 1::2].sum(-1), case.dtype)
        same(found.mass["first"], p[..., :1].sum(-1), case.dtype)

        R, C = cells(case.T, grid[0]), cells(case.S, grid[1])
        rows, columns = min(grid[0], case.T), min(grid[1], case.S)
        mean_map, max_map = np.zeros((2, case.B, case.H, rows, columns))
        for i in range(case.T):
            for j in range(case.S):
                mean_map[..., R[i], C[j]] += p[..., i, j] / (R == R[i]).sum()
                max_map[..., R[i], C[j]] = np.maximum(max_map[..., R[i], C[j]], p[..., i, j])
        same(found.mean_map, mean_map, case.dtype)
        same(found.max_map, max_map, case.dtype)

        links = found.links
        assert (links is None) == (k == 0)
        if links is None:
            continue
        kept = stages.visible.sum(-1)
        strongest = np.sort(p, -1)[..., ::-1][..., :k]
        same(links.weights, strongest, case.dtype)
        named = links.keys.numpy()
        assert ((named >= 0).sum(-1) == np.minimum(kept, k)).all()
        at = np.take_along_axis(p, np.maximum(named, 0), -1) if case.S else p[..., :0]
        same(links.weights, np.where(named >= 0, at, 0.0), case.dtype)
        for row in named.reshape(-1, k):
            seen = row[row >= 0]
            assert len(set(seen.tolist())) == len(seen)


@pytest.mark.parametrize("way", BY_NAME)
@pytest.mark.parametrize("n", [300, 5000])  # fewer and more than the loops have room for
def test_links_of_equal_scores_are_the_leftmost(n: int, way: str) -> None:
    query, key = torch.zeros(1, 1, 3, 4), torch.randn(1, 1, n, 4)
    _, record = attend(query, key, key, mask=torch.arange(n) % 2 == 1)
    found = measure(record.request, record.lse, Observe(links=4), way=way).links
    assert found is not None
    assert found.keys.tolist() == [[[[1, 3, 5, 7]] * 3]]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), T=st.integers(100, 2300), S=st.integers(1000, 2600), causal=st.booleans())
def test_the_ways_agree_over_many_blocks(seed: int, T: int, S: int, causal: bool) -> None:
    torch.manual_seed(seed)
    query, key = torch.randn(1, 2, T, 8), torch.randn(1, 1, S, 8)
    _, record = attend(query, key, key, causal=causal)
    asked = Observe.everything(links=8, grid=(7, 33))
    a, b = (measure(record.request, record.lse, asked, way=way.name) for way in WAYS)
    for name in ("entropy", "squares", "distance", "offset", "spread", "received", "mean_map", "max_map"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=2e-4, atol=2e-4)
    assert a.links is not None and b.links is not None
    torch.testing.assert_close(a.links.weights, b.links.weights, rtol=1e-4, atol=1e-6)
    assert (a.links.keys == b.links.keys).double().mean() > 0.999  # scores that differ in their last bit may swap


def test_many_links_are_the_strongest() -> None:
    query, key = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 900, 4)
    found = attend(query, key, key, kernel="compiled", observe=Observe(links=200))[1].statistics.links
    assert found is not None
    weights = (query.double() @ key.double().mT / 2).softmax(-1)
    torch.testing.assert_close(found.weights.double(), weights.topk(200).values, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.weights.double(), weights.gather(-1, found.keys), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("how", ["interval", "mask"])
def test_the_number_of_threads_changes_no_bit(how: str) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 3, 2300, 16) for _ in range(3))
    mask = Window(500, 20) if how == "interval" else torch.rand(2300, 2300) < 0.5
    asked, threads, found = Observe.everything(grid=(50, 60)), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            out, record = attend(query, key, value, mask=mask, kernel="compiled", observe=asked)
            told = record.statistics
            assert told.links is not None
            found.append([out, record.lse, told.entropy, told.received, told.mean_map, told.max_map, told.links.keys])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_two_callers_at_once_get_what_each_gets_alone() -> None:
    calls = [[torch.randn(1, 4, n, 8) for _ in range(3)] for n in (700, 900)]
    alone = [attention(*call, causal=True, kernel="compiled") for call in calls]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            found = pool.map(lambda call: attention(*call, causal=True, kernel="compiled"), calls)
            assert all(torch.equal(one, other) for one, other in zip(alone, found, strict=True))


@pytest.mark.parametrize("observe", [Observe(received=True), Observe(links=3), Observe.everything()])
def test_what_the_kernel_sees_on_its_way_changes_no_bit_of_its_output(observe: Observe) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 5, 1000, 16) for _ in range(3))
    out, record = attend(query, key, value, causal=True, observe=observe)
    assert (record.kernel, record.statistics.way) == ("compiled", "kernel")
    assert torch.equal(out, attention(query, key, value, causal=True))
    assert torch.equal(record.lse, attend(query, key, value, causal=True)[1].lse)


def test_observing_changes_no_bit_and_draws_nothing() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 50, 8, requires_grad=True) for _ in range(3))
    plain = attention(query, key, value, causal=True)
    wanted = torch.autograd.grad(plain.square().sum(), (query, key, value))
    before = torch.random.get_rng_state()
    watched, _ = attend(query, key, value, causal=True, observe=Observe.everything())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(plain, watched)
    for one, other in zip(wanted, torch.autograd.grad(watched.square().sum(), (query, key, value)), strict=True):
        assert torch.equal(one, other)
