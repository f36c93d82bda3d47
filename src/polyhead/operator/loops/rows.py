"""What is done with one row of scores while it lies in the nearest cache: its links, its weights, and their sums.

Plain loops over float32 that the compiler turns into vector instructions.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import operator

import numpy as np
from numba import njit

from polyhead.operator.loops.vectors import LOG2E, LOWEST, exponential, f32, i32, larger, power

HIDDEN = np.float32(-1e30)  # the score of a hidden pair: finite, and its weight is exactly 0
VISIBLE = np.nextafter(HIDDEN, np.float32(0))  # the lowest score that is not hidden
LANES, SEGMENTS = 64, 16  # links are looked for in chunks of 16 segments of 64 lanes; by the maxima of lanes first
CHUNK = LANES * SEGMENTS
ROOM = 4 * LANES  # candidates for a row's links; where more come, as with equal scores, they are looked at one by one

T3, T5, T7 = f32(1 / 3), f32(2 / 15), f32(17 / 315)  # tanh x = x - x^3/3 + 2 x^5/15 - 17 x^7/315 + ...
SMALL = f32(0.15**2)  # below it the next term is under 1e-8 of the whole

# Scores are finite by contract, so that the compiler may assume it; the order of sums is free, but fixed once compiled.
FAST = {"reassoc", "contract", "nsz", "arcp", "nnan"}
# Arrays are lent by the caller and none is made, so that references to them need not be counted, by atomic additions
# that threads would fight over.
compiled = njit(nogil=True, cache=True, fastmath=FAST, _nrt=False)
inlined = njit(nogil=True, fastmath=FAST, _nrt=False)


@inlined
def cap(row, softcap):
    """softcap tanh(score / softcap), by e^-2x; by its series where that is near 1."""
    for j in range(len(row)):
        x = row[j] / softcap
        t = exponential(f32(-2) * abs(x))
        y = (f32(1) - t) / (f32(1) + t)
        y = y if x > f32(0) else -y
        x2 = x * x
        near = x * (f32(1) - x2 * (T3 - x2 * (T5 - x2 * T7)))  # where 1 - t would lose digits
        row[j] = softcap * (near if x2 < SMALL else y)


@inlined
def highest(row):
    """The largest score of a row."""
    top = HIDDEN
    for j in range(len(row)):
        top = larger(top, row[j])
    return top


@inlined
def lane_tops(row, tops):
    """The largest score of each lane: of every 64th score of each chunk, tops[:chunks], and of all, tops[chunks]."""
    chunks = -(-len(row) // CHUNK)
    fill(tops[chunks], HIDDEN)
    for c in range(chunks):
        chunk, lanes = row[c * CHUNK : min((c + 1) * CHUNK, len(row))], tops[c]
        fill(lanes, HIDDEN)
        for start in range(0, len(chunk) - LANES + 1, LANES):
            segment = chunk[start : start + LANES]
            for g in range(LANES):
                lanes[g] = larger(lanes[g], segment[g])
        raise_to(chunk[len(chunk) // LANES * LANES :], f32(1), lanes)
        raise_to(lanes, f32(1), tops[chunks])


@inlined
def weigh(row, level):
    """Turn scores into exp(score - level), in place: the sums of these p, of p log2 p and of p^2."""
    mass, entropy, squares = f32(0), f32(0), f32(0)
    for j in range(len(row)):
        x = max((row[j] - level) * LOG2E, LOWEST)
        p = power(x)
        mass += p
        entropy += p * x
        squares += p * p
        row[j] = p
    return mass, entropy, squares


@inlined
def place(row, x):
    """The sums of p, p y, p y^2 and p |y| over a row of weights, where y is each one's offset, x that of the first.

    All of the same weights and in float64, since a spread is a small difference of large sums.
    """
    mass, offset, offset2, distance = 0.0, 0.0, 0.0, 0.0
    for j in range(len(row)):
        p = np.float64(row[j])
        y = np.float64(i32(j)) + x  # of 32 bits, or it would not become vectors everywhere
        far = p * y
        mass += p
        offset += far
        offset2 += far * y
        distance += abs(far)
    return mass, offset, offset2, distance


@inlined
def within(row, start, stop):
    """The sum of the weights from start to stop, as far as these lie in the row."""
    start = min(max(start, 0), len(row))
    run, found = row[start : max(min(stop, len(row)), start)], f32(0)
    for j in range(len(run)):
        found += run[j]
    return found


@inlined
def add(row, share, total):
    """Add share * row to a total."""
    for j in range(len(row)):
        total[j] += share * row[j]


@inlined
def fill(row, x):
    for j in range(len(row)):
        row[j] = x


@inlined
def raise_to(row, share, peaks):
    """Raise peaks to share * row."""
    for j in range(len(row)):
        peaks[j] = larger(peaks[j], share * row[j])


def into_cells(join):
    """The loop that joins columns, from column `first` on, into the cells [C] that end at `ends`."""

    @compiled
    def joined(columns, first, ends, cells):
        c, j = np.searchsorted(ends, first, side="right"), 0
        while j < len(columns):
            stop, part = min(ends[c] - first, len(columns)), f32(0)
            for n in range(j, stop):
                part = join(part, columns[n])
            cells[c] = join(cells[c], part)
            c, j = c + 1, stop

    return joined


add_cells, raise_cells = into_cells(operator.add), into_cells(larger)


@compiled
def find_links(row, first, best, keys, tops, scores, places):
    """The k best scores [k] of a row whose places are from `first` on, and their places [k]; of equals the leftmost.

    The maxima of lanes, tops, give a bar that k scores reach; then only lanes that reach it are looked into. scores
    and places [ROOM] are lent.
    """
    k, chunks = len(best), -(-len(row) // CHUNK)
    top, held = tops[chunks], 0
    bar = bar_of(top, k)
    for g in range(LANES):
        if top[g] < bar:
            continue
        for c in range(chunks):
            if tops[c, g] < bar:
                continue
            if k > LANES or held > ROOM - SEGMENTS:
                return one_by_one(row, first, best, keys)
            for j in range(c * CHUNK + g, min((c + 1) * CHUNK, len(row)), LANES):
                scores[held], places[held] = row[j], first + j
                held += row[j] >= bar  # what does not reach it is written over
    for n in range(held):
        rank = 0
        for m in range(held):
            rank += (scores[m] > scores[n]) | ((scores[m] == scores[n]) & (places[m] < places[n]))
        if rank < k:
            best[rank], keys[rank] = scores[n], places[n]
    return None


@inlined
def bar_of(top, k):
    """A score that k of the maxima [64] reach, and few more than k do; the lowest visible where fewer are."""
    low, high, seen = -HIDDEN, HIDDEN, 0
    for g in range(LANES):
        low = min(low, top[g] if top[g] >= VISIBLE else -HIDDEN)
        high = max(high, top[g])
        seen += top[g] >= VISIBLE
    if seen < k:
        return VISIBLE
    for _ in range(16):
        middle = low + f32(0.5) * (high - low)
        reach = i32(0)
        for g in range(LANES):
            reach += i32(top[g] >= middle)
        if reach < k:
            high = middle
            continue
        low = middle
        if reach <= k + 1:
            break
    return low


@compiled
def one_by_one(row, first, best, keys):
    """The same, score by score from the left: for many links, or many equal scores, of which the leftmost enter."""
    k = len(best)
    for j in range(len(row)):
        if row[j] > best[k - 1] and row[j] >= VISIBLE:
            place = k - 1
            while place > 0 and best[place - 1] < row[j]:
                best[place], keys[place] = best[place - 1], keys[place - 1]
                place -= 1
            best[place], keys[place] = row[j], first + j
