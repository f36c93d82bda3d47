"""Attention in tiles, in plain PyTorch: every feature, any device and floating dtype, memory of O(tokens x tile).

A tile is some query rows by some key columns. Forward, each row keeps its largest score, the sum of its exponentials
and the sum of weighted values, and scales them down whenever a larger score turns up (Milakov and Gimelshein 2018,
arXiv 1805.02867). Backward, weights are rebuilt from the rows' log-sum-exp (Dao et al. 2022, arXiv 2205.14135, B.4).

Half-width dtypes are computed in float32. The query heads that share a key head are folded into its rows, so keys and
values are never repeated. Hidden NaN and Inf are selected away, never multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from polyhead.operator.request import Request, finite
from polyhead.operator.rules import Bias, Frame, Rule, ScoreMod, Span

TILE_SCORES = 1 << 23  # about how many scores one tile of all heads may hold


def can(request: Request) -> str | None:
    """Serves every request."""
    return None


def room(request: Request) -> int:
    """Three tiles of scores of all heads, and a row of sums."""
    t, s = tile_for(request.frame)
    size = 8 if request.query.dtype == torch.float64 else 4
    B, H, T, _ = request.query.shape
    return size * B * H * (3 * min(t, T) * min(s, request.key.shape[2]) + T)


def run(request: Request, lse: bool, tile: tuple[int, int] | None = None) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp, which falls out of it."""
    tensors = (request.query, request.key, request.value, request.weights, request.sinks)
    out, found = apply(plan_of(request, tile, request.dropout), forward, backward, *tensors)
    return out, found if lse else None


@torch.no_grad()
def logsumexp(request: Request, tile: tuple[int, int] | None = None) -> Tensor:
    """The rows' log-sum-exp [B, H, T] alone: the same pass without values, for a kernel that does not tell it."""
    plan = plan_of(request, tile, 0.0)  # before dropout, and without a draw of the generator
    return forward(plan, request.query, request.key, None, request.weights, request.sinks)[1]


