"""x W^T + b with a gradient: on a CPU by oneDNN where many rows pass, as while training, else by PyTorch's own.

What PyTorch calls for float32 there is MKL, which on processors of other makers leaves half of their vectors idle: with
512 rows or more, oneDNN takes less than half of its time on an AMD EPYC, the only maker measured (docs/log.md,
2026-11-30). The matrix lies as it is; one that stays the same and meets few rows is laid out anew by `packed`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 128  # from so many on a product pays for turning its matrix around


class Linear(nn.Linear):
    """`nn.Linear`, whose product is `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., D] W^T [D, E] + b [E] -> [..., E], differentiable as often as is asked for."""
    if able(x, weight, bias) and x.numel() >= ROWS * x.shape[-1]:
        return cast(Any, Product).apply(x, weight, bias)
    return F.linear(x, weight, bias)


def made_of(weight: Tensor, bias: Tensor | None) -> Linear:
    """The layer of these numbers, as they are, for inference only."""
    made = Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


def able(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN may take it: float32 on a CPU, as it is, and nobody traces, maps, casts or differentiates forward.

    What does not fit together is left to PyTorch, whose sentence about it is better.
    """
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        there
        and torch.backends.mkldnn.enabled
        and all(each.device.type == "cpu" and each.dtype == torch.float32 for each in tensors)
        and all(type(each) in PLAIN for each in tensors)
        and weight.dim() == 2
        and x.shape[-1] == weight.shape[1] > 0
        and (bias is None or bias.shape == weight.shape[:1])
        and not torch.is_autocast_enabled("cpu")
        and not (torch.compiler.is_compiling() or cast(Any, torch.jit).is_tracing())
        and cast(Any, torch)._C._functorch.peek_interpreter_stack() is None
        and cast(Any, forward_ad)._current_level < 0
    )


PLAIN = (Tensor, nn.Parameter)  # and not what stands for one while a graph is made of it


class Product(torch.autograd.Function):
    """The product and its gradients, which are products: dx = dy W, dW = dy^T x, db = the sum of dy's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        bias = None if bias is None else bias.contiguous()  # which oneDNN takes it for
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (dy,) = ctx.saved_tensors, grads
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = dy.reshape(dy.shape[:-1].numel(), dy.shape[-1])  # [N, E]
        dx = linear(dy, weight.mT) if wants_x else None
        dw = turned(rows, x.flatten(0, -2)) if wants_weight else None
        return dx, dw, rows.sum(0) if wants_bias else None


def turned(dy: Tensor, x: Tensor) -> Tensor:
    """dy^T x of dy [N, E] and x [N, D], the narrower of them first, which oneDNN copies to turn it around."""
    wide = dy.shape[-1] > x.shape[-1]
    first, second = (x.mT, dy.mT) if wide else (dy.mT, x.mT)
    product = cast(Any, Product).apply(first, second, None) if able(first, second) else F.linear(first, second)
    return product.mT if wide else product
