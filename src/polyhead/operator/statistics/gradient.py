"""Gradients through statistics, in tiles: what a loss says of entropies, maps and weights reaches queries and keys.

Every statistic F is a function of the weights p of a row, and dF/ds_ij = p_ij (g_ij - sum_k p_ik g_ik), where g = dF/dp
and a sink takes part with g = 0. So one rule serves all of them, and each only says its g. Of the log-sum-exp,
dl_i/ds_ij = p_ij.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator.answers import Grid, Statistics
from polyhead.operator.kernels import blockwise
from polyhead.operator.kernels.blockwise import (
    Plan,
    columns_of,
    gathered,
    hide,
    part,
    rows_of,
    score,
    shift,
    weighted,
)
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request, chosen
from polyhead.operator.rules import Window
from polyhead.operator.statistics import tiles

Slope = Callable[["Look"], Tensor]  # a tile's g, broadcastable to [B, H, t, s], times what the loss says


@dataclass(frozen=True, eq=False)
class Look:
    """One tile as the slopes see it."""

    plan: Plan
    rows: range
    columns: range
    weights: Tensor  # [B, H, t, s]
    logs: Tensor  # [B, H, t, s] their logarithms, 0 where hidden

    @property
    def offset(self) -> Tensor:
        """Key's place - query's place, [1 or B, 1, t, s]."""
        return self.plan.frame.distance(self.rows, self.columns).to(self.weights.dtype)

    def of_rows(self, x: Tensor) -> Tensor:
        """[B, H, T] -> [B, H, t, 1]."""
        return x[:, :, self.rows.start : self.rows.stop, None].to(self.weights.dtype)


def attach(request: Request, lse: Tensor, observe: Observe, found: Statistics) -> tuple[Tensor, Statistics]:
    """The same numbers as part of the graph of the request's tensors; what has no gradient refuses it when asked."""
    inputs = request.query, request.key, request.weights, request.sinks
    if not (torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)):
        return lse, found
    told = {name: x for name, x in tensors(found).items() if name != "max_map"}
    job = Job(request.detached(), lse, observe, found, list(told))
    lse, *attached = cast(Any, Attached).apply(job, [lse, *told.values()], *inputs)
    named = dict(zip(told, attached, strict=True))
    changes: dict[str, Any] = {name: x for name, x in named.items() if "." not in name}
    if found.links is not None:
        changes["links"] = replace(found.links, weights=changes.pop("links"))
    changes["mass"] = {name: named[f"mass.{name}"] for name in found.mass}
    changes["rectangles"] = tuple(named[f"rectangles.{n}"] for n in range(len(found.rectangles)))
    if found.max_map is not None:
        changes["max_map"] = cast(Any, Refused).apply("max_map", found.max_map, *inputs)
    return lse, replace(found, **changes)


def tensors(found: Statistics) -> dict[str, Tensor]:
    """Every answer that depends on the weights, by a flat name."""
    plain = ("entropy", "squares", "distance", "offset", "spread", "received", "mean_map", "max_map", "rows", "columns")
    held: dict[str, Tensor] = {name: x for name in plain if (x := getattr(found, name)) is not None}
    if found.links is not None:
        held["links"] = found.links.weights
    held |= {f"mass.{name}": x for name, x in found.mass.items()}
    return held | {f"rectangles.{n}": x for n, x in enumerate(found.rectangles)}


@dataclass(frozen=True, eq=False)
class Job:
    """What the backward pass works on."""

    request: Request  # detached
    lse: Tensor
    observe: Observe
    found: Statistics
    names: list[str]


class Attached(torch.autograd.Function):
    """Numbers computed elsewhere, given back as functions of query, key, the bias's weights and sinks."""

    @staticmethod
    def forward(ctx: Any, job: Job, values: list[Tensor], *inputs: Any) -> tuple[Tensor, ...]:
        ctx.job = job
        ctx.save_for_backward(*inputs, job.lse)  # so that a change of them in place is found out
        ctx.set_materialize_grads(False)
        return tuple(x.clone() for x in values)

    @staticmethod
    def backward(ctx: Any, *d_outputs: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ArgumentError(
                "statistics and the log-sum-exp of a record are differentiable once; take their gradient without"
                " create_graph=True, or compute them from the formula where the gradient of a gradient is needed"
            )
        job: Job = ctx.job
        assert ctx.saved_tensors
        d_lse, *d_values = d_outputs
        told = [(name, d) for name, d in zip(job.names, d_values, strict=True) if d is not None]
        with torch.autocast(job.lse.device.type, enabled=False):
            whole = keys_share(job) if any(name in PLACES for name, _ in told) else None
            slopes = [slope_of(job, name, d, whole) for name, d in told]
            learns = ctx.needs_input_grad[4]
            return None, None, *backward(job.request, job.lse, d_lse, slopes, learns=learns)


class Refused(torch.autograd.Function):
    """A number whose gradient is refused by name, where it would otherwise be dropped without a word."""

    @staticmethod
    def forward(ctx: Any, name: str, x: Tensor, *inputs: Any) -> Tensor:
        ctx.name = name
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor | None, ...]:
        raise ArgumentError(
            f"{ctx.name} carries no gradient: a largest weight has none where two are equal; use mean_map"
        )


