"""Random calls of the operator, and what they mean, worked out pair by pair in plain Python.

A `Case` is drawn by hypothesis; `build` turns it into tensors and keywords for the operator on the one side, and into
the arrays of `reference.Inputs` on the other. The two sides share no code for masks and biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import Alibi, Buckets, Dense, Prefix, Rule
from polyhead.operator.kernels import reference
from polyhead.operator.request import Request, ask

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Case:
    B: int
    G: int
    R: int  # query heads per key head
    T: int
    S: int
    K: int
    Kv: int
    causal: bool
    window: tuple[int | None, int | None] | None
    prefix: str | None  # "one" number, or "each" sequence its own
    lengths: str | None  # of "keys", or of "both"
    segments: bool
    mask: tuple[bool, bool, bool, bool] | None  # along which axes a mask tensor varies
    bias: str | None  # "alibi", "buckets", "dense"
    bias_axes: tuple[bool, bool, bool, bool]
    bias_hides: bool  # some of a dense bias is -inf
    scale: float | None
    softcap: float | None
    sinks: bool
    dtype: torch.dtype
    strided: bool
    tile: tuple[int, int]
    seed: int

    @property
    def H(self) -> int:
        return self.G * self.R


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)) -> Case:
    size, axes = st.integers(0, 9), st.tuples(*[st.booleans()] * 4)
    bound = st.none() | st.integers(0, 10)
    causal, window = draw(st.booleans()), draw(st.none() | st.tuples(bound, bound))
    prefix, bias = (
        draw(st.sampled_from([None, None, "one", "each"])),
        draw(st.sampled_from([None, "alibi", "buckets", "dense"])),
    )
    segments = draw(st.booleans())
    T = draw(size)
    positions = causal or window is not None or prefix is not None or bias in ("alibi", "buckets")
    S = T if segments and positions else draw(size)
    K = draw(st.integers(1, 5))
    return Case(
        B=draw(st.integers(1, 3) | st.integers(0, 3)),
        G=draw(st.integers(1, 3)),
        R=draw(st.integers(1, 3)),
        T=T,
        S=S,
        K=K,
        Kv=draw(st.just(K) | st.integers(1, 5)),
        causal=causal,
        window=window,
        prefix=prefix,
        lengths=draw(st.sampled_from([None, "keys", "both"])),
        segments=segments,
        mask=draw(st.none() | axes),
        bias=bias,
        bias_axes=draw(axes),
        bias_hides=draw(st.booleans()),
        scale=draw(st.none() | st.floats(0.1, 2.0)),
        softcap=draw(st.none() | st.floats(0.5, 5.0)),
        sinks=draw(st.booleans()),
        dtype=draw(st.sampled_from(dtypes)),
        strided=draw(st.booleans()),
        tile=(draw(st.integers(1, 6)), draw(st.integers(1, 6))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@dataclass
class Built:
    """Both sides of a case."""

    tensors: dict[str, Tensor]  # every input that gradients reach: query, key, value, bias, sinks
    how: dict[str, Any]  # the operator's keywords
    visible: np.ndarray  # [B, H, T, S] what mask and rules say of each pair
    bias: np.ndarray | None  # [B, H, T, S]
    case: Case
    positions: np.ndarray | None = None  # of learned positional biases: [T, S] or [B, T, S] distances

    def request(self) -> Request:
        return ask(self.tensors["query"], self.tensors["key"], self.tensors["value"], **self.how)

    def inputs(self, **changed: Any) -> reference.Inputs:
        def of(name: str) -> Any:
            return self.tensors[name].detach().double().numpy() if name in self.tensors else None

        found: dict[str, Any] = {name: of(name) for name in ("query", "key", "value", "sinks")}
        found |= {"visible": self.visible, "bias": self.bias, "scale": self.case.scale, "softcap": self.case.softcap}
        return reference.Inputs(**(found | changed))

    def to_weights(self, d_bias: np.ndarray) -> np.ndarray:
        """The gradient of the bias's own tensor, from that of every pair [B, H, T, S]."""
        weights = self.tensors["bias"]
        if self.case.bias == "dense":
            return reference.sum_to(d_bias, tuple(weights.shape))
        found = np.zeros(tuple(weights.shape))
        for b, h, i, j in np.ndindex(d_bias.shape):
            distance = int(self.distance(b, i, j))
            if self.case.bias == "alibi":
                found[h] -= abs(distance) * d_bias[b, h, i, j]
            else:
                found[bucket(distance, *BUCKETS), h] += d_bias[b, h, i, j]
        return found

    def distance(self, b: int, i: int, j: int) -> int:
        """Key minus query, the query standing on the bottom-right diagonal of its own sequence."""
        if self.case.lengths == "both":
            queries, keys = self.how["lengths"]
            return j - (i + int(keys[b]) - int(queries[b]))
        return j - (i + self.case.S - self.case.T)


BUCKETS = 8, True, 6  # buckets, bidirectional, max_distance


def bucket(distance: int, n: int, bidirectional: bool, max_distance: int) -> int:
    """T5's bucket of one distance, as its paper's code defines it."""
    found = 0
    if bidirectional:
        n //= 2
        found = n if distance > 0 else 0
        far = abs(distance)
    else:
        far = max(-distance, 0)
    exact = n // 2
    if far < exact:
        return found + far
    ratio = np.float32(math.log(np.float32(far) / np.float32(exact))) / np.float32(math.log(max_distance / exact))
    return found + min(exact + int(ratio * (n - exact)), n - 1)


