"""Blocks of rows: queries times keys, each row's weights and statistics, and weights times values, all in the cache.

One call looks at every weight of every head, on as many threads as it is given, and asks nothing of a library: products
of a head's width are faster in registers of our own (docs/decisions/0011).
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from polyhead.operator.loops import rows
from polyhead.operator.loops.rows import HIDDEN, VISIBLE, add, compiled, fill
from polyhead.operator.loops.vectors import GROUP, LN2, PANEL, add_tile, exponential, f32, set_tile, take

DEPTH = 512  # weights that are multiplied with values and added up in registers, before they join the output
MASS, ENTROPY, SQUARES, OFFSET, OFFSET2, DISTANCE = range(6)  # sums over a row, as `Sums` names them
BARS, PEAKS, TOTAL = range(3)  # of each column: the sum so far, zero between cells; the largest; the sum over a block


class Call(NamedTuple):
    """What is read, as arrays side by side in memory; of no size where there is none. B or H may be 1: all alike."""

    query: np.ndarray  # [B, H, T, K] float32
    scale: np.float32
    keys: np.ndarray  # [B, G, P, K, PANEL] float32: the keys by panels, the last one filled with zeros
    value: np.ndarray  # [B, G, S, Kv] float32, Kv a multiple of PANEL
    n_keys: int  # S
    seen: np.ndarray  # [2, B, T] int64: the first key that each query sees, and one past the last
    shift: np.ndarray  # [B] int64: the key on which query 0 stands
    softcap: np.float32  # 0 for none
    along: np.ndarray  # [H, n] float32: a bias by distance alone,
    nearest: int  # from this one on
    bias: np.ndarray  # [B, H, t, S] float32: a bias written out, for the rows of this look
    veil: np.ndarray  # [B, H, t, S] bool: what is visible besides, for the rows of this look
    sinks: np.ndarray  # [H] float32
    level: np.ndarray  # [B, H, T] float32: the log-sum-exp where it is known, +inf in an empty row
    spans: np.ndarray  # [N, 2, B, T] int64: of parts of the map, the first key of each query and one past the last
    span_owners: np.ndarray  # [N] int64: which part each of them belongs to
    runs: np.ndarray  # [M, 2] int64: the same where all queries share them
    run_owners: np.ndarray  # [M] int64


class Answers(NamedTuple):
    """What is written, of no size where it was not asked. Shares [N] of a head's rows add to its columns apart."""

    out: np.ndarray  # [B, T, H, Kv] float32
    lse: np.ndarray  # [B, H, T] float32
    sums: np.ndarray  # [3 or 6, B, H, T] float64
    parts: np.ndarray  # [parts, B, H, T] float64: the weight on each part of the map
    best: np.ndarray  # [B, H, T, k] float32: the k best scores
    keys: np.ndarray  # [B, H, T, k] int64: their places
    received: np.ndarray  # [N, B, H, S] float64
    mean_map: np.ndarray  # [N, B, H, R, C] float32
    max_map: np.ndarray  # [N, B, H, R, C] float32
    mean_rows: np.ndarray  # [T] int64: the row of the grid that each query falls into
    mean_ends: np.ndarray  # [C] int64: where the columns of each cell end
    max_rows: np.ndarray
    max_ends: np.ndarray


class Desk(NamedTuple):
    """Where threads [W] work on blocks: lent from row to row, and always left as it was found."""

    queries: np.ndarray  # [W, block, K]
    scores: np.ndarray  # [W, block, S and more]
    shares: np.ndarray  # [W, block] what each row is multiplied by so that its weights sum to 1
    out: np.ndarray  # [W, block, Kv]
    tops: np.ndarray  # [W, chunks + 1, LANES]
    candidates: np.ndarray  # [W, ROOM] float32
    places: np.ndarray  # [W, ROOM] int32
    columns: np.ndarray  # [W, 3, S and more]: BARS, PEAKS, TOTAL
    taken: np.ndarray  # [1] int64: how many shares of the work have been taken


