"""What a backward pass says of a call's weights: the gradient of any of them, from values and the output's gradient.

The output of a head is the sum of its weights times its values, so that d target / d weight_ij = dO_i . v_j, where dO
is the gradient of the output (Chefer et al. 2021, 2103.15679). No matrix is kept for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """What the gradients of a recording are of, in English and in Chinese; not `there`: why there are none."""

    en: str
    zh: str
    there: bool = True


@dataclass(eq=False)
class Backward:
    """The values of a call, and the gradient of its output, once a backward pass has come by.

    value   [B, G, S, Kv] what the weights were multiplied with.
    output  [B, H, T, Kv] the gradient of what came out, of all backward passes together, as `.grad` adds up; None
            before the first.
    coming  whether the output is part of a graph, so that a gradient can come.
    """

    value: Tensor
    output: Tensor | None = None
    coming: bool = False

    def add(self, gradient: Tensor) -> None:
        """Hear the gradient of the output in a backward pass."""
        gradient = gradient.detach()
        self.output = gradient if self.output is None else self.output + gradient

    def follow(self, output: Tensor) -> Backward:
        """Hear the gradients of an output [B, H, T, Kv], if there are to be any."""
        if output.requires_grad:
            self.coming = True
            output.register_hook(self.add)
        return self


@torch.no_grad()
def slopes(gradient: Tensor, value: Tensor, dtype: torch.dtype) -> Tensor:
    """dO_i . v_j [B, H, t, s] of gradients [B, H, t, Kv] and values [B, G, s, Kv]."""
    gradient, value = gradient.to(dtype), value.to(dtype)
    grouped = gradient.unflatten(1, (value.shape[1], -1))  # [B, G, H/G, t, Kv]
    return (grouped @ value[:, :, None].mT).flatten(1, 2)
