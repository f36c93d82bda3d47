"""Few rows meet a matrix by panels: the bits are those of oneDNN, so that nobody can tell when they began to."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from polyhead.core import Run, panels
from polyhead.core.mlp import gelu_tanh, mlp_of
from polyhead.core.packed import Int8Linear, PackedLinear, packable, packed
from polyhead.core.panels import FEW, HalfPanels, Panels, WholePanels
from polyhead.core.recipe import Recipe
from polyhead.core.stack import Stack
from polyhead.errors import ArgumentError
from polyhead.operator import loops
from tests.core.able import BF16, INT8, PANELS

pytestmark = PANELS


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the loops pays at once."""
    monkeypatch.setattr(panels, "PAYS", 0)


DTYPES = [torch.float32, pytest.param(torch.bfloat16, marks=BF16)]


def layer_of(depth: int, width: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(depth * width)
    return nn.Linear(depth, width, bias=bias)


def onednn(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "PAYS", torch.inf)
        return PackedLinear(layer.weight, layer.bias)(x)


def laid_out(layer: nn.Linear) -> Panels:
    return (HalfPanels if layer.weight.dtype == torch.bfloat16 else Panels)(layer.weight, layer.bias)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None)
@given(
    depth=st.integers(1, 3000) | st.sampled_from([512, 513, 1024, 1025, 2048]),
    width=st.integers(32, 200),
    rows=st.integers(2, 300),
    bias=st.booleans(),
    threads=st.integers(1, 3),
)
def test_panels_give_the_bits_of_onednn(
    dtype: torch.dtype, depth: int, width: int, rows: int, bias: bool, threads: int
) -> None:
    depth += depth % 2 if dtype == torch.bfloat16 else 0
    layer, before = layer_of(depth, width, bias).to(dtype), torch.get_num_threads()
    x = torch.randn(rows, depth, dtype=dtype)
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            found, wanted = laid_out(layer)(x), onednn(x, layer)
            exact = F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4 if dtype == torch.float32 else 2**-8, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [6, 512, 700, 1500, 3072])
def test_a_row_is_rounded_as_beside_others_however_many_threads(depth: int, dtype: torch.dtype) -> None:
    layer, x = layer_of(depth, 1000).to(dtype), torch.randn(90, depth, dtype=dtype)
    product, before = laid_out(layer), torch.get_num_threads()
    with torch.inference_mode():
        whole = product(x)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            try:
                for n in (1, 2, 3, 5, 13, 64):
                    assert torch.equal(product(x[:n]), whole[:n]), (threads, n)
            finally:
                torch.set_num_threads(before)
        assert torch.equal(product(x[3:5].view(2, 1, depth)), whole[3:5, None])
        apart = torch.randn(9, 2 * depth, dtype=dtype)[:, ::2]  # features that do not lie side by side
        assert torch.equal(product(apart), product(apart.contiguous()))
        assert product(x[:0]).shape == (0, 1000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bend", [None, F.relu, F.gelu, gelu_tanh, F.silu])
def test_a_matrix_turns_once_few_rows_come_often_and_no_bit_tells(
    bend: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of(1500, 96).to(dtype)
    few, many = torch.randn(3, 1500, dtype=dtype), torch.randn(FEW + 1, 1500, dtype=dtype)
    product = PackedLinear(layer.weight, layer.bias, bend)
    monkeypatch.setattr(panels, "PAYS", torch.inf)
    with torch.inference_mode():
        before = product(few), product(many), product(few[:1])
        assert isinstance(product.weight, torch.Tensor)
        monkeypatch.setattr(panels, "PAYS", 0)
        product(many)
        assert isinstance(product.weight, torch.Tensor)  # many rows turn none
        after = product(few), product(many), product(few[:1])
    assert isinstance(product.weight, Panels) == (bend in (None, F.relu, F.gelu))  # whose bits are PyTorch's own
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.usefixtures("at_once")
def test_what_has_no_panel_or_no_pairs_stays() -> None:
    for layer in (layer_of(8, 31), layer_of(8, 31).bfloat16(), layer_of(7, 64).bfloat16()):
        if packable(layer):
            product = PackedLinear(layer.weight, layer.bias)
            with torch.inference_mode():
                product(torch.randn(3, layer.in_features, dtype=layer.weight.dtype))
            assert isinstance(product.weight, torch.Tensor)


@pytest.mark.usefixtures("at_once")
def test_panels_that_cannot_are_one_sentence() -> None:
    layer, x = layer_of(40, 64), torch.randn(3, 40)
    product = PackedLinear(layer.weight, layer.bias)
    with torch.no_grad():
        wanted = product(x)
    assert isinstance(product.weight, Panels)
    found = product(x.clone().requires_grad_() * 1)
    assert torch.equal(found, wanted)
    with pytest.raises(ArgumentError, match=r"A packed model answers and has no gradients"):
        found.sum().backward()
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ArgumentError, match="A packed model of float32 was given bfloat16 in between"),
    ):
        product(x.bfloat16())
    for wrong in (torch.randn(3, 400), torch.randn(2, 3), torch.randn(3, 40, device="meta")):
        with pytest.raises(ArgumentError, match=r"A packed product takes rows of 40 numbers on a CPU; found \["):
            product(wrong)


