"""A packed block whose products are laid out for few rows goes straight, and every bit is what it is when watched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polyhead.core import Recipe, Run, Stack, panels, straight
from polyhead.core.norm import LayerNorm, RMSNorm
from polyhead.core.packed import Int8Linear, PackedLinear, packed
from polyhead.core.position import AddedInEveryLayer, LinearBias, RelativeBias
from polyhead.core.recipe import Experts
from polyhead.core.rotary import Rotary
from polyhead.core.straight import Chain, Straight
from polyhead.errors import ArgumentError
from polyhead.operator import Cache, Dense, Lengths, attention
from tests.core.able import BF16, INT8, PANELS

pytestmark = PANELS
SMALL = Recipe(n_layers=2, d_model=48, n_heads=4, d_ff=72, causal=True, activation="relu")
KINDS = {
    "pre-norm": SMALL,
    "post-norm": replace(SMALL, norm_at="post", final_norm=False),
    "GELU": replace(SMALL, activation="gelu"),
    "GELU by tanh": replace(SMALL, activation="gelu_new"),
    "by sigmoid": replace(SMALL, activation="quick_gelu"),
    "gated": replace(SMALL, norm=RMSNorm(), gated=True, activation="silu", bias=False),
    "gated by ReLU": replace(SMALL, gated=True),
    "grouped heads": replace(SMALL, n_kv_heads=2),
    "rotary": replace(SMALL, position=Rotary(100.0), head_norm=LayerNorm()),
    "relative buckets": replace(SMALL, position=RelativeBias(8, 16, bidirectional=False), scale=1.0),
    "ALiBi": replace(SMALL, position=LinearBias()),
    "softcap": replace(SMALL, softcap=2.0),
    "windows": replace(SMALL, window=(3, None)),
    "experts": replace(SMALL, experts=Experts(n=3, per_token=2)),
    "one block of experts": replace(SMALL, experts=(None, Experts(n=3))),
}
FP32 = PackedLinear, torch.float32
PRECISIONS = [
    pytest.param(FP32, id="fp32"),
    pytest.param((PackedLinear, torch.bfloat16), marks=BF16, id="bf16"),
    pytest.param((Int8Linear, torch.float32), marks=INT8, id="int8"),
]


class Onlooker:
    """Somebody who changes nothing: a watched block goes its own way."""

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        return attention(query, key, value, **how)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the loops pays at once."""
    monkeypatch.setattr(panels, "PAYS", 0)


@contextmanager
def counting() -> Iterator[list[Chain]]:
    """Every chain that is called."""
    called, call = list[Chain](), Chain.__call__

    def counted(self: Chain, x: Tensor, plus: Tensor | None = None) -> Tensor:
        called.append(self)
        return call(self, x, plus)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chain, "__call__", counted)
        yield called


@pytest.fixture
def chains() -> Iterator[list[Chain]]:
    with counting() as called:
        yield called


def twin_of(recipe: Recipe, precision: Any = FP32, seed: int = 0) -> Any:
    """A packed stack with every parameter random, norms and biases too, laid out for few rows."""
    torch.manual_seed(seed)
    product, dtype = precision
    stack = Stack(recipe).eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.3)
    twin = packed(stack.to(dtype), product)
    memory = torch.randn(2, 3, recipe.d_model, dtype=dtype) if recipe.cross else None
    with torch.inference_mode():
        for _ in range(2):  # experts are met by some rows only
            twin(torch.randn(2, 30, recipe.d_model, dtype=dtype), Run(memory=memory))
    return twin


def decoded(twin: Any, rows: list[Tensor], **how: Any) -> list[Tensor]:
    """What comes of some tokens at a time, each [N, t, D], by a cache."""
    cache = Cache()
    with torch.inference_mode():
        return [twin(x, Run(cache=cache, **how)) for x in rows]


