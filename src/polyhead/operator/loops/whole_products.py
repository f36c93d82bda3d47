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

from polyhead.operator.loops.products import HIGH, LOW, MIDDLE, SIZE, TALL, compiled, height, inlined
from polyhead.operator.loops.steps import floats_at, pointer_to
from polyhead.operator.loops.vectors import BYTES, PANEL, f32, fused, larger, nearest, tile

tall, high, middle, low, one = (tile(n, linear=True, numbers=BYTES) for n in (TALL, HIGH, MIDDLE, LOW, 1))
BLOCK = 256  # rows that are rounded, and meet a panel, before others do
STEPS, ZERO = f32(127), f32(128)  # a row of x is cut into so many steps each way, and 0 is written as this
TINY = f32(1e-30)  # what a row of zeros is divided by
bytes_at, words_at = pointer_to(types.uint8), pointer_to(types.int32)


@inlined
def multiply(rows, x, step, panel, out, part, last, ahead, ahead_step):
    """A tile of so many rows, whose sums are written side by side."""
    if rows == TALL:
        tall(x, step, panel, PANEL, out, PANEL, part, last, ahead, ahead_step)
    elif rows == HIGH:
        high(x, step, panel, PANEL, out, PANEL, part, last, ahead, ahead_step)
    elif rows == MIDDLE:
        middle(x, step, panel, PANEL, out, PANEL, part, last, ahead, ahead_step)
    elif rows == LOW:
        low(x, step, panel, PANEL, out, PANEL, part, last, ahead, ahead_step)
    else:
        one(x, step, panel, PANEL, out, PANEL, part, last, ahead, ahead_step)


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
def work(thread, threads, x, panels, less, scale, bias, out, rows, depth, width, desks, desk, tops):
    """One thread's share of the panels. less: what a sum of each column is lessened by, since 0 of a row is written as
    128; scale: what a step of each column is worth. desks: room of `desk` bytes for each thread."""
    fours = -(-depth // 4)
    units, count = width // PANEL, -(-width // PANEL)
    first, last = thread * units // threads, (thread + 1) * units // threads
    last = count if last == units else last
    sums = desks + thread * desk
    whole = sums + TALL * SIZE
    for start in range(0, rows, BLOCK):
        n_rows = min(BLOCK, rows - start)
        for r in range(n_rows):
            tops[thread, r] = rounded(x + 4 * (start + r) * depth, depth, whole + 4 * r * fours, 4 * fours)
        for p in range(first, last):
            column = min(p * PANEL, width - PANEL)
            panel = panels + p * fours * SIZE
            ahead, r = panel + fours * SIZE, 0
            units_of, added, found = floats_at(scale + 4 * column), floats_at(bias + 4 * column), words_at(sums)
            while r < n_rows:
                n = height(n_rows - r)
                step = SIZE * n // n_rows  # each tile asks for its share of the next panel
                a = whole + 4 * r * fours
                multiply(n, a, fours, panel, sums, fours, less + 4 * column, ahead, step)
                for i in range(n):
                    top, row = tops[thread, r + i], floats_at(out + 4 * ((start + r + i) * width + column))
                    for c in range(PANEL):
                        row[c] = fused(f32(found[i * PANEL + c]) * units_of[c], top, added[c])
                ahead += step * fours
                r += n


@njit(nogil=True, cache=True, parallel=True)
def share(threads, x, panels, less, scale, bias, out, rows, depth, width, desks, desk, tops):
    """`work` on so many threads."""
    for thread in prange(threads):
        work(
            np.int64(thread), threads, x, panels, less, scale, bias, out, rows, depth, width, desks, desk, tops
        )  # fmt: skip
