"""A model made ready to answer on a CPU: every matrix is laid out once the way the kernels of its products read it.

Besides being faster on the few rows of decoding, a packed product rounds the same way whatever the number of rows, so
that a sentence does not change its words with its batch. Queries, keys and values of one x come of one product, and an
activation is part of the product before it. A product is one of two: of floating-point numbers by oneDNN, or by loops
of our own (panels.py) that give the same bits; or of whole numbers of 8 bits by FBGEMM.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core.attention import SelfAttention
from polyhead.core.block import Block
from polyhead.core.experts import Router
from polyhead.core.mlp import MLP, gelu_tanh, quick_gelu
from polyhead.core.panels import FEW, HalfPanels, Panels, WholePanels, multiplies_halves, worth
from polyhead.core.position import Position
from polyhead.core.straight import Straight
from polyhead.errors import ArgumentError
from polyhead.operator import loops

ROWS = 64  # the number of rows that the layout is chosen for
DEPTH = 1024  # from more numbers in a row on, oneDNN adds up one row in another order than several
TINY = 1e-30  # what a row of zeros is divided by
COPIED = (
    "A packed model, laid out for this process, is not copied or saved; take what it was made from: loaded, or"
    " loaded.model."
)
Bend = Callable[[Tensor], Tensor]
WITHIN: dict[Bend, tuple[str, str]] = {  # what oneDNN does to a number before it writes it: its name, its formula
    F.relu: ("relu", ""),
    F.gelu: ("gelu", "none"),
    gelu_tanh: ("gelu", "tanh"),
    F.silu: ("swish", ""),
}
EXACT: set[Bend | None] = {None, F.relu, F.gelu}  # of which oneDNN makes PyTorch's bits, in float32 (but ReLU's of NaN)


class Packed(nn.Module):
    """A product of a packed model, which answers and is neither trained nor copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise ArgumentError(COPIED)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ArgumentError(COPIED)


