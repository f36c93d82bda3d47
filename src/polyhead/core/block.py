"""One block: x plus what attention found, plus (in a decoder) what the memory says, plus what the MLP made of it.

pre-norm                        post-norm
x ──┬──────────────┐            x ──┬───────┐
    └ norm ─ f ──── + ── x          └ f ─── + ─ norm ── x
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from polyhead.core.attention import CrossAttention, SelfAttention
from polyhead.core.dropout import dropout
from polyhead.core.experts import Mixture
from polyhead.core.mlp import mlp_of
from polyhead.core.recipe import Experts, Recipe
from polyhead.core.run import Run


class Block(nn.Module):
    def __init__(self, recipe: Recipe, experts: Experts | None = None):
        super().__init__()
        self.p = recipe.dropout
        self.add = self.pre if recipe.norm_at == "pre" else self.post
        self.attn = SelfAttention(recipe)
        self.attn_norm = recipe.norm.make(recipe.d_model)
        self.crosses = recipe.cross
        if recipe.cross:
            self.cross = CrossAttention(recipe)
            self.cross_norm = recipe.norm.make(recipe.d_model)
        self.mlp = mlp_of(recipe) if experts is None else Mixture(recipe, experts)
        self.mlp_norm = recipe.norm.make(recipe.d_model)

    def forward(self, x: Tensor, run: Run) -> Tensor:  # [B, T, D] -> [B, T, D]
        x = self.add(x, self.attn_norm, lambda h: run.see(self, "attn", self.attn(h, run)))
        if self.crosses:
            x = self.add(x, self.cross_norm, lambda h: run.see(self, "cross", self.cross(h, run)))
        x = run.see(self, "mid", x)
        return self.add(x, self.mlp_norm, lambda h: run.see(self, "mlp", self.mlp(h, run)))

    def pre(self, x: Tensor, norm: nn.Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        return x + dropout(f(norm(x)), self.p, self.training)

    def post(self, x: Tensor, norm: nn.Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        return norm(x + dropout(f(x), self.p, self.training))
