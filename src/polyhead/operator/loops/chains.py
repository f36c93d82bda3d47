"""Products of few rows one after the other, with what is added to them and what bends them in between: a chain of
links, which Python starts once.

A link is a row of whole numbers: what is done, from which slot to which, and where its matrix lies. Slots are the
addresses that change from call to call. The bits are those of the products alone, and of PyTorch's sums and ReLU.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import numpy as np
from numba import njit, prange

from polyhead.operator.loops import half_products, products, whole_products
from polyhead.operator.loops.steps import floats_at, halves_at
from polyhead.operator.loops.vectors import DOTS, HALVES, f32, rounded, widened

PRODUCT, HALF_PRODUCT, WHOLE_PRODUCT, RELU, ADD = range(5)  # what a link does
ZERO = f32(0)
compiled = njit(nogil=True, cache=True, _nrt=False)


@compiled
def bend(x, half, first, last):
    """ReLU of the numbers first..last at an address, float32 or bfloat16; NaN stays what it is."""
    a, h = floats_at(x), halves_at(x)
    if half:
        for i in range(first, last):
            h[i] = np.uint16(0) if widened(h[i]) < ZERO else h[i]
    else:
        for i in range(first, last):
            a[i] = ZERO if a[i] < ZERO else a[i]


@compiled
def add(x, y, half, first, last):
    """Add numbers at one address to those at another."""
    if half:
        g, h = halves_at(x), halves_at(y)
        for i in range(first, last):
            h[i] = rounded(widened(h[i]) + widened(g[i]))
    else:
        a, b = floats_at(x), floats_at(y)
        for i in range(first, last):
            b[i] += a[i]


@njit(nogil=True, cache=True, parallel=True)
def share_bend(threads, x, half, n):
    """`bend` on so many threads."""
    for thread in prange(threads):
        bend(x, half, thread * n // threads, (thread + 1) * n // threads)


@njit(nogil=True, cache=True, parallel=True)
def share_add(threads, x, y, half, n):
    """`add` on so many threads."""
    for thread in prange(threads):
        add(x, y, half, thread * n // threads, (thread + 1) * n // threads)


if DOTS:
    whole_work, whole_share = whole_products.work, whole_products.share
else:  # which this processor cannot: no link asks for it, and nothing of it may be compiled

    @compiled
    def whole_work(thread, threads, x, panels, less, scale, bias, zeros, out, rows, depth, width, desks, whole, tops):
        pass

    @compiled
    def whole_share(threads, x, panels, less, scale, bias, zeros, out, rows, depth, width, desks, whole, tops):
        pass


if HALVES:
    half_work, half_share = half_products.work, half_products.share
else:

    @compiled
    def half_work(thread, threads, x, panels, bias, zeros, out, rows, pairs, width, part, half, desks):
        pass

    @compiled
    def half_share(threads, x, panels, bias, zeros, out, rows, pairs, width, part, half, desks):
        pass


@njit(nogil=True, cache=True)
def play(threads, rows, links, slots, desks, whole, tops):
    """All links in their order, each on so many threads as it pays for: see `loops.Link` for what a row of links says.

    desks, whole, tops: the room that `products` and `whole_products` ask for.
    """
    for n in range(len(links)):
        kind, source, target = links[n, 0], slots[links[n, 1]], slots[links[n, 2]]
        depth, width, part, crowd = links[n, 3], links[n, 4], links[n, 5], links[n, 6]
        half, panels, bias, zeros = links[n, 7], links[n, 8], links[n, 9], links[n, 10]
        less, scale = links[n, 11], links[n, 12]
        alone = threads == 1 or rows < crowd
        if kind == PRODUCT and alone:
            products.work(0, 1, source, panels, bias, zeros, target, rows, depth, width, part, desks)
        elif kind == PRODUCT:
            products.share(threads, source, panels, bias, zeros, target, rows, depth, width, part, desks)
        elif kind == HALF_PRODUCT and alone:
            half_work(0, 1, source, panels, bias, zeros, target, rows, depth, width, part, half, desks)
        elif kind == HALF_PRODUCT:
            half_share(threads, source, panels, bias, zeros, target, rows, depth, width, part, half, desks)
        elif kind == WHOLE_PRODUCT and alone:
            whole_work(0, 1, source, panels, less, scale, bias, zeros, target, rows, depth, width, desks, whole, tops)
        elif kind == WHOLE_PRODUCT:
            whole_share(
                threads, source, panels, less, scale, bias, zeros, target, rows, depth, width, desks, whole, tops
            )
        elif kind == RELU and alone:
            bend(target, half, 0, rows * width)
        elif kind == RELU:
            share_bend(threads, target, half, rows * width)
        elif alone:
            add(source, target, half, 0, rows * width)
        else:
            share_add(threads, source, target, half, rows * width)
