"""Every statistic of every call is what the weights of the reference, written out in float64, say."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import Alibi, Causal, Observe, ScoreMod, Statistics, Window, attend, attention, explain
from polyhead.operator.kernels import aten, reference
from polyhead.operator.request import ask
from polyhead.operator.statistics import WAYS, identities, measure, reduced
from tests.operator.cases import TOLERANCE, Built, Case, build, cases
from tests.operator.kernels.test_memory import Largest

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
    request = built.request()
    if BY_NAME[way].can(request, observe) is not None:
        return None
    dtype = torch.float64 if built.case.dtype == torch.float64 else torch.float32
    lse = torch.tensor(reference.attention(built.inputs()).lse, dtype=dtype)
    return measure(request, lse, observe, way=way)


def part_for(way: str, observe: Observe, built: Built) -> Observe:
    """What of a wish a way can tell at all: identities name no links, see no maximum, and leave out a bias."""
    if way != "identities":
        return observe
    return replace(observe, links=0, max_map=None, entropy=built.case.bias is None)


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
        wish = part_for(way, asked, built)
        found = told(built, wish, way)
        if found is None:
            continue
        assert found.way == way and found.row_error is not None and found.row_error < TOLERANCE[case.dtype]
        if wish.entropy:
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
        if wish.max_map is not None:
            same(found.max_map, max_map, case.dtype)

        links = found.links
        assert (links is None) == (wish.links == 0)
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


@pytest.mark.parametrize("way", ["loops", "tiles"])
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
    some = {"list": [5, 6, 7, 99, 900, 5], "half": range(50, 700), "near": Window(30, 3), "rule": Causal(), "none": []}
    asked = replace(Observe.everything(links=8, grid=(7, 33)), mass=some)
    a, b = (measure(record.request, record.lse, asked, way=way) for way in ("loops", "tiles"))
    for name in ("entropy", "squares", "distance", "offset", "spread", "received", "mean_map", "max_map"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=2e-4, atol=2e-4)
    for name in some:
        torch.testing.assert_close(a.mass[name], b.mass[name], rtol=1e-5, atol=1e-6)
    assert a.links is not None and b.links is not None
    torch.testing.assert_close(a.links.weights, b.links.weights, rtol=1e-4, atol=1e-6)
    assert (a.links.keys == b.links.keys).double().mean() > 0.999  # scores that differ in their last bit may swap


def heads_of_every_kind(n: int) -> tuple[Tensor, Tensor]:
    """Queries and keys [1, 5, n, 64] of heads that look at the key before them, at the first, at one far key, at all
    alike, and by chance."""
    key, place = torch.randn(5, n, 64), torch.arange(n)
    sharp = [4 * key[head, at] for head, at in enumerate((place.sub(1).clamp(min=0), 0 * place, 0 * place + n // 3))]
    return torch.stack([*sharp, torch.zeros(n, 64), torch.randn(n, 64)])[None], key[None]


@pytest.mark.parametrize("causal", [False, True])
def test_the_loops_lose_nothing_in_the_difference_of_large_sums(causal: bool) -> None:
    torch.manual_seed(0)
    query, key = heads_of_every_kind(3000)
    _, record = attend(query, key, key, causal=causal, observe=Observe(distance=True), kernel="compiled")
    _, exact = attend(query.double(), key.double(), key.double(), causal=causal, kernel="blockwise")
    for found in (record.statistics, record.observe(Observe(distance=True))):
        wanted = measure(exact.request, exact.lse, Observe(distance=True), way="tiles")
        for name, bound in {"offset": 2e-3, "distance": 2e-3, "spread": 2e-2}.items():
            torch.testing.assert_close(getattr(found, name).double(), getattr(wanted, name), rtol=1e-5, atol=bound)


@pytest.mark.parametrize("causal", [False, True])
def test_identities_lose_nothing_in_the_difference_of_large_sums(causal: bool) -> None:
    """A spread of half a token, two thousand tokens away, is the difference of squares in the millions."""
    torch.manual_seed(0)
    query, key = heads_of_every_kind(3000)
    asked = Observe(entropy=True, squares=True, distance=True, received=True, mean_map=(50, 200))
    _, record = attend(query, key, key, causal=causal)
    found = measure(record.request, record.lse, asked, way="identities")
    _, exact = attend(query.double(), key.double(), key.double(), causal=causal, kernel="blockwise")
    wanted = measure(exact.request, exact.lse, asked, way="tiles")
    assert found.row_error is not None and found.row_error < 1e-4
    bounds = {"offset": 2e-3, "distance": 2e-3, "spread": 2e-2, "entropy": 1e-4, "squares": 1e-4, "mean_map": 1e-5}
    for name, bound in bounds.items():
        torch.testing.assert_close(getattr(found, name).double(), getattr(wanted, name), rtol=1e-5, atol=bound)
    assert found.received is not None and wanted.received is not None
    torch.testing.assert_close(found.received.double(), wanted.received, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", ["each", "group sum", "group mean", "mean"])
def test_identities_tell_of_every_query_head_of_a_group(heads: Any) -> None:
    query, key = torch.randn(2, 6, 40, 8), torch.randn(2, 2, 40, 8)
    asked = Observe(entropy=True, squares=True, distance=True, received=True, mean_map=(5, 7), heads=heads)
    calls: list[dict[str, Any]] = [{"causal": True}, {"window": (9, 3)}, {"lengths": torch.tensor([25, 40])}]
    for how in calls:
        _, record = attend(query, key, key, **how)
        expanded = key.repeat_interleave(3, 1)
        _, alone = attend(query, expanded, expanded, **how)
        found = measure(record.request, record.lse, asked, way="identities")
        wanted = measure(alone.request, alone.lse, replace(asked, heads="each"), way="tiles")
        for name in ("entropy", "squares", "distance", "spread"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-4)
        for name in ("received", "mean_map"):
            x = getattr(wanted, name)
            torch.testing.assert_close(getattr(found, name), reduced(x, 2, heads), rtol=1e-4, atol=1e-5)


def test_identities_of_half_precision_are_those_of_its_float32_copy() -> None:
    query, key = torch.randn(1, 2, 30, 8).bfloat16(), torch.randn(1, 2, 30, 8).bfloat16()
    asked = Observe(entropy=True, received=True)
    (_, half), (_, full) = attend(query, key, key), attend(query.float(), key.float(), key.float())
    told, wanted = (measure(each.request, full.lse, asked, way="identities") for each in (half, full))
    for one, other in ((told.entropy, wanted.entropy), (told.received, wanted.received)):
        assert one is not None and other is not None and torch.equal(one, other)


@pytest.mark.parametrize("causal", [False, True])
def test_identities_hold_no_square_of_queries_by_keys(causal: bool) -> None:
    asked = Observe(entropy=True, squares=True, distance=True, received=True, mean_map=(64, 300))
    for n in (500, 1000):
        query, key = torch.randn(1, 2, n, 8), torch.randn(1, 1, n, 8)
        _, record = attend(query, key, key, causal=causal, lengths=None if causal else torch.tensor([n - 3]))
        with Largest() as largest:
            identities.look(record.request, record.lse, replace(asked, distance=causal))
        assert largest.size <= 2 * n * 128 * 8  # [H, n, 128] in float64


MASKS: dict[str, Any] = {
    "none": lambda n, device: {},
    "causal": lambda n, device: {"causal": True},
    "window": lambda n, device: {"window": (7, 3)},
    "lengths": lambda n, device: {"lengths": torch.full((2,), n - 3, device=device)},
    "rows": lambda n, device: {"mask": torch.ones(n, 1, dtype=torch.bool, device=device)},
    "bias": lambda n, device: {"bias": torch.linspace(0, 1, n, device=device)},
    "sinks": lambda n, device: {"sinks": torch.ones(4, device=device), "causal": True},
}
TOLD = Observe(squares=True, distance=True, received=True, mean_map=(7, 9))


def memory_efficient(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, lse: bool, dropout: float, causal: bool, *,
    scale: float,
) -> tuple[Tensor, Tensor, None, None]:  # fmt: skip
    """The formula in place of CUDA's kernel, with its demands."""
    for x in (query, key, value):
        assert x.dtype == torch.float32 and x.stride(3) == 1 and x.shape[3] % 4 == 0
        assert all(x.stride(n) % 4 == 0 for n in range(3)) and x.shape[:2] == query.shape[:2]
    scores = query @ key.mT * scale
    if bias is not None:
        assert bias.shape == scores.shape and bias.stride(3) == 1
        assert all(bias.stride(n) % 4 == 0 for n in range(3)) and not causal
        scores = scores + bias
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    assert lse and not dropout
    T = query.shape[2]
    padded = torch.nn.functional.pad(scores.logsumexp(-1), (0, -T % 32), value=torch.inf)
    return scores.softmax(-1) @ value, padded, None, None


