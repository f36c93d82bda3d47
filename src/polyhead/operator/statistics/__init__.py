"""Statistics of weights that were never written out: a call, its log-sum-exp and a wish in, `Statistics` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polyhead.operator import loops
from polyhead.operator.answers import Grid, Links, Statistics, Sums
from polyhead.operator.kernels import blockwise
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request, chosen
from polyhead.operator.statistics import identities, tiles

Indices = Sequence[int] | Tensor
ROUNDING = 8 * torch.finfo(torch.float64).eps  # of the difference of two sums, relative to these


@dataclass(frozen=True)
class Way:
    """One way to look at every weight."""

    name: str
    can: Callable[[Request, Observe], str | None]  # None, or the reason why not
    look: Callable[[Request, Tensor, Observe], Sums]
    slower: Callable[[Request, Observe], str | None]  # why "auto" passes it by though it could serve


WAYS = (  # loops serve on a CPU alone, and identities are slower there; what only some can tell, tiles tell in one look
    Way(
        "loops",
        lambda request, observe: loops.can(request),
        lambda request, lse, observe: loops.look(request, observe, lse).sums,
        lambda request, observe: loops.slower(request),
    ),
    Way("identities", identities.can, identities.look, identities.slower),
    Way("tiles", tiles.can, tiles.look, tiles.slower),
)


@torch.no_grad()
def measure(request: Request, lse: Tensor, observe: Observe, sums: Sums | None = None, way: str = "auto") -> Statistics:
    """What is asked of the weights exp(score - lse), lse [B, H, T]; sums, where the kernel has looked already.

    Nothing of the call's output is touched.
    """
    device, frame, groups = request.query.device.type, request.frame, request.key.shape[1]
    observe.check(frame)

    def told(x: Tensor) -> Tensor:
        return reduced(x, groups, observe.heads).to(lse.dtype)

    def weights(rows: Indices, columns: Indices) -> Tensor:
        return told(exact(request, lse, rows, columns))

    every = range(frame.n_queries), range(frame.n_keys)
    with torch.autocast(device, enabled=False):
        found, parts = Statistics(), dict[str, Tensor]()
        if observe.scans or sums is not None or tiles.wide(request, observe):
            name, reasons = "kernel", dict[str, str]()
            if sums is None:
                taken, reasons = pick(request, observe, way)
                name, sums = taken.name, taken.look(request, lse, observe)
            found = replace(named(request, lse, observe, sums, told), way=name, reasons=reasons)
            parts = dict(sums.parts)
        for name, region in observe.regions(frame).items():
            if name not in parts:
                parts[name] = tiles.mass_of(request, lse, region)
        return replace(
            found,
            mass={name: told(parts[name]) for name in observe.mass},
            rows=None if observe.rows is None else weights(observe.rows, every[1]),
            columns=None if observe.columns is None else weights(every[0], observe.columns),
            rectangles=tuple(weights(*rectangle) for rectangle in observe.rectangles),
        )


def pick(request: Request, observe: Observe, way: str) -> tuple[Way, dict[str, str]]:
    """The first way that serves, and why those ahead of it do not."""
    reasons: dict[str, str] = {}
    for each in WAYS:
        if way in ("auto", each.name):
            reason = (each.slower(request, observe) if way == "auto" else None) or each.can(request, observe)
            if reason is None:
                return each, reasons
            reasons[each.name] = reason
    raise AssertionError(reasons)


def named(request: Request, lse: Tensor, observe: Observe, sums: Sums, told: Callable[[Tensor], Tensor]) -> Statistics:
    """Sums divided, and named as people know them."""
    frame = request.frame
    empty = lse == -torch.inf
    level = lse.double().masked_fill(empty, 0.0)
    share = torch.ones_like(level)  # what the keys' weights must sum to
    if request.sinks is not None:
        share = share - (request.sinks.double()[:, None] - level).exp()
    off = (sums.mass - share.masked_fill(empty, 0.0)).abs()
    whole = sums.mass.masked_fill(sums.mass == 0, 1.0)  # means are over the keys alone, sinks aside
    offset, offset2, distance = (None if x is None else x / whole for x in (sums.offset, sums.offset2, sums.distance))
    spread = None
    if offset is not None and offset2 is not None:
        variance = offset2 - offset.square()
        spread = variance.masked_fill(variance <= ROUNDING * offset2, 0.0).sqrt()
    links = None
    if sums.scores is not None and sums.keys is not None:
        weights = (sums.scores.double() - level[..., None]).exp().masked_fill(sums.keys < 0, 0.0)
        links = Links(weights.to(lse.dtype), sums.keys)
    mean_map = None
    if sums.mean_map is not None and observe.mean_map is not None:
        ends = [0, *Grid.of(observe.mean_map, frame.n_queries, frame.n_keys).row_ends()]
        mean_map = told(sums.mean_map / torch.tensor(ends, device=lse.device).diff()[:, None])

    def plain(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(lse.dtype)

    return Statistics(
        links=links,
        entropy=plain(sums.entropy) if observe.entropy else None,
        squares=plain(sums.squares) if observe.squares else None,
        distance=plain(distance),
        offset=plain(offset),
        spread=plain(spread),
        received=None if sums.received is None else told(sums.received),
        mean_map=mean_map,
        max_map=plain(sums.max_map),
        row_error=float(off.max()) if off.numel() else 0.0,
    )


def reduced(x: Tensor, groups: int, heads: str) -> Tensor:
    """[B, H, ...] told of each head, of the heads that share a key head [B, G, ...], or of all [B, 1, ...]."""
    if heads == "each":
        return x
    if heads == "mean":
        return x.mean(1, keepdim=True)
    shared = torch.unflatten(x, 1, (groups, -1))
    return shared.sum(2) if heads == "group sum" else shared.mean(2)


def exact(request: Request, lse: Tensor, rows: Indices, columns: Indices) -> Tensor:
    """Exact weights [B, H, len(rows), len(columns)] of some rows and columns, float64."""
    i = chosen("rows", rows, request.frame.n_queries, lse.device)
    j = chosen("columns", columns, request.frame.n_keys, lse.device)
    return blockwise.exact_weights(request, lse, i, j).double()
