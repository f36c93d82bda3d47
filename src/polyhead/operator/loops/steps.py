"""A few queries at many keys, as in decoding, read where a cache holds them.

Keys of a sequence follow one another, all heads of a place side by side, and so they are read: place by place, every
head and query of it at once, while the cache is asked for places to come. No sum depends on another query, head or
sequence, nor on the number of threads; what a softmax adds up is added in an order that goes by the number of keys,
hidden ones among them.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from polyhead.operator.loops.vectors import LINE, asked, exponential, f32, larger

NEAR = 1 << 13  # so many numbers before they are needed, keys and values are asked for
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


@inlined
def product(a, b, n):
    """The inner product of the n numbers at two addresses."""
    x, y, found = floats_at(a), floats_at(b), ZERO
    for i in range(n):
        found += x[i] * y[i]
    return found


@inlined
def add(share, a, total, n):
    """Add share times the n numbers at one address to those at another."""
    x, y = floats_at(a), floats_at(total)
    for i in range(n):
        y[i] += share * x[i]


@inlined
def clear(a, n):
    x = floats_at(a)
    for i in range(n):
        x[i] = ZERO


@inlined
def ask(a, n):
    """Let the n numbers at an address come nearer while others are computed with."""
    for line in range(0, 4 * n, LINE):
        asked(a + line)


@inlined
def weigh(row):
    """Turn the scores of a row into its weights, zero where hidden, and return their log-sum-exp."""
    top, odd = HIDDEN, np.int32(0)
    for s in range(len(row)):
        top = larger(top, row[s])
        odd += np.int32(0) if row[s] < math.inf else np.int32(1)
    if odd:  # a NaN or an Inf that this query sees
        row[:] = f32(math.nan)
        return f32(math.nan)
    if top == HIDDEN:
        row[:] = ZERO
        return HIDDEN
    mass = ZERO
    for s in range(len(row)):
        row[s] = exponential(row[s] - top)
        mass += row[s]
    share = ONE / mass
    for s in range(len(row)):
        row[s] *= share
    return top + f32(math.log(mass))


@inlined
def sees(visible, x, bias, y):
    """Whether a pair may look: by flag x of the mask and number y of the bias, where there are any."""
    return not (visible != 0 and flags_at(visible)[x] == 0) and not (bias != 0 and floats_at(bias)[y] == HIDDEN)


@compiled
def heads(
    query, key, value, out, lse, visible, bias, b, first, last, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, scores, following,
):  # fmt: skip
    """The heads first..last of sequence b: all that share a key head, or none. scores: room for their weights.

    Keys come from memory, then values, then keys of sequence b + 1 if this thread is `following` it up: each place is
    asked for while one before it is looked at.
    """
    n = (last - first) * T
    weights = scores[: n * S].reshape(n, S)
    added = floats_at(bias)
    ahead = min(S, max(1, NEAR // ((last - first) // share * max(K, V))))
    for s in range(S):
        for h in range(first, last):
            k = key + 4 * (b * kb + h // share * kh + s * ks)
            if h % share == 0:
                if s + ahead < S:
                    ask(k + 4 * ahead * ks, K)
                else:
                    ask(value + 4 * (b * vb + h // share * vh + (s + ahead - S) * vs), V)
            for t in range(T):
                x, y = b * xb + h * xh + t * xt + s * xs, b * bb + h * bh + t * bt + s * bs
                score = HIDDEN
                if sees(visible, x, bias, y):
                    score = product(query + 4 * (b * qb + h * qh + t * qt), k, K) * scale
                    if bias != 0:
                        score += added[y]
                weights[(h - first) * T + t, s] = score
    for h in range(first, last):
        for t in range(T):
            level = weigh(weights[(h - first) * T + t])
            if lse != 0:
                floats_at(lse)[(b * H + h) * T + t] = level
            clear(out + 4 * ((b * T + t) * H + h) * V, V)
    for s in range(S):
        for h in range(first, last):
            v = value + 4 * (b * vb + h // share * vh + s * vs)
            if h % share == 0:
                if s + ahead < S:
                    ask(v + 4 * ahead * vs, V)
                elif following:
                    ask(key + 4 * ((b + 1) * kb + h // share * kh + (s + ahead - S) * ks), K)
            for t in range(T):
                if sees(visible, b * xb + h * xh + t * xt + s * xs, bias, b * bb + h * bh + t * bt + s * bs):
                    add(weights[(h - first) * T + t, s], v, out + 4 * ((b * T + t) * H + h) * V, V)


@compiled
def work(
    thread, threads, parts, query, key, value, out, lse, visible, bias, B, H, share, T, S, K, V, scale,
    qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, scores,
):  # fmt: skip
    """One thread's share of all sequences, each cut into so many parts of its heads."""
    groups, end = H // share, (thread + 1) * B * parts // threads
    for unit in range(thread * B * parts // threads, end):
        b, part = unit // parts, unit % parts
        first, last = part * groups // parts * share, (part + 1) * groups // parts * share
        following = parts == 1 and unit + 1 < end
        heads(
            query, key, value, out, lse, visible, bias, b, first, last, H, share, T, S, K, V, scale,
            qb, qh, qt, kb, kh, ks, vb, vh, vs, xb, xh, xt, xs, bb, bh, bt, bs, scores[thread], following,
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