class PackedLinear(Packed):
    """x W^T + b with W laid out for oneDNN, or what one of `WITHIN` makes of it; for inference only, in float32 or
    bfloat16 on a CPU.

    Once few rows are met, and loading the loops pays, W is laid out for these instead.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, bend: Bend | None = None):
        super().__init__()
        self.after, self.formula = ("none", "") if bend is None else WITHIN[bend]
        self.bend = None if bend is None else IN_PLACE.get(bend, bend)
        self.dtype, self.deep = weight.dtype, weight.shape[1] > DEPTH
        self.bias = None if bias is None else bias.detach().contiguous()
        self.kind = HalfPanels if weight.dtype == torch.bfloat16 else Panels
        self.may_turn, self.size = bend in EXACT and self.kind.can(weight, self.bias), weight.numel()
        self.weight: Tensor | Panels = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Any, Answered).apply(x, self)
        weight = self.weight  # once: another thread may be turning it
        if self.may_turn and isinstance(weight, Tensor) and self.turns(x):
            weight = self.weight = self.turned(weight.to_dense())
        if isinstance(weight, Panels):
            check_type(x, self.dtype)
            return weight(x) if self.bend is None else self.bend(weight(x)).to(self.dtype)
        try:
            if self.deep and x.numel() == x.shape[-1]:  # a row alone would be added up in another order
                rows = torch.cat((x.reshape(1, -1),) * 2)
                return self.product(rows, weight)[:1].reshape(*x.shape[:-1], -1)
            return self.product(x, weight)
        except RuntimeError:
            check_type(x, self.dtype)
            raise

    def turns(self, x: Tensor) -> bool:
        """Whether it is time to lay W out for few rows; not where oneDNN is told to compute in less than float32."""
        rows = x.shape[:-1].numel()
        highest = torch.get_float32_matmul_precision() == "highest"
        return rows <= FEW and highest and worth(rows, self.size) and (self.kind is Panels or loops.multiplies_halves())

    def turned(self, weight: Tensor) -> Panels:
        """W laid out for few rows; what is to be bent leaves the product as wide as oneDNN bends it."""
        if self.kind is Panels:
            return Panels(weight, self.bias)
        return HalfPanels(weight, self.bias, wide=self.bend is F.gelu)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, self.after, [], self.formula)


class Int8Linear(Packed):
    """x W^T + b in whole numbers of 8 bits; for inference only, on a CPU.

    Each row of W, and each row of x while it passes, is divided by its own largest number and rounded to -127 ... 127
    (symmetric, per channel and per token: Wu et al. 2020, "Integer quantization for deep learning inference", 3), so
    that no row depends on those beside it. FBGEMM adds up the products in 32 bits; or loops of our own, once loading
    them pays.
    """

    dtype = torch.float32  # of x and of what comes out

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.steps = steps()
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=TINY) / 127
        zeros = torch.zeros(len(weight), dtype=torch.long, device=weight.device)
        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # PyTorch's of a successor, torchao
            whole = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8)
        self.weight: Any = torch.ops.quantized.linear_prepack(whole, None)
        self.bias = None if bias is None else bias.detach().float().contiguous()
        self.may_turn, self.size = self.steps == 127 and WholePanels.can(weight, self.bias), weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Any, Answered).apply(x, self)
        check_type(x, self.dtype)
        weight = self.weight  # once: another thread may be turning it
        if self.may_turn and not isinstance(weight, WholePanels) and worth(x.shape[:-1].numel(), self.size):
            if loops.multiplies_bytes():
                weight = self.weight = WholePanels(torch.ops.quantized.linear_unpack(weight)[0], self.bias)
            self.may_turn = False
        if isinstance(weight, WholePanels):
            return weight(x)
        top = x.abs().amax(-1, keepdim=True).clamp_min_(TINY)  # [..., 1]
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        x = product(x / top, 1 / self.steps, self.steps + 1, weight)  # from 1 to 127, or to 255
        return x.mul_(top) if self.bias is None else torch.addcmul(self.bias, x, top)


class Answered(torch.autograd.Function):
    """What a packed product makes of an x that wants gradients: a clear end of them, where oneDNN would end in
    silence."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: nn.Module) -> Tensor:
        return product(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise ArgumentError(
            "A packed model answers and has no gradients; take them of the model itself: loaded.model, not"
            " loaded.packed."
        )


def check_type(x: Tensor, dtype: torch.dtype) -> None:
    if x.dtype != dtype:
        given, wanted = (str(each).removeprefix("torch.") for each in (x.dtype, dtype))
        raise ArgumentError(
            f"A packed model of {wanted} was given {given} in between, as under autocast; leave autocast and load the"
            " model in another precision, or take the model itself: loaded.model, not loaded.packed."
        )


def steps() -> int:
    """Into how many steps a row of x is cut each way. Processors without VNNI add up pairs of products in 16 bits,
    which hold two of 127 * 127 and not of 255 * 127."""
    return 127 if cast(Any, torch.cpu)._is_vnni_supported() else 63


def quick_gelu_(x: Tensor) -> Tensor:
    """`quick_gelu` that takes memory once, not three times."""
    return quick_gelu(x) if x.requires_grad else (1.702 * x).sigmoid_().mul_(x)


Product = type[PackedLinear] | type[Int8Linear]
IN_PLACE: dict[Bend, Bend] = {F.relu: torch.relu_, quick_gelu: quick_gelu_}  # nobody else reads those numbers


class Joined:
    """`SelfAttention.projected` where places are added to nothing: three products of the same x as one, apart again."""

    def __init__(self, parts: Sequence[nn.Linear], product: Product):
        own: list[Tensor | None] = [getattr(part, "bias", None) for part in parts]
        none = [part.weight.new_zeros(part.out_features) for part in parts]
        biases = [zeros if bias is None else bias for bias, zeros in zip(own, none, strict=True)]
        bias = None if all(x is None for x in own) else torch.cat(biases)
        self.whole = product(torch.cat([part.weight for part in parts]), bias)
        self.widths = [part.out_features for part in parts]

    def __call__(self, placed: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return torch.split(self.whole(x), self.widths, -1)


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


def why_not_int8(model: nn.Module) -> str | None:
    """None, or what this PyTorch build or the model's device and type lack for products in 8 bits."""
    weight = next(model.parameters())
    if weight.device.type != "cpu":
        return f"its products run on a CPU, and the model is on {weight.device}"
    if weight.dtype != torch.float32:
        return f"it is made from float32, and the model's weights are {weight.dtype}"
    there = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
    if not there or torch.backends.quantized.engine not in ("fbgemm", "x86"):
        return "this PyTorch does not multiply whole numbers by FBGEMM, which it does on x86 processors"
    return None


def packed(model: nn.Module, product: Product = PackedLinear) -> nn.Module:
    """The same model with packed matrices, sharing all other weights; the model itself where that cannot be had.

    Raises ArgumentError where products in 8 bits are asked for and cannot be had: they give other numbers.
    """
    if product is Int8Linear:
        if (reason := why_not_int8(model)) is not None:
            raise ArgumentError(f"precision cannot be int8 here: {reason}; take another, or leave it out.")
    elif not packable(model):
        return model
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, memo)  # modules are new, tensors are shared
    for module, original in zip(twin.modules(), model.modules(), strict=True):
        module.__dict__["original"] = original  # whoever watches the model knows its twin's modules by it
    for module in list(twin.modules()):
        pack(module, product)
    for module in twin.modules():
        if Straight.can(module):
            module.__dict__["forward"] = Straight(cast(Block, module))
    return twin.eval()


def within(bend: Bend, dtype: torch.dtype) -> bool:
    """Whether an activation is part of the product before it: only where that changes no bit, if few rows may meet
    another product than many."""
    turns = dtype == torch.float32 or multiplies_halves()
    return bend in WITHIN and (bend in EXACT or not turns)


def pack(module: nn.Module, product: Product) -> None:
    """Put packed products in the place of a module's own."""
    linear = {name: child for name, child in module.named_children() if isinstance(child, nn.Linear)}
    if isinstance(module, SelfAttention) and type(module.position).added is Position.added:
        module.__dict__["projected"] = Joined([linear.pop(name) for name in ("query", "key", "value")], product)
    if isinstance(module, MLP) and product is PackedLinear and within(module.bend, next(module.parameters()).dtype):
        first = linear.pop(module.bent)
        setattr(module, module.bent, PackedLinear(first.weight, first.bias, module.bend))
        module.bend = nn.Identity()
    elif isinstance(module, MLP):
        module.bend = IN_PLACE.get(module.bend, module.bend)
    if isinstance(module, Router) and packable(module):
        module.__dict__["product"] = PackedLinear(*module.numbers())
    for name, child in linear.items():
        biases = {**dict(child.named_parameters()), **dict(child.named_buffers())}
        bias = biases.get("bias", biases.get("fixed_bias"))
        setattr(module, name, product(child.weight, None if bias is None else bias.flatten()))
