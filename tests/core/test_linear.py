"""The product of a linear layer, whoever computes it, and its gradients, against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.core import linear as module
from polyhead.core.linear import ROWS, Linear, able, linear

SHAPES = [(1,), (ROWS - 1,), (ROWS,), (3, ROWS), (2, 5, 40)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", SHAPES)
def test_output_and_gradients_are_those_of_the_formula(rows: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(len(rows))
    x, weight, added = torch.randn(*rows, 24), torch.randn(150, 24), torch.randn(150)
    seed = torch.randn(*rows, 150)
    own = [each.requires_grad_() for each in (x, weight, added)[: 2 + bias]]
    exact = [each.detach().double().requires_grad_() for each in own]
    found, wanted = linear(*own), F.linear(*exact)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    grads, right = torch.autograd.grad(found, own, seed), torch.autograd.grad(wanted, exact, seed.double())
    for mine, theirs in zip(grads, right, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(300, 40), (40, 300), (128, 128), (1, 300), (300, 1), (0, 24)])
def test_the_gradient_of_a_matrix_is_right_whichever_of_its_sides_is_wider(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, seed, weight = torch.randn(2, ROWS, size[1]), torch.randn(2, ROWS, size[0]), torch.randn(size).requires_grad_()
    wanted = torch.einsum("bne,bnd->ed", seed.double(), x.double())
    linear(x, weight).backward(seed)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.double(), wanted, rtol=1e-5, atol=1e-4)
    linear(x, weight).backward(seed)  # one batch more of the same step
    torch.testing.assert_close(weight.grad.double(), 2 * wanted, rtol=1e-5, atol=2e-4)


@pytest.mark.skipif(not able(torch.zeros(1, 1), torch.zeros(1, 1)), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("size", [(300, 40), (40, 300)])
def test_the_narrower_operand_of_that_gradient_is_the_one_turned_around(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    asked: list[tuple[int, ...]] = []
    real = module.Product.apply
    monkeypatch.setattr(module.Product, "apply", lambda *how: (asked.append(tuple(how[0].shape)), real(*how))[1])
    layer = Linear(size[1], size[0])
    layer(torch.randn(ROWS, size[1])).sum().backward()
    assert asked == [(ROWS, size[1]), (40, ROWS)]


@pytest.mark.parametrize("size", [(200, 8), (8, 200)])
def test_gradients_have_gradients(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight, added = torch.randn(ROWS, size[1]), torch.randn(size), torch.randn(size[0])

    def penalty(product: Any, *tensors: Tensor) -> list[Tensor]:
        own = [each.clone().requires_grad_() for each in tensors]
        [dx, dw] = torch.autograd.grad(product(*own).tanh().sum(), own[:2], create_graph=True)
        return list(torch.autograd.grad(dx.square().sum() + dw.square().sum(), own))

    found = penalty(linear, x, weight, added)
    wanted = penalty(F.linear, x.double(), weight.double(), added.double())
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_tensors_that_do_not_lie_side_by_side_are_read_rightly() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(24, ROWS).T, torch.randn(24, 30).T
    torch.testing.assert_close(linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)
    x = torch.randn(ROWS, 2, 24)[:, 1]
    torch.testing.assert_close(linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not able(torch.zeros(1, 1), torch.zeros(1, 1)), reason="this PyTorch has no oneDNN")
def test_who_computes_it_is_chosen_by_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = module.Product.apply
    monkeypatch.setattr(module.Product, "apply", lambda *how: (asked.append(len(how[0])), real(*how))[1])
    layer = Linear(24, 30)
    layer(torch.randn(ROWS, 24))
    assert asked == [ROWS]
    layer(torch.randn(ROWS - 1, 24))  # too few
    layer(torch.randn(0, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(ROWS, 24)).dtype == torch.bfloat16
    Linear(24, 30).double()(torch.randn(ROWS, 24, dtype=torch.float64))
    Linear(24, 30, device="meta")(torch.randn(ROWS, 24, device="meta"))
    assert asked == [ROWS]


def test_a_layer_can_be_exported() -> None:
    layer, x = Linear(24, 30), torch.randn(ROWS, 24)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # jvp of PyTorch itself calls it
def test_what_looks_into_a_function_finds_pytorchs_own() -> None:
    torch.manual_seed(0)
    layer, x = Linear(24, 30), torch.randn(ROWS, 24)
    wanted = F.linear(x, layer.weight, layer.bias)
    slope: Any = torch.func.jvp(layer, (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(slope, layer.weight.sum(1).expand(ROWS, -1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.func.vmap(layer)(x.expand(2, -1, -1))[1], wanted, rtol=1e-5, atol=1e-5)
    out = layer(x.requires_grad_())
    [several] = torch.autograd.grad(out, x, torch.randn(3, *out.shape), is_grads_batched=True)
    assert several.shape == (3, *x.shape)


def test_what_does_not_fit_together_is_said_as_pytorch_says_it() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        linear(torch.randn(ROWS, 24), torch.randn(30, 23))
    bias = torch.randn(60)[::2]
    x, weight = torch.randn(ROWS, 24), torch.randn(30, 24)
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)
