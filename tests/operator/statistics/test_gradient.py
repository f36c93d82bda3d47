"""Gradients through every statistic are those of the formula, written out and differentiated by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import Observe, Window, attend
from tests.operator.cases import Built, Case, build, cases

LINEAR = ["received", "mean_map", "rows", "columns"]
PER_ROW = ["entropy", "squares", "distance", "offset", "spread"]


def written_out(built: Built) -> tuple[Tensor, Tensor]:
    """Weights [B, H, T, S] and log-sum-exp [B, H, T] as plain differentiable torch."""
    x, case = built.tensors, built.case
    key = x["key"].repeat_interleave(case.R, 1)
    s = (x["query"] @ key.mT) * (case.scale if case.scale is not None else case.K**-0.5)
    if case.softcap is not None:
        s = case.softcap * torch.tanh(s / case.softcap)
    visible = torch.tensor(built.visible)
    if case.bias is not None:
        distance = torch.tensor(
            [[[built.distance(b, i, j) for j in range(case.S)] for i in range(case.T)] for b in range(case.B)]
        ).view(case.B, 1, case.T, case.S)
        if case.bias == "alibi":
            s = s - x["bias"].view(1, -1, 1, 1) * distance.abs()
        elif case.bias == "dense":
            visible = visible & (x["bias"].expand(s.shape) != -torch.inf)
            s = s + x["bias"].masked_fill(x["bias"] == -torch.inf, 0.0)
        else:
            s = s + built.how["bias"].tile(x["bias"], built.request().frame, range(case.T), range(case.S))
    s = s.masked_fill(~visible, -1e300)
    with_sink = s if not case.sinks else torch.cat((s, x["sinks"].view(1, -1, 1, 1).expand(*s.shape[:3], 1)), -1)
    lse = with_sink.logsumexp(-1)
    p = (s - lse[..., None]).exp().masked_fill(~visible, 0.0)
    return p, lse


def by_formula(name: str, p: Tensor, built: Built, asked: Observe) -> Tensor:
    case = built.case
    x = torch.tensor(
        [[[built.distance(b, i, j) for j in range(case.S)] for i in range(case.T)] for b in range(case.B)]
    ).view(case.B, 1, case.T, case.S).to(p.dtype)  # fmt: skip
    whole = p.sum(-1)
    whole = whole.where(whole > 0, 1.0)
    mean = (p * x).sum(-1) / whole
    match name:
        case "entropy":
            return -(p * p.where(p > 0, 1.0).log()).sum(-1)
        case "squares":
            return p.square().sum(-1)
        case "offset":
            return mean
        case "distance":
            return (p * x.abs()).sum(-1) / whole
        case "spread":
            variance = (p * (x - mean[..., None]).square()).sum(-1) / whole
            return variance.where(variance > 1e-12, 1.0).sqrt() * (variance > 1e-12)
        case "near":
            return (p * (x.abs() <= 1)).sum(-1)
        case "received":
            return p.sum(2)
        case "rows":
            return p[:, :, asked.rows]
        case "columns":
            return p[..., asked.columns]
        case "rectangle":
            some, others = asked.rectangles[0]
            return p[:, :, some.start : some.stop, others.start : others.stop]
        case _:
            raise AssertionError(name)


@settings(max_examples=60, deadline=None)
@given(case=cases((torch.float64,)), seed=st.integers(0, 2**32 - 1))
def test_every_gradient_is_that_of_the_formula(case: Case, seed: int) -> None:
    built = build(case)
    if not all(built.visible.shape):
        return
    dice = torch.Generator().manual_seed(seed)
    T, S = case.T, case.S
    asked = Observe(
        links=min(2, S), entropy=True, squares=True, distance=True, received=True, mean_map=(2, 3), rows=[0, T - 1, 0],
        columns=[S - 1], rectangles=[(range(T // 2, T), range(S // 2, S))], mass={"near": Window(1, 1)},
    )  # fmt: skip
    x = built.tensors
    _, record = attend(x["query"], x["key"], x["value"], **built.how, observe=asked)
    found = record.statistics
    assert found.links is not None and found.mean_map is not None
    p, lse = written_out(built)
    ours: dict[str, Tensor] = {name: getattr(found, name) for name in [*PER_ROW, "received", "rows", "columns"]}
    ours |= {"near": found.mass["near"], "rectangle": found.rectangles[0]}
    assert found.spread is not None  # the root of a rounding is larger than it
    torch.testing.assert_close(found.spread, by_formula("spread", p, built, asked), rtol=1e-6, atol=1e-6)
    pairs = [(y, by_formula(name, p, built, asked)) for name, y in ours.items()]
    pairs.append((found.links.weights, p.gather(-1, found.links.keys.clamp(min=0)) * (found.links.keys >= 0)))
    seen = record.lse.isfinite()
    pairs.append((record.lse.where(seen, 0.0), lse.where(seen, 0.0)))
    inputs = [t for name, t in x.items() if name != "value"]
    slopes = [torch.randn(y.shape, generator=dice, dtype=y.dtype) for y, _ in pairs]
    together = [torch.autograd.grad(side, inputs, slopes, retain_graph=True) for side in zip(*pairs, strict=True)]
    for a, b in zip(*together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-5)
    for y, wanted in pairs:
        if y is not found.spread:
            torch.testing.assert_close(y, wanted, rtol=1e-7, atol=1e-7)
        d = torch.randn(y.shape, generator=dice, dtype=y.dtype)
        got = torch.autograd.grad(y, inputs, d, retain_graph=True, allow_unused=True)
        want = torch.autograd.grad(wanted, inputs, d, retain_graph=True, allow_unused=True)
        for a, b, t in zip(got, want, inputs, strict=True):
            zero = torch.zeros_like(t)
            torch.testing.assert_close(zero if a is None else a, zero if b is None else b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("heads", ["each", "group sum", "group mean", "mean"])
def test_gradients_of_what_is_told_of_several_heads(heads: Any) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 9, 3, requires_grad=True, dtype=torch.float64), torch.randn(2, 2, 7, 3).double()
    asked = Observe(received=True, mean_map=(4, 3), mass={"some": [1, 5]}, heads=heads)

    def told(query: Tensor) -> tuple[Tensor, ...]:
        found = attend(query, key, key, observe=asked)[1].statistics
        assert found.received is not None and found.mean_map is not None
        return found.received, found.mean_map, found.mass["some"]

    assert torch.autograd.gradcheck(told, (query,))


@pytest.mark.parametrize("learns", ["query", "key", "bias", "sinks"])
def test_a_largest_weight_refuses_its_gradient(learns: str) -> None:
    x = {
        "query": torch.randn(1, 1, 4, 2),
        "key": torch.randn(1, 1, 4, 2),
        "bias": torch.randn(4, 4),
        "sinks": torch.ones(1),
    }
    x[learns].requires_grad_()
    wish = Observe(max_map=(2, 2), entropy=True)
    found = attend(x["query"], x["key"], x["key"].detach(), bias=x["bias"], sinks=x["sinks"], observe=wish)[1]
    assert found.statistics.max_map is not None and found.statistics.entropy is not None
    with pytest.raises(ArgumentError, match="max_map carries no gradient"):
        (found.statistics.max_map.sum() + found.statistics.entropy.sum()).backward()


def test_the_gradient_of_a_gradient_is_refused_and_not_dropped() -> None:
    query = torch.randn(1, 1, 4, 2, requires_grad=True)
    out, record = attend(query, query, query, observe=Observe(entropy=True), kernel="blockwise")
    assert record.statistics.entropy is not None
    for told in (record.statistics.entropy, record.lse):
        with pytest.raises(ArgumentError, match="are differentiable once; take their gradient without create_graph"):
            torch.autograd.grad(told.sum(), query, create_graph=True)
    (first,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)  # the output's stays
    assert first.requires_grad


def test_a_tensor_that_was_written_over_is_found_out() -> None:
    x = torch.randn(1, 1, 4, 2, requires_grad=True) * 1
    found = attend(x, x, x, observe=Observe(entropy=True))[1].statistics
    assert found.entropy is not None
    x.mul_(3.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.entropy.sum().backward()


def test_an_empty_row_has_no_effective_keys_and_no_gradient() -> None:
    query, key, sinks = torch.randn(1, 1, 3, 2), torch.randn(1, 1, 5, 2), torch.ones(1)
    for each in (query, key, sinks):
        each.requires_grad_()
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    found = attend(query, key, key.detach(), mask=mask, sinks=sinks, observe=Observe(squares=True))[1].statistics
    assert found.effective_keys is not None and not found.effective_keys[0, 0, 1].detach().any()
    gradients = torch.autograd.grad(found.effective_keys.sum(), (query, key, sinks))
    assert all(g.isfinite().all() and g.any() for g in gradients)
    assert not gradients[0][0, 0, 1].any()


@pytest.mark.parametrize("sink", [0.0, 12.0, 18.0, 30.0])
def test_gradients_of_places_are_right_where_a_sink_takes_nearly_all(sink: float) -> None:
    query, key = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 6, 8)

    def gradient(dtype: torch.dtype) -> Tensor:
        q = query.to(dtype).requires_grad_()
        wish, sinks = Observe(distance=True), torch.tensor([sink], dtype=dtype)
        found = attend(q, key.to(dtype), key.to(dtype), sinks=sinks, observe=wish)[1].statistics
        told = sum((x.sum() for x in (found.distance, found.offset, found.spread) if x is not None), q.new_zeros(()))
        return torch.autograd.grad(told, q)[0]

    q = query.double().requires_grad_()
    p = (q @ key.double().mT * 8**-0.5).softmax(-1)  # what a mean over the keys alone is a mean of
    x = torch.arange(6)[None] - torch.arange(4)[:, None] - 2.0
    mean, far = (p * x).sum(-1), (p * x.abs()).sum(-1)
    spread = ((p * x.square()).sum(-1) - mean.square()).sqrt()
    (wanted,) = torch.autograd.grad((mean + far + spread).sum(), q)
    torch.testing.assert_close(gradient(torch.float32).double(), wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(gradient(torch.float64), wanted, rtol=1e-6, atol=1e-6)
