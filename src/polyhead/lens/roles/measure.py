"""One attention call and its axes go in; the numbers of each of its heads come out, at any length in O(n) memory.

Every number is a sum over rows of weights on a part of the map, or of what a row's strongest key or its entropy tells;
none needs the map itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.lens.recording import Call
from polyhead.lens.roles import chance, regions
from polyhead.lens.roles.alignment import spearman
from polyhead.lens.roles.axis import Axis, masks
from polyhead.operator import Observe, Record, Statistics
from polyhead.operator.rules import Rule

LOST = -(1 << 30)  # the offset of a row that has none


@dataclass(frozen=True, eq=False)
class Measured:
    """What one call tells of its heads: of each sequence of the batch [B, H]; NaN where nothing can be asked.

    offsets: of each counted row, how far its strongest key is, [B, H, T]; `LOST` for rows that do not count.
    """

    numbers: dict[str, Tensor]
    offsets: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Ask:
    """One call made ready: its axes, the parts of its map, and which rows count."""

    rows: list[Axis]
    columns: list[Axis]
    kind: str
    parts: dict[str, Rule]
    counted: Tensor  # [B, 1, T]
    ends: int
    reached: dict[str, Tensor] = field(default_factory=dict[str, Tensor])  # rows [B, H, T] from which a part is seen

    @property
    def grid(self) -> bool:
        return self.columns[0].grid is not None and self.kind == "self"

    @property
    def line(self) -> bool:
        """Whether queries and keys stand on one line, so that their distance says something."""
        return self.kind == "self" and not self.grid


def measure(
    call: Call, rows: Sequence[Axis], columns: Sequence[Axis], *, shift: int = 1, seed: int = 0
) -> tuple[Measured, Measured]:
    """The numbers of a call's heads, and those of chance on the same call.

    rows, columns: the axes of each sequence of the batch, or one for all. Raises ArgumentError where they do not fit.
    """
    record = call.record
    ask = asked(call, list(rows), list(columns), shift)
    even = chance.even(record.request)
    level = even.lse  # log of how many keys are seen
    ask.counted.logical_and_((level > 0.5).any(1, keepdim=True))  # two keys or more
    plain = even.observe(Observe(entropy=True, distance=ask.line, mass=ask.parts))
    ask.reached.update({name: (plain.mass[name] > 0) & ask.counted for name in ask.parts})
    wish = Observe(links=links_of(ask, record), entropy=True, distance=ask.line or call.kind == "cross", mass=ask.parts)
    own = told(ask, record.observe(wish), level, record)
    drawn = chance.random(record.request, seed)
    wish = Observe(links=wish.links, distance=call.kind == "cross")
    lucky = told(ask, drawn.observe(wish), level, drawn)
    return own, Measured(lucky.numbers | told(ask, plain, level, even).numbers, lucky.offsets)


def links_of(ask: Ask, record: Record) -> int:
    """How many strongest keys hold one that is no end."""
    return min(1 + ask.ends, record.request.key.shape[2])


def asked(call: Call, rows: list[Axis], columns: list[Axis], shift: int) -> Ask:
    """The axes cut to the call, one for each sequence, and the parts of its map."""
    query, key = call.record.request.query, call.record.request.key
    (B, _, T, _), S = query.shape, key.shape[2]
    rows, columns = ([*x] * B if len(x) == 1 else [*x] for x in (rows, columns))
    if len(rows) != B or len(columns) != B:
        raise ArgumentError(f"{call.name} has {B} sequences; found axes for {len(rows)} and {len(columns)}")
    own = call.kind == "self"
    columns = [axis.places(0, min(S, axis.count)) for axis in columns]
    rows = [
        axis.places(S - T, S) if own and axis.count >= S > T else axis.places(0, min(T, axis.count)) for axis in rows
    ]
    for name, axes, n in (("queries", rows, T), ("keys", columns, S)):
        longest = max(axis.count for axis in axes)
        if longest < n and B == 1:
            raise ArgumentError(f"{call.name} has {n} {name}, but its axis has {longest} places")
    device = query.device
    parts = regions.of_anything(columns, S, device)
    if own and columns[0].grid is not None:
        parts |= regions.of_patches(columns[0], device)
    elif own:
        parts |= regions.of_lines(rows, columns, T, S, shift, device)
    silent = masks([[*axis.silent, *range(axis.count, T)] for axis in rows], T)
    counted = ~silent[:, None].to(device) & (call.lse > -torch.inf).any(1, keepdim=True)
    return Ask(rows, columns, call.kind, parts, counted, max(len(axis.ends) for axis in columns))


def told(ask: Ask, found: Statistics, level: Tensor, record: Record) -> Measured:
    """Statistics of rows [B, H, T] as numbers of heads [B, H]."""
    counted = ask.counted.expand(record.lse.shape)
    told = {name: mean(x, ask.reached[name]) for name, x in found.mass.items()}
    if ask.grid:
        told = {name: x for name, x in told.items() if name in ("sink", "special", "delimiter", "itself")}
        if found.mass:
            told |= on_grid(ask, found)
    if found.entropy is not None:
        H = found.entropy.double()
        told |= {
            "entropy": mean(H, counted),
            "evenness": mean(H / level.masked_fill(level <= 0, 1.0), counted),
            "keys": mean(H.exp(), counted),
        }
    if found.distance is not None and ask.line:
        told["distance"] = mean(found.distance, counted)
    offsets = None
    if found.links is not None:
        keys, weights = found.links.keys, found.links.weights  # [B, H, T, k]
        S = record.request.key.shape[2]
        ends = masks([axis.ends for axis in ask.columns], S).to(keys.device)[:, None, None]  # [B, 1, 1, S]
        ending = ends.expand(*keys.shape[:3], -1).gather(-1, keys.clamp(min=0)) | (keys < 0)
        told["confidence"] = mean(weights.masked_fill(ending, 0.0).amax(-1), counted)
        if ask.kind == "self":
            offsets = strongest(ask, keys[..., 0], counted, record)
    if ask.kind == "cross" and found.offset is not None:
        T = record.lse.shape[2]
        place = found.offset.double() + torch.arange(T, device=record.lse.device)  # E[j given i], up to a constant
        told["alignment"] = spearman(place, counted)
    return Measured(told, offsets)


def mean(x: Tensor, counted: Tensor) -> Tensor:
    """[B, H, T] -> [B, H] over the rows that count; NaN where there is none."""
    n = counted.sum(-1)
    return x.double().masked_fill(~counted, 0.0).sum(-1) / n.double().masked_fill(n == 0, torch.nan)


def strongest(ask: Ask, key: Tensor, counted: Tensor, record: Record) -> Tensor:
    """How far right of its query each strongest key stands [B, H, T]; on a grid, rows and columns in one number."""
    frame = record.request.frame
    T = key.shape[2]
    if ask.grid:
        axis = ask.columns[0]
        assert axis.grid is not None
        y, x = (line.to(key.device) for line in regions.lines(axis))
        apart = torch.cat((torch.zeros(axis.before, dtype=torch.long, device=key.device), y * 4 * axis.grid[1] + x))
        off = apart[key.clamp(min=0)] - apart[:T]
        counted = counted & (key >= axis.before)
    else:
        own = torch.arange(T, device=key.device) + (
            frame.diagonal if isinstance(frame.diagonal, int) else frame.diagonal[..., 0]
        )
        off = key - own
    return off.masked_fill(~counted | (key < 0), LOST)


def on_grid(ask: Ask, found: Statistics) -> dict[str, Tensor]:
    """Offsets in patches and shares of lines, from the weight on each line of the image."""
    axis, mass = ask.columns[0], {name: x.double() for name, x in found.mass.items()}
    assert axis.grid is not None
    counted = ask.counted.expand(mass["itself"].shape)
    each: dict[str, Tensor] = {}
    variance: Tensor | float = 0.0
    for name, line, n in (("x", regions.lines(axis)[1], axis.grid[1]), ("y", regions.lines(axis)[0], axis.grid[0])):
        shares = torch.stack([mass[f"{name}{at}"] for at in range(n)], -1)  # [B, H, T, n]
        at = torch.arange(n, dtype=torch.float64, device=shares.device)
        whole = shares.sum(-1)
        whole = whole.masked_fill(whole == 0, torch.nan)
        first, second = (shares @ at) / whole, (shares @ at.square()) / whole
        own = torch.cat((torch.zeros(axis.before, dtype=torch.long), line)).to(shares.device)
        each[f"d{name}"] = mean((first - own).nan_to_num(0.0), counted & ~first.isnan())
        variance = variance + (second - first.square()).clamp(min=0)
    assert isinstance(variance, Tensor)
    each["spread"] = mean(variance.sqrt().nan_to_num(0.0), counted & ~variance.isnan())
    itself = mass["itself"]
    each["row"] = mean(mass["row"] - itself, counted)
    each["column"] = mean(mass["column"] - itself, counted)
    each["diagonal"] = mean(mass["falling"] + mass["rising"] - 2 * itself, counted)
    return each
