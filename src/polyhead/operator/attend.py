"""The public functions of the operator: queries, keys and values enter; outputs, records and exact weights leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import kernels
from polyhead.operator.answers import Statistics
from polyhead.operator.kernels import Explanation, blockwise
from polyhead.operator.observe import Observe
from polyhead.operator.record import Record
from polyhead.operator.request import ask, chosen, no_values
from polyhead.operator.rules import Bias, Mask, ScoreMod, check_tensor
from polyhead.operator.statistics import measure
from polyhead.operator.statistics.gradient import attach


def attention(
    query: Tensor,  # [B, H, T, K]
    key: Tensor,  # [B, G, S, K]
    value: Tensor,  # [B, G, S, Kv]
    *,
    mask: Mask | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    bias: Tensor | Bias | ScoreMod | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    segments: Tensor | tuple[Tensor, Tensor] | None = None,
    lengths: Tensor | tuple[Tensor, Tensor] | None = None,
    kernel: str = "auto",
    finite: bool = False,
) -> Tensor:  # [B, H, T, Kv]
    """Multi-head attention (Vaswani et al. 2017, 3.2): softmax(scale * query keyT) value, for every head at once.

    Query head h reads key head h // (H / G); keys and values are never repeated. In this order: scale, softcap
    c tanh(x / c), bias, mask, softmax with sinks in its denominator, dropout, times value.

    mask      boolean, True = may look, broadcast to [B, H, T, S]; or a rule: Causal, Window, Prefix, Lengths, Segments,
              Dense, MaskMod, composed with &; or FlexAttention's BlockMask. causal, window, segments and lengths are
              short for rules, and all hold together.
    causal    query i sees key j if j <= i + (S - T): the last query sees every key.
    window    (left, right): how many keys before and after its own place a query sees; None is no bound.
    bias      added to the scores: a float tensor broadcast to [B, H, T, S] (-inf hides), Alibi or Buckets; or a
              ScoreMod, a function of the score that stands in the place of softcap and bias.
    scale     1 / sqrt(K) if None.
    sinks     [H], one logit per head that takes part in the softmax and has no value.
    dropout   the share of weights dropped, the rest scaled up; 0 is none. The operator knows no training mode.
    segments  [B, T], or (queries [B, T], keys [B, S]): only equal numbers meet.
    lengths   [B] keys of each sequence, or (queries [B], keys [B]), which gives each sequence its own diagonal.
    kernel    "auto" takes the first of the table that can serve; a name takes that one or raises. See `explain`.
    finite    the caller vouches that key and value hold no NaN and no Inf, so that they need not be searched.

    A query that may look nowhere gets zeros, and zero gradients. NaN and Inf in a key or value reach no query that may
    not see them, forward or backward. Raises ArgumentError.
    """
    request = ask(
        query, key, value, mask=mask, causal=causal, window=window, bias=bias, scale=scale, softcap=softcap,
        sinks=sinks, dropout=dropout, segments=segments, lengths=lengths, finite=finite,
    )  # fmt: skip
    return kernels.run(request, kernel, lse=False).out


def attend(
    query: Tensor,  # [B, H, T, K]
    key: Tensor,  # [B, G, S, K]
    value: Tensor,  # [B, G, S, Kv]
    *,
    mask: Mask | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    bias: Tensor | Bias | ScoreMod | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    segments: Tensor | tuple[Tensor, Tensor] | None = None,
    lengths: Tensor | tuple[Tensor, Tensor] | None = None,
    kernel: str = "auto",
    finite: bool = False,
    observe: Observe | None = None,
) -> tuple[Tensor, Record]:
    """`attention`, and a `Record` of it. Output, gradients and random state are those of `attention`, bit by bit.

    observe   what to tell of the weights, see `Observe`; the answers are `record.statistics`. None: nothing now, and
              `record.observe` later.
    """
    if not isinstance(cast(object, observe), Observe | None):
        raise ArgumentError(f"observe must be an Observe, such as Observe(links=8), or None; found {observe!r}")
    request = ask(
        query, key, value, mask=mask, causal=causal, window=window, bias=bias, scale=scale, softcap=softcap,
        sinks=sinks, dropout=dropout, segments=segments, lengths=lengths, finite=finite,
    )  # fmt: skip
    if observe is not None:
        observe.check(request.frame)
    ran = kernels.run(request, kernel, lse=True, observe=observe)
    assert ran.lse is not None
    record = Record(ran.lse.detach(), ran.kernel, ran.reasons, request.detached())
    found = Statistics() if observe is None else measure(record.request, record.lse, observe, ran.sums)
    lse, found = attach(request, record.lse, observe or Observe(), found)
    return ran.out, replace(record, lse=lse, statistics=found)


def explain(
    query: Tensor,  # [B, H, T, K]
    key: Tensor,  # [B, G, S, K]
    value: Tensor,  # [B, G, S, Kv]
    *,
    mask: Mask | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    bias: Tensor | Bias | ScoreMod | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    segments: Tensor | tuple[Tensor, Tensor] | None = None,
    lengths: Tensor | tuple[Tensor, Tensor] | None = None,
    kernel: str = "auto",
    finite: bool = False,
) -> Explanation:
    """Which kernels could serve this call of `attention`, why the others could not, and which one it would take."""
    request = ask(
        query, key, value, mask=mask, causal=causal, window=window, bias=bias, scale=scale, softcap=softcap,
        sinks=sinks, dropout=dropout, segments=segments, lengths=lengths, finite=finite,
    )  # fmt: skip
    return kernels.explain(request, kernel)


@torch.no_grad()
def rows(
    query: Tensor,  # [B, H, T, K]
    key: Tensor,  # [B, G, S, K]
    lse: Tensor,  # [B, H, T]
    rule: Mask | None = None,
    rows: Sequence[int] | Tensor | None = None,
    columns: Sequence[int] | Tensor | None = None,
    *,
    bias: Tensor | Bias | ScoreMod | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:  # [B, H, len(rows), len(columns)]
    """Exact attention weights exp(score - lse) of chosen queries and keys, at the cost of those alone.

    `lse` is that of a `Record`; `rule` is whatever `mask=` and its keywords were, as a boolean tensor or a rule; bias,
    scale and softcap are those of the call. `rows` and `columns` are indices, None for all. In float32 (float64 for
    float64 inputs). Zeros where hidden and in rows that may look nowhere; a row over all columns sums to 1, less the
    sink's share. Weights to read: they carry no gradient. Raises ArgumentError.
    """
    request = ask(query, key, no_values(key), mask=rule, bias=bias, scale=scale, softcap=softcap)
    T, S = request.frame.n_queries, request.frame.n_keys
    if tuple(check_tensor("lse", lse).shape) != tuple(query.shape[:3]):
        raise ArgumentError(f"lse must have shape [B, H, T] = {list(query.shape[:3])}; found {list(lse.shape)}")
    return blockwise.exact_weights(
        request, lse, chosen("rows", rows, T, query.device), chosen("columns", columns, S, query.device)
    )
