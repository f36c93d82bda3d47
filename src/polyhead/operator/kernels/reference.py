"""Attention by the formula, in NumPy float64: arrays enter, every stage leaves by name, and so do the gradients.

This is the specification that the other kernels are held against. It writes out all scores, so it is for small inputs,
and never the choice of "auto". The formulas are those of Vaswani et al. 2017, 3.2, and the chain rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyhead.operator.request import Request

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SCORES = 1 << 22  # most scores B * H * T * S


# ----------------------------------------------------------------------------------------- scaled dot-product attention


@dataclass(frozen=True, eq=False, kw_only=True)
class Inputs:
    """What attention is a function of."""

    query: Array  # [B, H, T, K]
    key: Array  # [B, G, S, K]
    value: Array  # [B, G, S, Kv]
    visible: Mask | None = None  # broadcastable to [B, H, T, S]; True = may look
    bias: Array | None = None  # broadcastable to [B, H, T, S]; -inf hides
    scale: float | None = None  # 1 / sqrt(K) if None
    softcap: float | None = None
    score_mod: Callable[[Array], tuple[Array, Array]] | None = None  # scores to what stands for them, and the slope
    sinks: Array | None = None  # [H]
    kept: Array | None = None  # [B, H, T, S] what dropout multiplies the weights by: 0 or 1 / (1 - p)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stages:
    """Every stage of the computation, in its order."""

    scores: Array  # [B, H, T, S] scale * query keyT
    capped: Array  # [B, H, T, S] c * tanh(scores / c)
    biased: Array  # [B, H, T, S] capped + bias
    visible: Mask  # [B, H, T, S] the mask, and no bias of -inf
    lse: Array  # [B, H, T] log of the sum of exp(biased) over visible keys, and of the sink; -inf if there is nothing
    weights: Array  # [B, H, T, S] exp(biased - lse) where visible, else 0
    dropped: Array  # [B, H, T, S] weights after dropout
    output: Array  # [B, H, T, Kv] dropped times value


@dataclass(frozen=True, eq=False, kw_only=True)
class Gradients:
    """The gradient of each input, in its shape; bias and sinks are None where there were none."""

    query: Array
    key: Array
    value: Array
    bias: Array | None
    sinks: Array | None


def attention(x: Inputs) -> Stages:
    """softmax(scale * query keyT) value, with everything that the operator can add to it."""
    H, K = x.query.shape[1], x.query.shape[3]
    key, value = per_query_head(x.key, H), per_query_head(x.value, H)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf may be hidden, or meant
        scores = (K**-0.5 if x.scale is None else x.scale) * (x.query @ key.mT)
        capped = scores if x.softcap is None else x.softcap * np.tanh(scores / x.softcap)
        capped = capped if x.score_mod is None else x.score_mod(capped)[0]
        biased = capped if x.bias is None else capped + x.bias
        visible = np.broadcast_to(True if x.visible is None else x.visible, biased.shape)
        visible = visible if x.bias is None else visible & (x.bias != -np.inf)
        visible = visible if x.score_mod is None else visible & (capped != -np.inf)

        logits = np.where(visible, biased, -np.inf)
        if x.sinks is not None:  # one more key, of no value
            sink = np.broadcast_to(x.sinks[:, None, None], (*logits.shape[:3], 1))
            logits = np.concatenate([logits, sink], axis=3)
        top = finite_or_zero(logits.max(axis=3, initial=-np.inf))
        with np.errstate(divide="ignore"):  # log 0 = -inf: an empty row
            mass = np.exp(logits - top[..., None]).sum(axis=3)
            lse = top + np.log(mass)
        powers = np.exp(np.where(visible, biased, -np.inf) - top[..., None])
        weights = np.where(visible, powers / np.where(mass == 0, 1.0, mass)[..., None], 0.0)
        dropped = weights if x.kept is None else weights * x.kept
        output = weighted_sum(dropped, visible, value)
    return Stages(
        scores=scores,
        capped=capped,
        biased=biased,
        visible=visible,
        lse=lse,
        weights=weights,
        dropped=dropped,
        output=output,
    )


def gradients(x: Inputs, y: Stages, d_output: Array) -> Gradients:
    """The chain rule backward through the stages.

    With P the weights: dV = PT dO; dP = dO VT; dS = P (dP - the row's sum of P dP); dQ = scale dS K; dK = scale dST Q.
    """
    H, G, K = x.query.shape[1], x.key.shape[1], x.query.shape[3]
    scale = K**-0.5 if x.scale is None else x.scale
    key, value = per_query_head(x.key, H), per_query_head(x.value, H)
    seen_by = y.visible.mT
    with np.errstate(invalid="ignore", over="ignore"):
        d_value = weighted_sum(y.dropped.mT, seen_by, d_output)
        d_dropped = d_output @ value.mT
        d_weights = d_dropped if x.kept is None else d_dropped * x.kept
        through_sum = np.where(y.visible, y.weights * d_weights, 0.0).sum(axis=3, keepdims=True)  # [B, H, T, 1]
        d_biased = np.where(y.visible, y.weights * (d_weights - through_sum), 0.0)
        d_scores = d_biased
        if x.softcap is not None:
            d_scores = np.where(y.visible, d_biased * (1 - (y.capped / x.softcap) ** 2), 0.0)
        if x.score_mod is not None:
            d_scores = np.where(y.visible, d_biased * x.score_mod(y.scores)[1], 0.0)
        d_query = scale * weighted_sum(d_scores, y.visible, key)
        d_key = scale * weighted_sum(d_scores.mT, seen_by, x.query)
        d_sinks = None
        if x.sinks is not None:  # the sink's own weight, whose value is zero
            sink_weight = np.exp(x.sinks[:, None] - finite_or_zero(y.lse))
            d_sinks = -(sink_weight * through_sum[..., 0]).sum(axis=(0, 2))
    return Gradients(
        query=d_query,
        key=per_key_head(d_key, G),
        value=per_key_head(d_value, G),
        bias=None if x.bias is None else sum_to(d_biased, x.bias.shape),
        sinks=d_sinks,
    )


def weighted_sum(weights: Array, visible: Mask, x: Array) -> Array:
    """weights [.., r, c] @ x [.., c, n] over visible pairs alone: NaN and Inf are selected, not multiplied by zero."""
    bad = np.asarray(~np.isfinite(x).all(axis=-1))  # [.., c]
    total = weights @ np.where(bad[..., None], 0.0, x)
    rest = np.where(bad[..., None], x, 0.0)
    for c in np.flatnonzero(np.logical_or.reduce(bad, axis=tuple(range(bad.ndim - 1)))):
        total += np.where(visible[..., c, None], weights[..., c, None] * rest[..., None, c, :], 0.0)
    return total


def per_query_head(x: Array, heads: int) -> Array:
    """[B, G, S, n] -> [B, H, S, n]: query head h reads key head h // (H / G)."""
    return x[:, np.arange(heads) // (heads // x.shape[1])]


def per_key_head(d_x: Array, groups: int) -> Array:
    """[B, H, S, n] -> [B, G, S, n]: a key head's gradient is the sum of its query heads'."""
    B, H, S, n = d_x.shape
    return d_x.reshape(B, groups, H // groups, S, n).sum(axis=2)


def finite_or_zero(x: Array) -> Array:
    """-inf as 0, so that -inf - -inf is never computed."""
    return np.where(x == -np.inf, 0.0, x)


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of what was broadcast: the sum over the axes along which it was repeated."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(axis for axis, n in enumerate(shape) if n == 1), keepdims=True)


# ------------------------------------------------------------------------------------------------- multi-head attention


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """The four projections of a multi-head layer; x @ W, as in the paper."""

    query: Array  # W_q [D, H K]
    key: Array  # W_k [Dm, G K]
    value: Array  # W_v [Dm, G Kv]
    out: Array  # W_o [H Kv, D]
    heads: int
    key_heads: int


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerStages:
    """A layer's stages: project and split, attend, join, project."""

    inputs: Inputs
    attention: Stages
    joined: Array  # [B, T, H Kv]
    output: Array  # [B, T, D]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerGradients:
    """The gradients of the projections and of what they read. Self-attention adds `x` and `memory`."""

    query: Array
    key: Array
    value: Array
    out: Array
    x: Array  # [B, T, D]
    memory: Array  # [B, S, Dm]
    attention: Gradients


def multi_head(layer: Layer, x: Array, memory: Array, **how: Any) -> LayerStages:
    """Rows of x [B, T, D] look at rows of memory [B, S, Dm]; `how` is the rest of `Inputs`."""
    inputs = Inputs(
        query=split(x @ layer.query, layer.heads),
        key=split(memory @ layer.key, layer.key_heads),
        value=split(memory @ layer.value, layer.key_heads),
        **how,
    )
    stages = attention(inputs)
    joined = join(stages.output)
    return LayerStages(inputs=inputs, attention=stages, joined=joined, output=joined @ layer.out)


def multi_head_gradients(layer: Layer, x: Array, memory: Array, y: LayerStages, d_output: Array) -> LayerGradients:
    """dW = inputT d(projection), summed over all rows of all sequences."""
    d_attention = gradients(y.inputs, y.attention, split(d_output @ layer.out.T, layer.heads))
    d_query, d_key, d_value = join(d_attention.query), join(d_attention.key), join(d_attention.value)
    return LayerGradients(
        query=over_rows(x, d_query),
        key=over_rows(memory, d_key),
        value=over_rows(memory, d_value),
        out=over_rows(y.joined, d_output),
        x=d_query @ layer.query.T,
        memory=d_key @ layer.key.T + d_value @ layer.value.T,
        attention=d_attention,
    )


def split(x: Array, heads: int) -> Array:
    """[B, T, H K] -> [B, H, T, K]: each head takes its own features of every row."""
    B, T, D = x.shape
    return x.reshape(B, T, heads, D // heads).swapaxes(1, 2)


def join(x: Array) -> Array:
    """[B, H, T, K] -> [B, T, H K]."""
    B, H, T, K = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * K)


def over_rows(x: Array, d_y: Array) -> Array:
    """The gradient of W in y = x W: [B, T, D], [B, T, E] -> [D, E]."""
    return np.einsum("btd,bte->de", x, d_y)


# ---------------------------------------------------------------------------------------------------------- as a kernel


def can(request: Request) -> str | None:
    """None, or that the problem is too large for a kernel that writes everything out."""
    frame = request.frame
    scores = frame.batch * frame.heads * frame.n_queries * frame.n_keys
    if scores > SCORES:
        return f"it writes out all B * H * T * S = {scores} scores, more than {SCORES}"
    return None


def slower(request: Request) -> str | None:
    """Why "auto" never takes it."""
    return "it is the specification, computed in NumPy for checking the others"


def room(request: Request) -> int:
    """Every stage in float64."""
    B, H, T, _ = request.query.shape
    return 8 * 6 * B * H * T * request.key.shape[2]


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The formula in float64, rounded to the dtype of the request at the end."""
    out, found = apply(request, request.query, request.key, request.value, request.weights, request.sinks)
    return out, found if lse else None


class Reference(torch.autograd.Function):
    """Tensors to arrays and back, forward and backward."""

    @staticmethod
    def forward(ctx: Any, request: Request, *inputs: Any) -> tuple[Tensor, Tensor]:
        query, key, value, weights, sinks = inputs
        frame = request.frame
        shape = (frame.batch, frame.heads, frame.n_queries, frame.n_keys)
        rows, columns = range(frame.n_queries), range(frame.n_keys)
        visible = None if request.rule is None else request.rule.visible(frame, rows, columns)
        bias = None if request.bias is None else request.bias.tile(weights, frame, rows, columns).expand(shape)
        kept = None
        if request.dropout:
            kept = (torch.rand(shape) >= request.dropout).double() / (1 - request.dropout)
        mod = request.score_mod

        def bent(scores: Array) -> tuple[Array, Array]:
            assert mod is not None
            found = (each(torch.as_tensor(scores), frame, rows, columns) for each in (mod.of, mod.slope))
            return array(next(found)), array(next(found))

        x = Inputs(
            query=array(query),
            key=array(key),
            value=array(value),
            visible=None if visible is None else visible.cpu().numpy(),
            bias=None if bias is None else array(bias),
            scale=request.scale,
            softcap=request.softcap,
            score_mod=None if mod is None else bent,
            sinks=None if sinks is None else array(sinks),
            kept=None if kept is None else array(kept),
        )
        y = attention(x)
        ctx.x, ctx.y, ctx.request, ctx.inputs = x, y, request, inputs
        lse = tensor(y.lse, query, torch.float64 if query.dtype == torch.float64 else torch.float32)
        ctx.mark_non_differentiable(lse)
        return tensor(y.output, query), lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *d_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, weights, sinks = ctx.inputs
        request, found = ctx.request, gradients(ctx.x, ctx.y, array(d_outputs[0]))
        d_weights = None
        if found.bias is not None:
            frame = request.frame
            d_weights = torch.zeros_like(weights, dtype=torch.float64)
            d_tile = tensor(found.bias, weights, torch.float64)  # [B, H, T, S]
            request.bias.add_gradient(d_weights, d_tile, frame, range(frame.n_queries), range(frame.n_keys))
            d_weights = d_weights.to(weights.dtype)
        return (
            None,
            tensor(found.query, query),
            tensor(found.key, key),
            tensor(found.value, value),
            d_weights,
            None if found.sinks is None else tensor(found.sinks, sinks),
        )


apply = cast(Callable[..., tuple[Tensor, Tensor]], cast(Any, Reference).apply)


def array(x: Tensor) -> Array:
    return x.detach().double().cpu().numpy()


def tensor(x: Array, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(x, dtype=dtype or like.dtype, device=like.device)
