"""x W^T + b where few rows pass, as in decoding: the matrix is read once, and the next part of it is on its way from
memory while this one is multiplied.

W lies in panels of columns of its transpose. One panel after the other meets all rows, some of them at a time, whose
sums stay in registers; each of these tiles asks the cache for its share of the next panel. A tile that meets all rows
alone asks for nothing: the processor foresees one stream better than we do. A sum is added up in parts of the depth,
each in its order: so no row depends on those beside it or on the number of threads, and every bit is that of oneDNN's
product of several rows (docs/decisions/0028).
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import numpy as np
from numba import njit, prange

from polyhead.operator.loops.vectors import LANES, PANEL, tile

WIDE = LANES == 16  # 32 registers, not 16
TALL, HIGH, MIDDLE, LOW = (8, 6, 4, 2) if WIDE else (6, 4, 3, 2)  # rows of a tile: no more than registers hold sums of
SIZE = PANEL * 4  # bytes of a row of a panel
set_tall, add_tall = (tile(TALL, adds=adds, linear=True) for adds in (False, True))
set_high, add_high = (tile(HIGH, adds=adds, linear=True) for adds in (False, True))
set_middle, add_middle = (tile(MIDDLE, adds=adds, linear=True) for adds in (False, True))
set_low, add_low = (tile(LOW, adds=adds, linear=True) for adds in (False, True))
set_one, add_one = (tile(1, adds=adds, linear=True) for adds in (False, True))
BLOCK = 256  # rows that meet a panel before the next panel comes
compiled = njit(nogil=True, cache=True, _nrt=False)
inlined = njit(nogil=True, _nrt=False, inline="always")


def part_of(depth: int) -> int:
    """How far oneDNN adds up products before it adds the sum to those before (torch 2.13; a test compares the bits)."""
    return 512 if WIDE and depth <= 1024 else 1024


@inlined
def height(rows):
    """How many rows the next tile takes of so many."""
    return TALL if rows >= TALL else HIGH if rows >= HIGH else MIDDLE if rows >= MIDDLE else LOW if rows >= LOW else 1


@inlined
def multiply(rows, adds, x, depth, panel, out, width, part, last, ahead, step):
    """A tile of so many rows."""
    if rows == TALL:
        if adds:
            add_tall(x, depth, panel, PANEL, out, width, part, last, ahead, step)
        else:
            set_tall(x, depth, panel, PANEL, out, width, part, last, ahead, step)
    elif rows == HIGH:
        if adds:
            add_high(x, depth, panel, PANEL, out, width, part, last, ahead, step)
        else:
            set_high(x, depth, panel, PANEL, out, width, part, last, ahead, step)
    elif rows == MIDDLE:
        if adds:
            add_middle(x, depth, panel, PANEL, out, width, part, last, ahead, step)
        else:
            set_middle(x, depth, panel, PANEL, out, width, part, last, ahead, step)
    elif rows == LOW:
        if adds:
            add_low(x, depth, panel, PANEL, out, width, part, last, ahead, step)
        else:
            set_low(x, depth, panel, PANEL, out, width, part, last, ahead, step)
    elif adds:
        add_one(x, depth, panel, PANEL, out, width, part, last, ahead, step)
    else:
        set_one(x, depth, panel, PANEL, out, width, part, last, ahead, step)


@compiled
def work(thread, threads, x, panels, bias, zeros, out, rows, depth, width, part):
    """One thread's share of the panels. bias: so many numbers as rows of out are wide; zeros: those of a panel.

    The last panel begins earlier where the width is no multiple of theirs; what it repeats of the one before is the
    same thread's to write.
    """
    count = -(-width // PANEL)
    units = width // PANEL  # panels, or a panel and the ragged one after it
    first, last = thread * units // threads, (thread + 1) * units // threads
    last = count if last == units else last
    for start in range(0, rows, BLOCK):
        stop = min(rows, start + BLOCK)
        met = stop - start
        for p in range(first, last):
            column = min(p * PANEL, width - PANEL)
            for d in range(0, depth, part):
                deep = min(part, depth - d)
                panel = panels + (p * depth + d) * SIZE
                added = bias + 4 * column if d + deep == depth else zeros
                ahead, r = panel + deep * SIZE, start
                while r < stop:
                    n = height(stop - r)
                    step = 0 if n == met else SIZE * n // met
                    a, at = x + 4 * (r * depth + d), out + 4 * (r * width + column)
                    multiply(n, d > 0, a, depth, panel, at, width, deep, added, ahead, step)
                    ahead += step * deep
                    r += n


@njit(nogil=True, cache=True, parallel=True)
def share(threads, x, panels, bias, zeros, out, rows, depth, width, part):
    """`work` on so many threads."""
    for thread in prange(threads):
        work(np.int64(thread), threads, x, panels, bias, zeros, out, rows, depth, width, part)
