"""A row of a step is the same to the last bit whatever stands beside it, and right wherever float32 is."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import Alibi, attention
from polyhead.operator.kernels import step
from polyhead.operator.request import ask

LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Call:
    """Queries at keys with a mask and a bias of every pair, each of which may be None."""

    query: Tensor  # [B, H, T, K]
    key: Tensor  # [B, G, S, K]
    value: Tensor  # [B, G, S, Kv]
    mask: Tensor | None  # [B, H, T, S]
    bias: Tensor | None  # [B, H, T, S]

    def run(self) -> tuple[Tensor, Tensor]:
        out, lse = step.run(ask(self.query, self.key, self.value, mask=self.mask, bias=self.bias), True)
        assert lse is not None
        return out, lse

    def rows(self, batch: slice = slice(None), heads: slice = slice(None), queries: slice = slice(None)) -> Call:
        """A part of it; heads are whole groups."""
        R = self.query.shape[1] // self.key.shape[1]
        groups = slice(*(None if x is None else x // R for x in (heads.start, heads.stop)))
        pairs = (None if x is None else x[batch, heads, queries] for x in (self.mask, self.bias))
        key, value = self.key[batch, groups], self.value[batch, groups]
        return Call(self.query[batch, heads, queries], key, value, *pairs)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """As large as those of a model, so that one thread and several have something to do."""
    B, G, R, T = (draw(st.integers(1, n)) for n in (5, 4, 3, 8))
    S = draw(st.integers(1, 70))
    K, V = (draw(st.sampled_from([1, 3, 8, 16, 31, 64, 80])) for _ in range(2))
    dice = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(step.DTYPES))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=dice)

    def cache(width: int) -> Tensor:
        """As a cache holds it: all heads of a place side by side, in a buffer that has room for more."""
        if draw(st.booleans()):
            return normal(B, G, S, width).to(dtype)
        return normal(B, S + 3, G, width).to(dtype)[:, :S].transpose(1, 2)

    H = G * R
    mask = torch.rand(B, H, T, S, generator=dice) < 0.8 if draw(st.booleans()) else None
    bias = normal(B, H, T, S) if draw(st.booleans()) else None
    return Call(normal(B, H, T, K).to(dtype), cache(K), cache(V), mask, bias)


def same(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def in_float64(call: Call) -> tuple[Tensor, Tensor]:
    """The formula."""
    query, key, value = call.query.double(), call.key.double(), call.value.double()
    R = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(R, 1).mT / math.sqrt(query.shape[3])
    scores = scores if call.bias is None else scores + call.bias.double()
    scores = scores if call.mask is None else scores.masked_fill(~call.mask, -math.inf)
    return scores.softmax(-1).nan_to_num() @ value.repeat_interleave(R, 1), scores.logsumexp(-1)


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(calls())
def test_a_step_is_the_formula(call: Call):
    for found, wanted in zip(call.run(), in_float64(call), strict=True):
        digit = torch.finfo(torch.bfloat16).eps if found.dtype == torch.bfloat16 else 2e-5
        torch.testing.assert_close(found.double(), wanted, rtol=digit, atol=2e-5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(calls(), st.tuples(*[st.integers(0, 99)] * 3))
def test_a_row_is_the_same_to_the_last_bit_whatever_stands_beside_it(call: Call, place: tuple[int, int, int]):
    """One sequence, one group of heads or one query alone; hence in any batch, beam or run of proposed tokens."""
    (B, H, T, _), G = call.query.shape, call.key.shape[1]
    b, t, g = (x % n for x, n in zip(place, (B, T, G), strict=True))
    batch, queries, heads = slice(b, b + 1), slice(t, t + 1), slice(g * (H // G), (g + 1) * (H // G))
    out, lse = call.run()
    assert same(call.rows(batch=batch).run(), (out[batch], lse[batch]))
    assert same(call.rows(queries=queries).run(), (out[:, :, queries], lse[:, :, queries]))
    assert same(call.rows(heads=heads).run(), (out[:, heads], lse[:, heads]))
    alone = call.rows(batch, heads, queries).run()
    assert same(alone, (out[batch, heads, queries], lse[batch, heads, queries]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(calls())
def test_the_number_of_threads_changes_no_bit(call: Call):
    """Many of these calls are above the work from which several threads share it; the others are one thread's."""
    found: list[tuple[Tensor, Tensor]] = []
    for n in (1, 2):
        with threads(n):
            found.append(call.run())
    assert same(*found)


@pytest.mark.parametrize("B", [1, 2, 7])
def test_more_threads_than_there_are_sequences_share_heads(B: int):
    torch.manual_seed(B)
    call = Call(torch.randn(B, 6, 4, 64), torch.randn(B, 3, 200, 64), torch.randn(B, 3, 200, 64), None, None)
    assert call.query.numel() * 200 > step.ALONE
    with threads(2):
        found = call.run()
    with threads(1):
        assert same(call.run(), found)
    with threads(64):  # more than numba may have
        assert same(call.run(), found)


