"""Weights before training: Glorot-uniform matrices, zero biases, embeddings of spread D^-1/2; or none, where a file
holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polyhead.core.attention import Attention
from polyhead.core.experts import Router
from polyhead.core.mlp import MLP


def initialise(model: nn.Module) -> None:
    """Glorot and Bengio 2010 for every matrix; with embeddings scaled by sqrt(D), words enter at unit size."""
    for module in model.modules():
        if isinstance(module, nn.Linear | Router):
            nn.init.xavier_uniform_(module.weight)
            for bias in (b for name, b in module.named_parameters(recurse=False) if name == "bias"):
                nn.init.zeros_(bias)
    for module in model.modules():  # after the matrices: a head tied to an embedding starts as the embedding
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def quieten(stack: nn.Module, n_layers: int) -> None:
    """Let what blocks add start smaller by (12 N)^-1/4, where a norm comes after every addition.

    Blocks that begin near the identity learn from the first step on, where norms come after; otherwise such a stack
    stays on a plateau before its words are aligned. The gain is that of DeepNet (Wang et al. 2022, arXiv 2203.00555,
    table 2, a decoder's), on values and on what ends a branch, without its scaled residuals, which are another model.
    """
    gain = (12 * n_layers) ** -0.25
    for module in stack.modules():
        if isinstance(module, Attention):
            scale(module.value.weight, gain)
            scale(module.out.weight, gain)
        elif isinstance(module, MLP):
            scale(module.down.weight, gain)


@torch.no_grad()
def scale(weight: Tensor, gain: float) -> None:
    weight.mul_(gain)


FILLS = {
    *(name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")),
    "fill_", "zero_", "copy_", "mul_", "add_",
}  # fmt: skip


class Unfilled(TorchFunctionMode):
    """While it holds, parameters are made and left as memory is: nothing is drawn that a file will outweigh, and no
    page of memory is touched."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        first = args[0] if args else (kwargs or {}).get("tensor")
        if isinstance(first, nn.Parameter) and getattr(func, "__name__", "") in FILLS:
            return first
        return func(*args, **(kwargs or {}))
