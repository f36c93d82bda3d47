"""The MLP of a block: up, bend, down; or, gated, up times a bent gate, down."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core.dropout import dropout
from polyhead.core.linear import Linear
from polyhead.core.recipe import Recipe
from polyhead.core.run import Run
from polyhead.errors import ArgumentError, did_you_mean

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * (1.702 * x).sigmoid(),
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def bend_of(name: str) -> Callable[[Tensor], Tensor]:
    """An activation by its name in configs."""
    if name not in ACTIVATIONS:
        raise ArgumentError(
            f"activation '{name}' is not one of {', '.join(ACTIVATIONS)}.{did_you_mean(name, ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


class MLP(nn.Module):
    """down(f(up(x))) (Vaswani et al. 2017, 3.3)."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.bend = bend_of(recipe.activation)
        self.p = recipe.activation_dropout
        self.up = Linear(recipe.d_model, recipe.d_ff, bias=recipe.biases.mlp)
        self.down = Linear(recipe.d_ff, recipe.d_model, bias=recipe.biases.mlp)

    def hidden(self, x: Tensor) -> Tensor:
        return self.bend(self.up(x))  # [B, T, F]

    def forward(self, x: Tensor, run: Run) -> Tensor:
        hidden = run.see(self, "hidden", self.hidden(x))
        return self.down(dropout(hidden, self.p, self.training))


class GatedMLP(MLP):
    """down(f(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.gate = Linear(recipe.d_model, recipe.d_ff, bias=recipe.biases.mlp)

    def hidden(self, x: Tensor) -> Tensor:
        return self.bend(self.gate(x)) * self.up(x)  # [B, T, F]


def mlp_of(recipe: Recipe) -> MLP:
    return GatedMLP(recipe) if recipe.gated else MLP(recipe)
