"""A matrix laid out for the few rows of decoding, and multiplied by loops that are compiled for this processor.

The products of oneDNN and FBGEMM, which are made for many rows, take longer to begin than a small matrix takes to be
multiplied, and let the memory wait while they compute (docs/decisions/0028). Ours give the same bits, so that nobody
can tell which of them a row met.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import loops

FEW = 64  # rows of decoding; from about 200 on oneDNN is as fast
LEAST = 32  # rows of W in the widest panel of any processor, known before the loops are loaded
ALONE = 1 << 20  # multiplications that one thread has done before another is awake
LARGE = 1 << 17  # numbers of a matrix that come from memory no sooner
PAYS = 4.0  # seconds of products that a process makes before it loads the loops
CALL, READ, SPEED = 2e-5, 5e9, 2e11  # seconds that a product takes to begin; numbers read, and multiplied, in a second
X, HIDDEN, OUT, PLUS = range(4)  # the slots of a chain: x, between two products, what comes out, what is added to it
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


def floats(n: int) -> Tensor:
    """n zeros that the loops may read, whatever PyTorch's own dtype and device are."""
    return torch.zeros(n, dtype=torch.float32, device="cpu")


def chain_of(links: list[loops.Link]) -> Any:
    """Links as the loops read them: rows of whole numbers."""
    return torch.tensor(links, device="cpu").numpy()


def panel() -> int:
    """Rows of W in a panel."""
    return loops.for_steps().products.PANEL


class Panels:
    """W [E, D] by panels, each turned around, and b [E] as it is: x [..., D] -> x W^T + b [..., E], float32."""

    kind = "floats"  # of chains that it may be in
    gives = torch.float32

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.width, self.depth = weight.shape
        self.panels = torch.stack([some.T for some in cut(self.numbers(weight))])  # [P, D, PANEL]
        self.bias = floats(self.width) if bias is None else bias.float()
        self.zeros = floats(panel())
        self.whole = 0  # numbers of a row that are rounded to 8 bits
        self.part = loops.for_steps().products.part_of(self.depth)
        self.links: Any = None  # a chain of this product alone, once it is asked for

    def numbers(self, weight: Tensor) -> Tensor:
        """W as the loops read it, four bytes by four [E, ...]."""
        return weight

    def link(self, source: int, target: int) -> loops.Link:
        """The product from one slot of a chain to another."""
        return loops.Link(
            loops.for_steps().chains.PRODUCT, source, target, self.panels.shape[1], self.width, self.part,
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
        out = x.new_empty(*x.shape[:-1], self.width, dtype=self.gives)
        if self.links is None:
            self.links = chain_of([self.link(X, OUT)])
        slots = x.data_ptr(), 0, out.data_ptr(), 0
        loops.chain(self.kind, loops.thread_count(), x.numel() // self.depth, self.links, slots, self.whole)
        return out


class HalfPanels(Panels):
    """The same in bfloat16, added up in float32: two numbers of a row of W side by side. What comes out is bfloat16,
    or, where it is to be bent before it is rounded, float32."""

    kind = "halves"

    def __init__(self, weight: Tensor, bias: Tensor | None, *, wide: bool = False):
        super().__init__(weight, bias)
        self.gives = torch.float32 if wide else torch.bfloat16
        self.part //= 2

    def numbers(self, weight: Tensor) -> Tensor:
        return weight.contiguous().view(torch.int32)

    def link(self, source: int, target: int) -> loops.Link:
        return super().link(source, target)._replace(half=int(self.gives == torch.bfloat16))

    @staticmethod
    def can(weight: Tensor, bias: Tensor | None) -> bool:
        """Whether there is a panel in it, of whole pairs, and all is bfloat16, on a processor that adds up as the loops
        do: oneDNN does not where there is AMX."""
        fits = bias is None or (bias.dtype == torch.bfloat16 and bias.shape == weight.shape[:1])
        pairs = weight.dtype == torch.bfloat16 and weight.shape[1] > 0 and weight.shape[1] % 2 == 0
        return pairs and len(weight) >= LEAST and fits and multiplies_halves()


class WholePanels(Panels):
    """The same in whole numbers of 8 bits: W as `Int8Linear` rounds it, and x, which it rounds as it passes."""

    kind = "wholes"

    def __init__(self, weight: Any, bias: Tensor | None):
        """weight: quantized by rows."""
        super().__init__(weight.int_repr(), bias)
        self.whole = self.depth
        self.less = -128 * weight.int_repr().sum(1, dtype=torch.int32)
        self.scale = weight.q_per_channel_scales().float() * floats(1).fill_(1 / 127)

    def numbers(self, weight: Tensor) -> Tensor:
        return F.pad(weight, (0, -self.depth % 4)).view(torch.int32)

    def link(self, source: int, target: int) -> loops.Link:
        return (
            super()
            .link(source, target)
            ._replace(depth=self.depth, less=self.less.data_ptr(), scale=self.scale.data_ptr())
        )

    @staticmethod
    def can(weight: Tensor, bias: Tensor | None) -> bool:
        """Whether there is a panel in it, and it is not so deep that 32 bits could not hold a sum."""
        fits = bias is None or bias.shape == weight.shape[:1]
        return len(weight) >= LEAST and 0 < weight.shape[1] < 1 << 16 and fits


def multiplies_halves() -> bool:
    """Whether this processor has AVX512-BF16 and no AMX, as PyTorch and oneDNN find it."""
    return cast(Any, torch.cpu)._is_avx512_bf16_supported() and not loops.multiplies_tiles()