@pytest.mark.parametrize("how", MASKS)
def test_the_call_on_cuda_meets_the_demands_of_its_kernel(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = torch.randn(2, 4, 45, 6), torch.randn(2, 2, 45, 6)
    _, record = attend(query, key, key, **MASKS[how](45, "cpu"))
    wanted = measure(record.request, record.lse, TOLD, way="identities")
    monkeypatch.setitem(identities.CALLS, "cpu", identities.CALLS["cuda"])
    backend = identities.CALLS["cuda"].backend
    monkeypatch.setitem(aten.CALLS, ("cpu", backend), aten.CALLS["cuda", backend])
    monkeypatch.setattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", memory_efficient)
    found = measure(record.request, record.lse, TOLD, way="identities")
    for name in ("squares", "distance", "offset", "received", "mean_map"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", MASKS)
def test_identities_stay_on_the_device_of_the_call(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without memory, on the device meta, pass PyTorch's own description of CUDA's kernel."""
    monkeypatch.setitem(identities.CALLS, "meta", identities.CALLS["cuda"])
    query, key = (torch.empty(2, heads, 45, 6, device="meta", dtype=torch.bfloat16) for heads in (4, 2))
    lse = torch.empty(2, 4, 45, device="meta")
    found = identities.look(ask(query, key, key, **MASKS[how](45, "meta")), lse, TOLD)
    assert found.received is not None and found.mean_map is not None and found.distance is not None
    assert found.mass.shape == found.squares.shape == found.distance.shape == lse.shape
    assert found.received.shape == lse.shape and found.mean_map.shape == (2, 4, 7, 9)
    assert found.received.device.type == "meta"


REASONS: list[tuple[str, Observe, dict[str, Any]]] = [
    ("strongest links", Observe(links=1), {}),
    ("largest weight", Observe(max_map=(2, 2)), {}),
    ("softcap", Observe(entropy=True), {"softcap": 2.0}),
    ("function of scores", Observe(entropy=True), {"bias": ScoreMod(lambda score, b, h, i, j: score)}),
    ("without its bias", Observe(entropy=True), {"bias": Alibi(torch.ones(2))}),
    ("nothing to look at", Observe(entropy=True), {"T": 0}),
    ("T \\* S = 1100000", Observe(entropy=True), {"T": 1100, "S": 1000, "causal": True}),
    ("T \\* S = 1100000", Observe(distance=True), {"T": 1100, "S": 1000}),
    ("query or key holds NaN", Observe(entropy=True), {"poison": torch.nan}),
    ("bias holds NaN", Observe(squares=True), {"bias": torch.tensor([torch.inf])}),
    ("numbers below -1e\\+30", Observe(squares=True), {"bias": torch.tensor([torch.finfo(torch.float32).min])}),
    ("on meta", Observe(entropy=True), {"device": "meta"}),
]


@pytest.mark.parametrize(("reason", "observe", "how"), REASONS, ids=[reason for reason, *_ in REASONS])
def test_identities_say_why_they_cannot(reason: str, observe: Observe, how: dict[str, Any]) -> None:
    how = dict(how)
    T, S, poison, device = (how.pop(*each) for each in (("T", 3), ("S", 4), ("poison", 1.0), ("device", "cpu")))
    query, key = torch.ones(1, 2, T, 4, device=device), torch.ones(1, 2, S, 4, device=device)
    key[:, :, -1] = poison
    assert re.search(reason, identities.can(ask(query, key, key, **how), observe) or "")


def test_a_bias_that_hides_and_a_mask_of_rows_are_no_reason() -> None:
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 4, 4)
    hiding, rows = torch.tensor([0.0, -torch.inf, 1.0, 2.0]), torch.tensor([[True], [False], [True]])
    for request in (ask(query, key, key, bias=hiding), ask(query, key, key, mask=rows)):
        assert identities.can(request, Observe(squares=True, distance=True, received=True)) is None


def test_on_a_cpu_identities_are_passed_by_and_say_so() -> None:
    found = attend(*(torch.randn(1, 1, 4, 4) for _ in range(3)), observe=Observe(entropy=True))[1].statistics
    assert found.way == "tiles" and "on a CPU" in found.reasons["identities"]


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
