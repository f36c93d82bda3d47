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
    rounded,
    weighted_sum,
    widened,
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


floats_at, halves_at, flags_at = map(pointer_to, (types.float32, types.uint16, types.uint8))


four_products, one_product = inner_products(4), inner_products(1)
four_weighted, one_weighted = weighted_sum(4), weighted_sum(1)
four_half_products, one_half_product = inner_products(4, half=True), inner_products(1, half=True)
four_half_weighted, one_half_weighted = weighted_sum(4, half=True), weighted_sum(1, half=True)


@inlined
def number(a, n, half):
    """Number n at an address, as a float32."""
    return widened(halves_at(a)[n]) if half else floats_at(a)[n]


@inlined
def score(query, key, apart, count, K, scale, row, half):
    """Write the scores of a query with four keys, or with one, which lie so many numbers apart."""
    if half and count == FOUR:
        four_half_products(query, key, apart, K, scale, row)
    elif half:
        one_half_product(query, key, apart, K, scale, row)
    elif count == FOUR:
        four_products(query, key, apart, K, scale, row)
    else:
        one_product(query, key, apart, K, scale, row)
    if K % LANES:
        x, found = floats_at(query), floats_at(row)
        for i in range(count):
            for n in range(K // LANES * LANES, K):
                found[i] += scale * x[n] * number(key, i * apart + n, half)


@inlined
def add(row, value, apart, count, V, out, half):
    """Add four values, or one, each times its weight."""
    if half and count == FOUR:
        four_half_weighted(row, value, apart, V, out)
    elif half:
        one_half_weighted(row, value, apart, V, out)
    elif count == FOUR:
        four_weighted(row, value, apart, V, out)
    else:
        one_weighted(row, value, apart, V, out)
    if V % LANES:
        share, total = floats_at(row), floats_at(out)
        for i in range(count):
            for n in range(V // LANES * LANES, V):
                total[n] += share[i] * number(value, i * apart + n, half)


@inlined
def ask(a, size):
    """Let so many bytes at an address come nearer while others are computed with."""
    for line in range(0, size, LINE):
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
def up(n, unit):
    """n, or the next multiple of a unit."""
    return (n + unit - 1) // unit * unit


@inlined
def whole(n):
    """Numbers of so many as whole vectors."""
    return up(n, LANES)


@inlined
def sees(visible, x, bias, y):
    """Whether a pair may look: by flag x of the mask and number y of the bias, where there are any."""
    return not (visible != 0 and flags_at(visible)[x] == 0) and not (bias != 0 and floats_at(bias)[y] == HIDDEN)


@compiled
def heads(
    query, key, value, out, lse, visible, bias, half, b, first, last, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, desk, following,
):  # fmt: skip
    """The key heads first..last of sequence b, each with the `share` heads that look at it. half: whether queries,
    keys, values and out are bfloat16. desk: an address with room for the weights of all rows, each filled up to whole
    vectors, and, where they are halves, for the rows of queries and of out as float32.

    Four places go by at a time, and what is left one by one. Keys come from memory, then values, then keys of sequence
    b + 1 if this thread is `following` it up: each place is asked for while one before it is looked at.
    """
    room, free = 4 * whole(S), visible == 0 and bias == 0  # bytes of a row; whether nothing is hidden or added
    size, top = 2 if half else 4, first * share  # bytes of a number, the first head of a query
    q, q_head, q_row = query + 4 * (b * qb + top * qh), qh, qt
    o, o_head, o_row = out + 4 * (b * T * H + top) * V, V, H * V
    if half:
        q, q_head, q_row = desk + (last - first) * share * T * room, T * K, K
        o, o_head, o_row = q + (last - first) * share * T * 4 * K, T * V, V
        for h in range(top, last * share):
            for t in range(T):
                x, found = query + 2 * (b * qb + h * qh + t * qt), floats_at(q + 4 * ((h - top) * q_head + t * q_row))
                for n in range(K):
                    found[n] = number(x, n, half)
    ahead = min(S, max(1, NEAR // ((last - first) * max(K, V))))
    s = 0
    while s < S:
        count, row = FOUR if s + FOUR <= S else 1, desk + 4 * s
        for g in range(first, last):
            k = key + size * (b * kb + g * kh + s * ks)
            for i in range(count):
                if s + i + ahead < S:
                    ask(k + size * (i + ahead) * ks, size * K)
                else:
                    ask(value + size * (b * vb + g * vh + (s + i + ahead - S) * vs), size * V)
            for h in range(g * share - top, (g + 1) * share - top):
                for t in range(T):
                    score(q + 4 * (h * q_head + t * q_row), k, ks, count, K, scale, row, half)
                    row += room
        s += count
    row = desk
    for h in range(top, last * share):
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
            fill(o + 4 * ((h - top) * o_head + t * o_row), V, ZERO)
            row += room
    s = 0
    while s < S:
        count, row = FOUR if s + FOUR <= S else 1, desk + 4 * s
        for g in range(first, last):
            v = value + size * (b * vb + g * vh + s * vs)
            for i in range(count):
                if s + i + ahead < S:
                    ask(v + size * (i + ahead) * vs, size * V)
                elif following:
                    ask(key + size * ((b + 1) * kb + g * kh + (s + i + ahead - S) * ks), size * K)
            for h in range(g * share, (g + 1) * share):
                for t in range(T):
                    sums = o + 4 * ((h - top) * o_head + t * o_row)
                    if free:
                        add(row, v, vs, count, V, sums, half)
                    else:  # what is hidden may hold NaN
                        x, y = b * xb + h * xh + t * xt + s * xs, b * bb + h * bh + t * bt + s * bs
                        for i in range(count):
                            if sees(visible, x + i * xs, bias, y + i * bs):
                                add(row + 4 * i, v + size * i * vs, vs, 1, V, sums, half)
                    row += room
        s += count
    if half:
        for h in range(top, last * share):
            for t in range(T):
                found, narrow = floats_at(o + 4 * ((h - top) * o_head + t * o_row)), halves_at(out)
                for n in range(V):
                    narrow[((b * T + t) * H + h) * V + n] = rounded(found[n])


@compiled
def work(
    thread, threads, parts, query, key, value, out, lse, visible, bias, half, B, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, desks,
):  # fmt: skip
    """One thread's share of all sequences, each cut into so many parts of its heads."""
    groups, end, desk = H // share, (thread + 1) * B * parts // threads, np.int64(desks[thread].ctypes.data)
    for unit in range(thread * B * parts // threads, end):
        b, part = unit // parts, unit % parts
        first, last = part * groups // parts, (part + 1) * groups // parts
        following = parts == 1 and unit + 1 < end
        heads(
            query, key, value, out, lse, visible, bias, half, b, first, last, H, share, T, S, K, V, scale,
            qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, desk, following,
        )  # fmt: skip


@njit(nogil=True, cache=True, parallel=True)
def look(
    threads, parts, query, key, value, out, lse, visible, bias, half, B, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, desks,
):  # fmt: skip
    """`work` on so many threads."""
    for thread in prange(threads):
        work(
            np.int64(thread), threads, parts, query, key, value, out, lse, visible, bias, half, B, H, share, T, S, K, V,
            scale, qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, desks,
        )  # fmt: skip
