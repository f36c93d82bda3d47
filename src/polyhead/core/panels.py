"""A matrix laid out for the few rows of decoding, and multiplied by loops that are compiled for this processor.

The products of oneDNN and FBGEMM, which are made for many rows, take longer to begin than a small matrix takes to be
multiplied, and let the memory wait while they compute (docs/decisions/0028). Ours give the same bits, so that nobody
can tell which of them a row met.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import loops

FEW = 64  # rows of decoding; from about 200 on oneDNN is as fast
LEAST = 32  # rows of W in the widest panel of any processor, known before the loops are loaded
ALONE = 1 << 20  # multiplications that one thread has done before another is awake
LARGE = 1 << 17  # numbers of a matrix that come from memory no sooner
PAYS = 4.0  # seconds of products that a process makes before it loads the loops
CALL, READ, SPEED = 2e-5, 5e9, 2e11  # seconds that a product takes to begin; numbers read, and multiplied, in a second
spent = 0.0  # seconds of products so far, as these figures have it


def worth(rows: int, size: int) -> bool:
    """Whether products of so many rows with a matrix of so many numbers may go by panels: there are loops, and so much
    to do that loading them pays. Products are counted as they ask."""
    global spent
    if spent < PAYS:
        spent += CALL + size / READ + rows * size / SPEED
        return False
    return loops.missing() is None and loops.fuses()


def wake() -> None:
    """Let the loops be loaded by the next product, for who knows that many will follow."""
    global spent
    spent = PAYS


def threads_for(rows: int, size: int) -> int:
    return loops.thread_count() if rows >= crowd(size) else 1


def crowd(size: int) -> int:
    """From how many rows on several threads multiply them with a matrix of so many numbers."""
    return 0 if size > LARGE else ALONE // size + 1


def checked(x: Tensor, depth: int) -> Tensor:
    """x [..., D] as the loops read it, which trust an address."""
    if x.shape[-1:] != (depth,) or x.device.type != "cpu":
        raise ArgumentError(
            f"A packed product takes rows of {depth} numbers on a CPU; found {list(x.shape)} on {x.device}."
        )
    return x.contiguous()


def cut(weight: Tensor) -> list[Tensor]:
    """The rows of W [E, ...] as panels; a last one that would be too narrow begins earlier."""
    wide = panel()
    return [weight[start : start + wide] for start in (min(n, len(weight) - wide) for n in range(0, len(weight), wide))]


def panel() -> int:
    """Rows of W in a panel."""
    return loops.for_steps().products.PANEL


class Panels:
    """W [E, D] by panels, each turned around, and b [E] as it is: x [..., D] -> x W^T + b [..., E], float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.width, self.depth = weight.shape
        self.panels = torch.stack([some.T for some in cut(weight)])  # [P, D, PANEL]
        self.zeros = torch.zeros(self.width if bias is None else panel())
        self.bias = self.zeros if bias is None else bias
        self.part = loops.for_steps().products.part_of(self.depth)

    def link(self, source: int, target: int) -> loops.Link:
        """The product from one slot of a chain to another."""
        return loops.Link(
            loops.for_steps().chains.PRODUCT, source, target, self.depth, self.width, self.part,
            crowd=crowd(self.depth * self.width),
            panels=self.panels.data_ptr(), bias=self.bias.data_ptr(), zeros=self.zeros.data_ptr(),
        )  # fmt: skip

    @staticmethod
    def can(weight: Tensor, bias: Tensor | None) -> bool:
        """Whether there is a panel in it, and all is float32."""
        fits = bias is None or (bias.dtype == torch.float32 and bias.shape == weight.shape[:1])
        return weight.dtype == torch.float32 and len(weight) >= LEAST and weight.shape[1] > 0 and fits

    def __call__(self, x: Tensor) -> Tensor:
        x = checked(x, self.depth)
        rows = x.numel() // self.depth
        out = x.new_empty(*x.shape[:-1], self.width)
        held = x, self.panels, self.bias, self.zeros, out
        threads = threads_for(rows, self.depth * self.width)
        loops.product(threads, [each.data_ptr() for each in held], (rows, self.depth, self.width, self.part))
        return out


class WholePanels:
    """The same in whole numbers of 8 bits: W as `Int8Linear` rounds it, and x, which it rounds as it passes."""

    def __init__(self, weight: Any, bias: Tensor | None):
        """weight: quantized by rows."""
        whole, scale = weight.int_repr(), weight.q_per_channel_scales().float()
        self.width, self.depth = whole.shape
        self.fours = -(-self.depth // 4)
        filled = torch.nn.functional.pad(whole, (0, 4 * self.fours - self.depth)).view(self.width, self.fours, 4)
        self.panels = torch.stack([some.transpose(0, 1) for some in cut(filled)])  # [P, D / 4, PANEL, 4]
        self.less = -128 * whole.sum(1, dtype=torch.int32)
        self.scale = scale * torch.tensor(1 / 127)
        self.zeros = torch.zeros(panel(), dtype=torch.int32)
        self.bias = torch.zeros(self.width) if bias is None else bias

    def link(self, source: int, target: int) -> loops.Link:
        """The product from one slot of a chain to another."""
        return loops.Link(
            loops.for_steps().chains.WHOLE_PRODUCT, source, target, self.depth, self.width,
            crowd=crowd(self.depth * self.width),
            panels=self.panels.data_ptr(), bias=self.bias.data_ptr(), zeros=self.zeros.data_ptr(),
            less=self.less.data_ptr(), scale=self.scale.data_ptr(),
        )  # fmt: skip

    @staticmethod
    def can(weight: Tensor, bias: Tensor | None) -> bool:
        """Whether there is a panel in it, and it is not so deep that 32 bits could not hold a sum."""
        fits = bias is None or bias.shape == weight.shape[:1]
        return len(weight) >= LEAST and 0 < weight.shape[1] < 1 << 16 and fits

    def __call__(self, x: Tensor) -> Tensor:
        x = checked(x, self.depth)
        rows = x.numel() // self.depth
        out = x.new_empty(*x.shape[:-1], self.width)
        held = x, self.panels, self.less, self.scale, self.bias, self.zeros, out
        threads = threads_for(rows, self.depth * self.width)
        loops.whole_product(threads, [each.data_ptr() for each in held], (rows, self.depth, self.width))
        return out
