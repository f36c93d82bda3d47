"""x W^T + b in bfloat16, added up in float32: W [E, D] lies in panels, two numbers of a row side by side, which one
instruction multiplies and adds up (AVX512-BF16).

Every bit is that of oneDNN's product of so many rows, where it has no AMX (docs/decisions/0031).
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import numpy as np
from numba import njit, prange

from polyhead.operator.loops.products import BLOCK, SIZE, compiled, meet, shared, tiles
from polyhead.operator.loops.steps import floats_at, halves_at
from polyhead.operator.loops.vectors import PAIRS, PANEL, rounded

multiply_pairs = tiles(PAIRS)


@compiled
def work(thread, threads, x, panels, bias, zeros, out, rows, pairs, width, part, half, desks):
    """One thread's share of the panels. bias: float32, so many as rows of out are wide; zeros: those of a panel; half:
    whether out is bfloat16, not float32; desks: room for the sums of a part and of a panel, for each thread."""
    sums, (first, last) = desks[thread].ctypes.data, shared(width, thread, threads)
    totals = sums + 2 * desks.shape[1]
    for start in range(0, rows, BLOCK):
        met, read = min(rows - start, BLOCK), x + 4 * start * pairs
        for p in range(first, last):
            column = min(p * PANEL, width - PANEL)
            panel, added = panels + p * pairs * SIZE, bias + 4 * column
            meet(multiply_pairs, read, panel, pairs, met, part, zeros, added, zeros, sums, totals, PANEL)
            for r in range(met):
                found, at = floats_at(totals + r * SIZE), (start + r) * width + column
                numbers, halves = floats_at(out + 4 * at), halves_at(out + 2 * at)
                for e in range(PANEL):
                    if half:
                        halves[e] = rounded(found[e])
                    else:
                        numbers[e] = found[e]


@njit(nogil=True, cache=True, parallel=True)
def share(threads, x, panels, bias, zeros, out, rows, pairs, width, part, half, desks):
    """`work` on so many threads."""
    for thread in prange(threads):
        work(np.int64(thread), threads, x, panels, bias, zeros, out, rows, pairs, width, part, half, desks)
