"""Blockwise's backward, its second derivative and its dropout, against finite differences and the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from polyhead.operator import Alibi, Buckets, attention
from polyhead.operator.kernels import blockwise, reference
from polyhead.operator.request import ask

B, H, G, T, S, K, Kv = 2, 4, 2, 3, 4, 2, 3

HOW: dict[str, Callable[[], dict[str, Any]]] = {
    "nothing": dict,
    "causal": lambda: {"causal": True},
    "window": lambda: {"window": (1, 0)},
    "lengths": lambda: {"lengths": (torch.tensor([2, 3]), torch.tensor([0, 3])), "causal": True},
    "segments": lambda: {"segments": (torch.tensor([[0, 0, 1]] * 2), torch.tensor([[0, 1, 1, 2]] * 2))},
    "softcap": lambda: {"softcap": 1.5, "scale": 0.7},
    "dropout": lambda: {"dropout": 0.4, "causal": True},
}


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def call(how: dict[str, Any], bias: str | None, sinks: bool) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Blockwise as a function of the tensors that gradients reach, and such tensors."""
    torch.manual_seed(0)
    tensors = [leaf(B, H, T, K), leaf(B, G, S, K), leaf(B, G, S, Kv)]
    weights = {"dense": leaf(1, H, T, 1), "alibi": leaf(H), "buckets": leaf(6, H)}
    tensors += [weights[bias]] if bias else []
    tensors += [leaf(H)] if sinks else []

    def function(query: Tensor, key: Tensor, value: Tensor, *rest: Tensor) -> Tensor:
        torch.manual_seed(7)  # the same dropout in every evaluation
        made: dict[str, Any] = dict(how)
        if bias:
            made["bias"] = {"dense": lambda w: w, "alibi": Alibi, "buckets": lambda w: Buckets(w, True, 4)}[bias](
                rest[0]
            )
        if sinks:
            made["sinks"] = rest[-1]
        return blockwise.run(ask(query, key, value, **made), False, tile=(2, 3))[0]

    return function, tensors


@pytest.mark.parametrize(
    ("how", "bias", "sinks"),
    [(how, None, how == "softcap") for how in HOW]
    + [(how, bias, True) for how in ("lengths", "softcap", "dropout") for bias in ("dense", "alibi", "buckets")],
)
def test_blockwise_is_differentiable_twice(how: str, bias: str | None, sinks: bool):
    function, tensors = call(HOW[how](), bias, sinks)
    assert gradcheck(function, tensors, fast_mode=True)
    assert gradgradcheck(function, tensors, fast_mode=True)


def test_every_entry_of_both_derivatives_agrees_on_one_call_with_everything():
    function, tensors = call({"causal": True, "softcap": 2.0, "dropout": 0.2}, "dense", True)
    tensors = [
        x[:1, :2].detach().requires_grad_() if x.dim() == 4 else x[:2].detach().requires_grad_() for x in tensors
    ]
    assert gradcheck(function, tensors)
    assert gradgradcheck(function, tensors)


def test_one_tensor_as_query_key_and_value_is_differentiable_twice():
    x = leaf(1, 2, 3, 2)
    assert gradcheck(lambda x: attention(x, x, x, causal=True, kernel="blockwise"), x)
    assert gradgradcheck(lambda x: attention(x, x, x, causal=True, kernel="blockwise"), x)


def test_the_second_derivative_selects_hidden_poison_away_too():
    torch.manual_seed(0)
    x = [leaf(1, 4, 3, 2), leaf(1, 2, 5, 2), leaf(1, 2, 5, 2)]
    found: list[list[Tensor]] = []
    for poison in (0.0, float("nan"), float("inf")):
        with torch.no_grad():
            x[1][:, :, 4], x[2][:, :, 4] = poison, poison
        out = attention(*x, lengths=torch.tensor([4]), softcap=2.0, kernel="blockwise")
        first = torch.autograd.grad((out * out).sum(), x, create_graph=True)
        second = torch.autograd.grad(sum(((g * g).sum() for g in first), torch.tensor(0.0)), x)
        found.append([*first, *second])
    for wanted, *others in zip(*found, strict=True):
        for other in others:
            assert torch.allclose(wanted, other, atol=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_dropout_multiplies_the_weights_that_it_says(seed: int):
    torch.manual_seed(seed)
    rows, columns, p = (int(n) for n in torch.randint(1, 12, (3,)))
    request = ask(leaf(B, H, rows, K), leaf(B, G, columns, K), leaf(B, G, columns, Kv), dropout=p / 12, window=(3, 2))
    tile = 1 + seed % 4, 1 + seed % 5
    state = torch.get_rng_state()
    out = blockwise.run(request, False, tile=tile)[0]
    torch.set_rng_state(state)
    plan = blockwise.plan_of(request, tile, request.dropout)
    kept = np.ones((B, H, rows, columns))
    for some in blockwise.rows_of(plan):
        for others in blockwise.columns_of(plan, some):
            kept[np.ix_(range(B), range(H), some, others)] = blockwise.kept(plan, some, others).numpy()
    assert request.rule is not None
    visible = request.rule.visible(request.frame, range(rows), range(columns))
    x = reference.Inputs(
        query=reference.array(request.query),
        key=reference.array(request.key),
        value=reference.array(request.value),
        visible=None if visible is None else visible.numpy(),
        kept=kept,
    )
    y = reference.attention(x)
    np.testing.assert_allclose(out.detach().numpy(), y.output, atol=1e-10)
    d_out = torch.randn(out.shape, dtype=torch.float64)
    wanted = reference.gradients(x, y, d_out.numpy())
    found = torch.autograd.grad(out, (request.query, request.key, request.value), d_out)
    for d_x, d_wanted in zip(found, (wanted.query, wanted.key, wanted.value), strict=True):
        np.testing.assert_allclose(d_x.numpy(), d_wanted, atol=1e-10)


@pytest.mark.parametrize("kernel", ["explicit", "fused", "blockwise", "reference"])
def test_dropout_drops_the_share_that_was_asked_for(kernel: str):
    torch.manual_seed(0)
    x = torch.zeros(2, 4, 60, 8)
    value = torch.ones(2, 4, 60, 8)
    out = attention(x, x, value, dropout=0.25, kernel=kernel)
    kept = out.mean(3) * 60 * 0.75  # how many of 60 equal weights are left, in each of 480 rows
    assert abs(float(kept.mean()) / 60 - 0.75) < 0.02
    assert 2 < float(kept.std()) < 5  # binomial: 3.35
    assert torch.equal(attention(x, x, value, dropout=0.0, kernel=kernel), attention(x, x, value, kernel=kernel))


def test_heads_rows_and_calls_drop_other_weights():
    torch.manual_seed(0)
    x, value = torch.zeros(2, 2, 8, 4), torch.eye(8).expand(2, 2, 8, 8)
    first, second = (attention(x, x, value, dropout=0.5, kernel="blockwise") for _ in range(2))
    assert not torch.equal(first, second)
    assert len({tuple(row) for row in (first > 0).flatten(0, 2).tolist()}) > 25  # of 32 rows


@pytest.mark.parametrize("kernel", ["fused", "reference"])
def test_kernels_that_cannot_be_differentiated_twice_say_so(kernel: str):
    x = leaf(1, 2, 3, 2)
    (first,) = torch.autograd.grad(attention(x, x, x, kernel=kernel).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"not implemented|differentiate twice"):
        first.square().sum().backward()
