"""Attention in bfloat16 by pairs is the formula's, and a row is the same to the last bit whatever stands beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import attend, attention, loops
from polyhead.operator.kernels import half
from polyhead.operator.request import Request, ask

pytestmark = [
    pytest.mark.skipif(loops.missing() is not None, reason="numba is not here"),
    pytest.mark.skipif(
        loops.missing() is None and not loops.multiplies_halves(),
        reason="this processor multiplies no bfloat16 by pairs",
    ),
]
DIGIT = torch.finfo(torch.bfloat16).eps


@dataclass(frozen=True)
class Call:
    """Queries [B, H, T, K] at keys [B, G, S, K]."""

    query: Tensor
    key: Tensor
    value: Tensor
    causal: bool
    scale: float = 0.3

    @property
    def request(self) -> Request:
        return ask(self.query, self.key, self.value, causal=self.causal, scale=self.scale)

    def run(self) -> tuple[Tensor, Tensor]:
        assert half.can(self.request) is None
        out, lse = half.run(self.request, True)
        assert lse is not None
        return out, lse


@st.composite
def calls(draw: st.DrawFn) -> Call:
    B, G, R = (draw(st.integers(1, n)) for n in (3, 3, 3))
    T, S = (draw(st.integers(1, 70) | st.sampled_from([96, 128, 200])) for _ in range(2))
    K, V = draw(st.sampled_from([2, 6, 16, 64, 80])), draw(st.sampled_from([1, 3, 16, 31, 64, 80]))
    dice = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def normal(heads: int, n: int, width: int) -> Tensor:
        """Heads side by side, as of one product, or one after the other, with something between the rows."""
        x = torch.randn(B, n, heads, width + draw(st.sampled_from([0, 3])), generator=dice).bfloat16()[..., :width]
        return x.transpose(1, 2) if draw(st.booleans()) else x.transpose(1, 2).contiguous()

    scale = draw(st.sampled_from([1.0, 0.125, 0.0, -0.5]))
    return Call(normal(G * R, T, K), normal(G, S, K), normal(G, S, V), draw(st.booleans()), scale)


def in_float64(call: Call) -> tuple[Tensor, Tensor]:
    """The formula."""
    query, R = call.query.double(), call.query.shape[1] // call.key.shape[1]
    key, value = (x.double().repeat_interleave(R, 1) for x in (call.key, call.value))
    scores, (T, S) = call.scale * query @ key.mT, (query.shape[2], key.shape[2])
    if call.causal:
        scores = scores.masked_fill(~torch.ones(T, S, dtype=torch.bool).tril(S - T), -math.inf)
    return scores.softmax(-1).nan_to_num() @ value, scores.logsumexp(-1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(calls())
def test_it_is_the_formula(call: Call):
    (out, lse), (wanted, level) = call.run(), in_float64(call)
    torch.testing.assert_close(lse.double(), level, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.double(), wanted, rtol=2 * DIGIT, atol=2 * DIGIT)  # weights are rounded too


@settings(max_examples=100, deadline=None, derandomize=True)
@given(calls(), st.tuples(*[st.integers(0, 999)] * 3), st.integers(1, 3))
def test_a_row_is_the_same_to_the_last_bit_whatever_stands_beside_it(
    call: Call, place: tuple[int, int, int], threads: int
):
    (B, H, T, _), (G, S) = call.query.shape, call.key.shape[1:3]
    b, g, t = (x % n for x, n in zip(place, (B, G, T), strict=True))
    heads = slice(g * (H // G), (g + 1) * (H // G))
    out, lse = call.run()
    seen = S - T + t + 1 if call.causal else S  # keys that query t sees
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        query = call.query[b : b + 1, heads, t : t + 1]
        key, value = (x[b : b + 1, g : g + 1, : max(seen, 1)] for x in (call.key, call.value))
        found, level = Call(query, key, value, False, call.scale).run()
    finally:
        torch.set_num_threads(before)
    if seen > 0:
        assert torch.equal(found[0, :, 0], out[b, heads, t]) and torch.equal(level[0, :, 0], lse[b, heads, t])
    else:
        assert not out[b, heads, t].any() and bool((lse[b, heads, t] == -math.inf).all())


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.booleans(), st.integers(0, 99))
def test_packed_documents_are_as_each_alone(lengths: list[int], causal: bool, seed: int):
    torch.manual_seed(seed)
    x = torch.randn(3, 1, 2, sum(lengths), 16).bfloat16()
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    request = ask(*x, segments=ids, causal=causal, scale=0.3)
    assert half.can(request) is None
    found, level = half.run(request, True)
    assert level is not None
    parts = zip(x.split(lengths, 3), found.split(lengths, 2), level.split(lengths, 2), strict=True)
    for (query, key, value), out, lse in parts:
        alone, own = Call(query, key, value, causal).run()
        assert torch.equal(out, alone) and torch.equal(lse, own)


def test_autocast_changes_nothing():
    query, key, value = torch.randn(3, 1, 2, 40, 16).bfloat16().unbind()
    wanted = attention(query, key, value, kernel="half")
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(attention(query, key, value, kernel="half"), wanted)


def test_what_is_no_number_stays_in_its_row():
    query, key, value = torch.randn(3, 1, 2, 60, 16).bfloat16().unbind()
    wanted = attention(query, key, value, kernel="half")
    odd = query.clone()
    odd[0, 1, 7, 3] = torch.nan
    found = attention(odd, key, value, kernel="half")
    assert bool(found[0, 1, 7].isnan().all())
    found[0, 1, 7] = wanted[0, 1, 7]
    assert torch.equal(found, wanted)


def test_auto_takes_it_for_many_scores_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loops, "multiplies_tiles", lambda: False)

    def chosen(T: int, *, dtype: torch.dtype = torch.bfloat16, learns: bool = False, causal: bool = False) -> str:
        x = torch.randn(2, 4, T, 4).to(dtype).requires_grad_(learns)
        return attend(x, x, x, causal=causal)[1].kernel

    assert chosen(128) == chosen(300, causal=True) == "half"
    assert chosen(127) == chosen(128, dtype=torch.float32) == "fused"
    assert chosen(128, learns=True) != "half"
    with torch.no_grad():
        assert chosen(128, learns=True) == "half"
    monkeypatch.setattr(loops, "multiplies_tiles", lambda: True)
    assert chosen(128) == "fused"