def test_two_python_threads_at_once_get_their_own_answers():
    torch.manual_seed(0)
    some = [
        Call(torch.randn(3, 4, 2, 32), torch.randn(3, 4, S, 32), torch.randn(3, 4, S, 32), None, None) for S in (90, 17)
    ]
    wanted, faults = [call.run() for call in some], list[int]()

    def ask_often(n: int) -> None:
        for _ in range(200):
            if not same(some[n].run(), wanted[n]):
                faults.append(n)

    asking = [threading.Thread(target=ask_often, args=(n,)) for n in range(2)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert not faults


def test_inputs_keep_every_bit_and_what_lies_around_the_rows_of_a_cache_is_not_read():
    torch.manual_seed(0)
    held = torch.randn(2, 50, 3, 2, 16)  # a cache with room, keys and values of a place side by side
    held[:, 20:] = math.nan
    key, value = held[:, :20].permute(3, 0, 2, 1, 4)
    query, before = torch.randn(2, 3, 1, 16), held.clone()
    out, _ = Call(query, key, value, None, None).run()
    assert torch.equal(held.nan_to_num(7), before.nan_to_num(7))
    assert same(Call(query, key.contiguous(), value.contiguous(), None, None).run(), (out, _))
    assert out.isfinite().all()


@pytest.mark.parametrize("size", [1e2, 1e6, 1e15])
def test_huge_scores_choose_one_key(size: float):
    torch.manual_seed(0)
    call = Call(size * torch.randn(2, 2, 3, 8), size * torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8), None, None)
    out, lse = call.run()
    wanted, level = in_float64(call)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-4 if size > 1e2 else 2e-2)
    torch.testing.assert_close(lse.double(), level, rtol=1e-5, atol=0)


def test_scores_beyond_float32_are_told_by_nan():
    x = torch.full((1, 1, 2, 4), 1e30)
    key = torch.cat((x, torch.zeros(1, 1, 1, 4)), 2)
    out, lse = Call(x[:, :, :1], key, key, None, None).run()
    assert out.isnan().all() and lse.isnan().all()


def test_a_row_of_the_lowest_number_is_not_hidden_and_one_of_minus_infinity_is():
    """Padding masks are often written with it; where all of a row is so low, SDPA gives the mean."""
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8)
    bias = torch.zeros(1, 2, 3, 7)
    bias[:, :, 1], bias[:, :, 2] = LOWEST, -math.inf
    out, lse = Call(query, key, value, None, bias).run()
    torch.testing.assert_close(out[:, :, 1], value.mean(2))
    assert lse[:, :, 1].isfinite().all() and (lse[:, :, 1] < 0.99 * LOWEST).all()
    assert not out[:, :, 2].any() and (lse[:, :, 2] == -math.inf).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("hider", ["mask", "bias"])
def test_what_a_mask_or_a_bias_hides_may_hold_anything(hider: str, poison: float):
    """Keys, values and, behind a mask, the bias itself; a query that sees the place gets NaN where it is one."""
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 2, 3, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    shown = torch.ones(2, 2, 3, 7, dtype=torch.bool)
    shown[:, :, :2, 4] = False  # the third query sees key 4
    bias = torch.randn(2, 2, 3, 7)
    call = Call(query, key, value, shown, bias)
    if hider == "bias":
        call = replace(call, mask=None, bias=bias.masked_fill(~shown, -math.inf))
    clean = call.run()
    key[:, :, 4], value[:, :, 4] = poison, poison
    if hider == "mask":
        bias[:, :, :2, 4] = poison
    out, lse = call.run()
    assert same((out[:, :, :2], lse[:, :, :2]), (clean[0][:, :, :2], clean[1][:, :, :2]))
    if math.isnan(poison):
        assert out[:, :, 2].isnan().all() and lse[:, :, 2].isnan().all()
    assert not out[:, :, 2].isfinite().any()


def test_a_bias_by_distance_counts_from_the_last_key():
    torch.manual_seed(0)
    query, key, slopes = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 11, 8), torch.rand(4)
    distance = torch.arange(11) - (torch.arange(3)[:, None] + 8)  # [T, S]
    seen = distance <= 0
    wanted, _ = in_float64(
        Call(query, key, key, seen.expand(2, 4, 3, 11), (-slopes[:, None, None] * distance.abs()).expand(2, 4, 3, 11))
    )
    found = attention(query, key, key, causal=True, bias=Alibi(slopes), kernel="step")
    torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bool])
def test_a_mask_and_a_bias_may_be_broadcast(kind: torch.dtype):
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 2, 8), torch.randn(2, 3, 5, 8)
    name = "bias" if kind.is_floating_point else "mask"
    for shape in ((5,), (2, 1), (3, 1, 5), (2, 1, 1, 5), (2, 3, 2, 1), (1, 1, 1, 1)):
        given_ = torch.randn(shape) if name == "bias" else torch.rand(shape) < 0.6
        found = attention(query, key, key, kernel="step", **{name: given_})  # pyright: ignore
        pairs = given_.expand(2, 3, 2, 5)
        wanted, _ = in_float64(Call(query, key, key, *((pairs, None) if name == "mask" else (None, pairs))))
        torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=2e-5)