@pytest.mark.usefixtures("at_once")
def test_what_the_loops_would_compute_otherwise_stays_with_onednn() -> None:
    layer, x = layer_of(40, 64), torch.randn(3, 40)
    narrow = PackedLinear(layer.weight, layer.bias.bfloat16())
    assert not narrow.may_turn
    product = PackedLinear(layer.weight, layer.bias)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.no_grad():
            product(x)
    finally:
        torch.set_float32_matmul_precision(before)
    assert not isinstance(product.weight, Panels)


def test_without_a_compiler_the_libraries_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(40, 64), torch.randn(3, 40)
    product = PackedLinear(layer.weight, layer.bias)
    monkeypatch.setattr(panels, "PAYS", 0)
    numba = loops.for_steps().numba
    for name, value in (("DISABLE_JIT", 1), ("CPU_NAME", "generic"), ("CPU_FEATURES", "+avx2")):
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, name, value)
            loops.missing.cache_clear()
            with torch.no_grad():
                product(x)
        loops.missing.cache_clear()
        assert not isinstance(product.weight, Panels), name


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=INT8)])
def test_several_python_threads_may_turn_a_matrix(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer_of(300 + n, 400) for n in range(20)]
    made = [(Int8Linear if whole else PackedLinear)(each.weight, each.bias) for each in layers]
    asked = [torch.randn(3, each.in_features) for each in layers]
    monkeypatch.setattr(panels, "PAYS", torch.inf)
    with torch.inference_mode():
        wanted = [product(x) for product, x in zip(made, asked, strict=True)]
    monkeypatch.setattr(panels, "PAYS", 0)

    @torch.inference_mode()
    def answers(_: int) -> list[torch.Tensor]:
        return [product(x) for product, x in zip(made, asked, strict=True)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(answers, range(8)):
            assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))
    assert all(isinstance(product.weight, Panels) for product in made)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new", "silu"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_stack_gives_the_same_bits_before_and_after(
    activation: str, gated: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    recipe = Recipe(n_layers=2, d_model=48, n_heads=4, d_ff=96, causal=True, activation=activation, gated=gated)
    stack = Stack(recipe).eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.3)
    twin, x = packed(stack.to(dtype)), torch.randn(2, 5, 48, dtype=dtype)
    with torch.inference_mode():
        monkeypatch.setattr(panels, "PAYS", torch.inf)
        before = twin(x, Run())
        monkeypatch.setattr(panels, "PAYS", 0)
        assert torch.equal(twin(x, Run()), before)
    turned = [m for m in twin.modules() if isinstance(m, PackedLinear)]
    assert turned and all(isinstance(m.weight, Panels) for m in turned)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["gelu_new", "silu"])
def test_what_changes_bits_is_not_part_of_a_product(activation: str, dtype: torch.dtype) -> None:
    mlp: Any = mlp_of(Recipe(n_layers=1, d_model=32, n_heads=2, d_ff=64, activation=activation)).eval()
    for parameter in mlp.parameters():
        nn.init.normal_(parameter)
    twin: Any = packed(mlp.to(dtype))
    x = torch.randn(2, 3, 32, dtype=dtype)
    with torch.inference_mode():
        assert torch.equal(twin.hidden(x), mlp.bend(twin.up(x)))


@INT8
@settings(deadline=None)
@given(
    depth=st.integers(1, 1500),
    width=st.integers(32, 200),
    rows=st.integers(1, 300),
    bias=st.booleans(),
    threads=st.integers(1, 3),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e20]),
)
def test_whole_numbers_by_panels_are_those_of_fbgemm(
    depth: int, width: int, rows: int, bias: bool, threads: int, scale: float
) -> None:
    layer, before = layer_of(depth, width, bias), torch.get_num_threads()
    x = scale * torch.randn(rows, depth)
    x[0] = 0
    product = Int8Linear(layer.weight, layer.bias)
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(panels, "PAYS", torch.inf)
            wanted = product(x)
            assert not isinstance(product.weight, WholePanels)
            patch.setattr(panels, "PAYS", 0)
            found = product(x)
    finally:
        torch.set_num_threads(before)
    assert isinstance(product.weight, WholePanels)
    assert torch.equal(found, wanted)


