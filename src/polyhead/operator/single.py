"""One head of one sequence of a call, as a call of its own: whoever looks at one head pays for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from polyhead.operator.kernels import blockwise
from polyhead.operator.request import Request
from polyhead.operator.rules import (
    Alibi,
    Bias,
    Buckets,
    Causal,
    Dense,
    DenseBias,
    Every,
    Keys,
    Lengths,
    MaskMod,
    Prefix,
    Rule,
    ScoreMod,
    Segments,
    Span,
    Window,
)

TALL, SIDE = 8, 3840  # rows and keys that are weighed at once: less than makes PyTorch wait for its other threads


@dataclass(frozen=True)
class Score:
    """The score of one pair. bias: what was added; NaN where a function stood in its place."""

    score: float
    bias: float
    weight: float


@dataclass(frozen=True, eq=False)
class Single:
    """Head `head` of sequence `row` of a call.

    request  the call with this one head, B = H = G = 1, and without values.
    lse      [1, 1, T].
    """

    request: Request
    lse: Tensor

    @classmethod
    def of(cls, request: Request, lse: Tensor, *, row: int, head: int) -> Single:
        """The rules of the call are kept as values, so that nothing is written out here either."""
        group = head * request.key.shape[1] // request.query.shape[1]
        score_mod = request.score_mod
        narrowed = replace(
            request,
            query=request.query[row : row + 1, head : head + 1].detach(),
            key=request.key[row : row + 1, group : group + 1].detach(),
            rule=None if request.rule is None else rule_of(request.rule, row, head),
            bias=None if request.bias is None else bias_of(request.bias, row, head),
            sinks=None if request.sinks is None else request.sinks[head : head + 1].detach(),
            score_mod=None if score_mod is None else ScoreMod(placed(score_mod.score_mod, row, head, 1)),
        ).without_values()
        return cls(narrowed, lse[row : row + 1, head : head + 1].detach())

    @torch.no_grad()
    def weights(self, rows: Span, columns: Span) -> Tensor:
        """Exact weights [t, s] of these rows and columns, zero where hidden. Runs of them are read where they lie, so
        that the last digits may differ from those of `Record.weights`, which copies them. Long rows come in pieces that
        stay in the cache, and only as far as they see."""
        if not isinstance(columns, range) or len(columns) <= SIDE:
            return self.block(self.rows(rows), rows, columns)
        found = self.lse.new_zeros(len(rows), len(columns))
        for some, at in runs(rows):
            read, reach = self.rows(at), within(columns, self.reach(at))
            for start in range(reach.start, reach.stop, SIDE):
                keys = range(start, min(start + SIDE, reach.stop))
                place = slice(keys.start - columns.start, keys.stop - columns.start)
                found[some, place] = self.block(read, at, keys)
        return found

    def rows(self, rows: Span) -> tuple[Tensor, Tensor]:
        """Their queries [1, 1, t, K], and their log-sum-exp [1, 1, t, 1]."""
        return taken(self.request.query, rows), taken(self.lse[..., None], rows)

    def block(self, read: tuple[Tensor, Tensor], rows: Span, columns: Span) -> Tensor:
        query, lse = read
        tile = self.tile(query, rows, columns)
        p = tile.scores.sub_(blockwise.shift(lse.to(tile.scores.dtype))).exp_()
        if not bool(lse.isfinite().all()):  # else what is hidden has weight 0 already
            p = blockwise.hide(p, tile.visible)
        return p[0, 0].to(self.lse.dtype)

    def reach(self, rows: Span) -> range:
        """The keys that some of these rows may see."""
        rule, frame = self.request.rule, self.request.frame
        if rule is None or not len(rows):
            return range(frame.n_keys)
        ends = (rows.start, rows.stop) if isinstance(rows, range) else (int(rows.min()), int(rows.max()) + 1)
        return rule.reach(frame, range(*ends))

    @torch.no_grad()
    def seen(self, rows: Span, columns: Span) -> Tensor:
        """Which of these columns these rows may look at, [t, s], however small the weight."""
        return self.tile(taken(self.request.query, rows), rows, columns).scores[0, 0] != -torch.inf

    @torch.no_grad()
    def score(self, query: int, key: int) -> Score:
        """The score of one pair, with what was added to it."""
        rows, columns = range(query, query + 1), range(key, key + 1)
        request, bias = self.request, 0.0
        if request.bias is not None and request.weights is not None:
            bias = float(request.bias.tile(request.weights, request.frame, rows, columns).flatten()[0])
        bias = torch.nan if request.score_mod is not None else bias
        tile = self.tile(taken(self.request.query, rows), rows, columns)
        return Score(float(tile.scores), bias, float(self.weights(rows, columns)))

    def tile(self, query: Tensor, rows: Span, columns: Span) -> blockwise.Tile:
        with torch.autocast(self.lse.device.type, enabled=False):
            plan = blockwise.plan_of(self.request, None, 0.0)
            q, k = query.to(plan.dtype), taken(self.request.key, columns).to(plan.dtype)
            return blockwise.score(plan, q, k, self.request.weights, rows, columns)


def taken(x: Tensor, span: Span) -> Tensor:
    """Some places of [1, 1, n, K]."""
    return x[:, :, span.start : span.stop] if isinstance(span, range) else x.index_select(2, span)


def runs(rows: Span) -> Iterator[tuple[slice, Span]]:
    """Some rows at a time: where they stand among all, and which they are."""
    for start in range(0, len(rows), TALL):
        yield slice(start, start + TALL), rows[start : start + TALL]


def within(columns: range, reach: range) -> range:
    """Those that lie in both."""
    start = max(columns.start, reach.start)
    return range(start, max(min(columns.stop, reach.stop), start))


def rule_of(rule: Rule, row: int, head: int) -> Rule:
    """A rule as it stands for one head of one sequence."""
    match rule:
        case Causal() | Window() | Keys():
            return rule
        case Every():
            return Every(tuple(rule_of(each, row, head) for each in rule.rules))
        case Prefix():
            return Prefix(rule.n[row : row + 1]) if isinstance(rule.n, Tensor) else rule
        case Lengths():
            return Lengths(rule.keys[row : row + 1], None if rule.queries is None else rule.queries[row : row + 1])
        case Segments():
            return Segments(rule.queries[row : row + 1], None if rule.keys is None else rule.keys[row : row + 1])
        case Dense():
            return Dense(one_of(rule.mask, row, head))
        case MaskMod():
            return MaskMod(placed(rule.mask_mod, row, head, 0), batch=False, heads=False)
        case _:
            raise AssertionError(type(rule))


def bias_of(bias: Bias, row: int, head: int) -> Bias:
    """A bias as it stands for one head of one sequence."""
    match bias:
        case DenseBias():
            return DenseBias(one_of(bias.tensor.detach(), row, head))
        case Alibi():
            return Alibi(bias.slopes[head : head + 1].detach())
        case Buckets():
            return replace(bias, table=bias.table[:, head : head + 1].detach())
        case _:
            raise AssertionError(type(bias))


def one_of(x: Tensor, row: int, head: int) -> Tensor:
    """[1 or B, 1 or H, ...] -> [1, 1, ...]."""
    for axis, place in enumerate((row, head)):
        x = x if x.shape[axis] == 1 else x.narrow(axis, place, 1)
    return x


def placed(function: object, row: int, head: int, before: int) -> Callable[..., Tensor]:
    """A function of (score,) b, h, i, j, called for this sequence and head whatever b and h it is told."""
    called = cast(Callable[..., Tensor], function)

    def inner(*given: Tensor) -> Tensor:
        told = list(given)
        for axis, place in enumerate((row, head), before):
            told[axis] = given[axis] + place
        return called(*told)

    return inner
