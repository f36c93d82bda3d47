"""The MLP of a block: up, bend, down; or, gated, up times a bent gate, down."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core.dropout import dropout
from polyhead.core.linear import Linear
from polyhead.core.recipe import Recipe
from polyhead.core.run import Run
from polyhead.errors import ArgumentError, did_you_mean


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by way of a tanh (Hendrycks and Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """GELU by way of a sigmoid (Hendrycks and Gimpel 2016, section 2)."""
    return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "quick_gelu": quick_gelu,
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

    bent: ClassVar[str] = "up"  # the product that is bent

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

    bent = "gate"

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.gate = Linear(recipe.d_model, recipe.d_ff, bias=recipe.biases.mlp)

    def hidden(self, x: Tensor) -> Tensor:
        return self.bend(self.gate(x)) * self.up(x)  # [B, T, F]


def mlp_of(recipe: Recipe) -> MLP:
    return GatedMLP(recipe) if recipe.gated else MLP(recipe)
