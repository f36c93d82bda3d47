"""Products of whole numbers: against the same arithmetic written out, row by row, and within what 8 bits can hold."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from polyhead.core import Recipe, Run, Stack
from polyhead.core.packed import Int8Linear, packed, steps, why_not_int8
from polyhead.errors import ArgumentError

pytestmark = pytest.mark.skipif(why_not_int8(nn.Linear(2, 2)) is not None, reason="this PyTorch has no FBGEMM")


def by_hand(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each row of both rounded to whole numbers by its own largest one, multiplied exactly, scaled back."""
    x, weight = x.double(), weight.double()
    top, tall = x.abs().amax(-1, keepdim=True).clamp(min=1e-30), weight.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    whole = (x / top * steps()).round() @ (weight / tall * 127).round().mT
    found = whole * top / steps() * tall.flatten() / 127
    return found if bias is None else found + bias.double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7), (3, 5, 33), (64, 512)])
def test_a_product_is_that_of_the_rounded_numbers(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(len(shape) + bias)
    x = torch.randn(shape) * torch.rand(*shape[:-1], 1) * 100
    weight, added = torch.randn(29, shape[-1]) * torch.rand(29, 1) * 3, torch.randn(29)
    found = Int8Linear(weight, added if bias else None)(x)
    wanted = by_hand(x, weight, added if bias else None)
    # a number half way between two whole ones may go to either, by the last bit of its quotient
    torch.testing.assert_close(found.double(), wanted, rtol=2e-2, atol=1e-2 * float(wanted.abs().max()))
    close = (found.double() - wanted).abs() < 1e-5 * wanted.abs().max()
    assert close.double().mean() > 0.9


def test_the_largest_numbers_of_all_do_not_overflow() -> None:
    ends = torch.tensor([1.0, -1.0]).repeat(512)[None].repeat(4, 1) * torch.tensor([[1.0], [-1.0], [3e4], [0.0]])
    weight = torch.tensor([1.0, -1.0]).repeat(512)[None].repeat(16, 1)
    torch.testing.assert_close(Int8Linear(weight, None)(ends), ends @ weight.T, rtol=1e-6, atol=0)
    same = torch.ones(1, 1024)
    torch.testing.assert_close(Int8Linear(same, None)(same), torch.tensor([[1024.0]]), rtol=1e-6, atol=0)


def test_no_row_depends_on_those_beside_it() -> None:
    torch.manual_seed(0)
    product, x = Int8Linear(torch.randn(40, 64), torch.randn(40)), torch.randn(50, 64)
    whole = product(torch.cat([x, 1e4 * torch.randn(3, 64), torch.zeros(1, 64)]))
    assert torch.equal(whole[:50], product(x))
    assert all(torch.equal(product(x[i : i + 1])[0], whole[i]) for i in range(50))
    assert torch.equal(whole[-1], cast(Tensor, product.bias))


def test_a_stack_in_whole_numbers_says_nearly_what_the_stack_says() -> None:
    torch.manual_seed(0)
    stack = Stack(
        Recipe(n_layers=2, d_model=64, n_heads=4, d_ff=128, activation="relu", causal=True, cross=True)
    ).eval()
    x, run = torch.randn(3, 11, 64), Run(memory=torch.randn(3, 7, 64))
    twin: Any = packed(stack, Int8Linear)
    products = [module for module in twin.modules() if isinstance(module, Int8Linear)]
    assert len(products) == 2 * (1 + 4 + 2)  # out; query, key, value and out across; up and down
    with torch.inference_mode():
        wanted, found = stack(x, run), twin(x, run)
    assert 1e-4 < float((found - wanted).norm() / wanted.norm()) < 0.05


def test_what_cannot_be_had_is_one_sentence() -> None:
    with pytest.raises(ArgumentError, match=r"precision cannot be int8 here: it is made from float32.*bfloat16"):
        packed(nn.Linear(4, 4).bfloat16(), Int8Linear)
    with pytest.raises(ArgumentError, match="its products run on a CPU, and the model is on meta"):
        packed(nn.Linear(4, 4, device="meta"), Int8Linear)
