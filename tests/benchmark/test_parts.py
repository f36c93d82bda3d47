"""Where the time goes: products, attention and the rest add up, and each gets what is its own, forward and backward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polyhead
from polyhead.benchmark.engines.plan import plan
from polyhead.benchmark.job import Job
from polyhead.benchmark.parts import looked_at, marked, tally
from polyhead.benchmark.result import Parts
from polyhead.benchmark.table import table
from polyhead.benchmark.wording import notes
from polyhead.core.linear import Linear
from polyhead.core.packed import Int8Linear, PackedLinear
from polyhead.core.panels import Panels
from polyhead.operator import attention, kernels, loops
from tests.tasks.words import in_folder


def parts(work: Callable[[], Any]) -> tuple[float, float]:
    """The shares of products and of attention, of the time that the very same runs took."""
    took: list[float] = []

    def timed() -> None:
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)

    found = looked_at(timed)
    whole = statistics.median(took)
    return found["products"] / whole, found["attention"] / whole


@pytest.mark.parametrize("make", [nn.Linear, Linear, "packed", "int8"])
def test_a_model_of_only_products_has_nearly_all_time_in_products(make: Any) -> None:
    plain = nn.Linear(768, 768)
    kinds = {"packed": PackedLinear, "int8": Int8Linear}
    layer = kinds[make](plain.weight, plain.bias) if make in kinds else make(768, 768)
    x = torch.randn(512, 768)
    with torch.inference_mode():
        products, attended = parts(lambda: [layer(x) for _ in range(4)])
    least = 0.4 if make == "int8" else 0.8  # rounding to 8 bits is of the rest
    assert attended == 0.0 and least < products <= 1.0


@pytest.mark.skipif(loops.missing() is not None, reason="numba is not here")
def test_products_of_our_own_loops_are_products_too() -> None:
    plain, x = nn.Linear(768, 768), torch.randn(64, 768)
    layer = Panels(plain.weight, plain.bias)
    with torch.inference_mode():
        products, attended = parts(lambda: [layer(x) for _ in range(9)])
    assert attended == 0.0 and 0.7 < products <= 1.0


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


@pytest.mark.parametrize(
    "attend",
    [
        F.scaled_dot_product_attention, explicit, attention,
        lambda q, k, v: attention(q, k, v, kernel="reference"),  # loops that PyTorch does not see
        lambda q, k, v: attention(q, k, v, kernel="blockwise"),
    ],
    ids=["SDPA", "matmul", "operator", "reference", "blockwise"],
)  # fmt: skip
def test_attention_is_attention_whoever_computes_it(attend: Any) -> None:
    q, k, v = torch.randn(3, 2, 4, 512, 64).unbind(0)
    with torch.inference_mode():
        products, attended = parts(lambda: attend(q, k, v))
    assert products == 0.0 and 0.6 < attended <= 1.0


@pytest.mark.parametrize("make", [nn.Linear, Linear])
def test_gradients_of_products_are_products(make: Any) -> None:
    """A step without a backward pass that counts would have a third of its time in products."""
    layers = nn.Sequential(*(make(768, 768, bias=False) for _ in range(3)))
    x = torch.randn(512, 768, requires_grad=True)
    upstream = torch.randn(512, 768)
    products, attended = parts(lambda: torch.autograd.grad(layers(x), (x, *layers.parameters()), upstream))
    assert attended == 0.0 and 0.8 < products <= 1.0


@pytest.mark.parametrize("kernel", ["auto", "blockwise", "explicit"])
def test_gradients_of_attention_are_attention_dropout_too(kernel: str) -> None:
    q, k, v = (each.clone().requires_grad_() for each in torch.randn(3, 2, 4, 512, 64).unbind(0))
    upstream = torch.randn(2, 4, 512, 64)
    dropout = 0.0 if kernel == "auto" else 0.1

    def step() -> None:
        torch.autograd.grad(attention(q, k, v, kernel=kernel, dropout=dropout), (q, k, v), upstream)

    products, attended = parts(step)
    assert products == 0.0 and 0.6 < attended <= 1.0


def test_what_is_neither_is_the_rest() -> None:
    x = torch.randn(512, 768)
    assert parts(lambda: F.layer_norm(F.gelu(x), (768,)).cumsum(0)) == (0.0, 0.0)


def test_bench_tells_where_the_time_goes_in_what_pytorch_runs(tmp_path: Path) -> None:
    in_folder(tmp_path / "encoder", "BertModel")
    found = polyhead.bench(
        tmp_path / "encoder", engines=["transformers", "polyhead"], threads=1, quick=True, profile=True
    )
    [each] = found.comparisons
    told = {line.name: line for line in each.lines if line.parts}
    assert list(told) == ["transformers fp32", "polyhead fp32", "polyhead bf16", "polyhead int8"]
    amount = Job(**plan(str(tmp_path / "encoder"), str(tmp_path), None, None, quick=True)).amount
    for line in told.values():
        assert line.parts is not None and min(line.parts.products, line.parts.attention) > 0
        whole = line.parts.products + line.parts.attention + line.parts.rest
        assert whole == pytest.approx((amount or 0) / line.speeds[0])  # tokens, by tokens a second
    text = table(found, width=80, language="en").plain
    [block] = [lines for lines in text.split("\n\n") if "of its time" in lines]
    head, *rows = block.rstrip().splitlines()
    assert head.split() == ["of", "its", "time", "products", "attention", "the", "rest"] and len(rows) == 4
    assert max(map(len, block.splitlines())) <= 80 and {len(row.rstrip()) for row in rows} == {len(rows[0].rstrip())}
    assert any("PyTorch's profiler" in note for note in notes(found, "en"))
    for busy, rough in ((0.0, False), (9.0, True)):
        told = " ".join(notes(replace(found, busy=busy), "en"))
        assert ("On a machine that is not quiet these shares are rough" in told) is rough


@dataclass(frozen=True)
class Told:
    """An event of a profiler, by hand; in nanoseconds."""

    called: str
    start: int
    long: int
    node: int = -1
    thread: int = 1
    origin: int = 0

    def name(self) -> str:
        return self.called

    def start_ns(self) -> int:
        return self.start

    def duration_ns(self) -> int:
        return self.long

    def start_thread_id(self) -> int:
        return self.thread

    def fwd_thread_id(self) -> int:
        return self.origin

    def sequence_nr(self) -> int:
        return self.node


def test_a_ledger_worked_by_hand() -> None:
    back = "autograd::engine::evaluate_function: "
    events = [
        Told("aten::linear", 0, 100, node=1),
        Told("aten::addmm", 10, 80, node=1),  # inside: counted once
        Told("aten::mul", 100, 50, node=2),
        Told("polyhead::attention", 200, 300),
        Told("aten::linear", 210, 100, node=3),  # inside attention: attention's
        Told("aten::add", 310, 20, node=4),
        Told("aten::view", 490, 5, node=5),  # made no node: the next to bear 5 did
        Told("aten::gelu", 600, 40, node=5),
        Told("aten::addmm", 0, 1000, thread=2),  # another thread
        Told(back + "GeluBackward0", 700, 11, node=5, origin=1),
        Told(back + "AddBackward0", 720, 13, node=4, origin=1),
        Told("aten::copy_", 721, 10),
        Told(back + "AddmmBackward0", 740, 17, node=3, origin=1),
        Told(back + "MulBackward0", 760, 19, node=2, origin=1),
        Told(back + "AddmmBackward0", 780, 23, node=1, origin=1),
        Told("aten::mm", 781, 20),
        Told(back + "OfLongAgo", 810, 29, node=99, origin=1),
        Told("aten::bmm", 811, 7),
    ]
    found = tally(events[::-1])
    assert found["products"] == pytest.approx((100 + 1000 + 23) / 1e9)
    assert found["attention"] == pytest.approx((300 + 13 + 17 + 7) / 1e9)


def test_parts_add_up_to_the_whole() -> None:
    assert Parts.of(2.0, products=1.0, attention=0.5) == Parts(1.0, 0.5, 0.5)
    seen_too_much = Parts.of(2.0, products=3.0, attention=1.0)
    assert seen_too_much == Parts(1.5, 0.5, 0.0)
    for each in (Parts.of(0.3, 0.1, 0.1), Parts.of(0.3, 0.0, 0.0), seen_too_much):
        assert sum(each.shares) == pytest.approx(1.0) and min(each.shares) >= 0.0


def test_the_operator_is_as_it_was_when_work_fails() -> None:
    before = kernels.run
    with pytest.raises(ValueError, match="no work"), marked():
        assert kernels.run is not before
        raise ValueError("no work")
    assert kernels.run is before
