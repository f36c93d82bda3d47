"""A model made ready to answer on a CPU: every matrix is laid out once the way oneDNN's kernels read it.

Besides being faster on the few rows of decoding, a packed product rounds the same way whatever the number of rows, so
that a sentence does not change its words with its batch.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

ROWS = 64  # the number of rows that the layout is chosen for


class PackedLinear(nn.Module):
    """x W^T + b with W laid out for oneDNN; for inference only, in float32 or bfloat16 on a CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def packable(model: nn.Module) -> bool:
    """Whether this PyTorch build and the model's device and type have packed products."""
    weight = next(model.parameters())
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
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
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                biases = {**dict(child.named_parameters()), **dict(child.named_buffers())}
                bias = biases.get("bias", biases.get("fixed_bias"))
                setattr(module, name, PackedLinear(child.weight, None if bias is None else bias.flatten()))
    return twin.eval()
