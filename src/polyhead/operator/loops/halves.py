"""Attention in bfloat16 where nothing learns, as in encoders and prompts: products of pairs of numbers, which one
instruction multiplies and adds up in float32 (AVX512-BF16).

The keys of a head are laid out once, pairs of features side by side, and its values, pairs of places; then some queries
at a time meet them, and their scores, which stay float32, go no farther than the second cache. No sum depends on
another query, head or sequence, nor on the number of threads.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange, types

from polyhead.operator.loops.products import HIGH, LOW, MIDDLE, TALL, height
from polyhead.operator.loops.steps import HIDDEN, compiled, fill, floats_at, halves_at, inlined, pointer_to, up, weigh
from polyhead.operator.loops.vectors import PAIRS, PANEL, rounded, tile

ROWS = 48  # queries that meet all keys before others do, whole tiles of them
NEAR = 1 << 16  # most scores of these
tall, high, middle, low, one = (tile(n, numbers=PAIRS) for n in (TALL, HIGH, MIDDLE, LOW, 1))
words_at = pointer_to(types.uint32)


class Call(NamedTuple):
    """What is read and written, by address, and the distances of sequences, heads and rows, in numbers.

    query [B, H, T, K], key [B, G, S, K], value [B, G, S, V], of which features lie side by side; out [B, T, H, V] and
    lse [B, H, T] are whole, and lse is 0 where it is not asked for. Query t sees the keys up to t + `last`.
    """

    query: int
    key: int
    value: int
    out: int
    lse: int
    B: int
    H: int
    G: int
    T: int
    S: int
    K: int
    V: int
    query_b: int
    query_h: int
    query_t: int
    key_b: int
    key_h: int
    key_s: int
    value_b: int
    value_h: int
    value_s: int
    last: int
    scale: np.float32


def rows_of(S: int) -> int:
    """How many queries meet so many keys at a time."""
    return max(TALL, min(ROWS, NEAR // S // TALL * TALL))


def room(S: int, K: int, V: int) -> int:
    """Numbers of 32 bits on a thread's desk: keys, values, scores, weights, and what comes out."""
    rows, (places, columns) = rows_of(S), (-(-n // PANEL) * PANEL for n in (S, V))
    return places * (K // 2) + places // 2 * columns + rows * (places + places // 2 + columns)


@inlined
def lay_keys(at, step, S, pairs, keys):
    """Rows of keys become columns, panel by panel, pairs of features one below the other."""
    laid = words_at(keys)
    for s in range(S):
        row, panel = words_at(at + 2 * s * step), s // PANEL * pairs * PANEL + s % PANEL
        for n in range(pairs):
            laid[panel + n * PANEL] = row[n]


@inlined
def lay_values(at, step, S, V, values):
    """Rows of values, two by two, become rows of pairs, panel by panel; beyond the last place is zero."""
    laid, pairs = words_at(values), (S + 1) // 2
    for s in range(pairs):
        first, second = halves_at(at + 4 * s * step), halves_at(at + 4 * s * step + 2 * step)
        for v in range(0, V, PANEL):
            panel, both = (v // PANEL * pairs + s) * PANEL, 2 * s + 1 < S
            for n in range(min(PANEL, V - v)):
                beside = np.uint32(second[v + n]) << np.uint32(16) if both else np.uint32(0)
                laid[panel + n] = np.uint32(first[v + n]) | beside


@inlined
def multiply(rows, a, a_step, panel, out, out_step, depth):
    """The product of so many rows of pairs with a panel of them."""
    r = 0
    while r < rows:
        n, x, z = height(rows - r), a + 4 * r * a_step, out + 4 * r * out_step
        if n == TALL:
            tall(x, a_step, panel, PANEL, z, out_step, depth)
        elif n == HIGH:
            high(x, a_step, panel, PANEL, z, out_step, depth)
        elif n == MIDDLE:
            middle(x, a_step, panel, PANEL, z, out_step, depth)
        elif n == LOW:
            low(x, a_step, panel, PANEL, z, out_step, depth)
        else:
            one(x, a_step, panel, PANEL, z, out_step, depth)
        r += n


@inlined
def narrow(a, n, out):
    """n numbers at an address become bfloat16."""
    wide, halves = floats_at(a), halves_at(out)
    for i in range(n):
        halves[i] = rounded(wide[i])


@compiled
def work(thread, threads, call, rows, desks):
    """One thread's share of all queries, so many rows at a time."""
    B, H, T, S, V, share = call.B, call.H, call.T, call.S, call.V, call.H // call.G
    wide, columns, pairs, places = up(S, PANEL), up(V, PANEL), call.K // 2, (S + 1) // 2
    keys = desks[thread].ctypes.data
    values = keys + 4 * wide * pairs
    scores = values + 2 * wide * columns
    weights = scores + 4 * rows * wide
    sums = weights + 2 * rows * wide
    parts, laid = (T + rows - 1) // rows, -1  # of the queries of a head; whose keys and values lie on the desk
    for unit in range(thread * B * H * parts // threads, (thread + 1) * B * H * parts // threads):
        b, h, t = unit // parts // H, unit // parts % H, unit % parts * rows
        g, n = h // share, min(rows, T - t)
        if laid != b * call.G + g:
            laid = b * call.G + g
            lay_keys(call.key + 2 * (b * call.key_b + g * call.key_h), call.key_s, S, pairs, keys)
            lay_values(call.value + 2 * (b * call.value_b + g * call.value_h), call.value_s, S, V, values)
        query = call.query + 2 * (b * call.query_b + h * call.query_h + t * call.query_t)
        met = max(1, min(S, t + n + call.last))  # keys that one of these queries sees
        for s in range(0, met, PANEL):
            multiply(n, query, call.query_t // 2, keys + 4 * s * pairs, scores + 4 * s, wide, pairs)
        filled = up(met, PANEL)
        for r in range(n):
            row, seen = scores + 4 * r * wide, max(0, min(S, t + r + call.last + 1))
            found = floats_at(row)
            for s in range(seen):
                found[s] *= call.scale
            fill(row + 4 * seen, filled - seen, HIDDEN)
            level = weigh(row, filled, call.lse != 0)
            if call.lse != 0:
                floats_at(call.lse)[(b * H + h) * T + t + r] = level
            narrow(row, filled, weights + 2 * r * wide)
        for v in range(0, V, PANEL):
            multiply(n, weights, wide // 2, values + 4 * v * places, sums + 4 * v, columns, (met + 1) // 2)
        for r in range(n):
            narrow(sums + 4 * r * columns, V, call.out + 2 * ((b * T + t + r) * H + h) * V)


@njit(nogil=True, cache=True, parallel=True)
def look(threads, call, rows, desks):
    """`work` on so many threads."""
    for thread in prange(threads):
        work(np.int64(thread), threads, call, rows, desks)
