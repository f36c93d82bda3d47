"""Short sequences in training: all queries of a head at all of its keys, there and back, in the nearest caches.

Each head's queries, keys and values are taken to a desk, where products are tiles whose sums stay in registers, and
what comes of them is brought back. Backward, weights are rebuilt from the rows' log-sum-exp (Dao et al. 2022, arXiv
2205.14135, B.4). Numbers of half width are wide on the desk. No sum depends on another sequence, nor on the number of
threads.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from polyhead.operator.loops.steps import compiled, floats_at, halves_at, inlined, sees, up, weigh
from polyhead.operator.loops.vectors import (
    GROUP,
    PANEL,
    add_tile,
    exponential,
    f32,
    rounded,
    set_tile,
    u32,
    widened,
)

HIDDEN, ZERO = f32(-math.inf), f32(0)


class Call(NamedTuple):
    """What is read and written, by address; 0 for what is not there. `half`: 1 where all but lse and bias are bfloat16.
    Of the weights, those whose draw is below `bar` are dropped, and the others grow by `growth`; see `drawn`.

    query [B, H, T, K], key [B, G, S, K], value [B, G, S, V], and `by` holds the distances of their sequences, heads and
    rows, in numbers; those of mask and bias [B, H, T, S] of columns too. lse [B, H, T] is whole; out, and the
    gradients, are [B, T, H, ...] side by side.
    """

    query: int
    key: int
    value: int
    visible: int
    bias: int
    out: int
    lse: int
    d_out: int
    d_query: int
    d_key: int
    d_value: int
    half: int
    B: int
    H: int
    G: int
    T: int
    S: int
    K: int
    V: int
    scale: np.float32
    seed: np.uint32
    bar: np.uint32
    growth: np.float32


QUERY, KEY, VALUE, VISIBLE, BIAS, D_OUT = range(6)  # rows of `by`


@inlined
def bring(at, step, rows, width, half, scale, desk):
    """Rows at an address become those of a desk, times scale."""
    for r in range(rows):
        if half:
            halves = halves_at(at + 2 * r * step)
            for n in range(width):
                desk[r, n] = widened(halves[n]) * scale
        else:
            floats = floats_at(at + 4 * r * step)
            for n in range(width):
                desk[r, n] = floats[n] * scale


@inlined
def turn(rows, height, width, turned):
    """Rows of a desk become columns of another."""
    for r in range(height):
        for n in range(width):
            turned[n, r] = rows[r, n]


@inlined
def take_back(desk, rows, width, scale, at, step, half):
    """Rows of a desk, times scale, become those at an address."""
    for r in range(rows):
        if half:
            halves = halves_at(at + 2 * r * step)
            for n in range(width):
                halves[n] = rounded(desk[r, n] * scale)
        else:
            floats = floats_at(at + 4 * r * step)
            for n in range(width):
                floats[n] = desk[r, n] * scale


@inlined
def multiply(a, b, out, rows, depth, width, adds):
    """out = a b, or out += a b, of desks whose rows and columns are filled up to whole tiles."""
    x, y, z = a.ctypes.data, b.ctypes.data, out.ctypes.data
    x_step, y_step, z_step = a.shape[1], b.shape[1], out.shape[1]
    for c in range(0, width, PANEL):
        for r in range(0, rows, GROUP):
            if adds:
                add_tile(x + 4 * r * x_step, x_step, y + 4 * c, y_step, z + 4 * (r * z_step + c), z_step, depth)
            else:
                set_tile(x + 4 * r * x_step, x_step, y + 4 * c, y_step, z + 4 * (r * z_step + c), z_step, depth)


@inlined
def finish(call, by, b, h, t, row):
    """A row of scaled products gains its bias, and is hidden where nothing is to be seen, as beyond the last key."""
    row[call.S :] = HIDDEN
    if call.visible != 0 or call.bias != 0:
        x = b * by[VISIBLE, 0] + h * by[VISIBLE, 1] + t * by[VISIBLE, 2]
        y = b * by[BIAS, 0] + h * by[BIAS, 1] + t * by[BIAS, 2]
        for s in range(call.S):
            if not sees(call.visible, x + s * by[VISIBLE, 3], call.bias, y + s * by[BIAS, 3]):
                row[s] = HIDDEN
            elif call.bias != 0:
                row[s] += floats_at(call.bias)[y + s * by[BIAS, 3]]


@inlined
def drawn(seed, number, s):
    """32 bits that look like chance, of key s and the row of a number: a seed and the two, mixed by the rounds of
    Wellons's hash `lowbias32` (nullprogram.com, "Prospecting for hash functions", 2018). kernels/short.py draws the
    same."""
    x = u32(seed + u32(number * u32(0x9E3779B9)))
    x = u32((x ^ (x >> u32(16))) * u32(0x7FEB352D))
    x = u32((x ^ (x >> u32(15)) ^ u32(s)) * u32(0x846CA68B))
    x = u32((x ^ (x >> u32(16))) * u32(0x7FEB352D))
    x = u32((x ^ (x >> u32(15))) * u32(0x846CA68B))
    return u32(x ^ (x >> u32(16)))


@inlined
def drop(call, number, weights):
    """Weights of a row, by its number among all, become zero by chance, and the others grow."""
    if call.bar > 0:
        for s in range(len(weights)):
            weights[s] = weights[s] * call.growth if drawn(call.seed, u32(number), s) >= call.bar else ZERO


def sizes(T: int, S: int, K: int, V: int) -> tuple[int, int]:
    """Numbers on a thread's desk: those of `there`, and those of `there` and `back`."""
    t, s, k, v = (-(-n // PANEL) * PANEL for n in (T, S, K, V))
    T, S = (-(-n // GROUP) * GROUP for n in (T, S))
    there = T * k + S * k + K * s + T * s + S * v + T * v
    return there, there + V * s + T * v + T * s + 2 * S * t + T * k + S * k + S * v


@inlined
def cut(desk, start, rows, width):
    """A part of a desk, and where the next begins."""
    return desk[start : start + rows * width].reshape(rows, width), start + rows * width


@inlined
def there(call, desk):
    """The parts of a desk on the way there: queries, keys, keys turned, scores, values and what comes out."""
    rows, places, columns = up(call.T, GROUP), up(call.S, GROUP), up(call.S, PANEL)
    q, end = cut(desk, 0, rows, up(call.K, PANEL))
    k, end = cut(desk, end, places, up(call.K, PANEL))
    k_turned, end = cut(desk, end, call.K, columns)
    p, end = cut(desk, end, rows, columns)
    v, end = cut(desk, end, places, up(call.V, PANEL))
    o, end = cut(desk, end, rows, up(call.V, PANEL))
    return q, k, k_turned, p, v, o, end


@inlined
def back(call, desk, end):
    """The parts besides on the way back: values turned, the gradients of what comes out and of weights, weights and
    the latter turned, and the gradients of queries, keys and values."""
    rows, places, columns = up(call.T, GROUP), up(call.S, GROUP), up(call.S, PANEL)
    v_turned, end = cut(desk, end, call.V, columns)
    d_o, end = cut(desk, end, rows, up(call.V, PANEL))
    d_p, end = cut(desk, end, rows, columns)
    p_turned, end = cut(desk, end, places, up(call.T, PANEL))
    s_turned, end = cut(desk, end, places, up(call.T, PANEL))
    d_q, end = cut(desk, end, rows, up(call.K, PANEL))
    d_k, end = cut(desk, end, places, up(call.K, PANEL))
    d_v, end = cut(desk, end, places, up(call.V, PANEL))
    return v_turned, d_o, d_p, p_turned, s_turned, d_q, d_k, d_v


@compiled
def forward(thread, threads, call, by, desks):
    """One thread's share of all key heads of all sequences: out and lse."""
    T, S, K, V, half = call.T, call.S, call.K, call.V, call.half != 0
    share, size = call.H // call.G, 2 if half else 4
    q, k, k_turned, p, v, o, _ = there(call, desks[thread])
    units = call.B * call.G
    for unit in range(thread * units // threads, (thread + 1) * units // threads):
        b, g = unit // call.G, unit % call.G
        bring(call.key + size * (b * by[KEY, 0] + g * by[KEY, 1]), by[KEY, 2], S, K, half, f32(1), k)
        turn(k, S, K, k_turned)
        bring(call.value + size * (b * by[VALUE, 0] + g * by[VALUE, 1]), by[VALUE, 2], S, V, half, f32(1), v)
        for h in range(g * share, (g + 1) * share):
            bring(call.query + size * (b * by[QUERY, 0] + h * by[QUERY, 1]), by[QUERY, 2], T, K, half, call.scale, q)
            multiply(q, k_turned, p, T, K, S, False)
            for t in range(T):
                number = (b * call.H + h) * T + t
                finish(call, by, b, h, t, p[t])
                floats_at(call.lse)[number] = weigh(p[t].ctypes.data, len(p[t]), True)
                drop(call, number, p[t])
            multiply(p, v, o, T, S, V, False)
            take_back(o, T, V, f32(1), call.out + size * (b * T * call.H + h) * V, call.H * V, half)


@compiled
def backward(thread, threads, call, by, desks):
    """One thread's share of all key heads of all sequences: the gradients of queries, keys and values.

    With weights p and dP = dO VT: dS = p (dP - delta), where delta = dO . O of each row (the sum of p dP). Dropout is
    drawn again, for dP and for the weights that values were met by.
    """
    T, S, K, V, half = call.T, call.S, call.K, call.V, call.half != 0
    share, size = call.H // call.G, 2 if half else 4
    q, k, k_turned, p, v, o, end = there(call, desks[thread])
    v_turned, d_o, d_p, p_turned, s_turned, d_q, d_k, d_v = back(call, desks[thread], end)
    units = call.B * call.G
    for unit in range(thread * units // threads, (thread + 1) * units // threads):
        b, g = unit // call.G, unit % call.G
        bring(call.key + size * (b * by[KEY, 0] + g * by[KEY, 1]), by[KEY, 2], S, K, half, f32(1), k)
        turn(k, S, K, k_turned)
        bring(call.value + size * (b * by[VALUE, 0] + g * by[VALUE, 1]), by[VALUE, 2], S, V, half, f32(1), v)
        turn(v, S, V, v_turned)
        for h in range(g * share, (g + 1) * share):
            place = (b * T * call.H + h) * V
            bring(call.query + size * (b * by[QUERY, 0] + h * by[QUERY, 1]), by[QUERY, 2], T, K, half, call.scale, q)
            bring(call.d_out + size * (b * by[D_OUT, 0] + h * by[D_OUT, 1]), by[D_OUT, 2], T, V, half, f32(1), d_o)
            bring(call.out + size * place, call.H * V, T, V, half, f32(1), o)
            multiply(q, k_turned, p, T, K, S, False)
            multiply(d_o, v_turned, d_p, T, V, S, False)
            for t in range(T):
                number, row, slope = (b * call.H + h) * T + t, p[t], d_p[t]
                finish(call, by, b, h, t, row)
                drop(call, number, slope)
                level, delta = floats_at(call.lse)[number], ZERO
                for n in range(V):
                    delta += d_o[t, n] * o[t, n]
                if level == HIDDEN:  # an empty row
                    row[:] = ZERO
                elif level == level:
                    for s in range(len(row)):
                        row[s] = exponential(row[s] - level)
                else:
                    for s in range(len(row)):
                        row[s] = ZERO if row[s] == HIDDEN else level
                for s in range(len(row)):
                    slope[s] = ZERO if row[s] == ZERO else row[s] * (slope[s] - delta)
                drop(call, number, row)
            turn(p, T, S, p_turned)
            turn(d_p, T, S, s_turned)
            multiply(d_p, k, d_q, T, S, K, False)
            multiply(s_turned, q, d_k, S, T, K, h > g * share)
            multiply(p_turned, d_o, d_v, S, T, V, h > g * share)
            at = call.d_query + size * (b * T * call.H + h) * K
            take_back(d_q, T, K, call.scale, at, call.H * K, half)
        at = (b * S * call.G + g) * size
        take_back(d_k, S, K, f32(1), call.d_key + at * K, call.G * K, half)
        take_back(d_v, S, V, f32(1), call.d_value + at * V, call.G * V, half)


@njit(nogil=True, cache=True, parallel=True)
def forwards(threads, call, by, desks):
    """`forward` on so many threads."""
    for thread in prange(threads):
        forward(np.int64(thread), threads, call, by, desks)


@njit(nogil=True, cache=True, parallel=True)
def backwards(threads, call, by, desks):
    """`backward` on so many threads."""
    for thread in prange(threads):
        backward(np.int64(thread), threads, call, by, desks)