def same(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
@settings(deadline=None, max_examples=8)
@given(N=st.sampled_from([1, 2, 5, 70]), first=st.integers(1, 6), then=st.integers(1, 3), seed=st.integers(0, 99))
def test_no_bit_tells_whether_a_block_is_watched(
    recipe: Recipe, precision: Any, N: int, first: int, then: int, seed: int
) -> None:
    twin = twin_of(recipe, precision, seed)
    rows = [torch.randn(N, t, recipe.d_model, dtype=precision[1]) for t in (first, 1, then, 1)]
    with counting() as chains:
        found = decoded(twin, rows)
        assert len(chains) >= 2 * len(rows) * recipe.n_layers  # it went straight
        chains.clear()
        assert same(found, decoded(twin, rows, observer=Onlooker())) and not chains


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("norm_at", ["pre", "post"])
@settings(deadline=None, max_examples=10)
@given(M=st.integers(1, 5), beams=st.integers(1, 4), hides=st.booleans(), seed=st.integers(0, 99))
def test_nor_one_that_reads_a_memory_by_beams(
    norm_at: Any, precision: Any, M: int, beams: int, hides: bool, seed: int
) -> None:
    twin = twin_of(replace(SMALL, cross=True, norm_at=norm_at), precision, seed)
    memory, seen = torch.randn(M, 7, 48, dtype=precision[1]), torch.rand(M, 1, 1, 7) < 0.7
    how = {"memory": memory, "memory_mask": Dense(seen) if hides else None}
    rows = [torch.randn(M * beams, 1, 48, dtype=precision[1]) for _ in range(4)]
    with counting() as chains:
        found = decoded(twin, rows, **how)
        assert len(chains) == 2 * 5 * len(rows)
    assert same(found, decoded(twin, rows, observer=Onlooker(), **how))


def test_an_encoder_of_few_rows_too(chains: list[Chain]) -> None:
    twin, x = twin_of(replace(SMALL, causal=False)), torch.randn(3, 6, 48)
    run = Run(mask=Lengths(torch.tensor([6, 2, 4])))
    chains.clear()
    with torch.inference_mode():
        assert torch.equal(twin(x, run), twin(x, replace(run, observer=Onlooker())))
    assert len(chains) == 2 * 3  # queries, keys and values; out; the MLP by one


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_no_number_stays_none(precision: Any) -> None:
    twin, x = twin_of(SMALL, precision), torch.randn(4, 1, 48, dtype=precision[1])
    x[1, 0, 5], x[2, 0, 7] = torch.nan, torch.inf
    (found,), (wanted,) = decoded(twin, [x]), decoded(twin, [x], observer=Onlooker())
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert bool(found[1:3].isnan().all()) and bool(found[[0, 3]].isfinite().all())


def test_inputs_stay_as_they_are_and_may_lie_anyhow() -> None:
    twin, x = twin_of(replace(SMALL, norm_at="post")), torch.randn(3, 2, 48)
    odd, before = torch.randn(3, 2, 96)[..., ::2], x.clone()
    with torch.inference_mode():
        twin(x, Run())
        assert torch.equal(x, before)
        assert torch.equal(twin(odd, Run()), twin(odd.contiguous(), Run()))
        assert twin(x[:0], Run()).shape == (0, 2, 48)


def test_a_wrong_width_is_one_sentence() -> None:
    twin = twin_of(replace(SMALL, norm_at="post"))
    with (
        torch.inference_mode(),
        pytest.raises(ArgumentError, match=r"A packed product takes rows of 48 numbers on a CPU; found \[1, 1, 40\]"),
    ):
        twin(torch.randn(1, 1, 40), Run())


def test_who_wants_gradients_is_told_so(chains: list[Chain]) -> None:
    twin, x = twin_of(SMALL), torch.randn(1, 2, 48, requires_grad=True)
    chains.clear()
    out = twin(x, Run())
    assert not chains
    with pytest.raises(ArgumentError, match="A packed model answers and has no gradients"):
        out.sum().backward()


def test_a_block_waits_until_all_of_its_products_are_laid_out(
    chains: list[Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    twin: Any = packed(Stack(SMALL).eval())
    x = torch.randn(1, 1, 48)
    with torch.inference_mode():
        monkeypatch.setattr(panels, "PAYS", torch.inf)
        before = twin(x, Run())
        monkeypatch.setattr(panels, "PAYS", 0)
        twin.blocks[0].mlp.down(torch.randn(1, 1, 72))
        monkeypatch.setattr(panels, "PAYS", torch.inf)
        assert torch.equal(twin(x, Run()), before) and not chains
        monkeypatch.setattr(panels, "PAYS", 0)
        assert torch.equal(twin(x, Run()), before) and not chains  # it turns now
        assert torch.equal(twin(x, Run()), before) and chains


def test_a_block_that_adds_places_in_every_layer_goes_its_own_way(chains: list[Chain]) -> None:
    twin = twin_of(replace(SMALL, position=AddedInEveryLayer()))
    assert not chains and not any(isinstance(block.forward, Straight) for block in twin.blocks)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_several_python_threads_get_their_own_answers(
    precision: Any, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(straight, "SHARED", 64)  # small sums are shared too
    monkeypatch.setattr(panels, "ALONE", 64)  # and small products
    twin, before = twin_of(SMALL, precision), torch.get_num_threads()
    rows = [[torch.randn(n, 1, 48, dtype=precision[1]) for _ in range(5)] for n in (1, 3, 40, 2, 64, 7)]
    wanted = [decoded(twin, each) for each in rows]
    torch.set_num_threads(threads)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda each: decoded(twin, each), rows * 4))
    finally:
        torch.set_num_threads(before)
    assert all(same(*both) for both in zip(found, wanted * 4, strict=True))


LOADED = """
import torch
from types import SimpleNamespace
from polyhead.core.panels import Panels
from polyhead.core.straight import Chain

torch.set_num_threads(1)
chain = Chain((SimpleNamespace(weight=Panels(torch.zeros(32, 4), None)),))
chain.ready()
chain(torch.zeros(1, 1, 4))
print(torch.get_num_threads())
"""


def test_loops_that_are_loaded_leave_pytorch_its_number_of_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    run = [sys.executable, "-c", LOADED]
    found = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1"]