PLACES = ("offset", "distance", "spread")  # means over the keys alone, sinks aside


def keys_share(job: Job) -> Tensor | None:
    """What the weights of all keys sum to in each row, [B, H, T] float64, 1 where they sum to 0; None: 1 everywhere.

    Added up, for 1 less the sink's share would be rounding where the sink takes most.
    """
    if job.request.sinks is None:
        return None
    whole = tiles.mass_of(job.request, job.lse, Window(None, None))
    return whole.masked_fill(whole == 0, 1.0)


def slope_of(job: Job, name: str, d: Tensor, whole: Tensor | None) -> Slope:
    """dF/dp of one statistic, times d, what the loss says of it; `whole` is what the weights of a row's keys sum to."""
    request, found, frame = job.request, job.found, job.request.frame
    kind, _, which = name.partition(".")
    if kind in ("received", "mean_map", "mass", "rows", "columns", "rectangles"):
        d = spread_over(d, request.query.shape[1], request.key.shape[1], job.observe.heads)

    def per_row(x: Tensor | None) -> Tensor:
        assert x is not None
        return x

    def of_mean() -> Tensor:
        return d if whole is None else d / whole

    match kind:
        case "entropy":
            return lambda at: -at.of_rows(d) * (at.logs + 1)
        case "squares":
            return lambda at: 2 * at.of_rows(d) * at.weights
        case "offset":
            mean, d_mean = per_row(found.offset), of_mean()
            return lambda at: at.of_rows(d_mean) * (at.offset - at.of_rows(mean))
        case "distance":
            far, d_mean = per_row(found.distance), of_mean()
            return lambda at: at.of_rows(d_mean) * (at.offset.abs() - at.of_rows(far))
        case "spread":
            mean, wide = per_row(found.offset), per_row(found.spread)
            d_variance = (of_mean() / (2 * wide)).masked_fill(wide == 0, 0.0)
            return lambda at: (
                at.of_rows(d_variance) * ((at.offset - at.of_rows(mean)).square() - at.of_rows(wide.square()))
            )
        case "mass":
            region = Observe.region(which, job.observe.mass[which], frame)
            return lambda at: hide(at.of_rows(d).expand_as(at.weights), region.visible(frame, at.rows, at.columns))
        case "received":
            return lambda at: d[:, :, None, at.columns.start : at.columns.stop].to(at.weights.dtype)
        case "mean_map":
            assert job.observe.mean_map is not None
            return from_cells(d, Grid.of(job.observe.mean_map, frame.n_queries, frame.n_keys))
        case "links":
            assert found.links is not None
            return from_links(d, found.links.keys)
        case "rows":
            return from_exact(d, chosen("rows", job.observe.rows, frame.n_queries, d.device), None)
        case "columns":
            return from_exact(d, None, chosen("columns", job.observe.columns, frame.n_keys, d.device))
        case _:
            some, others = job.observe.rectangles[int(which)]
            return from_exact(d, torch.arange(some.start, some.stop), torch.arange(others.start, others.stop))