def desk(call: Call, block: int, threads: int) -> Desk:
    """Room for so many threads, each with a block of so many rows."""
    wide = call.keys.shape[2] * PANEL
    return Desk(
        queries=np.empty((threads, block, call.query.shape[3]), np.float32),
        scores=np.empty((threads, block, wide), np.float32),
        shares=np.empty((threads, block), np.float32),
        out=np.empty((threads, block, call.value.shape[3]), np.float32),
        tops=np.empty((threads, wide // rows.CHUNK + 2, rows.LANES), np.float32),
        candidates=np.empty((threads, rows.ROOM), np.float32),
        places=np.empty((threads, rows.ROOM), np.int32),
        columns=np.zeros((threads, 3, wide), np.float32),
        taken=np.zeros(1, np.int64),
    )


@njit(nogil=True, cache=True, parallel=True)
def look(call, answers, desk, start, stop, share):
    """Look at the rows start..stop of every head, shares of so many rows at a time."""
    for thread in prange(len(desk.scores)):
        work(call, answers, desk, np.int64(thread), start, stop, share)


@compiled
def work(call, answers, desk, thread, start, stop, share):
    """One thread: take a share that nobody has taken, until none is left."""
    own = Desk(
        desk.queries[thread], desk.scores[thread], desk.shares[thread], desk.out[thread], desk.tops[thread],
        desk.candidates[thread], desk.places[thread], desk.columns[thread], desk.taken,
    )  # fmt: skip
    B, H = call.query.shape[:2]
    block, shares = len(own.scores), -(-(stop - start) // share)
    while True:
        n = take(own.taken)
        if n >= B * H * shares:
            return
        head, part = n // shares, n % shares
        first = start + part * share
        last = min(first + share, stop)
        for t in range(first, last, block):
            one_block(call, answers, own, part, head // H, head % H, t, min(block, last - t), t - start)


@compiled
def one_block(call, answers, desk, part, b, h, t, n, i):
    """n rows of a head, from row t on, which is the i-th of this look."""
    low, high = call.seen[0, b if call.seen.shape[1] > 1 else 0], call.seen[1, b if call.seen.shape[1] > 1 else 0]
    shift = call.shift[b if len(call.shift) > 1 else 0]
    a, z = call.n_keys, np.int64(0)  # the columns that some row sees
    for m in range(t, t + n):
        if max(low[m], 0) < min(high[m], call.n_keys):
            a, z = min(a, max(low[m], 0)), max(z, min(high[m], call.n_keys))
    a = min(a, z)
    multiply(call, desk, b, h, t, n, a, z)
    for m in range(n):
        first = min(max(low[t + m], a), z)
        last = max(min(high[t + m], z), first)
        scores = desk.scores[m]
        row = scores[first:last]
        finish(call, b, h, i + m, first, first - shift - t - m, row)
        share = weigh(call, answers, desk, b, h, t + m, first, row)
        desk.shares[m] = share
        if len(answers.sums) > DISTANCE:
            mass, offset, offset2, distance = rows.place(row, np.float64(first - shift - t - m))
            answers.sums[MASS, b, h, t + m] = mass * share
            answers.sums[OFFSET, b, h, t + m] = offset * share
            answers.sums[OFFSET2, b, h, t + m] = offset2 * share
            answers.sums[DISTANCE, b, h, t + m] = distance * share
        for p in range(len(call.spans)):
            ends = call.spans[p, :, b if call.spans.shape[2] > 1 else 0, t + m]
            answers.parts[call.span_owners[p], b, h, t + m] += share * rows.within(
                row, ends[0] - first, ends[1] - first
            )
        for p in range(len(call.runs)):
            ends = call.runs[p]
            answers.parts[call.run_owners[p], b, h, t + m] += share * rows.within(row, ends[0] - first, ends[1] - first)
        if answers.received.size or answers.mean_map.size:
            add(row, share, desk.columns[BARS, first:last])
        if answers.max_map.size:
            rows.raise_to(row, share, desk.columns[PEAKS, first:last])
        if a < z:
            add_columns(answers, desk, part, b, h, t + m, a, z, m == n - 1)
        fill(scores[a:first], f32(0))
        fill(scores[last:z], f32(0))
    if answers.out.size:
        output(call, answers, desk, b, h, t, n, a, z)


@compiled
def multiply(call, desk, b, h, t, n, a, z):
    """The products of n queries with the panels of keys that hold columns a..z."""
    (_, H, _, K), G, wide = call.query.shape, call.keys.shape[1], desk.scores.shape[1]
    for m in range(len(desk.queries)):
        for k in range(K):
            desk.queries[m, k] = call.scale * call.query[b, h, t + m, k] if m < n else f32(0)
    for p in range(a // PANEL, -(-z // PANEL)):
        keys = call.keys[b, h // (H // G), p].ctypes.data
        for m in range(0, n, GROUP):
            scores = desk.scores.ctypes.data + 4 * (m * wide + p * PANEL)
            set_tile(desk.queries.ctypes.data + 4 * m * K, K, keys, PANEL, scores, wide, K)


@compiled
def finish(call, b, h, i, first, x, row):
    """Final scores of a row, the i-th of this look, whose first key lies x right of its query."""
    if call.softcap > f32(0):
        rows.cap(row, call.softcap)
    if call.along.size:
        add(call.along[h, x - call.nearest : x - call.nearest + len(row)], f32(1), row)
    if call.bias.size:
        bias = call.bias[b if len(call.bias) > 1 else 0, h if call.bias.shape[1] > 1 else 0, i]
        for j in range(len(row)):
            row[j] = max(row[j] + bias[first + j], HIDDEN)  # -inf hides
    if call.veil.size:
        veil = call.veil[b if len(call.veil) > 1 else 0, h if call.veil.shape[1] > 1 else 0, i]
        for j in range(len(row)):
            row[j] = row[j] if veil[first + j] else HIDDEN


@compiled
def weigh(call, answers, desk, b, h, t, first, row):
    """Find a row's links, turn its scores into weights and sum these; what they are to be multiplied by to sum to 1."""
    known = call.level.size > 0
    if answers.best.size:
        rows.lane_tops(row, desk.tops)
        rows.find_links(
            row, first, answers.best[b, h, t], answers.keys[b, h, t], desk.tops, desk.candidates, desk.places
        )
    sink = call.sinks[h] if call.sinks.size and not known else HIDDEN
    level = call.level[b, h, t] if known else max(rows.highest(row), sink)
    mass, entropy, squares = rows.weigh(row, level)
    share, beyond = f32(1), f32(0)  # the log-sum-exp is so far beyond the level
    if not known and level < VISIBLE:  # it sees nothing
        fill(row, f32(0))
        answers.lse[b, h, t] = -np.inf
        mass = entropy = squares = f32(0)
    elif not known:
        whole = mass + (exponential(sink - level) if sink >= VISIBLE else f32(0))
        beyond = np.log(whole)
        answers.lse[b, h, t] = level + beyond
        share = f32(1) / whole
    answers.sums[MASS, b, h, t] = mass * share
    answers.sums[ENTROPY, b, h, t] = (mass * beyond - LN2 * entropy) * share
    answers.sums[SQUARES, b, h, t] = squares * share * share
    return share


@compiled
def add_columns(answers, desk, part, b, h, t, a, z, last):
    """Where row t ends a row of cells, or is the last of its block, let the columns' sums join what they belong to."""
    if answers.mean_map.size and (last or answers.mean_rows[t + 1] != answers.mean_rows[t]):
        cells = answers.mean_map[part, b, h, answers.mean_rows[t]]
        rows.add_cells(desk.columns[BARS, a:z], a, answers.mean_ends, cells)
        if answers.received.size:
            add(desk.columns[BARS, a:z], f32(1), desk.columns[TOTAL, a:z])
        fill(desk.columns[BARS, a:z], f32(0))
    if answers.max_map.size and (last or answers.max_rows[t + 1] != answers.max_rows[t]):
        rows.raise_cells(
            desk.columns[PEAKS, a:z], a, answers.max_ends, answers.max_map[part, b, h, answers.max_rows[t]]
        )
        fill(desk.columns[PEAKS, a:z], f32(0))
    if answers.received.size and last:
        received = answers.received[part, b, h]
        for j in range(a, z):
            received[j] += desk.columns[TOTAL, j] + desk.columns[BARS, j]
        fill(desk.columns[TOTAL, a:z], f32(0))
        fill(desk.columns[BARS, a:z], f32(0))


@compiled
def output(call, answers, desk, b, h, t, n, a, z):
    """Weights times values, a depth of them at a time."""
    H, G, wide = call.query.shape[1], call.value.shape[1], desk.scores.shape[1]
    Kv = call.value.shape[3]
    for m in range(len(desk.out)):
        fill(desk.out[m], f32(0))
    for j in range(a, z, DEPTH):
        value = call.value[b, h // (H // G), j].ctypes.data
        for v in range(0, Kv, PANEL):
            for m in range(0, n, GROUP):
                weights, out = desk.scores.ctypes.data + 4 * (m * wide + j), desk.out.ctypes.data + 4 * (m * Kv + v)
                add_tile(weights, wide, value + 4 * v, Kv, out, Kv, min(DEPTH, z - j))
    for m in range(n):
        out = answers.out[b, t + m, h]
        for v in range(Kv):
            out[v] = desk.out[m, v] * desk.shares[m]
