"""Multi-head attention with its parameters: project, norm, turn, remember, attend, out (Vaswani et al. 2017, 3.2.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from polyhead.core.linear import Linear
from polyhead.core.recipe import Recipe
from polyhead.core.run import Run
from polyhead.errors import ArgumentError
from polyhead.operator import Dense, Lengths, Rule


class Attention(nn.Module):
    """The four projections, and the splitting of a vector into heads."""

    reads: ClassVar[tuple[str, ...]] = ()  # of the run, beside masks and bias: with x, all that the layer computes from

    def __init__(self, recipe: Recipe):
        super().__init__()
        width, biases = recipe.head_width, recipe.biases
        self.width, self.position = width, recipe.position
        self.scale, self.softcap, self.p = recipe.scale, recipe.softcap, recipe.attention_dropout
        self.query = Linear(recipe.d_model, recipe.n_heads * width, bias=biases.query)
        self.key = Linear(recipe.d_model, recipe.kv_heads * width, bias=biases.key)
        self.value = Linear(recipe.d_model, recipe.kv_heads * width, bias=biases.value)
        self.out = Linear(recipe.n_heads * width, recipe.d_model, bias=biases.out)
        self.query_norm, self.key_norm = (
            nn.Identity() if recipe.head_norm is None else recipe.head_norm.make(width) for _ in range(2)
        )

    @property
    def dropout(self) -> float:
        return self.p if self.training else 0.0

    def entered(self, x: Tensor, run: Run) -> tuple[Tensor, Run]:
        """What the layer reads, shown to whoever watches: x, then those of `reads` that the run has."""
        if run.observer is None:
            return x, run
        x = run.see(self, "x", x)
        held = {place: tensor for place in self.reads if (tensor := getattr(run, place)) is not None}
        return x, replace(run, **{place: run.see(self, place, tensor) for place, tensor in held.items()})

    def split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (-1, self.width)).transpose(1, 2)  # [B, T, H*K] -> [B, H, T, K]

    def joined(self, z: Tensor) -> Tensor:
        return z.transpose(1, 2).flatten(2)  # [B, H, T, K] -> [B, T, H*K]

    def merge(self, z: Tensor) -> Tensor:
        return self.out(self.joined(z))  # [B, H, T, K] -> [B, T, D]


class SelfAttention(Attention):
    """Every row looks at the rows of its own sequence."""

    reads = ("added", "positions")

    def projected(self, placed: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys of x with its places added, values of x, heads side by side; one product where packed."""
        return self.query(placed), self.key(placed), self.value(x)

    def forward(self, x: Tensor, run: Run) -> Tensor:  # [B, T, D] -> [B, T, D]
        x, run = self.entered(x, run)
        q, k, v = map(self.split, self.projected(self.position.added(x, run.added), x))
        return run.see(self, "out", self.merge(self.look(q, k, v, run)))

    def look(self, q: Tensor, k: Tensor, v: Tensor, run: Run) -> Tensor:  # [B, H, T, K], [B, G, T, K] -> [B, H, T, K]
        """What the queries find at the keys, and at those of the cache."""
        q = run.see(self, "q", self.position.rotated(self.query_norm(q), run))  # [B, H, T, K]
        k = run.see(self, "k", self.position.rotated(self.key_norm(k), run))  # [B, G, T, K]
        v = run.see(self, "v", v)  # [B, G, T, K]
        finite = False
        if run.cache is not None:
            k, v = run.cache.extend(run.layer, k, v)  # [B, G, S, K]
            finite = run.cache.finite
        z = run.attend(
            self, q, k, v,
            mask=run.mask, bias=run.bias, scale=self.scale, softcap=self.softcap, dropout=self.dropout, finite=finite,
        )  # fmt: skip
        return run.see(self, "z", z)


class CrossAttention(Attention):
    """Every row looks at the rows of a memory [M, S, D].

    Keys and values are made once for a memory and never copied for each beam: when x has n rows for each row of the
    memory, the n beams are folded into the query axis.
    """

    reads = ("memory", "added", "memory_added")

    def forward(self, x: Tensor, run: Run) -> Tensor:  # [M*n, T, D] -> [M*n, T, D]
        x, run = self.entered(x, run)
        q = self.split(self.query(self.position.added(x, run.added)))
        return run.see(self, "out", self.merge(self.look(q, run)))

    def look(self, q: Tensor, run: Run) -> Tensor:  # [M*n, H, T, K] -> [M*n, H, T, K]
        """What the queries find in the memory."""
        q = run.see(self, "q", self.query_norm(q))  # [M*n, H, T, K]
        k, v, finite = self.keys_values(run)  # [M, G, S, K]
        beams = q.shape[0] // k.shape[0]
        if beams > 1:
            check_foldable(run.memory_mask)
            q = torch.unflatten(q, 0, (-1, beams)).transpose(1, 2).flatten(2, 3)  # [M, H, n*T, K]
        z = run.attend(
            self, q, k, v,
            mask=run.memory_mask, scale=self.scale, softcap=self.softcap, dropout=self.dropout, finite=finite,
        )  # fmt: skip
        if beams > 1:
            z = torch.unflatten(z, 2, (beams, -1)).transpose(1, 2).flatten(0, 1)  # [M*n, H, T, K]
        return run.see(self, "z", z)

    def keys_values(self, run: Run) -> tuple[Tensor, Tensor, bool]:
        memory = run.memory
        assert memory is not None, "a stack with cross-attention needs run.memory"

        def make() -> tuple[Tensor, Tensor]:
            k = self.split(self.key(self.position.added(memory, run.memory_added)))
            k = run.see(self, "k", self.key_norm(k))
            return k, run.see(self, "v", self.split(self.value(memory)))

        if run.cache is None:
            return *make(), False
        return run.cache.once(run.layer, make)


def check_foldable(mask: Rule | Tensor | None) -> None:
    """Refuse a memory mask that tells queries apart: beams that share a memory are folded into the query axis."""
    parts = (Dense(mask),) if isinstance(mask, Tensor) else () if mask is None else mask.parts()
    for part in parts:
        plain = isinstance(part, Lengths) and part.queries is None
        if not plain and not (isinstance(part, Dense) and (part.mask.dim() < 2 or part.mask.shape[-2] == 1)):
            raise ArgumentError(
                f"memory_mask must be the same for every query where several rows of x share a row of memory; "
                f"found {type(part).__name__}; repeat the memory for each row, or use Lengths or a mask [B, 1, 1, S]"
            )