@INT8
@pytest.mark.usefixtures("at_once")
def test_a_row_of_whole_numbers_is_rounded_as_beside_others_and_what_is_none_is_told() -> None:
    layer, x = layer_of(700, 1000), torch.randn(90, 700)
    product = Int8Linear(layer.weight, layer.bias)
    with torch.inference_mode():
        whole = product(x)
        for n in (1, 2, 3, 5, 13, 64):
            assert torch.equal(product(x[:n]), whole[:n])
        assert torch.equal(product(x[3:5].view(2, 1, 700)), whole[3:5, None])
        assert product(x[:0]).shape == (0, 1000)
        x[7, 100], x[9, 3] = torch.nan, torch.inf
        odd = product(x)
    assert bool(odd[[7, 9]].isnan().all())
    others = [n for n in range(90) if n not in (7, 9)]
    assert torch.equal(odd[others], whole[others])
    with pytest.raises(ArgumentError, match=r"A packed model answers and has no gradients"):
        product(torch.randn(2, 700).requires_grad_() * 1).sum().backward()
    with pytest.raises(ArgumentError, match="A packed model of float32 was given bfloat16 in between"):
        product(torch.randn(2, 700).bfloat16())


def test_products_are_counted_until_loading_the_loops_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(rows: int, size: int) -> int:
        monkeypatch.setattr(panels, "spent", 0.0)
        return next(n for n in range(1_000_000) if panels.worth(rows, size))

    assert 50_000 < calls(1, 256 * 256) < 200_000  # small ones: by what a call takes
    assert 500 < calls(1, 4096 * 4096) < 2000  # large ones: by what they read
    assert calls(1000, 4096 * 4096) < 60  # and by what they multiply
    assert panels.worth(1, 1)
    monkeypatch.setattr(panels, "spent", 0.0)
    assert not panels.worth(1, 1)
    panels.wake()
    assert panels.worth(1, 1)


def test_a_bias_that_changes_later_counts_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(40, 64), torch.randn(3, 40)
    early, late = (PackedLinear(layer.weight, layer.bias) for _ in range(2))
    monkeypatch.setattr(panels, "PAYS", 0)
    with torch.no_grad():
        before = early(x)
        layer.bias.add_(torch.randn(64))
        monkeypatch.setattr(panels, "PAYS", torch.inf)
        assert isinstance(early.weight, Panels) and not isinstance(late.weight, Panels)
        assert torch.equal(early(x), late(x)) and not torch.equal(early(x), before)


MADE = [
    pytest.param((PackedLinear, torch.float32), id="fp32"),
    pytest.param((PackedLinear, torch.bfloat16), marks=BF16, id="bf16"),
    pytest.param((Int8Linear, torch.float32), marks=INT8, id="int8"),
]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("bias", [False, True])
def test_the_process_own_dtype_and_device_change_no_bit(made: Any, bias: bool) -> None:
    product, dtype = made
    layer, x, before = layer_of(40, 70, bias).to(dtype), torch.randn(3, 40, dtype=dtype), torch.get_default_dtype()
    with torch.inference_mode():
        wanted = product(layer.weight, layer.bias)(x)
        for own, device in ((torch.bfloat16, "cpu"), (torch.float64, "cpu"), (torch.float32, "meta")):
            twin = product(layer.weight, layer.bias)
            torch.set_default_dtype(own)
            try:
                with torch.device(device):
                    found = twin(x)
            finally:
                torch.set_default_dtype(before)
            assert isinstance(twin.weight, Panels) and torch.equal(found, wanted), (own, device)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("product", [PackedLinear, pytest.param(Int8Linear, marks=INT8)])
def test_a_packed_model_is_not_copied(product: Any, turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = packed(Stack(Recipe(n_layers=1, d_model=48, n_heads=4, d_ff=96, causal=True)).eval(), product)
    if turned:
        monkeypatch.setattr(panels, "PAYS", 0)
        with torch.inference_mode():
            twin(torch.randn(1, 2, 48), Run())
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(ArgumentError, match=r"A packed model.* is not copied or saved; take what it was made from"):
            copied(twin)
