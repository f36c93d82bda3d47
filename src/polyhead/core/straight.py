"""A packed block where few rows pass: x goes the way of block.py, but products, what is added to them and ReLU between
two of them are links of a chain that Python starts once (docs/decisions/0030).

Attention, norms and other activations are the block's own, so that no bit tells which way x went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from polyhead.core.block import Block
from polyhead.core.mlp import MLP, GatedMLP
from polyhead.core.panels import Panels, WholePanels
from polyhead.core.run import Run
from polyhead.operator import loops

SHARED = 1 << 16  # numbers that several threads add, or bend
X, HIDDEN, OUT, PLUS = range(4)  # the slots of a chain: x, between two products, what comes out, what is added to it
Part = Callable[[Tensor, Tensor, Run], Tensor]  # of h, what a part of the block reads, and x: x plus what the part says


class Straight:
    """`Block.forward` of a packed block, from when all of its products are laid out for few rows."""

    def __init__(self, block: Block):
        self.block, self.chains = block, list[Chain]()
        self.add = self.pre if block.add == block.pre else self.post
        self.attn = self.attn_of(cast(Any, block.attn))
        self.cross = self.cross_of(cast(Any, block.cross)) if block.crosses else None
        self.mlp = self.mlp_of(cast(Any, block.mlp))
        self.ready = False

    @staticmethod
    def can(block: nn.Module) -> bool:
        """Whether a block's queries, keys and values come of one product."""
        return isinstance(block, Block) and "projected" in block.attn.__dict__

    def __call__(self, x: Tensor, run: Run) -> Tensor:  # [B, T, D] -> [B, T, D]
        self.ready = self.ready or all(chain.ready() for chain in self.chains)
        if not (self.ready and plain(x)) or run.observer is not None or self.block.training:
            return Block.forward(self.block, x, run)
        block = self.block
        x = self.add(x, block.attn_norm, self.attn, run)
        if self.cross is not None:
            x = self.add(x, block.cross_norm, self.cross, run)
        return self.add(x, block.mlp_norm, self.mlp, run)

    def pre(self, x: Tensor, norm: nn.Module, part: Part, run: Run) -> Tensor:
        return part(norm(x), x, run)

    def post(self, x: Tensor, norm: nn.Module, part: Part, run: Run) -> Tensor:
        return norm(part(x, x, run))

    def attn_of(self, attn: Any) -> Part:
        into, out = self.chain(attn.projected.whole), self.chain(attn.out)
        heads = [width // attn.width for width in attn.projected.widths]

        def part(h: Tensor, x: Tensor, run: Run) -> Tensor:
            q, k, v = into(h).unflatten(-1, (-1, attn.width)).transpose(1, 2).split(heads, 1)  # [B, H or G, T, K]
            return out(attn.joined(attn.look(q, k, v, run)), x)

        return part

    def cross_of(self, cross: Any) -> Part:
        into, out = self.chain(cross.query), self.chain(cross.out)
        return lambda h, x, run: out(cross.joined(cross.look(cross.split(into(h)), run)), x)

    def mlp_of(self, mlp: Any) -> Part:
        if not isinstance(mlp, MLP):  # experts, who choose their rows
            return lambda h, x, run: x + mlp(h, run)
        first: Any = getattr(mlp, mlp.bent)
        bend = getattr(first, "bend", None) or mlp.bend
        if isinstance(mlp, GatedMLP):
            gate, up, down = self.chain(mlp.gate), self.chain(mlp.up), self.chain(mlp.down)
            return lambda h, x, run: down(bend(gate(h)).mul_(up(h)), x)
        if bend is torch.relu_:
            both = self.chain(mlp.up, mlp.down)
            return lambda h, x, run: both(h, x)
        up, down = self.chain(mlp.up), self.chain(mlp.down)
        return lambda h, x, run: down(bend(up(h)), x)

    def chain(self, *products: nn.Module) -> Chain:
        self.chains.append(Chain(products))
        return self.chains[-1]


def plain(x: Tensor) -> bool:
    """Whether these are numbers at an address of which nobody wants gradients."""
    usual = type(x) is Tensor and x.dtype == torch.float32 and x.device.type == "cpu"
    return usual and x.numel() > 0 and not torch.is_grad_enabled()


class Chain:
    """One product, or two with ReLU between them; and a sum, where there is something to add."""

    def __init__(self, products: tuple[nn.Module, ...]):
        self.products, self.held = products, list[Panels | WholePanels]()

    def ready(self) -> bool:
        """Whether all of it is laid out for few rows, as which it stays."""
        held = [cast(Any, product).weight for product in self.products]
        if not all(isinstance(each, Panels | WholePanels) for each in held):
            return False
        kinds, (*bent, last) = loops.for_steps().chains, held
        self.held, self.depth, self.width, self.hidden = held, held[0].depth, last.width, held[0].width
        self.deep = max((each.depth for each in held if isinstance(each, WholePanels)), default=0)
        links = [last.link(HIDDEN if bent else X, OUT)]
        if bent:
            relu = loops.Link(kinds.RELU, HIDDEN, HIDDEN, width=self.hidden, crowd=-(-SHARED // self.hidden))
            links = [bent[0].link(X, HIDDEN), relu, *links]
        plus = loops.Link(kinds.ADD, PLUS, OUT, width=self.width, crowd=-(-SHARED // self.width))
        self.links, self.with_plus = torch.tensor(links).numpy(), torch.tensor([*links, plus]).numpy()
        return True

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:  # [B, T, D] -> [B, T, E]
        x, (B, T, _) = x.contiguous(), x.shape
        out = x.new_empty(B, T, self.width)
        hidden = x if len(self.held) == 1 else x.new_empty(B, T, self.hidden)
        links, plus = (self.links, x) if plus is None else (self.with_plus, plus.contiguous())
        slots = x.data_ptr(), hidden.data_ptr(), out.data_ptr(), plus.data_ptr()
        loops.chain(loops.thread_count(), B * T, links, slots, self.deep)
        return out
