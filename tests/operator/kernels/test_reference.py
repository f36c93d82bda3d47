"""The reference is the formula: against plain loops, torch's own layer, autograd and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from polyhead.operator.kernels import reference
from polyhead.operator.kernels.reference import Array, Inputs, Layer
from tests.operator.cases import Case, build, cases


def test_the_stages_of_a_call_worked_out_by_hand():
    """One head, two queries, two keys, width 1: numbers that fit on a page."""
    x = Inputs(
        query=np.array([[[[1.0], [2.0]]]]),
        key=np.array([[[[1.0], [3.0]]]]),
        value=np.array([[[[10.0, 0.0], [20.0, 1.0]]]]),
        visible=np.array([[[[True, False], [True, True]]]]),
        bias=np.array([[[[0.5, 0.0], [0.0, -4.0]]]]),
    )
    y = reference.attention(x)
    assert y.scores[0, 0].tolist() == [[1.0, 3.0], [2.0, 6.0]]
    assert y.biased[0, 0].tolist() == [[1.5, 3.0], [2.0, 2.0]]
    assert y.lse[0, 0].tolist() == [1.5, 2.0 + math.log(2.0)]
    assert y.weights[0, 0].tolist() == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert y.output[0, 0].tolist() == pytest.approx(np.array([[10.0, 0.0], [15.0, 0.5]]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases((torch.float64,)))
def test_every_stage_is_what_plain_loops_say(case: Case):
    x = build(case, grad=False).inputs()
    y = reference.attention(x)
    scale = 1 / math.sqrt(case.K) if case.scale is None else case.scale
    for b, h, i in np.ndindex(case.B, case.H, case.T):
        logits: list[float] = []
        for j in range(case.S):
            s = scale * float(x.query[b, h, i] @ x.key[b, h // case.R, j])
            assert y.scores[b, h, i, j] == pytest.approx(s)
            s = case.softcap * math.tanh(s / case.softcap) if case.softcap else s
            assert y.capped[b, h, i, j] == pytest.approx(s)
            s += 0.0 if x.bias is None else float(x.bias[b, h, i, j])
            assert y.biased[b, h, i, j] == pytest.approx(s)
            seen = bool(x.visible is None or x.visible[b, h, i, j]) and s != -math.inf
            assert y.visible[b, h, i, j] == seen
            logits.append(s if seen else -math.inf)
        sinks = [] if x.sinks is None else [float(x.sinks[h])]
        total = sum(math.exp(s) for s in logits + sinks)
        assert y.lse[b, h, i] == pytest.approx(math.log(total) if total else -math.inf)
        weights = [math.exp(s) / total if s != -math.inf else 0.0 for s in logits]
        assert y.weights[b, h, i].tolist() == pytest.approx(weights)
        wanted = sum((w * x.value[b, h // case.R, j] for j, w in enumerate(weights)), np.zeros(case.Kv))
        assert y.output[b, h, i].tolist() == pytest.approx(wanted.tolist())


def differences(f: Callable[[Array], float], x: Array, step: float = 1e-6) -> Array:
    """The gradient of f at x by central differences."""
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        found[place] = (f(up) - f(down)) / (2 * step)
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cases((torch.float64,)))
def test_the_gradients_are_those_of_finite_differences(case: Case):
    case = replace(case, T=min(case.T, 3), S=min(case.S, 3), B=1, bias_hides=False)
    x = build(replace(case, segments=False), grad=False).inputs()
    dice = np.random.default_rng(case.seed)
    kept = (dice.random((1, case.H, case.T, case.S)) < 0.7) / 0.7
    x = replace(x, kept=kept)
    y = reference.attention(x)
    d_output = dice.normal(size=y.output.shape)
    found = reference.gradients(x, y, d_output)
    for name in ("query", "key", "value", "bias", "sinks"):
        at = getattr(x, name)
        if at is not None:
            wanted = differences(lambda v, name=name: total(replace(x, **{name: v}), d_output), at)
            np.testing.assert_allclose(getattr(found, name), wanted, atol=1e-6)


def total(x: Inputs, d_output: Array) -> float:
    return float((reference.attention(x).output * d_output).sum())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases((torch.float64,)))
def test_the_gradients_are_those_of_autograd(case: Case):
    """Against the formula in torch, differentiated by torch."""
    built = build(case)
    x = built.inputs()
    tensors = {name: torch.from_numpy(getattr(x, name).copy()).requires_grad_() for name in ("query", "key", "value")}
    for name in ("bias", "sinks"):
        if getattr(x, name) is not None:
            tensors[name] = torch.from_numpy(getattr(x, name).copy()).requires_grad_()
    key, value = (tensors[name].repeat_interleave(case.R, 1) for name in ("key", "value"))
    s = tensors["query"] @ key.mT * (case.K**-0.5 if case.scale is None else case.scale)
    s = s if case.softcap is None else case.softcap * torch.tanh(s / case.softcap)
    s = s + tensors["bias"] if "bias" in tensors else s
    s = s.masked_fill(~torch.from_numpy(built.visible), -torch.inf)
    if "sinks" in tensors:
        s = torch.cat([s, tensors["sinks"][:, None, None].expand(*s.shape[:3], 1)], 3)
    empty = (s == -torch.inf).all(-1, keepdim=True)
    p = s.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)[..., : case.S]
    out = p @ value
    y = reference.attention(x)
    np.testing.assert_allclose(y.output, out.detach().numpy(), atol=1e-12)
    d_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(case.seed), dtype=torch.float64)
    wanted = torch.autograd.grad(out, list(tensors.values()), d_out, allow_unused=True)
    found = reference.gradients(x, y, d_out.numpy())
    for name, d in zip(tensors, wanted, strict=True):
        np.testing.assert_allclose(getattr(found, name), 0 if d is None else d.numpy(), atol=1e-10)


# ------------------------------------------------------------------------------------------------- multi-head attention


def layer_of(dice: np.random.Generator, D: int, Dm: int, H: int, G: int, K: int, Kv: int) -> Layer:
    return Layer(
        query=dice.normal(size=(D, H * K)),
        key=dice.normal(size=(Dm, G * K)),
        value=dice.normal(size=(Dm, G * Kv)),
        out=dice.normal(size=(H * Kv, D)),
        heads=H,
        key_heads=G,
    )


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_layer_is_torch_own_layer(heads: int):
    """Self- and cross-attention, with a causal mask, against torch.nn.functional.multi_head_attention_forward."""
    dice = np.random.default_rng(heads)
    layer = layer_of(dice, 8, 8, heads, heads, 8 // heads, 8 // heads)
    x, memory = dice.normal(size=(2, 4, 8)), dice.normal(size=(2, 4, 8))
    visible = np.tril(np.ones((4, 4), bool))
    y = reference.multi_head(layer, x, memory, visible=visible)
    wanted, weights = F.multi_head_attention_forward(
        *(torch.from_numpy(each).transpose(0, 1) for each in (x, memory, memory)),
        embed_dim_to_check=8,
        num_heads=heads,
        in_proj_weight=torch.from_numpy(np.concatenate([layer.query, layer.key, layer.value], 1).T.copy()),
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=torch.from_numpy(layer.out.T.copy()),
        out_proj_bias=torch.zeros(8, dtype=torch.float64),
        attn_mask=torch.from_numpy(~visible),
        average_attn_weights=False,
    )
    np.testing.assert_allclose(y.output, wanted.transpose(0, 1).numpy(), atol=1e-12)
    assert weights is not None
    np.testing.assert_allclose(y.attention.weights, weights.numpy(), atol=1e-12)


@pytest.mark.parametrize(("H", "G", "K", "Kv"), [(1, 1, 3, 3), (2, 2, 2, 3), (4, 2, 2, 2), (3, 1, 2, 1)])
def test_the_gradients_of_a_layer_are_those_of_finite_differences_and_autograd(H: int, G: int, K: int, Kv: int):
    dice = np.random.default_rng(H)
    layer = layer_of(dice, 5, 4, H, G, K, Kv)
    x, memory = dice.normal(size=(2, 3, 5)), dice.normal(size=(2, 4, 4))
    how: dict[str, Any] = {"visible": dice.random((2, 1, 3, 4)) < 0.8, "softcap": 3.0}
    y = reference.multi_head(layer, x, memory, **how)
    d_output = dice.normal(size=y.output.shape)
    found = reference.multi_head_gradients(layer, x, memory, y, d_output)

    def through(layer: Layer, x: Array, memory: Array) -> float:
        return float((reference.multi_head(layer, x, memory, **how).output * d_output).sum())

    for name in ("query", "key", "value", "out"):
        wanted = differences(lambda w, name=name: through(replace(layer, **{name: w}), x, memory), getattr(layer, name))
        np.testing.assert_allclose(getattr(found, name), wanted, atol=1e-5)
    np.testing.assert_allclose(found.x, differences(lambda v: through(layer, v, memory), x), atol=1e-5)
    np.testing.assert_allclose(found.memory, differences(lambda v: through(layer, x, v), memory), atol=1e-5)

    W = {name: torch.from_numpy(getattr(layer, name)).requires_grad_() for name in ("query", "key", "value", "out")}
    q, k, v = (
        (torch.from_numpy(source) @ W[name]).unflatten(2, (n, -1)).transpose(1, 2)
        for source, name, n in ((x, "query", H), (memory, "key", G), (memory, "value", G))
    )
    s = q @ k.repeat_interleave(H // G, 1).mT * K**-0.5
    s = (3.0 * torch.tanh(s / 3.0)).masked_fill(~torch.from_numpy(how["visible"]), -torch.inf)
    out = (s.softmax(-1).nan_to_num(0) @ v.repeat_interleave(H // G, 1)).transpose(1, 2).flatten(2) @ W["out"]
    if how["visible"].any(-1).all():
        for name, d in zip(W, torch.autograd.grad(out, list(W.values()), torch.from_numpy(d_output)), strict=True):
            np.testing.assert_allclose(getattr(found, name), d.numpy(), atol=1e-10)


def test_a_head_takes_its_own_features_of_every_word_not_its_own_words():
    dice = np.random.default_rng(0)
    layer = layer_of(dice, 6, 6, 3, 3, 2, 2)
    x = dice.normal(size=(1, 4, 6))
    y = reference.multi_head(layer, x, x)
    assert y.attention.weights.shape == (1, 3, 4, 4)  # every head looks at all four words
    for head in range(3):
        features = slice(2 * head, 2 * head + 2)
        alone = replace(
            layer,
            query=layer.query[:, features],
            key=layer.key[:, features],
            value=layer.value[:, features],
            out=layer.out[features],
            heads=1,
            key_heads=1,
        )
        one = reference.multi_head(alone, x, x)
        np.testing.assert_allclose(one.joined, y.joined[..., features])


def test_without_positions_shuffled_words_give_shuffled_answers():
    dice = np.random.default_rng(0)
    layer = layer_of(dice, 6, 6, 3, 3, 2, 2)
    x, order = dice.normal(size=(1, 5, 6)), dice.permutation(5)
    y = reference.multi_head(layer, x, x).output
    np.testing.assert_allclose(reference.multi_head(layer, x[:, order], x[:, order]).output, y[:, order])
