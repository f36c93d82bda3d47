"""Dropout, packed products, sinusoids and starting weights, each against its formula."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from torch import nn

from polyhead.core.dropout import dropout
from polyhead.core.init import Unfilled, initialise, quieten
from polyhead.core.mlp import ACTIVATIONS, mlp_of
from polyhead.core.packed import WITHIN, Int8Linear, PackedLinear, packable, packed, why_not_int8
from polyhead.core.position import AddedInEveryLayer, Position
from polyhead.core.recipe import Recipe
from polyhead.core.rotary import Rotary
from polyhead.core.run import Run
from polyhead.core.stack import Stack
from polyhead.families.marian import Config, build
from polyhead.readout.words import FixedBiasWords, shifted


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_dropout_zeroes_a_share_p_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    y = dropout(torch.ones(400_001), p, training=True)
    assert abs(float((y == 0).double().mean()) - p) < 0.005
    kept = y[y != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-3)
    assert abs(float(y.mean()) - 1) < 0.01 / (1 - p)


def test_dropout_draws_every_element_by_itself() -> None:
    torch.manual_seed(0)
    zero = (dropout(torch.ones(100_000, 4), 0.5, training=True) == 0).double()
    together = (zero.T @ zero) / len(zero)
    assert torch.allclose(together, torch.full((4, 4), 0.25, dtype=torch.float64) + 0.25 * torch.eye(4), atol=0.01)


def test_dropout_is_decided_by_torchs_generator_and_off_in_evaluation() -> None:
    x = torch.randn(33, 7)
    torch.manual_seed(5)
    first = dropout(x, 0.3, training=True)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x, 0.3, training=True))
    assert dropout(x, 0.3, training=False) is x
    assert not dropout(x, 1.0, training=True).any()


def test_gradients_pass_through_what_dropout_kept() -> None:
    x = torch.randn(50, requires_grad=True)
    y = dropout(x, 0.5, training=True)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad != 0, y != 0)


def tied_model() -> Any:
    torch.manual_seed(0)
    tokens = nn.Embedding(50, 16)
    model: Any = nn.ModuleDict({"tokens": tokens, "up": nn.Linear(16, 24), "head": FixedBiasWords(16, 50, tied=tokens)})
    model["head"].fixed_bias.normal_()
    return model.eval()


@pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")
def test_packed_products_are_the_same_products() -> None:
    model = tied_model()
    twin: Any = packed(model)
    assert isinstance(twin["up"], PackedLinear) and isinstance(twin["head"], PackedLinear)
    for rows in (1, 2, 7, 64, 200):
        x = torch.randn(rows, 16)
        with torch.inference_mode():
            for name in ("up", "head"):
                torch.testing.assert_close(twin[name](x), model[name](x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")
@pytest.mark.parametrize("position", [Position(), AddedInEveryLayer(), Rotary()])
@pytest.mark.parametrize("how", [{"activation": "relu"}, {"activation": "gelu"}, {"gated": True}, {"bias": False}])
def test_a_packed_stack_says_what_the_stack_says(position: Position, how: dict[str, Any]) -> None:
    torch.manual_seed(0)
    stack = Stack(Recipe(n_layers=2, d_model=24, n_heads=2, n_kv_heads=1, d_ff=40, position=position, **how)).eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, added = torch.randn(2, 3, 7, 24)
    run = Run(added=added if isinstance(position, AddedInEveryLayer) else None)
    with torch.inference_mode():
        torch.testing.assert_close(packed(stack)(x, run), stack(x, run), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_within_a_product_is_the_activation(name: str, gated: bool) -> None:
    torch.manual_seed(0)
    mlp = mlp_of(Recipe(n_layers=1, d_model=24, n_heads=2, d_ff=40, activation=name, gated=gated)).eval()
    for parameter in mlp.parameters():
        nn.init.normal_(parameter)
    twin: Any = packed(mlp)
    assert (type(twin.bend) is nn.Identity) == (name in ("relu", "gelu"))  # of which oneDNN gives PyTorch's bits
    x = torch.randn(3, 7, 24)
    with torch.inference_mode():
        found, wanted = twin.hidden(x), mlp.double().hidden(x.double())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.skipif(why_not_int8(nn.Linear(2, 2)) is not None, reason="this PyTorch has no FBGEMM")
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_follows_a_product_of_whole_numbers(name: str, gated: bool) -> None:
    torch.manual_seed(0)
    mlp = mlp_of(Recipe(n_layers=1, d_model=24, n_heads=2, d_ff=40, activation=name, gated=gated)).eval()
    twin: Any = packed(mlp, Int8Linear)
    x = torch.randn(3, 7, 24)
    with torch.inference_mode():
        wanted = mlp.bend(twin.gate(x)) * twin.up(x) if gated else mlp.bend(twin.up(x))
        assert torch.equal(twin.hidden(x), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_of_any_type_is_packed_or_left_as_it_is(dtype: torch.dtype) -> None:
    """Not every processor packs bfloat16."""
    model = nn.Sequential(nn.Linear(16, 24)).to(dtype)
    x = torch.randn(3, 16, dtype=dtype)
    with torch.inference_mode():
        torch.testing.assert_close(packed(model)(x), model(x), rtol=2e-2, atol=2e-2)


@pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")
def test_packing_leaves_the_model_alone_and_shares_its_embedding() -> None:
    model = tied_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin: Any = packed(model)
    assert twin["tokens"].weight is model["tokens"].weight
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_starting_weights_follow_glorot_and_the_width() -> None:
    torch.manual_seed(0)
    tokens = nn.Embedding(4000, 256)
    model: Any = nn.ModuleDict(
        {"tokens": tokens, "up": nn.Linear(256, 1024), "head": FixedBiasWords(256, 4000, tied=tokens)}
    )
    initialise(model.requires_grad_(False))
    bound = math.sqrt(6 / (256 + 1024))
    assert float(model["up"].weight.abs().max()) <= bound
    assert abs(float(model["up"].weight.std()) - bound / math.sqrt(3)) < 1e-3
    assert not model["up"].bias.any()
    assert abs(float(tokens.weight.std()) - 1 / 16) < 1e-3


def test_stacks_with_norms_after_begin_near_the_identity() -> None:
    """What ends a branch starts (12 N)^-1/4 smaller, queries and keys do not (Wang et al. 2022, DeepNet)."""
    torch.manual_seed(0)
    model = build(
        Config(vocab_size=50, d_model=128, n_heads=2, d_ff=256, n_layers=2, decoder_d_ff=256, n_decoder_layers=5)
    )
    for stack, layers in ((model.encoder, 2), (model.decoder, 5)):
        assert len(stack.blocks) == layers
        for name, weight in stack.named_parameters():
            if weight.dim() == 2:
                usual = math.sqrt(2 / sum(weight.shape))
                ends_branch = name.split(".")[-2] in ("value", "out", "down")
                gain = (12 * layers) ** -0.25 if ends_branch else 1.0
                assert abs(float(weight.detach().std()) / (usual * gain) - 1) < 0.05, name


def test_the_decoder_reads_what_it_shall_say_one_place_later() -> None:
    assert shifted(torch.tensor([[5, 6, 1], [7, 1, 0]]), 9).tolist() == [[9, 5, 6], [9, 7, 1]]


def test_nothing_is_drawn_for_weights_that_a_file_will_hold() -> None:
    def built() -> Stack:
        stack = Stack(Recipe(n_layers=2, d_model=16, n_heads=2, d_ff=8, cross=True))
        initialise(stack)
        quieten(stack, 2)
        return stack

    before = torch.get_rng_state()
    with Unfilled():
        sketch = built()
    assert torch.equal(torch.get_rng_state(), before)
    whole = built()
    assert not torch.equal(torch.get_rng_state(), before)
    shapes = [
        [(name, x.shape, x.dtype, x.requires_grad) for name, x in each.named_parameters()] for each in (sketch, whole)
    ]
    assert shapes[0] == shapes[1]
    with Unfilled():  # what is no parameter is as ever
        assert torch.equal(torch.zeros(3).fill_(2.0), torch.full((3,), 2.0))


@pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [512, 2048, 3072])
def test_a_packed_product_rounds_a_row_as_it_does_beside_others(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(width)
    layer = nn.Linear(width, 96).to(dtype)
    if not packable(layer):
        pytest.skip("this processor has no packed products of this type")
    x = torch.randn(70, width).to(dtype)
    tiles = dtype == torch.bfloat16 and cast(Any, torch.cpu)._is_amx_tile_supported()  # which add up by blocks of rows
    for bend in (None, *WITHIN):
        product = PackedLinear(layer.weight, layer.bias, bend)
        with torch.inference_mode():
            whole = product(x)
            for n in (1, 2, 3, 16):
                found = product(x[:n])
                if tiles:
                    torch.testing.assert_close(found, whole[:n], rtol=2**-7, atol=1e-3)
                    assert float((found != whole[:n]).float().mean()) < 0.01
                else:
                    assert torch.equal(found, whole[:n]), n
            assert torch.equal(product(x[:1, None]), product(x[:1])[:, None])
