"""A model made ready to answer on a CPU: every matrix is laid out once the way oneDNN's kernels read it.

Besides being faster on the few rows of decoding, a packed product rounds the same way whatever the number of rows, so
that a sentence does not change its words with its batch. Queries, keys and values of one x come of one product, and a
ReLU is part of the product before it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core.attention import SelfAttention
from polyhead.core.mlp import MLP
from polyhead.core.position import Position

ROWS = 64  # the number of rows that the layout is chosen for


class PackedLinear(nn.Module):
    """x W^T + b with W laid out for oneDNN, "none" or "relu" after it; for inference only, in float32 or bfloat16 on a
    CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, after: str = "none"):
        super().__init__()
        self.after = after
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.after, [], "")


def joined(parts: Sequence[nn.Linear]) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    """`SelfAttention.projected` where places are added to nothing: three products of the same x as one, apart again."""
    own: list[Tensor | None] = [getattr(part, "bias", None) for part in parts]
    none = [part.weight.new_zeros(part.out_features) for part in parts]
    biases = [zeros if bias is None else bias for bias, zeros in zip(own, none, strict=True)]
    bias = None if all(x is None for x in own) else torch.cat(biases)
    product = PackedLinear(torch.cat([part.weight for part in parts]), bias)
    widths = [part.out_features for part in parts]

    def projected(placed: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return torch.split(product(x), widths, -1)

    return projected


def packable(model: nn.Module) -> bool:
    """Whether this PyTorch build and the model's device and type have packed products."""
    weight = next(model.parameters())
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def packed(model: nn.Module) -> nn.Module:
    """The same model with packed matrices, sharing all other weights; the model itself where that cannot be had."""
    if not packable(model):
        return model
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, memo)  # modules are new, tensors are shared
    for module, original in zip(twin.modules(), model.modules(), strict=True):
        module.__dict__["original"] = original  # whoever watches the model knows its twin's modules by it
    for module in list(twin.modules()):
        pack(module)
    return twin.eval()


def pack(module: nn.Module) -> None:
    """Put packed products in the place of a module's own."""
    linear = {name: child for name, child in module.named_children() if isinstance(child, nn.Linear)}
    if isinstance(module, SelfAttention) and type(module.position).added is Position.added:
        module.__dict__["projected"] = joined([linear.pop(name) for name in ("query", "key", "value")])
    if type(module) is MLP and module.bend is F.relu:
        up, module.bend = linear.pop("up"), nn.Identity()
        setattr(module, "up", PackedLinear(up.weight, up.bias, "relu"))  # noqa: B010
    for name, child in linear.items():
        biases = {**dict(child.named_parameters()), **dict(child.named_buffers())}
        bias = biases.get("bias", biases.get("fixed_bias"))
        setattr(module, name, PackedLinear(child.weight, None if bias is None else bias.flatten()))
