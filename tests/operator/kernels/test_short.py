"""Short sequences in training: right at every size of a tile, and each row and sequence by itself to the last bit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from polyhead.errors import ArgumentError
from polyhead.operator import Alibi, attend, attention, explain
from polyhead.operator.kernels import blockwise, short
from polyhead.operator.request import ask

EDGES = [1, 2, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128]


@dataclass(frozen=True)
class Call:
    """Queries [B, H, T, K] at keys [B, G, S, K] and values [B, G, S, V], with a mask [B, H, T, S] or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    d_out: Tensor
    bias: Tensor | None = None

    def learnt(self, dtype: torch.dtype | None = None, kernel: str = "short", dropout: float = 0.0) -> list[Tensor]:
        """Output and gradients."""
        tensors = [x.detach().clone().to(dtype or x.dtype).requires_grad_() for x in (self.query, self.key, self.value)]
        out = attention(*tensors, mask=self.mask, bias=self.bias, dropout=dropout, kernel=kernel)
        return [out.detach(), *torch.autograd.grad(out, tensors, self.d_out.to(out.dtype))]

    def sequence(self, b: int) -> Call:
        rows = slice(b, b + 1)
        mask = None if self.mask is None else self.mask[rows]
        return Call(self.query[rows], self.key[rows], self.value[rows], mask, self.d_out[rows])


@st.composite
def calls(draw: st.DrawFn) -> Call:
    B, G, R = (draw(st.integers(1, n)) for n in (4, 3, 3))
    T, S = (draw(st.sampled_from(EDGES)) for _ in range(2))
    K, V = (draw(st.sampled_from([1, 3, 16, 31, 32, 33, 64, 80])) for _ in range(2))
    dice = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def side_by_side(n: int, t: int, width: int) -> Tensor:
        """As a projection gives them: all heads of a place side by side, with something else beyond."""
        return torch.randn(B, t, n, width + 2, generator=dice)[..., 1:-1].transpose(1, 2)

    mask = torch.rand(B, G * R, T, S, generator=dice) < 0.6 if draw(st.booleans()) else None
    query, key, value = side_by_side(G * R, T, K), side_by_side(G, S, K), side_by_side(G, S, V)
    return Call(query, key, value, mask, side_by_side(G * R, T, V))


def call_of(*sizes: int, mask: Tensor | None = None) -> Call:
    """Queries, keys and values alike."""
    query, key, value, d_out = (torch.randn(*sizes) for _ in range(4))
    return Call(query, key, value, mask, d_out)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(calls())
