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
from polyhead.operator.loops.steps import floats_at, halves_at, inlined
from polyhead.operator.loops.vectors import f32, rounded, widened

PRODUCT, RELU, ADD = range(3)  # what a link does
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


@inlined
def read(link, slots):
    """A link, of whose slots the addresses are told."""
    return (
        link[0], slots[link[1]], slots[link[2]], link[3], link[4], link[5], link[6], link[7], link[8], link[9],
        link[10], link[11], link[12],
    )  # fmt: skip


@inlined
def rest(kind, alone, threads, source, target, half, n):
    """A link that is no product, of n numbers."""
    if kind == RELU and alone:
        bend(target, half, 0, n)
    elif kind == RELU:
        share_bend(threads, target, half, n)
    elif alone:
        add(source, target, half, 0, n)
    else:
        share_add(threads, source, target, half, n)


# One loop for each kind of product, so that what a model never meets is not compiled. All go through the links in their
# order, each on so many threads as it pays for; see `loops.Link` for what a row of links says. desks, whole, tops: the
# room that the products ask for.


@njit(nogil=True, cache=True)
def floats(threads, rows, links, slots, desks, whole, tops):
    """A chain with products of float32."""
    for n in range(len(links)):
        kind, source, target, depth, width, part, crowd, half, panels, bias, zeros, _, _ = read(links[n], slots)
        alone = threads == 1 or rows < crowd
        if kind != PRODUCT:
            rest(kind, alone, threads, source, target, half, rows * width)
        elif alone:
            products.work(0, 1, source, panels, bias, zeros, target, rows, depth, width, part, desks)
        else:
            products.share(threads, source, panels, bias, zeros, target, rows, depth, width, part, desks)


@njit(nogil=True, cache=True)
def halves(threads, rows, links, slots, desks, whole, tops):
    """A chain with products of bfloat16."""
    for n in range(len(links)):
        kind, source, target, depth, width, part, crowd, half, panels, bias, zeros, _, _ = read(links[n], slots)
        alone = threads == 1 or rows < crowd
        if kind != PRODUCT:
            rest(kind, alone, threads, source, target, half, rows * width)
        elif alone:
            half_products.work(0, 1, source, panels, bias, zeros, target, rows, depth, width, part, half, desks)
        else:
            half_products.share(threads, source, panels, bias, zeros, target, rows, depth, width, part, half, desks)


@njit(nogil=True, cache=True)
def wholes(threads, rows, links, slots, desks, whole, tops):
    """A chain with products of whole numbers of 8 bits."""
    for n in range(len(links)):
        kind, source, target, depth, width, _, crowd, half, panels, bias, zeros, less, scale = read(links[n], slots)
        alone = threads == 1 or rows < crowd
        if kind != PRODUCT:
            rest(kind, alone, threads, source, target, half, rows * width)
        elif alone:
            whole_products.work(
                0, 1, source, panels, less, scale, bias, zeros, target, rows, depth, width, desks, whole, tops
            )
        else:
            whole_products.share(
                threads, source, panels, less, scale, bias, zeros, target, rows, depth, width, desks, whole, tops
            )