@torch.no_grad()
def exact_weights(request: Request, lse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Exact weights exp(score - lse) of some rows and columns, [B, H, len(rows), len(columns)]; zero where hidden."""
    with torch.autocast(lse.device.type, enabled=False):
        plan = plan_of(request, None, 0.0)
        q, k = (x.index_select(2, at).to(plan.dtype) for x, at in ((request.query, rows), (request.key, columns)))
        tile = score(plan, q, k, request.weights, rows, columns)
        p = (tile.scores - shift(lse.index_select(2, rows).to(plan.dtype))[..., None]).exp_()
        return hide(p, tile.visible)


@dataclass(frozen=True, eq=False)
class Plan:
    """What all tiles of a call share, apart from the tensors that gradients reach."""

    frame: Frame
    rule: Rule | None
    bias: Bias | None
    scale: float
    softcap: float | None
    score_mod: ScoreMod | None
    dropout: float
    seed: int
    tile: tuple[int, int]  # rows, columns
    poisoned: bool  # some NaN or Inf is about, so hidden values must be selected away
    dtype: torch.dtype  # of the computation
    draw: Callable[[Plan, range, range], Tensor] | None = None  # which weights of a tile dropout keeps, a kernel's own


def plan_of(request: Request, tile: tuple[int, int] | None, dropout: float) -> Plan:
    return Plan(
        frame=request.frame,
        rule=request.rule,
        bias=request.bias,
        scale=request.scale,
        softcap=request.softcap,
        score_mod=request.score_mod,
        dropout=dropout,
        # One draw of the global generator a call, whatever the sizes: random state is predictable.
        seed=int(torch.randint(1 << 62, ())) if dropout else 0,
        tile=tile or tile_for(request.frame),
        poisoned=request.poisoned,
        dtype=torch.float64 if request.query.dtype == torch.float64 else torch.float32,
    )


def tile_for(frame: Frame) -> tuple[int, int]:
    """A square that keeps the scores of all heads within TILE_SCORES, between 32 and 256 a side."""
    side = 256
    while side > 32 and frame.batch * frame.heads * side * side > TILE_SCORES:
        side //= 2
    return side, side


# ---------------------------------------------------------------------------------------------------------------- tiles


def spans(bounds: range, step: int) -> Iterator[range]:
    """Runs of `step` that cover the bounds, on a fixed grid, so that forward and backward cut the same tiles."""
    for start in range(bounds.start - bounds.start % step, bounds.stop, step):
        yield range(start, min(start + step, bounds.stop))


def rows_of(plan: Plan) -> Iterator[range]:
    return spans(range(plan.frame.n_queries if plan.frame.batch else 0), plan.tile[0])


def columns_of(plan: Plan, rows: range) -> Iterator[range]:
    keys = range(plan.frame.n_keys)
    return spans(keys if plan.rule is None else plan.rule.reach(plan.frame, rows), plan.tile[1])


def part(x: Tensor, span: range, plan: Plan) -> Tensor:
    """Some positions of [B, H, T, K] in the dtype of the computation."""
    return x[:, :, span.start : span.stop].to(plan.dtype)


def fold(x: Tensor, groups: int) -> Tensor:
    """[B, H, t, n] -> [B, G, R t, n]: the R = H / G query heads that share a key head become its rows."""
    B, H, t, n = x.shape
    return x.reshape(B, groups, H // groups * t, n)


def unfold(x: Tensor, heads: int) -> Tensor:
    """[B, G, R t, n] -> [B, H, t, n]."""
    B, G, r, n = x.shape
    return x.reshape(B, heads, G * r // heads, n)


@dataclass(frozen=True, eq=False)
class Tile:
    """The final scores of a tile, -inf where hidden, and what its gradient needs."""

    scores: Tensor  # [B, H, t, s]
    visible: Tensor | None  # boolean, broadcastable to it; None hides nothing
    slope: Callable[[], Tensor] | None  # [B, H, t, s] the derivative of a softcap or score_mod


def score(plan: Plan, q: Tensor, k: Tensor, weights: Tensor | None, rows: Span, columns: Span) -> Tile:
    """Scores of q [B, H, t, K] against k [B, G, s, K], in the operator's order: scale, softcap, bias, mask."""
    x = unfold(fold(q * plan.scale, k.shape[1]) @ k.mT, q.shape[1])  # [B, H, t, s]
    return finish(plan, x, weights, rows, columns)


def finish(plan: Plan, x: Tensor, weights: Tensor | None, rows: Span, columns: Span) -> Tile:
    """Softcap, bias and mask on scaled products x [B, H, t, s]."""
    slope = None
    visible = None if plan.rule is None else plan.rule.visible(plan.frame, rows, columns)
    if plan.softcap is not None:
        bent = torch.tanh(x / plan.softcap)
        slope, x = partial(falling, bent), plan.softcap * bent
    if plan.score_mod is not None:
        slope, x = (
            partial(plan.score_mod.slope, x, plan.frame, rows, columns),
            plan.score_mod.of(x, plan.frame, rows, columns),
        )
        if plan.poisoned:
            shown = x != -torch.inf
            visible = shown if visible is None else visible & shown
    if plan.bias is not None and weights is not None:
        bias = plan.bias.tile(weights, plan.frame, rows, columns).to(plan.dtype)
        x = x + bias
        if plan.poisoned:  # otherwise -inf is at home in the arithmetic: its weight is zero
            shown = bias != -torch.inf
            visible = shown if visible is None else visible & shown
    if visible is not None:
        x = torch.where(visible, x, -torch.inf)
    return Tile(x, visible, slope)


def falling(bent: Tensor) -> Tensor:
    """The derivative of c tanh(x / c), where this tanh is known."""
    return 1 - bent * bent


def weighted(plan: Plan, weights: Tensor, visible: Tensor | None, x: Tensor) -> Tensor:
    """weights [B, H, t, s] times x [B, G, s, n] -> [B, H, t, n]; NaN and Inf in x pass through visible pairs only."""
    groups, heads = x.shape[1], weights.shape[1]
    if visible is None or not plan.poisoned:
        return unfold(fold(weights, groups) @ x, heads)
    seen = fold(visible.expand(weights.shape), groups)  # [B, G, R t, s]
    return unfold(choose(fold(weights, groups), seen, x), heads)


def gathered(plan: Plan, weights: Tensor, visible: Tensor | None, x: Tensor, groups: int) -> Tensor:
    """weightsT of [B, H, t, s] times x [B, H, t, n] -> [B, G, s, n], summed over the heads of a group; NaN likewise."""
    if visible is None or not plan.poisoned:
        return fold(weights, groups).mT @ fold(x, groups)
    seen = fold(visible.expand(weights.shape), groups)
    return choose(fold(weights, groups).mT, seen.mT, fold(x, groups))


def choose(weights: Tensor, seen: Tensor, x: Tensor) -> Tensor:
    """weights @ x where only seen pairs count: [.., r, c] and [.., c, n] -> [.., r, n]."""
    clean = weights @ x.nan_to_num(0.0, 0.0, 0.0)
    rest = x - x.nan_to_num(0.0, 0.0, 0.0)
    for c in (~x.isfinite()).any(-1).flatten(0, -2).any(0).nonzero():
        term = weights[..., c] * rest[..., c, :]  # [.., r, 1] * [.., 1, n]
        clean = clean + torch.where(seen[..., c], term, 0.0)
    return clean


def kept(plan: Plan, rows: range, columns: range) -> Tensor:
    """What dropout multiplies the weights of a tile by, 0 or 1 / (1 - p): the same whenever the tile is asked for."""
    if plan.draw is not None:
        return plan.draw(plan, rows, columns)
    frame = plan.frame
    generator = torch.Generator(frame.device).manual_seed(plan.seed + rows.start * frame.n_keys + columns.start)
    shape = (frame.batch, frame.heads, len(rows), len(columns))
    draw = torch.rand(shape, generator=generator, device=frame.device)
    return (draw >= plan.dropout).to(plan.dtype) / (1 - plan.dropout)  # [B, H, t, s]


def hide(x: Tensor, visible: Tensor | None) -> Tensor:
    """x with zeros, whatever stood there, where nothing is to be seen."""
    return x if visible is None else x.masked_fill(~visible, 0.0)


# -------------------------------------------------------------------------------------------------------------- forward


def forward(
    plan: Plan, query: Tensor, key: Tensor, value: Tensor | None, weights: Tensor | None, sinks: Tensor | None
) -> tuple[Tensor | None, Tensor]:
    """Output [B, H, T, Kv], if there are values, and log-sum-exp [B, H, T]."""
    B, H, T, _ = query.shape
    lse = query.new_empty((B, H, T), dtype=plan.dtype)
    out = None if value is None else query.new_empty((B, H, T, value.shape[3]))
    for rows in rows_of(plan):
        q = part(query, rows, plan)  # [B, H, t, K]
        top = q.new_full(q.shape[:3], -torch.inf)  # [B, H, t] the largest score so far
        mass = q.new_zeros(q.shape[:3])  # [B, H, t] the sum of exp(score - top)
        total = None if value is None else q.new_zeros((*q.shape[:3], value.shape[3]))  # the same, times values
        for columns in columns_of(plan, rows):
            tile = score(plan, q, part(key, columns, plan), weights, rows, columns)
            fade, top = higher(top, tile.scores.amax(-1))
            p = (tile.scores - shift(top)[..., None]).exp_()
            mass = mass * fade + p.sum(-1)
            if total is not None and value is not None:
                p = p * kept(plan, rows, columns) if plan.dropout else p
                total = total * fade[..., None] + weighted(plan, p, tile.visible, part(value, columns, plan))
        if sinks is not None:
            sink = sinks.to(plan.dtype)[:, None]  # [H, 1]
            fade, top = higher(top, sink)
            mass = mass * fade + (sink - shift(top)).exp()
            total = None if total is None else total * fade[..., None]
        span = slice(rows.start, rows.stop)
        lse[:, :, span] = shift(top) + mass.log()  # log 0 = -inf: the row is empty
        if out is not None and total is not None:
            out[:, :, span] = total / mass.masked_fill(mass == 0, 1.0)[..., None]
    return out, lse


def higher(top: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """What sums that were scaled by exp(-top) must be multiplied by, and the new largest score."""
    new = torch.maximum(top, found)
    return (top - shift(new)).exp(), new


def shift(top: Tensor) -> Tensor:
    """The largest score, or 0 in a row that has seen none, so that -inf - -inf is never computed."""
    return top.masked_fill(top == -torch.inf, 0.0)


# ------------------------------------------------------------------------------------------------------------- backward


def backward(
    plan: Plan,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: Tensor | None,
    sinks: Tensor | None,
    out: Tensor,
    lse: Tensor,
    d_out: Tensor,
    *,
    learns: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of query, key, value, the bias's weights (if it learns) and sinks.

    With weights p and dP = dO VT: dS = p (dP - delta), where delta = dO . O of each row (the sum of p dP).
    """
    G = key.shape[1]
    plan = replace(plan, poisoned=plan.poisoned or not finite(d_out))
    d_query = torch.empty_like(query)
    d_key, d_value = (torch.zeros_like(x, dtype=plan.dtype) for x in (key, value))
    d_weights = torch.zeros_like(weights, dtype=plan.dtype) if learns and weights is not None else None
    delta = (d_out.to(plan.dtype) * out.to(plan.dtype)).sum(-1)  # [B, H, T]
    for rows in rows_of(plan):
        span = slice(rows.start, rows.stop)
        q, d_o = part(query, rows, plan), part(d_out, rows, plan)
        d_q = torch.zeros_like(q)
        for columns in columns_of(plan, rows):
            k, v = part(key, columns, plan), part(value, columns, plan)
            tile = score(plan, q, k, weights, rows, columns)
            p = (tile.scores - shift(lse[:, :, span])[..., None]).exp_()
            p = hide(p, tile.visible)  # not zero yet in a row whose log-sum-exp is NaN
            d_p = unfold(fold(d_o, G) @ v.mT, q.shape[1])  # [B, H, t, s]
            dropped = p
            if plan.dropout:
                keep = kept(plan, rows, columns)
                d_p, dropped = d_p * keep, p * keep
            d_s = hide(p * (d_p - delta[:, :, span, None]), tile.visible)
            if plan.bias is not None and d_weights is not None:
                plan.bias.add_gradient(d_weights, d_s, plan.frame, rows, columns)
            if tile.slope is not None:
                d_s = hide(d_s * tile.slope(), tile.visible)
            at = slice(columns.start, columns.stop)
            d_value[:, :, at] += gathered(plan, dropped, tile.visible, d_o, G)
            d_key[:, :, at] += gathered(plan, d_s, tile.visible, q, G) * plan.scale
            d_q += weighted(plan, d_s, tile.visible, k) * plan.scale
        d_query[:, :, span] = d_q
    d_sinks = None
    if sinks is not None:
        mass = (sinks.to(plan.dtype)[:, None] - shift(lse)).exp().masked_fill(lse == -torch.inf, 0.0)
        d_sinks = -(mass * delta).sum((0, 2)).to(sinks.dtype)
    return (
        d_query,
        d_key.to(key.dtype),
        d_value.to(value.dtype),
        None if d_weights is None or weights is None else d_weights.to(weights.dtype),
        d_sinks,
    )


class Blockwise(torch.autograd.Function):
    """Some way forth and some way back, such as tiles; saves inputs, output and log-sum-exp, never scores."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, forth: Callable[..., tuple[Tensor, Tensor]], back: Callable[..., Any], *inputs: Any
    ) -> tuple[Tensor, Tensor]:
        out, lse = forth(plan, *inputs)
        ctx.back = back
        ctx.plan = plan
        ctx.save_for_backward(*inputs, out, lse)
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, sinks, out, lse = ctx.saved_tensors
        with torch.autocast(query.device.type, enabled=False):
            if torch.is_grad_enabled():  # create_graph=True: the gradient itself must be differentiable
                inputs = (query, key, value, weights, sinks)
                return None, None, None, *again(ctx.plan, inputs, ctx.needs_input_grad[3:], d_outputs[0])
            how = ctx.plan, query, key, value, weights, sinks, out, lse, d_outputs[0]
            return None, None, None, *ctx.back(*how, learns=ctx.needs_input_grad[6])


apply = cast(Callable[..., tuple[Tensor, Tensor]], cast(Any, Blockwise).apply)


# ------------------------------------------------------------------------------------------------------ double backward


def again(
    plan: Plan, inputs: Sequence[Tensor | None], needed: Sequence[bool], d_out: Tensor
) -> tuple[Tensor | None, ...]:
    """The same gradients, as differentiable functions of the inputs and d_out; memory O(T S)."""
    # A view of each: one tensor may have been handed in as query, key and value, and each place has its own gradient.
    own = [None if x is None else x.view_as(x) for x in inputs]
    plan = replace(plan, poisoned=plan.poisoned or not finite(d_out))
    wanted = [x for x, needs in zip(own, needed, strict=True) if x is not None and needs]
    query, key, value, weights, sinks = own
    assert query is not None and key is not None and value is not None
    out = at_once(plan, query, key, value, weights, sinks)
    found = iter(torch.autograd.grad(out, wanted, d_out, create_graph=True, allow_unused=True))
    return tuple(next(found) if x is not None and needs else None for x, needs in zip(own, needed, strict=True))


def at_once(
    plan: Plan, query: Tensor, key: Tensor, value: Tensor, weights: Tensor | None, sinks: Tensor | None
) -> Tensor:
    """The formula in differentiable steps, all scores at once."""
    rows, columns = range(query.shape[2]), range(key.shape[2])
    q, k, v = part(query, rows, plan), part(key, columns, plan), part(value, columns, plan)
    seen = None
    if plan.poisoned:  # select every product by its pair, [B, H, T, S, n]: the only way whose gradient selects too
        seen = finish(plan, q.new_zeros((*q.shape[:3], len(columns))), weights, rows, columns).visible
    if seen is not None:
        seen = seen.expand(*q.shape[:3], len(columns))[..., None]
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1)[:, :, None] for x in (k, v))  # [B, H, 1, S, n]
        products = (torch.where(seen, q[:, :, :, None] * plan.scale, 0.0) * torch.where(seen, k, 0.0)).sum(-1)
    else:
        products = unfold(fold(q * plan.scale, k.shape[1]) @ k.mT, q.shape[1])
    scores = finish(plan, products, weights, rows, columns).scores
    if sinks is not None:  # one more key, of no value
        sink = sinks.to(plan.dtype)[:, None, None].expand(*q.shape[:3], 1)
        scores = torch.cat([scores, sink], -1)
    top = scores.detach().amax(-1, keepdim=True) if scores.shape[-1] else scores.new_zeros((*q.shape[:3], 1))
    e = (scores - shift(top)).exp()
    mass = e.sum(-1, keepdim=True)  # [B, H, T, 1]
    p = e[..., : len(columns)] / mass.masked_fill(mass == 0, 1.0)
    if plan.dropout:
        keep = torch.zeros_like(p)
        for some in rows_of(plan):
            for others in columns_of(plan, some):
                keep[:, :, some.start : some.stop, others.start : others.stop] = kept(plan, some, others)
        p = p * keep
    if seen is not None:
        out = (p[..., None] * torch.where(seen, v, 0.0)).sum(3)
    else:
        out = unfold(fold(p, v.shape[1]) @ v, q.shape[1])
    return out.to(query.dtype)