def test_every_size_agrees_with_float64(call: Call):
    for found, wanted in zip(call.learnt(), call.learnt(torch.float64, "blockwise"), strict=True):
        scale = float(wanted.abs().max()) + 1
        torch.testing.assert_close(found.double() / scale, wanted / scale, rtol=0, atol=3e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(calls())
def test_bfloat16_is_rounded_on_the_way_in_and_out_alone(call: Call):
    query, key, value, d_out = (x.bfloat16() for x in (call.query, call.key, call.value, call.d_out))
    rounded = Call(query, key, value, call.mask, d_out)
    wide = [x.bfloat16() for x in rounded.learnt(torch.float32)]
    found = rounded.learnt()
    assert torch.equal(found[0], wide[0])
    for x, y in zip(found[1:], wide[1:], strict=True):  # delta is that of the output as it was rounded
        torch.testing.assert_close(x, y, rtol=2e-2, atol=2e-2 * (float(y.abs().max()) + 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(calls())
def test_a_sequence_is_the_same_to_the_last_bit_whatever_stands_beside_it(call: Call):
    together, threads = call.learnt(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        for b in range(len(call.query)):
            for whole, alone in zip(together, call.sequence(b).learnt(), strict=True):
                assert torch.equal(whole[b : b + 1], alone)
    finally:
        torch.set_num_threads(threads)


def test_a_row_that_sees_nothing_gives_and_gets_nothing():
    mask = torch.ones(2, 2, 7, 7, dtype=torch.bool)
    mask[0, 1, 3], mask[1, 0] = False, False
    call = call_of(2, 2, 7, 8, mask=mask)
    out, d_query, d_key, d_value = call.learnt()
    for found in (out[0, 1, 3], out[1, 0], d_query[0, 1, 3], d_query[1, 0], d_key[1, 0], d_value[1, 0]):
        assert not found.any()
    assert all(x.isfinite().all() for x in (out, d_query, d_key, d_value))


@pytest.mark.parametrize("hides", ["mask", "bias"])
def test_poison_in_a_gradient_reaches_only_what_its_row_sees(hides: str):
    future = torch.ones(7, 7).triu(1) > 0
    call = call_of(1, 2, 7, 8, mask=(~future).expand(1, 2, 7, 7) if hides == "mask" else None)
    if hides == "bias":
        call = replace(call, bias=torch.zeros(7, 7).masked_fill(future, -torch.inf))
    clean = call.learnt()
    call.d_out[0, 0, 3, 2] = float("nan")
    _, d_query, d_key, d_value = call.learnt()
    for found, wanted in zip((d_key, d_value), clean[2:], strict=True):
        assert not found[0, 0, :4].isfinite().all(-1).any()
        torch.testing.assert_close(found[0, 0, 4:], wanted[0, 0, 4:], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[0, 1], wanted[0, 1], rtol=1e-5, atol=1e-6)
    assert d_query[0, 0, 3].isnan().all()


def test_poison_that_everyone_sees_reaches_everyone():
    """Nothing is hidden, so nothing need be kept apart: rows of a NaN are NaN, and what they see with them."""
    call = call_of(1, 1, 7, 8)
    call.query[0, 0, 2, 0] = float("nan")
    out, d_query, d_key, d_value = call.learnt()
    assert out[0, 0, 2].isnan().all() and out.isnan().any(-1).sum() == 1
    assert d_query[0, 0, 2].isnan().all() and d_query.isnan().any(-1).sum() == 1
    assert d_key.isnan().all() and d_value.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_may_come_in_any_layout(dtype: torch.dtype):
    tensors = [torch.randn(2, 2, 9, 8, dtype=dtype, requires_grad=True) for _ in range(3)]
    out = attention(*tensors, kernel="short")
    d_out = torch.randn(2, 2, 8, 9, dtype=dtype).mT
    found = torch.autograd.grad(out, tensors, d_out, retain_graph=True)
    for x, y in zip(found, torch.autograd.grad(out, tensors, d_out.contiguous()), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [(2, 3, 7, 9), (1, 2, 33, 64), (3, 4, 128, 100)])
def test_dropout_is_that_of_the_draws_as_torch_makes_them(sizes: tuple[int, int, int, int], share: float):
    """Output and gradients in float64, by tiles that drop what the loops say they drop."""
    B, H, T, S = sizes
    query, key, value = torch.randn(B, H, T, 16), torch.randn(B, H, S, 16), torch.randn(B, H, S, 24)
    call = Call(query, key, value, torch.rand(B, H, T, S) < 0.8, torch.randn(B, H, T, 24))
    torch.manual_seed(5)
    found = call.learnt(dropout=share)
    wide = [x.double().requires_grad_() for x in (query, key, value)]
    request = ask(*wide, mask=call.mask, dropout=share)
    torch.manual_seed(5)
    plan = replace(blockwise.plan_of(request, (50, 40), share), draw=short.kept)
    out, _ = blockwise.apply(plan, blockwise.forward, blockwise.backward, *wide, None, None)
    for x, y in zip(found, [out, *torch.autograd.grad(out, wide, call.d_out.double())], strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_of_every_row_and_column_and_otherwise_each_time(share: float):
    torch.manual_seed(0)
    request = ask(*(torch.randn(4, 8, 128, 1) for _ in range(3)), dropout=share)
    plans = [blockwise.plan_of(request, None, share) for _ in range(2)]
    kept, again = ((short.kept(plan, range(128), range(128)) > 0).double() for plan in plans)
    exact = math.sqrt(share * (1 - share))  # the deviation of one draw
    for dim, n in ((-1, 128), (-2, 128), ((0, 1), 32), ((0, 1, 2, 3), 2**19)):
        means = kept.mean(dim)
        assert float((means - (1 - share)).abs().max()) < 7 * exact / math.sqrt(n)
        if means.numel() > 1:
            assert float(means.std()) == pytest.approx(exact / math.sqrt(n), rel=0.05)
    for other in (again, kept.roll(1, -1), kept.roll(1, -2), kept.roll(1, 1), kept.roll(1, 0)):
        alike = float(((kept - kept.mean()) * (other - other.mean())).mean())
        assert abs(alike) < 5 * exact**2 / math.sqrt(2**19)


def test_dropout_has_a_second_derivative_of_the_same_draws():
    tensors = [torch.randn(1, 2, 6, 8).requires_grad_() for _ in range(3)]
    torch.manual_seed(3)
    out = attention(*tensors, dropout=0.4, kernel="short")
    first = torch.autograd.grad(out, tensors, torch.ones_like(out), retain_graph=True)
    for x, y in zip(first, torch.autograd.grad(out, tensors, torch.ones_like(out), create_graph=True), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_whoever_keeps_tensors_for_the_way_back_may_lay_them_out_anew():
    """As `torch.autograd.graph.save_on_cpu` does, and whatever compresses."""
    tensors = [torch.randn(2, 3, 9, 8, requires_grad=True) for _ in range(3)]
    found: list[tuple[Tensor, ...]] = []
    for kept in (lambda x: x, lambda x: x.contiguous(), lambda x: x.mT.contiguous().mT if x.dim() > 3 else x):  # pyright: ignore
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x.clone(), kept):  # pyright: ignore
            out = attention(*tensors, causal=True, kernel="short")
        found.append(torch.autograd.grad(out, tensors, torch.ones_like(out).cumsum(2)))
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            assert torch.equal(x, y)


def test_a_forward_that_is_made_again_drops_the_same():
    """Checkpointing: the first forward is asked for no gradients."""
    x = torch.randn(8, 4, 32, 16, requires_grad=True)

    def block(x: Tensor) -> Tensor:
        return attention(x, x, x, dropout=0.5)

    torch.manual_seed(1)
    wanted = block(x)
    torch.manual_seed(1)
    found: Tensor = checkpoint(block, x, use_reentrant=True)  # pyright: ignore
    assert torch.equal(found, wanted)
    d_out = torch.randn_like(wanted)
    (other,) = torch.autograd.grad(wanted, x, d_out)
    found.backward(d_out)
    assert x.grad is not None and torch.equal(x.grad, other)


def test_gradients_of_several_outputs_at_once_are_refused_by_name():
    tensors = [torch.randn(1, 2, 5, 8, requires_grad=True) for _ in range(3)]
    out = attention(*tensors, kernel="short")
    with pytest.raises(ArgumentError, match="kernel='explicit'"):
        torch.autograd.grad(out, tensors, torch.ones(3, *out.shape), is_grads_batched=True)


def test_a_row_beyond_float32_shows_nothing_of_what_is_hidden():
    call = call_of(1, 1, 7, 8, mask=(torch.ones(7, 7).tril() > 0).expand(1, 1, 7, 7))
    call.query[0, 0, 3] = 1e18
    call.key[0, 0, 1] = 1e18
    out, _, d_key, d_value = call.learnt()
    assert out[0, 0, :3].isfinite().all() and out[0, 0, 4:].isfinite().all()
    assert d_key[0, 0, 4:].isfinite().all() and d_value[0, 0, 4:].isfinite().all()


@pytest.mark.parametrize("how", [{"causal": True}, {"bias": Alibi(torch.ones(2))}])
def test_a_long_call_is_explained_without_writing_it_out(how: dict[str, Any]):
    x = torch.zeros(1, 2, 300_000, 1)
    found = explain(x, x, x, **how)  # of 90 billion pairs
    assert found.chosen == "compiled" and found.room["short"] > 1 << 30


def test_what_is_asked_beside_the_output_does_not_change_it():
    query, key, value = (torch.randn(3, 4, 20, 16, requires_grad=True) for _ in range(3))
    request = ask(query, key, value, causal=True)
    out, record = attend(query, key, value, causal=True, kernel="short")
    assert torch.equal(out, short.run(request, False)[0])
    scores = (query.double() @ key.double().mT / 4).masked_fill(torch.ones(20, 20).triu(1) > 0, -torch.inf)
    torch.testing.assert_close(record.lse.double(), scores.logsumexp(-1), rtol=1e-6, atol=2e-6)
