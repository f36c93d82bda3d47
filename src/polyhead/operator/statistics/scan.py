"""Statistics on a CPU: one pass over the scores, in blocks that stay in the cache, heads side by side on the cores.

The product of a block of queries with a block of keys is the library's; the loops over its scores are in `loops.py`.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyhead.operator.kernels.blockwise import spans
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request, finite, usable
from polyhead.operator.rules import Bias
from polyhead.operator.statistics.values import Grid, Sums

ROWS, COLUMNS = 128, 1024  # of a block: its scores take half a megabyte
SCORES = 1 << 18  # fewer are soon looked at in any way
CHUNK = 4096  # rows of one head that one thread works on; sums are joined in the order of chunks


def can(request: Request, observe: Observe) -> str | None:
    """None, or why the loops cannot serve."""
    if find_spec("numba") is None:
        return "numba is not installed: pip install 'polyhead[see]'"
    if request.query.device.type != "cpu":
        return f"the loops run on a CPU, and the tensors are on {request.query.device}"
    if request.query.dtype == torch.float64:
        return "the loops compute in float32, and float64 was given"
    if request.weights is not None and not usable(request.weights):
        return "the bias holds NaN or Inf"
    if not request.query.shape[2] * request.key.shape[2] * request.query.shape[0]:
        return "there is nothing to look at"
    if request.rule is not None and request.rule.interval(request.frame, range(1)) is None:
        extent = request.rule.extent(request.frame)
        if extent is not None and extent[0] * extent[1] > 1:
            return "this mask differs from sequence to sequence, or from head to head, and is no interval of keys"
    if not (finite(request.query) and (request.finite or finite(request.key))):
        return "query or key holds NaN or Inf"
    return None


def slower(request: Request) -> str | None:
    """None where this is the fastest way, or the reason why not."""
    (B, H, T, _), S = request.query.shape, request.key.shape[2]
    if B * H * T * S < SCORES:
        return f"a map of {B * H * T * S} weights is looked at before the loops are loaded"
    return None


def look(request: Request, lse: Tensor, observe: Observe) -> Sums:
    """One look at every weight."""
    scan = Scan(request, lse, observe)
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for found in pool.map(scan.unit, scan.units()):
                scan.join(found)
    finally:
        torch.set_num_threads(threads)
    return scan.sums


@dataclass(frozen=True)
class Found:
    """What the rows of one unit add to the columns of their head."""

    b: int
    h: int
    received: np.ndarray  # [S] float64
    mean_map: np.ndarray  # [R, C] float64; of no size where it was not asked
    max_map: np.ndarray  # [R, C]


class Scan:
    """One look: what is asked, where the answers go, and how a unit of work adds to them."""

    def __init__(self, request: Request, lse: Tensor, observe: Observe):
        from polyhead.operator.statistics import loops

        self.loops: Any = loops
        self.request, self.frame = request, request.frame
        (B, H, T, _), S = request.query.shape, request.key.shape[2]
        self.heads_per_key = H // request.key.shape[1]
        self.lse = lse.masked_fill(lse == -torch.inf, torch.inf).numpy()  # exp(score - inf) = 0: an empty row
        self.nearest = -T - self.frame.highest  # the farthest left that a key may lie of its query
        self.along = along(request.bias, range(self.nearest, S - self.frame.lowest + 1))
        self.means, self.peaks = (Cells.of(grid, T, S) for grid in (observe.mean_map, observe.max_map))

        def zeros(wanted: object, *shape: int) -> Tensor | None:
            return torch.zeros(shape, dtype=torch.float64) if wanted else None

        k = observe.links
        self.sums = Sums(
            mass=torch.zeros(B, H, T, dtype=torch.float64),
            entropy=torch.zeros(B, H, T, dtype=torch.float64),
            squares=torch.zeros(B, H, T, dtype=torch.float64),
            offset=zeros(observe.distance, B, H, T),
            offset2=zeros(observe.distance, B, H, T),
            distance=zeros(observe.distance, B, H, T),
            scores=torch.full((B, H, T, k), float(loops.HIDDEN)) if k else None,
            keys=torch.full((B, H, T, k), -1) if k else None,
            received=zeros(observe.received, B, H, S),
            mean_map=zeros(observe.mean_map, B, H, *self.means.shape),
            max_map=zeros(observe.max_map, B, H, *self.peaks.shape),
        )

    def units(self) -> Iterator[tuple[int, int, range]]:
        B, H, T, _ = self.request.query.shape
        for b in range(B):
            for h in range(H):
                for rows in spans(range(T), CHUNK):
                    yield b, h, rows

    def unit(self, work: tuple[int, int, range]) -> Found:
        """Look at some rows of one head."""
        (b, h, rows), sums, loops, request = work, self.sums, self.loops, self.request
        query = request.query[b, h]  # [T, K]
        keys = request.key[b, h // self.heads_per_key].float().T  # [K, S]
        S = keys.shape[1]
        found = Found(b, h, np.zeros(S), np.zeros(self.means.shape), np.zeros(self.peaks.shape, np.float32))
        buffer = torch.empty(ROWS * COLUMNS)
        for block in spans(rows, ROWS):
            at = slice(block.start, block.stop)
            q = query[at].float() * request.scale
            lse, mass, entropy, squares = (x[b, h, at] for x in (self.lse, *map(numpy, self.rows)))
            for columns in spans(self.reach(block), COLUMNS):
                p = self.scores(b, h, q, keys, block, columns, buffer)
                if sums.scores is not None and sums.keys is not None:
                    loops.find_links(p, columns.start, numpy(sums.scores)[b, h, at], numpy(sums.keys)[b, h, at])
                loops.weigh(p, lse, mass, entropy, squares)
                if sums.offset is not None:
                    x = self.offsets(b, block, columns)
                    loops.place(p, x, *(numpy(y)[b, h, at] for y in (sums.offset, sums.offset2, sums.distance)))
                if sums.received is not None or sums.mean_map is not None:
                    total = found.received[columns.start : columns.stop]
                    loops.add_down(p, self.means.rows[at], total, columns.start, self.means.ends, found.mean_map)
                if sums.max_map is not None:
                    loops.highest(p, self.peaks.rows[at], columns.start, self.peaks.ends, found.max_map)
        return found

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.sums.mass, self.sums.entropy, self.sums.squares

    def reach(self, block: range) -> range:
        rule = self.request.rule
        return range(self.frame.n_keys) if rule is None else rule.reach(self.frame, block)

    def scores(
        self, b: int, h: int, q: Tensor, keys: Tensor, block: range, columns: range, buffer: Tensor
    ) -> np.ndarray:
        """The final scores of a block [t, s], hidden ones at `loops.HIDDEN`."""
        t, s = len(block), len(columns)
        x = buffer[: t * s].view(t, s)
        torch.mm(q, keys[:, columns.start : columns.stop], out=x)
        if (cap := self.request.softcap) is not None:
            x.div_(cap).tanh_().mul_(cap)
        rule, bias = self.request.rule, self.request.bias
        if self.along is not None:
            self.loops.add_along(x.numpy(), self.offsets(b, block, columns) - self.nearest, self.along[h])
        elif bias is not None:
            tile = bias.tile(bias.weights.detach(), self.frame, block, columns)
            x.add_(tile[b if len(tile) > 1 else 0, h if tile.shape[1] > 1 else 0])
            x.clamp_(min=float(self.loops.HIDDEN))  # -inf hides
        if rule is None:
            return x.numpy()
        seen = rule.interval(self.frame, block)
        if seen is None:
            visible = rule.visible(self.frame, block, columns)
            return (x if visible is None else x.masked_fill_(~visible[0, 0], float(self.loops.HIDDEN))).numpy()
        low, high = (numpy(end[b if len(end) > 1 else 0] - columns.start) for end in seen)
        if low.max() > 0 or high.min() < s:
            self.loops.hide(x.numpy(), low, high)
        return x.numpy()

    def offsets(self, b: int, block: range, columns: range) -> np.ndarray:
        """How far right of each query's place the first column lies [t]."""
        diagonal = self.frame.diagonal
        shift = diagonal if isinstance(diagonal, int) else int(diagonal[b])
        return columns.start - shift - np.arange(block.start, block.stop)

    def join(self, found: Found) -> None:
        """Add what a unit found to its head."""
        b, h, sums = found.b, found.h, self.sums
        if sums.received is not None:
            sums.received[b, h] += torch.from_numpy(found.received)
        if sums.mean_map is not None:
            sums.mean_map[b, h] += torch.from_numpy(found.mean_map)
        if sums.max_map is not None:
            sums.max_map[b, h] = torch.maximum(sums.max_map[b, h], torch.from_numpy(found.max_map))


@dataclass(frozen=True)
class Cells:
    """A grid as the loops read it: which row of it each query falls into [T], and where its columns end [C]."""

    rows: np.ndarray
    ends: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, grid: tuple[int, int] | None, T: int, S: int) -> Cells:
        if grid is None:
            return cls(np.zeros(T, np.int64), np.zeros(0, np.int64), (0, 0))
        cells = Grid.of(grid, T, S)
        return cls(np.arange(T) * cells.rows // T, np.array(cells.column_ends()), (cells.rows, cells.columns))


def along(bias: Bias | None, distances: range) -> np.ndarray | None:
    """A bias that depends on distance alone, [H, n]."""
    found = None if bias is None else bias.along(torch.arange(distances.start, distances.stop))
    return None if found is None else found.detach().float().contiguous().numpy()


def numpy(x: Tensor | None) -> np.ndarray:
    assert x is not None
    return x.numpy()
