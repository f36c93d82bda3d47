"""x W^T + b where few rows pass, as in decoding: the matrix is read once, and the next part of it is on its way from
memory while this one is multiplied.

W lies in panels of columns of its transpose, and a panel in chunks that the nearest cache holds. One chunk after the
other meets all rows, some of them at a time, whose sums stay in registers; each of these tiles asks for its share of
the next chunk, which need not stay after that, and so leaves the other caches to the rest of a model. Where a single
tile has all rows, nothing waits: it asks for no more than what it reads, which need not stay either. A sum is added up
in parts of the depth, each in its order, however it is chunked: so no row depends on those beside it or on the number
of threads, and every bit is that of oneDNN's product of several rows (docs/decisions/0028).
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from polyhead.operator.loops.vectors import FLOATS, LANES, NEAREST, PANEL, Numbers, tile

WIDE = LANES == 16  # 32 registers, not 16
TALL, HIGH, MIDDLE, LOW = (8, 6, 4, 2) if WIDE else (6, 4, 3, 2)  # rows of a tile: no more than registers hold sums of
SIZE = PANEL * 4  # bytes of a row of a panel
CHUNK = (1 << 15) // SIZE  # steps of the depth of a chunk
LITTLE = (1 << 13) // SIZE if NEAREST <= 1 << 15 else CHUNK  # where two tiles meet it, and the cache holds no two
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
def chunk_of(rows):
    """How many steps of the depth a chunk has that meets so many rows."""
    return CHUNK if rows > 2 * TALL else LITTLE


def tiles(numbers: Numbers) -> Any:
    """`tile` of so many rows of these numbers, as `height` chooses them."""
    tall, high, middle, low, one = (tile(n, linear=True, numbers=numbers) for n in (TALL, HIGH, MIDDLE, LOW, 1))

    @inlined
    def multiply(rows, x, depth, panel, out, width, deep, begin, begun, before, beside, last, ahead, step):
        if rows == TALL:
            tall(x, depth, panel, PANEL, out, width, deep, begin, begun, before, beside, last, ahead, step)
        elif rows == HIGH:
            high(x, depth, panel, PANEL, out, width, deep, begin, begun, before, beside, last, ahead, step)
        elif rows == MIDDLE:
            middle(x, depth, panel, PANEL, out, width, deep, begin, begun, before, beside, last, ahead, step)
        elif rows == LOW:
            low(x, depth, panel, PANEL, out, width, deep, begin, begun, before, beside, last, ahead, step)
        else:
            one(x, depth, panel, PANEL, out, width, deep, begin, begun, before, beside, last, ahead, step)

    return multiply


multiply_floats = tiles(FLOATS)


@inlined
def meet(multiply, x, panel, depth, rows, part, first, last, zeros, sums, out, width):
    """out = first + x W^T + last of one panel, for so many rows of x, each of `depth` numbers; out's are `width` apart.
    sums: room for those of a part."""
    for d in range(0, depth, part):
        end = min(d + part, depth)
        for c in range(d, end, chunk_of(rows)):
            deep = min(chunk_of(rows), end - c)
            chunk = panel + c * SIZE
            ahead, r = chunk if height(rows) == rows else chunk + deep * SIZE, 0
            while r < rows:
                n = height(rows - r)
                own, at, wide = sums + r * SIZE, out + 4 * r * width, width
                # a part begins from zero and goes on from the desk; its end meets the parts before
                begin, begun, before, beside, added = zeros, 0, zeros, 0, zeros
                if c > d:
                    begin, begun = own, PANEL
                elif d == 0:
                    begin = first
                if c + deep < end:
                    at, wide = own, PANEL
                else:
                    if d > 0:
                        before, beside = at, width
                    if end == depth:
                        added = last
                step = SIZE * n // rows
                a = x + 4 * (r * depth + c)
                multiply(n, a, depth, chunk, at, wide, deep, begin, begun, before, beside, added, ahead, step)
                ahead += step * deep
                r += n


@inlined
def shared(width, thread, threads):
    """The first of a thread's panels, and the one after the last. The last panel of all begins earlier where the width
    is no multiple of theirs; what it repeats of the one before is the same thread's to write."""
    units = width // PANEL  # panels, or a panel and the ragged one after it
    first, last = thread * units // threads, (thread + 1) * units // threads
    return first, -(-width // PANEL) if last == units else last


@compiled
def work(thread, threads, x, panels, bias, zeros, out, rows, depth, width, part, desks):
    """One thread's share of the panels. bias: so many numbers as rows of out are wide; zeros: those of a panel; desks:
    room for the sums of a panel, for each thread."""
    sums, (first, last) = desks[thread].ctypes.data, shared(width, thread, threads)
    for start in range(0, rows, BLOCK):
        met, read = min(rows - start, BLOCK), x + 4 * start * depth
        for p in range(first, last):
            column = min(p * PANEL, width - PANEL)
            panel, added, at = panels + p * depth * SIZE, bias + 4 * column, out + 4 * (start * width + column)
            meet(multiply_floats, read, panel, depth, met, part, zeros, added, zeros, sums, at, width)


@njit(nogil=True, cache=True, parallel=True)
def share(threads, x, panels, bias, zeros, out, rows, depth, width, part, desks):
    """`work` on so many threads."""
    for thread in prange(threads):
        work(np.int64(thread), threads, x, panels, bias, zeros, out, rows, depth, width, part, desks)
