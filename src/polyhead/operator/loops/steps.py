"""A few queries at many keys, as in decoding, read where a cache holds them.

Keys of a sequence follow one another, all heads of a place side by side, and so they are read: four places by four,
every head and query of them at once, while the cache is asked for places to come. No sum depends on another query, head
or sequence, nor on the number of threads; what a softmax adds up is added in an order that goes by the number of keys,
hidden ones among them.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from polyhead.operator.loops.vectors import (
    LANES,
    LINE,
    asked,
    exponentials,
    f32,
    inner_products,
    multiplied,
    peak,
    weighted_sum,
)

NEAR = 1 << 13  # so many numbers before they are needed, keys and values are asked for
FOUR = 4  # places that go by at a time
HIDDEN, ZERO, ONE = f32(-math.inf), f32(0), f32(1)
FAST = {"reassoc", "contract"}  # the order of sums is free, but fixed once compiled; NaN and Inf are what they are
compiled = njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy", _nrt=False)
inlined = njit(nogil=True, fastmath=FAST, error_model="numpy", _nrt=False, inline="always")


def pointer_to(kind: types.Type) -> Any:
    """The numbers of this kind at an address."""

    @intrinsic
    def at(typing, address):
        signature = types.CPointer(kind)(types.int64)
        return signature, lambda context, builder, sig, args: builder.inttoptr(
            args[0], context.get_value_type(sig.return_type)
        )

    return at


floats_at, flags_at = pointer_to(types.float32), pointer_to(types.uint8)


four_products, one_product = inner_products(4), inner_products(1)
four_weighted, one_weighted = weighted_sum(4), weighted_sum(1)


@inlined
def score(query, key, apart, count, K, scale, row):
    """Write the scores of a query with four keys, or with one, which lie so many numbers apart."""
    if count == FOUR:
        four_products(query, key, apart, K, scale, row)
    else:
        one_product(query, key, apart, K, scale, row)
    if K % LANES:
        x, found = floats_at(query), floats_at(row)
        for i in range(count):
            y = floats_at(key + 4 * i * apart)
            for n in range(K // LANES * LANES, K):
                found[i] += scale * x[n] * y[n]


@inlined
def add(row, value, apart, count, V, out):
    """Add four values, or one, each times its weight."""
    if count == FOUR:
        four_weighted(row, value, apart, V, out)
    else:
        one_weighted(row, value, apart, V, out)
    if V % LANES:
        share, total = floats_at(row), floats_at(out)
        for i in range(count):
            y = floats_at(value + 4 * i * apart)
            for n in range(V // LANES * LANES, V):
                total[n] += share[i] * y[n]


@inlined
def ask(a, n):
    """Let the n numbers at an address come nearer while others are computed with."""
    for line in range(0, 4 * n, LINE):
        asked(a + line)


@inlined
def fill(a, n, x):
    """Set the n numbers at an address."""
    numbers = floats_at(a)
    for i in range(n):
        numbers[i] = x


@inlined
def weigh(row, n, tells):
    """Turn the n scores at an address, whole vectors of them, into weights, zero where hidden, and tell their
    log-sum-exp where it is asked for."""
    top = peak(row, n)
    if not top < math.inf:  # a NaN or an Inf that this query sees
        fill(row, n, f32(math.nan))
        return f32(math.nan)
    if top == HIDDEN:
        fill(row, n, ZERO)
        return HIDDEN
    mass = exponentials(row, n, top)
    multiplied(row, n, ONE / mass)
    return top + f32(math.log(mass)) if tells else ZERO


@inlined
def whole(n):
    """n, or the next multiple of LANES."""
    return (n + LANES - 1) // LANES * LANES


@inlined
def sees(visible, x, bias, y):
    """Whether a pair may look: by flag x of the mask and number y of the bias, where there are any."""
    return not (visible != 0 and flags_at(visible)[x] == 0) and not (bias != 0 and floats_at(bias)[y] == HIDDEN)


@compiled
def heads(
    query, key, value, out, lse, visible, bias, b, first, last, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, weights, following,
):  # fmt: skip
    """The key heads first..last of sequence b, each with the `share` heads that look at it. weights: an address with
    room for those of all rows, each filled up to whole vectors.

    Four places go by at a time, and what is left one by one. Keys come from memory, then values, then keys of sequence
    b + 1 if this thread is `following` it up: each place is asked for while one before it is looked at.
    """
    room, free = 4 * whole(S), visible == 0 and bias == 0  # bytes of a row; whether nothing is hidden or added
    ahead = min(S, max(1, NEAR // ((last - first) * max(K, V))))
    s = 0
    while s < S:
        count, row = FOUR if s + FOUR <= S else 1, weights + 4 * s
        for g in range(first, last):
            k = key + 4 * (b * kb + g * kh + s * ks)
            for i in range(count):
                if s + i + ahead < S:
                    ask(k + 4 * (i + ahead) * ks, K)
                else:
                    ask(value + 4 * (b * vb + g * vh + (s + i + ahead - S) * vs), V)
            for h in range(g * share, (g + 1) * share):
                for t in range(T):
                    score(query + 4 * (b * qb + h * qh + t * qt), k, ks, count, K, scale, row)
                    row += room
        s += count
    row = weights
    for h in range(first * share, last * share):
        for t in range(T):
            if not free:
                found, added = floats_at(row), floats_at(bias)
                x, y = b * xb + h * xh + t * xt, b * bb + h * bh + t * bt
                for s in range(S):
                    if not sees(visible, x + s * xs, bias, y + s * bs):
                        found[s] = HIDDEN
                    elif bias != 0:
                        found[s] += added[y + s * bs]
            fill(row + 4 * S, whole(S) - S, HIDDEN)
            level = weigh(row, whole(S), lse != 0)
            if lse != 0:
                floats_at(lse)[(b * H + h) * T + t] = level
            fill(out + 4 * ((b * T + t) * H + h) * V, V, ZERO)
            row += room
    s = 0
    while s < S:
        count, row = FOUR if s + FOUR <= S else 1, weights + 4 * s
        for g in range(first, last):
            v = value + 4 * (b * vb + g * vh + s * vs)
            for i in range(count):
                if s + i + ahead < S:
                    ask(v + 4 * (i + ahead) * vs, V)
                elif following:
                    ask(key + 4 * ((b + 1) * kb + g * kh + (s + i + ahead - S) * ks), K)
            for h in range(g * share, (g + 1) * share):
                for t in range(T):
                    o = out + 4 * ((b * T + t) * H + h) * V
                    if free:
                        add(row, v, vs, count, V, o)
                    else:  # what is hidden may hold NaN
                        x, y = b * xb + h * xh + t * xt + s * xs, b * bb + h * bh + t * bt + s * bs
                        for i in range(count):
                            if sees(visible, x + i * xs, bias, y + i * bs):
                                add(row + 4 * i, v + 4 * i * vs, vs, 1, V, o)
                    row += room
        s += count


@compiled
def work(
    thread, threads, parts, query, key, value, out, lse, visible, bias, B, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, scores,
):  # fmt: skip
    """One thread's share of all sequences, each cut into so many parts of its heads."""
    groups, end, weights = H // share, (thread + 1) * B * parts // threads, np.int64(scores[thread].ctypes.data)
    for unit in range(thread * B * parts // threads, end):
        b, part = unit // parts, unit % parts
        first, last = part * groups // parts, (part + 1) * groups // parts
        following = parts == 1 and unit + 1 < end
        heads(
            query, key, value, out, lse, visible, bias, b, first, last, H, share, T, S, K, V, scale,
            qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, weights, following,
        )  # fmt: skip


@njit(nogil=True, cache=True, parallel=True)
def look(
    threads, parts, query, key, value, out, lse, visible, bias, B, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, scores,
):  # fmt: skip
    """`work` on so many threads."""
    for thread in prange(threads):
        work(
            np.int64(thread), threads, parts, query, key, value, out, lse, visible, bias, B, H, share, T, S, K, V,
            scale, qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, scores,
        )  # fmt: skip
