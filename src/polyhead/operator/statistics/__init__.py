"""Statistics of weights that were never written out: a call, its log-sum-exp and a wish go in, `Statistics` come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.operator.kernels import blockwise
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request, chosen
from polyhead.operator.statistics import scan, tiles
from polyhead.operator.statistics.values import Grid, Links, Statistics, Sums


@dataclass(frozen=True)
class Way:
    """One way to look at every weight."""

    name: str
    can: Callable[[Request, Observe], str | None]  # None, or the reason why not
    look: Callable[[Request, Tensor, Observe], Sums]


WAYS = (
    Way("scan", scan.can, scan.look),
    Way("tiles", tiles.can, tiles.look),
)


@torch.no_grad()
def measure(request: Request, lse: Tensor, observe: Observe, way: str = "auto") -> Statistics:
    """What is asked of the weights exp(score - lse), lse [B, H, T]. Nothing of the call's output is touched."""
    if torch.is_autocast_enabled(request.query.device.type):
        with torch.autocast(request.query.device.type, enabled=False):
            return measure(request, lse, observe, way)
    frame = request.frame
    observe.check(frame)
    found: dict[str, object] = {}
    if observe.scans:
        taken, reasons = pick(request, observe, way)
        found |= named(request, lse, observe, taken.look(request, lse, observe))
        found |= {"way": taken.name, "reasons": reasons}
    dtype = lse.dtype
    G = request.key.shape[1]

    def told(x: Tensor) -> Tensor:
        return reduced(x, G, observe.heads).to(dtype)

    for name in ("received", "mean_map"):
        if name in found:
            found[name] = told(found[name])  # pyright: ignore[reportArgumentType]
    found["mass"] = {
        name: told(tiles.mass_of(request, lse, observe.region(name, region, frame)))
        for name, region in observe.mass.items()
    }
    every = range(frame.n_queries), range(frame.n_keys)
    if observe.rows is not None:
        found["rows"] = told(exact(request, lse, observe.rows, every[1]))
    if observe.columns is not None:
        found["columns"] = told(exact(request, lse, every[0], observe.columns))
    found["rectangles"] = tuple(told(exact(request, lse, *rectangle)) for rectangle in observe.rectangles)
    return Statistics(**found)  # pyright: ignore[reportArgumentType]


def pick(request: Request, observe: Observe, way: str) -> tuple[Way, dict[str, str]]:
    """The first way that serves, and why those ahead of it do not."""
    reasons: dict[str, str] = {}
    for each in WAYS:
        if way in ("auto", each.name):
            reason = each.can(request, observe)
            if reason is None:
                return each, reasons
            reasons[each.name] = reason
    raise AssertionError(reasons)


def named(request: Request, lse: Tensor, observe: Observe, sums: Sums) -> dict[str, object]:
    """Sums divided and named as people know them."""
    frame, dtype = request.frame, lse.dtype
    l = lse.double()
    empty = l == -torch.inf
    l = l.masked_fill(empty, 0.0)
    share = 1 - (request.sinks.double()[:, None] - l).exp() if request.sinks is not None else torch.ones_like(l)
    off = (sums.mass - share.masked_fill(empty, 0.0)).abs()
    found: dict[str, object] = {"row_error": float(off.max()) if off.numel() else 0.0}
    if observe.entropy:
        found["entropy"] = (sums.mass * l - sums.entropy).to(dtype)
    if observe.squares:
        found["squares"] = sums.squares.to(dtype)
    if sums.offset is not None and sums.offset2 is not None and sums.distance is not None:
        whole = sums.mass.masked_fill(sums.mass == 0, 1.0)  # means over the keys alone, sinks aside
        mean = sums.offset / whole
        found["offset"] = mean.to(dtype)
        found["spread"] = (sums.offset2 / whole - mean.square()).clamp(min=0).sqrt().to(dtype)
        found["distance"] = (sums.distance / whole).to(dtype)
    if sums.scores is not None and sums.keys is not None:
        weights = (sums.scores.double() - l[..., None]).exp().masked_fill(sums.keys < 0, 0.0)
        found["links"] = Links(weights.to(dtype), sums.keys)
    if sums.received is not None:
        found["received"] = sums.received
    if sums.mean_map is not None and observe.mean_map is not None:
        ends = torch.tensor([0, *Grid.of(observe.mean_map, frame.n_queries, frame.n_keys).row_ends()], device=l.device)
        found["mean_map"] = sums.mean_map / ends.diff()[:, None]
    if sums.max_map is not None:
        found["max_map"] = sums.max_map.to(dtype)
    return found


def reduced(x: Tensor, groups: int, heads: str) -> Tensor:
    """[B, H, ...] told of each head, of the heads that share a key head [B, G, ...], or of all [B, 1, ...]."""
    if heads == "each":
        return x
    if heads == "mean":
        return x.mean(1, keepdim=True)
    shared = x.unflatten(1, (groups, -1))
    return shared.sum(2) if heads == "group sum" else shared.mean(2)


def exact(request: Request, lse: Tensor, rows: object, columns: object) -> Tensor:
    """Exact weights of some rows and columns."""
    frame = request.frame
    return blockwise.exact_weights(
        request, lse, chosen("rows", rows, frame.n_queries, lse.device),
        chosen("columns", columns, frame.n_keys, lse.device),
    ).double()  # fmt: skip
