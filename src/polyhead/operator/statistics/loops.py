"""The loops of `scan`, compiled by numba: one block of scores in the cache enters, and is added to what is asked.

A block is looked at row by row while the row lies in the nearest cache: find its links, turn scores into weights, then
add these to the row's sums and to the columns'. Written as plain loops over float32 that the compiler turns into vector
instructions: an exponential is a polynomial and a shift of the exponent (Cody and Waite's reduction), since a call of
the library's would not become one.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

HIDDEN = np.float32(-1e30)  # the score of a hidden pair: finite, and its weight is exactly 0
LOWEST = np.float32(-87.0)  # the exponential of anything lower is taken as 0
LANES, SEGMENTS = 64, 16  # a row of a whole block is 16 segments of 64 lanes; a lane's maximum is looked at first

# Scores are finite by contract, so that the compiler may assume it; the order of sums is free, but fixed once compiled.
FAST = {"reassoc", "contract", "nsz", "arcp", "nnan"}
compiled = njit(nogil=True, cache=True, fastmath=FAST)

f32, i32 = np.float32, np.int32
LOG2E = f32(1.4426950408889634)
C1, C2, C3, C4, C5, C6, C7 = (f32(math.log(2.0) ** n / math.factorial(n)) for n in range(1, 8))


@intrinsic
def as_bits(typing, x):
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def as_float(typing, x):
    """The float32 of these bits."""
    return types.float32(types.int32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.FloatType())


@njit(inline="always")
def exponential(x):
    """e^x for x up to 87, within 2e-7 of it: 2^n (by the exponent's bits) times 2^z by its series, |z| <= 1/2."""
    t = max(x, LOWEST) * LOG2E
    n = i32(t - f32(0.5))  # to the nearest, for t <= 0
    z = t - f32(n)
    y = f32(1) + z * (C1 + z * (C2 + z * (C3 + z * (C4 + z * (C5 + z * (C6 + z * C7))))))
    y = as_float(as_bits(y) + (n << i32(23)))
    return y if x > LOWEST else f32(0)


@compiled
def hide(scores, low, high):
    """Hide what lies outside [low, high) in each row."""
    rows, columns = scores.shape
    for i in range(rows):
        for j in range(min(max(low[i], 0), columns)):
            scores[i, j] = HIDDEN
        for j in range(max(min(high[i], columns), 0), columns):
            scores[i, j] = HIDDEN


@compiled
def add_along(scores, x, bias):
    """Add bias[x[i] + j] to the score of row i and column j."""
    rows, columns = scores.shape
    for i in range(rows):
        row, own = scores[i], bias[x[i] : x[i] + columns]
        for j in range(columns):
            row[j] += own[j]


@njit(inline="always")
def lane_tops(row, top):
    """The largest score of each lane [LANES] of a row [columns]."""
    columns = len(row)
    if columns == SEGMENTS * LANES:  # a whole block: with the count known, the compiler keeps maxima in registers
        lanes = row.reshape(SEGMENTS, LANES)
        for j in range(LANES):
            m = lanes[0, j]
            for g in range(1, SEGMENTS):
                m = max(m, lanes[g, j])
            top[j] = m
        return
    top[:] = HIDDEN
    for start in range(0, columns, LANES):
        for j in range(min(LANES, columns - start)):
            top[j] = max(top[j], row[start + j])


@compiled
def find_links(scores, first, best, keys):
    """Let scores, in columns from `first` on, enter their row's k best [rows, k], with their places [rows, k].

    A row is looked at through the maxima of its lanes, every 64th column together: most let nothing in.
    """
    rows, columns = scores.shape
    k = best.shape[1]
    top = np.empty(LANES, np.float32)
    start = np.empty(k, np.float32)
    for i in range(rows):
        row = scores[i]
        lane_tops(row, top)
        bar = best[i, k - 1]  # what a score must reach to enter
        peak = top[0]
        for g in range(LANES):
            peak = max(peak, top[g])
        if peak < bar or peak == HIDDEN:
            continue
        if bar == HIDDEN and k <= LANES:  # the k-th best maximum of a lane is a bar as well
            start[:] = HIDDEN
            for g in range(LANES):
                if top[g] > start[k - 1]:
                    place = k - 1
                    while place > 0 and start[place - 1] < top[g]:
                        start[place] = start[place - 1]
                        place -= 1
                    start[place] = top[g]
            bar = start[k - 1]
        for g in range(LANES):
            if top[g] < bar or top[g] == HIDDEN:
                continue
            for j in range(g, columns, LANES):
                s = row[j]
                if s < bar or s == HIDDEN:
                    continue
                place, key = k, first + j
                while place > 0 and (best[i, place - 1] < s or (best[i, place - 1] == s and keys[i, place - 1] > key)):
                    place -= 1
                if place == k:
                    continue
                for n in range(k - 1, place, -1):
                    best[i, n] = best[i, n - 1]
                    keys[i, n] = keys[i, n - 1]
                best[i, place] = s
                keys[i, place] = key
                bar = max(bar, best[i, k - 1])


@compiled
def weigh(scores, lse, mass, entropy, squares):
    """Turn scores into weights exp(score - lse), in place, and add each row's sums of p, p s and p^2."""
    rows, columns = scores.shape
    for i in range(rows):
        row, level = scores[i], lse[i]
        a, e, q = f32(0), f32(0), f32(0)
        for j in range(columns):
            s = row[j]
            p = exponential(s - level)
            a += p
            e += p * s
            q += p * p
            row[j] = p
        mass[i] += a
        entropy[i] += e
        squares[i] += q


@njit(inline="always")
def moments(run, x):
    """Sums of p y and p y^2 over a run of weights, y their offsets, x that of the first; in float64, since a spread is
    a small difference of large sums."""
    a, b = 0.0, 0.0
    for j in range(len(run)):
        y = np.float64(j) + x
        t = np.float64(run[j]) * y
        a += t
        b += t * y
    return a, b


@compiled
def place(weights, x, offset, offset2, distance):
    """Add each row's sums of p x, p x^2 and p |x|; x[i] is the offset of the first column from the row's own place."""
    rows, columns = weights.shape
    for i in range(rows):
        row = weights[i]
        middle = min(max(-x[i], 0), columns)  # before it, keys lie on the left
        left, before = moments(row[:middle], np.float64(x[i]))
        right, after = moments(row[middle:], np.float64(x[i] + middle))
        offset[i] += left + right
        offset2[i] += before + after
        distance[i] += right - left


@njit(inline="always")
def same_cell(cell_of_row, i):
    """Where the run of rows that fall into row i's cell ends."""
    stop = i + 1
    while stop < len(cell_of_row) and cell_of_row[stop] == cell_of_row[i]:
        stop += 1
    return stop


@njit(inline="always")
def into_cells(bars, first, ends, cells, largest):
    """Add bars [columns], from column `first` on, to the cells [C] that end at `ends`, or raise these to them."""
    c, j = np.searchsorted(ends, first, side="right"), 0
    while j < len(bars):
        stop, part = min(ends[c] - first, len(bars)), f32(0)
        while j < stop:
            part = max(part, bars[j]) if largest else part + bars[j]
            j += 1
        cells[c] = max(cells[c], part) if largest else cells[c] + part
        c += 1


@compiled
def add_down(weights, cell_of_row, total, first, ends, cells):
    """Add the rows to `total` [columns] and, if there are cells [R, C], each to the cells of its row of the grid.

    first is the place of the first column; ends [C] say where the cells' columns end.
    """
    rows, columns = weights.shape
    bars = np.empty(columns, np.float32)
    start = 0
    while start < rows:
        stop = same_cell(cell_of_row, start)
        bars[:] = f32(0)
        for i in range(start, stop):
            row = weights[i]
            for j in range(columns):
                bars[j] += row[j]
        for j in range(columns):
            total[j] += bars[j]
        if cells.size:
            into_cells(bars, first, ends, cells[cell_of_row[start]], False)
        start = stop


@compiled
def highest(weights, cell_of_row, first, ends, cells):
    """Raise each cell of the grid [R, C] to the largest weight that falls into it."""
    rows, columns = weights.shape
    bars = np.empty(columns, np.float32)
    start = 0
    while start < rows:
        stop = same_cell(cell_of_row, start)
        bars[:] = f32(0)
        for i in range(start, stop):
            row = weights[i]
            for j in range(columns):
                bars[j] = max(bars[j], row[j])
        into_cells(bars, first, ends, cells[cell_of_row[start]], True)
        start = stop
