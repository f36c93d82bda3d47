"""A packed block where few rows pass: x goes the way of block.py, but products, what is added to them and ReLU between
two of them are links of a chain that Python starts once (docs/decisions/0030).

Attention, norms and other activations are the block's own, so that no bit tells which way x went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from polyhead.core.block import Block
from polyhead.core.mlp import MLP, GatedMLP
from polyhead.core.panels import HIDDEN, OUT, PLUS, Panels, X, chain_of
from polyhead.core.run import Run
from polyhead.operator import loops

SHARED = 1 << 16  # numbers that several threads add, or bend
Part = Callable[[Tensor, Tensor, Run], Tensor]  # of h, what a part of the block reads, and x: x plus what the part says


class Straight:
    """`Block.forward` of a packed block, from when all of its products are laid out for few rows. What is hung on the
    modules inside of it, or put in their place, is not met then."""

    def __init__(self, block: Block):
        self.block, self.chains = block, list[Chain]()
        self.width = cast(Any, block.attn).query.in_features
        self.add = self.pre if block.add == block.pre else self.post
        self.attn = self.attn_of(cast(Any, block.attn))
        self.cross = self.cross_of(cast(Any, block.cross)) if block.crosses else None
        self.mlp = self.mlp_of(cast(Any, block.mlp))
        self.dtype: torch.dtype = cast(Any, self.chains[0].products[0]).dtype  # of all that goes through
        self.ready = False

    @staticmethod
    def can(block: nn.Module) -> bool:
        """Whether a block's queries, keys and values come of one product."""
        return type(block) is Block and "projected" in block.attn.__dict__

    def __call__(self, x: Tensor, run: Run) -> Tensor:  # [B, T, D] -> [B, T, D]
        self.ready = self.ready or all(chain.ready() for chain in self.chains)
        if not (self.ready and self.plain(x)) or run.observer is not None or self.block.training:
            return Block.forward(self.block, x, run)
        block = self.block
        x = self.add(x, block.attn_norm, self.attn, run)
        if self.cross is not None:
            x = self.add(x, block.cross_norm, self.cross, run)
        return self.add(x, block.mlp_norm, self.mlp, run)

    def plain(self, x: Tensor) -> bool:
        """Whether these are rows of numbers at an address, as wide as they should be, of which nobody wants gradients:
        what the loops trust."""
        usual = type(x) is Tensor and x.dtype == self.dtype and x.device.type == "cpu"
        return usual and x.dim() == 3 and x.shape[2] == self.width and x.numel() > 0 and not torch.is_grad_enabled()

    def pre(self, x: Tensor, norm: nn.Module, part: Part, run: Run) -> Tensor:
        return part(norm(x), x, run)

    def post(self, x: Tensor, norm: nn.Module, part: Part, run: Run) -> Tensor:
        return norm(part(x, x, run))

    def attn_of(self, attn: Any) -> Part:
        into, out = self.chain(attn.projected.whole), self.chain(attn.out)
        heads = [width // attn.width for width in attn.projected.widths]

        def part(h: Tensor, x: Tensor, run: Run) -> Tensor:
            found = torch.unflatten(into(h), -1, (-1, attn.width)).transpose(1, 2)  # [B, H + 2 G, T, K]
            q, k, v = torch.split(found, heads, 1)
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
            return lambda h, x, run: down(bend(gate(h)).to(h.dtype).mul_(up(h)), x)
        if bend is torch.relu_:
            both = self.chain(mlp.up, mlp.down)
            return lambda h, x, run: both(h, x)
        up, down = self.chain(mlp.up), self.chain(mlp.down)
        return lambda h, x, run: down(bend(up(h)).to(h.dtype), x)

    def chain(self, *products: nn.Module) -> Chain:
        self.chains.append(Chain(products))
        return self.chains[-1]


class Made(NamedTuple):
    """A chain as the loops read it: what its addresses belong to, the widths of rows, the type of what comes out, the
    deepest product in 8 bits, and the links without and with a sum at their end."""

    held: list[Panels]
    hidden: int | None  # between two products
    width: int
    gives: torch.dtype
    deep: int
    links: Any
    with_plus: Any


class Chain:
    """One product, or two with ReLU between them; and a sum, where there is something to add."""

    def __init__(self, products: tuple[nn.Module, ...]):
        self.products = products
        self.made: Made | None = None  # once all of it is laid out for few rows, as which it stays

    def ready(self) -> bool:
        if self.made is None:
            held = [cast(Any, product).weight for product in self.products]
            if all(isinstance(each, Panels) for each in held):
                self.made = made_of(held)  # at once: another thread may be reading it
        return self.made is not None

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:  # [B, T, D] -> [B, T, E]
        made = self.made
        assert made is not None
        x, (B, T, _) = x.contiguous(), x.shape
        out = x.new_empty(B, T, made.width, dtype=made.gives)
        hidden = x if made.hidden is None else x.new_empty(B, T, made.hidden)
        links, plus = (made.links, x) if plus is None else (made.with_plus, plus.contiguous())
        slots = x.data_ptr(), hidden.data_ptr(), out.data_ptr(), plus.data_ptr()
        loops.chain(made.held[0].kind, loops.thread_count(), B * T, links, slots, made.deep)
        return out


def made_of(held: list[Panels]) -> Made:
    """One product, or two with ReLU between them."""
    kinds, (*bent, last) = loops.for_steps().chains, held
    half = int(last.gives == torch.bfloat16)
    hidden, width = bent[0].width if bent else None, last.width
    links = [last.link(HIDDEN if bent else X, OUT)]
    if hidden is not None:
        relu = loops.Link(kinds.RELU, HIDDEN, HIDDEN, width=hidden, crowd=-(-SHARED // hidden), half=half)
        links = [bent[0].link(X, HIDDEN), relu, *links]
    plus = loops.Link(kinds.ADD, PLUS, OUT, width=width, crowd=-(-SHARED // width), half=half)
    deep = max(each.whole for each in held)
    return Made(held, hidden, width, last.gives, deep, chain_of(links), chain_of([*links, plus]))
