"""Statistics in plain PyTorch: weights are rebuilt a tile at a time from the rows' log-sum-exp, looked at, and let go.

Every feature, any device and floating dtype, memory of O(tokens x tile). It is the way that serves what others refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from polyhead.operator.answers import Grid, Sums
from polyhead.operator.kernels import blockwise
from polyhead.operator.kernels.blockwise import (
    Plan,
    columns_of,
    finish,
    fold,
    hide,
    part,
    rows_of,
    score,
    shift,
    spans,
    unfold,
)
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request
from polyhead.operator.rules import Rule

WIDE = 1 / 4  # of a map
AT_ONCE = 1 << 24  # products of numbers that are written out for scores in float64


def can(request: Request, observe: Observe) -> str | None:
    """Serves every request and every wish."""
    return None


def slower(request: Request, observe: Observe) -> str | None:
    """The last to be asked."""
    return None


def look(request: Request, lse: Tensor, observe: Observe, tile: tuple[int, int] | None = None) -> Sums:
    """One look at every weight."""
    plan = blockwise.plan_of(request, tile, 0.0)
    query, key = request.query, request.key
    (B, H, T, _), S = query.shape, key.shape[2]
    grids = [None if grid is None else Grid.of(grid, T, S) for grid in (observe.mean_map, observe.max_map)]

    def zeros(*shape: int) -> Tensor:
        return query.new_zeros(shape, dtype=torch.float64)

    mass, entropy, squares = zeros(B, H, T), zeros(B, H, T), zeros(B, H, T)
    offset, offset2, distance = (zeros(B, H, T) if observe.distance else None for _ in range(3))
    received = zeros(B, H, S) if observe.received else None
    mean_map, max_map = (None if grid is None else zeros(B, H, grid.rows, grid.columns) for grid in grids)
    scores = query.new_full((B, H, T, observe.links), -torch.inf, dtype=plan.dtype) if observe.links else None
    keys = query.new_full((B, H, T, observe.links), -1, dtype=torch.long) if observe.links else None

    for rows in rows_of(plan):
        span = slice(rows.start, rows.stop)
        q, level = part(query, rows, plan), shift(lse[:, :, span].to(plan.dtype))[..., None]
        for columns in columns_of(plan, rows):
            at = slice(columns.start, columns.stop)
            products = alike if observe.links else plain
            seen = finish(plan, products(plan, q, part(key, columns, plan)), request.weights, rows, columns)
            s = seen.scores
            p = hide((s - level).exp(), seen.visible)  # [B, H, t, s]
            wide = p.double()
            mass[:, :, span] += wide.sum(-1)
            entropy[:, :, span] += (wide * (level - s).masked_fill(p == 0, 0.0)).sum(-1)  # no Inf times 0
            squares[:, :, span] += wide.square().sum(-1)
            if offset is not None and offset2 is not None and distance is not None:
                x = plan.frame.distance(rows, columns).double()  # [1 or B, 1, t, s]
                offset[:, :, span] += (wide * x).sum(-1)
                offset2[:, :, span] += (wide * x.square()).sum(-1)
                distance[:, :, span] += (wide * x.abs()).sum(-1)
            if received is not None:
                received[:, :, at] += wide.sum(2)
            if scores is not None and keys is not None:
                scores[:, :, span], keys[:, :, span] = stronger(scores[:, :, span], keys[:, :, span], s, columns)
            if mean_map is not None and grids[0] is not None:
                bars, r, c = pool(wide, grids[0], rows, columns, torch.sum)
                mean_map[:, :, r, c] += bars
            if max_map is not None and grids[1] is not None:
                bars, r, c = pool(wide, grids[1], rows, columns, torch.amax)
                max_map[:, :, r, c] = torch.maximum(max_map[:, :, r, c], bars)
    return Sums(mass, entropy, squares, offset, offset2, distance, scores, keys, received, mean_map, max_map)


def plain(plan: Plan, q: Tensor, k: Tensor) -> Tensor:
    """Scaled products [B, H, t, s] of q [B, H, t, K] and k [B, G, s, K]."""
    return unfold(fold(q * plan.scale, k.shape[1]) @ k.mT, q.shape[1])


def alike(plan: Plan, q: Tensor, k: Tensor) -> Tensor:
    """The same, and alike to the bit for equal keys wherever they stand, so that the leftmost of them is found.

    A library's product is not: columns at an edge are added up in another order. What is left of that is lost when
    products in float64 are rounded to float32; those of float64 are written out and added up number by number.
    """
    G, H = k.shape[1], q.shape[1]
    q = fold(q * plan.scale, G)
    if plan.dtype != torch.float64:
        return unfold((q.double() @ k.double().mT).to(plan.dtype), H)
    found = q.new_empty(*q.shape[:3], k.shape[2])
    for some in spans(range(q.shape[2]), max(1, AT_ONCE // max(1, k.numel()))):
        at = slice(some.start, some.stop)
        found[:, :, at] = (q[:, :, at, None] * k[:, :, None]).sum(-1)
    return unfold(found, H)


def stronger(scores: Tensor, keys: Tensor, tile: Tensor, columns: range) -> tuple[Tensor, Tensor]:
    """The links so far [B, H, t, k] and those of a tile to their right [B, H, t, s]: the k best, the leftmost first."""
    k = scores.shape[-1]
    places = torch.arange(columns.start, columns.stop, device=tile.device).expand(tile.shape)
    places = places.where(tile != -torch.inf, -1)
    both, order = torch.cat((scores, tile), -1).sort(dim=-1, descending=True, stable=True)
    return both[..., :k], torch.cat((keys, places), -1).gather(-1, order[..., :k])


def pool(p: Tensor, grid: Grid, rows: range, columns: range, how: Callable[..., Tensor]) -> tuple[Tensor, slice, slice]:
    """A tile [B, H, t, s] by the cells of a grid that it touches [B, H, r, c], and where these lie."""
    places: list[slice] = []
    for dim, span, cell, ends in ((2, rows, grid.row, grid.row_ends()), (3, columns, grid.column, grid.column_ends())):
        first, last = cell(span.start), cell(span.stop - 1)
        cuts = [span.start, *ends[first:last], span.stop]
        p = torch.stack([how(p.narrow(dim, a - span.start, b - a), dim) for a, b in pairwise(cuts)], dim)
        places.append(slice(first, last + 1))
    return p, places[0], places[1]


@torch.no_grad()
def mass_of(request: Request, lse: Tensor, region: Rule, tile: tuple[int, int] | None = None) -> Tensor:
    """The weight [B, H, T] of each query on a part of the map, at the cost of what that part can reach."""
    region.check(request.frame)
    plan = blockwise.plan_of(request, tile, 0.0)
    found = request.query.new_zeros(request.query.shape[:3], dtype=torch.float64)
    for rows in rows_of(plan):
        span = slice(rows.start, rows.stop)
        q, level = part(request.query, rows, plan), shift(lse[:, :, span].to(plan.dtype))[..., None]
        for columns in within(plan, rows, region):
            seen = score(plan, q, part(request.key, columns, plan), request.weights, rows, columns)
            p = hide((seen.scores - level).exp(), seen.visible)
            found[:, :, span] += hide(p, region.visible(plan.frame, rows, columns)).double().sum(-1)
    return found


def wide(request: Request, observe: Observe) -> bool:
    """Whether parts of the map reach so much of it that one look at all of it costs less than a look at each."""
    if not observe.mass:
        return False
    plan, every = blockwise.plan_of(request, None, 0.0), request.frame.n_queries * request.frame.n_keys
    regions = observe.regions(request.frame).values()
    reached = sum(
        len(rows) * len(some) for region in regions for rows in rows_of(plan) for some in within(plan, rows, region)
    )
    return reached > WIDE * every


def within(plan: Plan, rows: range, region: Rule) -> list[range]:
    """The tiles' columns that both the call's rule and a part of the map reach."""
    reach = region.reach(plan.frame, rows)
    cut = [range(max(some.start, reach.start), min(some.stop, reach.stop)) for some in columns_of(plan, rows)]
    return [some for some in cut if len(some)]