def spread_over(d: Tensor, heads: int, groups: int, told: str) -> Tensor:
    """The gradient of each head [B, H, ...] from that of what was told of groups of heads, or of all."""
    match told:
        case "mean":
            return d.expand(-1, heads, *d.shape[2:]) / heads
        case "group sum":
            return d.repeat_interleave(heads // groups, 1)
        case "group mean":
            return d.repeat_interleave(heads // groups, 1) / (heads // groups)
        case _:
            return d


def from_cells(d: Tensor, grid: Grid) -> Slope:
    ends = torch.tensor([0, *grid.row_ends()], device=d.device)
    d = d / ends.diff()[:, None]

    def slope(at: Look) -> Tensor:
        i = torch.arange(at.rows.start, at.rows.stop, device=d.device) * grid.rows // grid.queries
        j = torch.arange(at.columns.start, at.columns.stop, device=d.device) * grid.columns // grid.keys
        return d.index_select(2, i).index_select(3, j).to(at.weights.dtype)

    return slope


def from_links(d: Tensor, keys: Tensor) -> Slope:
    def slope(at: Look) -> Tensor:
        span = slice(at.rows.start, at.rows.stop)
        place = keys[:, :, span] - at.columns.start
        inside = (keys[:, :, span] >= 0) & (place >= 0) & (place < len(at.columns))
        g = torch.zeros_like(at.weights)
        return g.scatter_add_(-1, place.where(inside, 0), d[:, :, span].where(inside, 0.0).to(g.dtype))

    return slope


def from_exact(d: Tensor, some: Tensor | None, others: Tensor | None) -> Slope:
    """From exact weights of some rows and columns, None for all."""

    def slope(at: Look) -> Tensor:
        g, told = torch.zeros_like(at.weights), d.to(at.weights.dtype)
        for dim, span, chosen_ in ((3, at.columns, others), (2, at.rows, some)):
            if chosen_ is None:
                told = told.narrow(dim, span.start, len(span))
                continue
            inside = ((chosen_ >= span.start) & (chosen_ < span.stop)).nonzero().flatten()
            size = list(told.shape)
            size[dim] = len(span)
            told = told.new_zeros(size).index_add_(dim, chosen_[inside] - span.start, told.index_select(dim, inside))
        return g + told

    return slope


def backward(
    request: Request, lse: Tensor, d_lse: Tensor | None, slopes: list[Slope], *, learns: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of query, key, the bias's weights (if it learns) and sinks."""
    plan = blockwise.plan_of(request, None, 0.0)
    query, key, weights, sinks = request.query, request.key, request.weights, request.sinks
    d_query, d_key = torch.empty_like(query), torch.zeros_like(key, dtype=plan.dtype)
    d_weights = torch.zeros_like(weights, dtype=plan.dtype) if learns and weights is not None else None
    means = query.new_zeros(query.shape[:3], dtype=plan.dtype)  # [B, H, T] sum_k p_ik g_ik
    told = query.new_zeros(query.shape[:3], dtype=plan.dtype) if d_lse is None else d_lse.to(plan.dtype)
    level = lse.to(plan.dtype)

    def looks(rows: range) -> Iterator[tuple[Look, blockwise.Tile, Tensor]]:
        q = part(query, rows, plan)
        for columns in columns_of(plan, rows):
            k = part(key, columns, plan)
            tile = score(plan, q, k, weights, rows, columns)
            logs = tile.scores - shift(level[:, :, rows.start : rows.stop])[..., None]
            p = hide(logs.exp(), tile.visible)
            yield Look(plan, rows, columns, p, logs.masked_fill(p == 0, 0.0)), tile, k

    def slope(at: Look) -> Tensor:
        g = torch.zeros_like(at.weights)
        for each in slopes:
            g = g + each(at)
        return g.masked_fill(at.weights == 0, 0.0)  # what has no weight has no say, whatever the loss makes of it

    for rows in rows_of(plan):
        span = slice(rows.start, rows.stop)
        for at, _, _ in looks(rows):
            means[:, :, span] += (at.weights * slope(at)).sum(-1)
        q = part(query, rows, plan)
        d_q = torch.zeros_like(q)
        for at, tile, k in looks(rows):
            d_s = at.weights * (slope(at) - at.of_rows(means) + at.of_rows(told))
            d_s = hide(d_s, tile.visible)
            if plan.bias is not None and d_weights is not None:
                plan.bias.add_gradient(d_weights, d_s, plan.frame, rows, at.columns)
            if tile.slope is not None:
                d_s = hide(d_s * tile.slope(), tile.visible)
            d_key[:, :, at.columns.start : at.columns.stop] += (
                gathered(plan, d_s, tile.visible, q, key.shape[1]) * plan.scale
            )
            d_q += weighted(plan, d_s, tile.visible, k) * plan.scale
        d_query[:, :, span] = d_q
    d_sinks = None
    if sinks is not None:
        mass = (sinks.to(plan.dtype)[:, None] - shift(level)).exp().masked_fill(level == -torch.inf, 0.0)
        d_sinks = (mass * (told - means)).sum((0, 2)).to(sinks.dtype)
    return (
        d_query,
        d_key.to(key.dtype),
        None if d_weights is None or weights is None else d_weights.to(weights.dtype),
        d_sinks,
    )