def build(case: Case, grad: bool = True) -> Built:
    dice = torch.Generator().manual_seed(case.seed)
    B, H, G, T, S = case.B, case.H, case.G, case.T, case.S

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=dice, dtype=torch.float64).to(case.dtype)

    def heads(n: int, t: int, k: int) -> Tensor:
        x = normal(B, t, n, k + 1)[..., 1:].transpose(1, 2) if case.strided else normal(B, n, t, k)
        return x.detach().requires_grad_(grad)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high + 1, shape, generator=dice)

    def shape(axes: tuple[bool, bool, bool, bool]) -> list[int]:
        return [n if varies else 1 for n, varies in zip((B, H, T, S), axes, strict=True)]

    tensors = {"query": heads(H, T, case.K), "key": heads(G, S, case.K), "value": heads(G, S, case.Kv)}
    how: dict[str, Any] = {"causal": case.causal, "window": case.window, "scale": case.scale, "softcap": case.softcap}
    rules: list[Rule] = []
    if case.lengths is not None:
        queries, keys = whole(T, B), whole(S, B)
        how["lengths"] = keys if case.lengths == "keys" else (queries, keys)
    if case.segments:
        if S == T and case.seed % 2:
            how["segments"] = whole(2, B, T).sort(1).values
        else:
            how["segments"] = whole(2, B, T), whole(2, B, S)
    prefix = None
    if case.prefix is not None:
        prefix = whole(S, B) if case.prefix == "each" else whole(S, 1).expand(B)
        rules.append(Prefix(prefix if case.prefix == "each" or not B else int(prefix[0])))
    mask = None
    if case.mask is not None:
        mask = torch.rand(shape(case.mask), generator=dice) < 0.7
        rules.append(Dense(mask))
    if rules:
        how["mask"] = rules[0] if len(rules) == 1 else rules[0] & rules[1]
    if case.sinks:
        tensors["sinks"] = how["sinks"] = normal(H).requires_grad_(grad)
    if case.bias == "dense":
        x = normal(*shape(case.bias_axes))
        if case.bias_hides:
            x = x.masked_fill(torch.rand(x.shape, generator=dice) < 0.3, -torch.inf)
        tensors["bias"] = how["bias"] = x.requires_grad_(grad)
    elif case.bias == "alibi":
        tensors["bias"] = normal(H).requires_grad_(grad)
        how["bias"] = Alibi(tensors["bias"])
    elif case.bias == "buckets":
        tensors["bias"] = normal(BUCKETS[0], H).requires_grad_(grad)
        how["bias"] = Buckets(tensors["bias"], *BUCKETS[1:])

    built = Built(tensors, how, np.ones((B, H, T, S), bool), None, case)
    values = tensors["bias"].detach().double() if "bias" in tensors else None
    bias = None if values is None else np.zeros((B, H, T, S))
    for b, h, i, j in np.ndindex(B, H, T, S):
        built.visible[b, h, i, j] = sees(built, mask, prefix, b, h, i, j)
        if bias is not None and values is not None:
            distance = built.distance(b, i, j)
            if case.bias == "alibi":
                bias[b, h, i, j] = -float(values[h]) * abs(distance)
            elif case.bias == "buckets":
                bias[b, h, i, j] = values[bucket(distance, *BUCKETS), h]
            else:
                bias[b, h, i, j] = values.expand(B, H, T, S)[b, h, i, j]
    built.bias = bias
    return built


def sees(built: Built, mask: Tensor | None, prefix: Tensor | None, b: int, h: int, i: int, j: int) -> bool:
    """Whether query i of head h may look at key j, read off the definitions one by one."""
    case, how, distance = built.case, built.how, built.distance(b, i, j)
    if case.causal and distance > 0:
        return False
    if case.window is not None:
        left, right = case.window
        if (left is not None and distance < -left) or (right is not None and distance > right):
            return False
    if prefix is not None and j >= int(prefix[b]) and distance > 0:
        return False
    if case.lengths == "keys" and j >= int(how["lengths"][b]):
        return False
    if case.lengths == "both" and (i >= int(how["lengths"][0][b]) or j >= int(how["lengths"][1][b])):
        return False
    if case.segments:
        queries, keys = how["segments"] if isinstance(how["segments"], tuple) else (how["segments"], how["segments"])
        if int(queries[b, i]) != int(keys[b, j]):
            return False
    return mask is None or bool(mask.expand(case.B, case.H, case.T, case.S)[b, h, i, j])


def close(found: Tensor, wanted: np.ndarray, dtype: torch.dtype) -> None:
    """Equal within what the dtype allows, and not finite in the same places."""
    tolerance = TOLERANCE[dtype]
    assert tuple(found.shape) == wanted.shape
    ours = found.detach().double().numpy()
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(wanted))
    finite = np.isfinite(wanted)
    size = max(1.0, float(np.abs(wanted[finite]).max(initial=0.0)))
    np.testing.assert_allclose(ours[finite], wanted[finite], rtol=0, atol=tolerance * size)
