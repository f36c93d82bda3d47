"""x W^T + b in whole numbers of 8 bits: a row is rounded, multiplied and made into floats again before it leaves the
cache, where calls of PyTorch would write it out after each step.

W [E, D] lies in panels, four numbers of a row side by side, which one instruction multiplies and adds up (VNNI). Every
number is what Int8Linear makes of it by FBGEMM, bit by bit (docs/decisions/0028).
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import math

import numpy as np
from numba import njit, prange, types

from polyhead.operator.loops.products import BLOCK, SIZE, compiled, inlined, meet, shared, tiles
from polyhead.operator.loops.steps import floats_at, pointer_to
from polyhead.operator.loops.vectors import BYTES, PANEL, f32, fused, larger, nearest

STEPS, ZERO = f32(127), f32(128)  # a row of x is cut into so many steps each way, and 0 is written as this
TINY = f32(1e-30)  # what a row of zeros is divided by
bytes_at, words_at = pointer_to(types.uint8), pointer_to(types.int32)
multiply_bytes = tiles(BYTES)


@inlined
def rounded(x, depth, whole, room):
    """A row of x as whole numbers from 1 to 255, zeros behind it; the largest number of the row, by which they are
    divided: NaN where one of them is NaN or Inf."""
    a, b, top, odd = floats_at(x), bytes_at(whole), TINY, np.int32(0)
    for i in range(depth):
        top = larger(abs(a[i]), top)
        odd += np.int32(0) if abs(a[i]) < math.inf else np.int32(1)
    if odd:
        for i in range(room):
            b[i] = np.uint8(0)
        return f32(math.nan)
    for i in range(depth):
        b[i] = np.uint8(np.int32(nearest(fused(a[i] / top, STEPS, ZERO))))
    for i in range(depth, room):
        b[i] = np.uint8(0)
    return top


@compiled
def work(thread, threads, x, panels, less, scale, bias, zeros, out, rows, depth, width, desks, whole, tops):
    """One thread's share of the panels. less: what a sum of each column is lessened by, since 0 of a row is written as
    128; scale: what a step of each column is worth; zeros: those of a panel. desks, whole, tops: room for the sums of a
    panel, for rows as whole numbers and for the largest number of each, for each thread."""
    fours, (first, last) = -(-depth // 4), shared(width, thread, threads)
    sums, own = desks[thread].ctypes.data, whole[thread].ctypes.data
    for start in range(0, rows, BLOCK):
        met = min(BLOCK, rows - start)
        for r in range(met):
            tops[thread, r] = rounded(x + 4 * (start + r) * depth, depth, own + 4 * r * fours, 4 * fours)
        for p in range(first, last):
            column = min(p * PANEL, width - PANEL)
            panel = panels + p * fours * SIZE
            meet(multiply_bytes, own, panel, fours, met, fours, less + 4 * column, zeros, zeros, sums, sums, PANEL)
            units_of, added, found = floats_at(scale + 4 * column), floats_at(bias + 4 * column), words_at(sums)
            for r in range(met):
                top, row = tops[thread, r], floats_at(out + 4 * ((start + r) * width + column))
                for e in range(PANEL):
                    row[e] = fused(f32(found[r * PANEL + e]) * units_of[e], top, added[e])


@njit(nogil=True, cache=True, parallel=True)
def share(threads, x, panels, less, scale, bias, zeros, out, rows, depth, width, desks, whole, tops):
    """`work` on so many threads."""
    for thread in prange(threads):
        work(
            np.int64(thread), threads, x, panels, less, scale, bias, zeros, out, rows, depth, width, desks, whole, tops
        )  # fmt: skip
