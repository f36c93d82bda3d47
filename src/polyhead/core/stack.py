"""A stack of blocks: it adds its own rule to the run's, makes the bias its blocks share, and closes with a norm."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from polyhead.core.block import Block
from polyhead.core.recipe import Recipe
from polyhead.core.run import Run
from polyhead.errors import ArgumentError
from polyhead.operator import Causal, Dense, Rule, Window

CAUSAL = Causal()


class Stack(nn.Module):
    """`recipe.n_layers` blocks. x [B, T, D] -> [B, T, D]; a cache in the run is advanced once, after the last."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        self.rules, self.position, self.width = rules_of(recipe), recipe.position, recipe.head_width
        self.blocks = nn.ModuleList(Block(recipe, experts) for experts in recipe.mixtures)
        self.bias = recipe.position.bias(recipe.n_heads)
        self.final_norm = recipe.norm.make(recipe.d_model) if recipe.final_norm else nn.Identity()

    def forward(self, x: Tensor, run: Run) -> Tensor:
        if self.bias is not None and run.bias is not None:
            raise ArgumentError("run.bias was given, but this stack makes a bias of its own; hand in one of the two")
        bias = run.bias if self.bias is None else self.bias()
        turns = self.position.turns(run, x.shape[1], self.width, x.device)
        run = replace(run, bias=bias, turns=turns)
        # Causal hides nothing from a single query, the last; who watches is told of it all the same
        last = x.shape[1] == 1 and run.mask is None and run.observer is None
        masks = {rule: None if last and rule == CAUSAL else both(rule, run.mask) for rule in self.rules}
        for layer, (block, rule) in enumerate(zip(self.blocks, self.rules, strict=True)):
            x = run.see(block, "in", x)
            x = run.see(block, "out", block(x, run.at(layer, masks[rule])))
        if run.cache is not None:
            run.cache.advance(x.shape[1])
        return self.final_norm(x)


def rules_of(recipe: Recipe) -> list[Rule | None]:
    """What the queries of each layer may see, whatever the run; layers that are alike share one rule."""
    causal = CAUSAL if recipe.causal else None
    kinds = {w: both(causal, None if w is None else Window(w - 1, 0)) for w in recipe.windows}
    return [kinds[w] for w in recipe.windows]


def both(rule: Rule | None, mask: Rule | Tensor | None) -> Rule | None:
    """A rule and a mask as one rule; None where neither hides anything."""
    other = Dense(mask) if isinstance(mask, Tensor) else mask
    if rule is None or other is None:
        return rule or other
    return rule & other
