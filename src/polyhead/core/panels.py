"""A matrix laid out for the few rows of decoding, and multiplied by loops that are compiled for this processor.

oneDNN's product, which is made for many rows, takes longer to begin than a small matrix takes to be multiplied, and
lets the memory wait while it computes (docs/decisions/0028). Both give the same bits, so that nobody can tell which
of them a row met.
"""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor

from polyhead.operator import loops

FEW = 64  # rows of decoding; from about 200 on oneDNN is as fast
ALONE = 1 << 20  # multiplications that one thread has done before another is awake
LARGE = 1 << 17  # numbers of a matrix that come from memory no sooner
PAYS = 5_000  # products of few rows, about a second of them, that a process makes before it loads the loops
met = count(1)


def worth(rows: int) -> bool:
    """Whether a product of so many rows may go by panels: there are loops, and so much to do that loading them pays."""
    return rows <= FEW and next(met) > PAYS and loops.missing() is None


class Panels:
    """W [E, D] and b [E] as panels of some rows of W, each turned around: x [..., D] -> x W^T + b [..., E], float32.

    A last panel that would be too narrow begins earlier, and shares rows with the one before.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        products = loops.for_steps().products
        width, self.depth = weight.shape
        starts = [min(start, width - products.PANEL) for start in range(0, width, products.PANEL)]
        self.panels = torch.stack([weight[start : start + products.PANEL].T for start in starts])  # [P, D, PANEL]
        zeros = torch.zeros(width + products.PANEL)
        self.width, self.bias = width, zeros if bias is None else torch.cat((bias, zeros[width:]))
        self.part = products.part_of(self.depth)

    @staticmethod
    def can(weight: Tensor) -> bool:
        """Whether there is a panel in it."""
        return weight.dtype == torch.float32 and len(weight) >= 32 and weight.shape[1] > 0

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        rows = x.numel() // self.depth
        out = x.new_empty(*x.shape[:-1], self.width)
        size = self.depth * self.width
        threads = loops.thread_count() if size > LARGE or rows * size > ALONE else 1
        addresses = x.data_ptr(), self.panels.data_ptr(), self.bias.data_ptr(), out.data_ptr()
        loops.product(threads, addresses, (rows, self.depth, self.width, self.part))
        return out
