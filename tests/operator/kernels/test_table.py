"""The table of kernels tells the truth, every refusal has a reason that can be met, and what ran is what was said."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend

from polyhead.errors import ArgumentError
from polyhead.operator import Alibi, Buckets, Prefix, ScoreMod, attend, attention, explain, loops
from polyhead.operator import kernels as table
from polyhead.operator.kernels import (
    BY_NAME,
    KERNELS,
    TABLE,
    aten,
    blockwise,
    compiled,
    explicit,
    flex,
    fused,
    half,
    reference,
    short,
    step,
)
from polyhead.operator.kernels.cost import cost
from polyhead.operator.request import Request, ask
from tests.operator.cases import Case, build, cases

FAR = 4200  # T * S beyond every bound
PAIRS = loops.missing() is None and loops.multiplies_halves()


def tensors(n: int, G: int = 2, Kv: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros(1, 2, n, 4), torch.zeros(1, G, n, 4), torch.zeros(1, G, n, Kv)


def asking_for(feature: str, n: int, dtype: torch.dtype = torch.float32) -> Request:
    """A request of n queries that has this feature and no other."""
    query, key, value = (x.to(dtype) for x in tensors(n))
    counts, ids, square = (
        torch.tensor([n]),
        torch.zeros(1, n, dtype=torch.long),
        torch.ones(1, 1, 1, 1).expand(1, 1, n, n),
    )
    how: dict[str, Any] = {
        "causal, T = S": {"causal": True},
        "causal, T != S": {"causal": True},
        "window": {"window": (3, 3)},
        "prefix": {"mask": Prefix(2)},
        "lengths": {"lengths": counts},
        "lengths of queries": {"lengths": (counts, counts)},
        "segments": {"segments": ids},
        "mask tensor": {"mask": square > 0},
        "bias tensor": {"bias": square},
        "bias that learns": {"bias": torch.zeros(1, 2, 1, 1, requires_grad=True)},
        "alibi": {"bias": Alibi(torch.zeros(2))},
        "buckets": {"bias": Buckets(torch.zeros(8, 2), True, 9)},
        "softcap": {"softcap": 2.0},
        "score_mod": {"bias": ScoreMod(lambda score, b, h, i, j: score)},
        "sinks": {"sinks": torch.zeros(2)},
        "dropout": {"dropout": 0.5},
        "hidden NaN or Inf": {"causal": True},
    }.get(feature, {})
    if feature == "causal, T != S":
        query = query[:, :, 1:]
    if feature == "grouped heads":
        query, key, value = (x.to(dtype) for x in tensors(n, G=1))
    if feature == "Kv != K":
        query, key, value = (x.to(dtype) for x in tensors(n, Kv=3))
    if feature == "hidden NaN or Inf":
        value[0, 0, -1] = float("nan")
    return ask(query, key, value, **how)


@pytest.mark.parametrize("feature", TABLE)
def test_the_table_tells_the_truth(feature: str):
    assert len(TABLE[feature]) == len(KERNELS)
    for kernel, said in zip(KERNELS, TABLE[feature], strict=True):
        if kernel.name == "half" and not PAIRS:
            continue
        if feature == "differentiable twice":
            found = "small" if twice(kernel.name) else "no"
            assert found == said.replace("yes", "small")
            continue
        dtype = torch.bfloat16 if kernel.name == "half" else torch.float32
        able = [kernel.can(asking_for(feature, n, dtype)) is None for n in (6, FAR)]
        found = {(True, True): "yes", (True, False): "small", (False, False): "no"}[able[0], able[1]]
        assert found == said, (kernel.name, feature)


def twice(kernel: str) -> bool:
    x = torch.randn(1, 1, 2, 2, requires_grad=True)
    if BY_NAME[kernel].can(ask(x, x, x)) is not None:
        return False
    (first,) = torch.autograd.grad(attention(x, x, x, kernel=kernel).sum(), x, create_graph=True)
    try:
        first.sum().backward()
    except RuntimeError:
        return False
    return True


def halves(*given: Tensor) -> Request:
    return ask(*(x.bfloat16() for x in given))


def far(**how: Any) -> Request:
    return ask(*tensors(FAR), **how)


class Marked(Tensor):
    """A subclass of somebody's, which may keep its numbers elsewhere."""


REASONS: list[tuple[str, Request, str]] = [
    ("short", ask(*tensors(129)), "a short sequence has up to 128 queries and keys, and here are 129 and 129"),
    ("short", ask(*torch.zeros(3, 1, 2, 6, 257)), "take heads of up to 256 features, and here are 257"),
    ("short", ask(*(x.double() for x in tensors(6))), "float32 and bfloat16 on a CPU; here is torch.float64 on cpu"),
    ("short", ask(*(x.to("meta") for x in tensors(6))), "float32 and bfloat16 on a CPU; here is torch.float32 on meta"),
    ("short", ask(Marked(torch.zeros(1, 2, 6, 4)), *tensors(6)[1:]), "read plain tensors, and here is a subclass"),
    ("short", asking_for("bias that learns", 6), "the loops of short sequences give a bias no gradients"),
    ("short", asking_for("softcap", 6), "do not bend scores"),
    ("short", asking_for("score_mod", 6), "do not bend scores"),
    ("short", asking_for("sinks", 6), "the loops of short sequences have no sinks"),
    ("short", ask(*tensors(0)), "there is nothing to look at"),
    ("short", ask(*(x.mT.contiguous().mT for x in tensors(6))), "read features that lie side by side"),
    ("short", asking_for("hidden NaN or Inf", 6), "holds NaN or Inf while something is hidden"),
    ("explicit", far(), "would write out all 35280000 scores, more than 8388608"),
    ("explicit", asking_for("sinks", 6), "without sinks"),
    ("explicit", asking_for("hidden NaN or Inf", 6), "NaN or Inf"),
    ("step", ask(*tensors(17)), "a step has up to 16 queries, and here are 17"),
    ("step", ask(*(x.double() for x in tensors(6))), "here is torch.float64 on cpu"),
    ("step", ask(*(x.to("meta") for x in tensors(6))), "here is torch.float32 on meta"),
    ("step", asking_for("bias that learns", 6), "the loops of a step give no gradients"),
    ("step", asking_for("softcap", 6), "do not bend scores"),
    ("step", asking_for("score_mod", 6), "do not bend scores"),
    ("step", asking_for("sinks", 6), "no sinks and drop no weights"),
    ("step", asking_for("dropout", 6), "no sinks and drop no weights"),
    ("step", ask(*tensors(0)), "there is nothing to look at"),
    (
        "step",
        ask(torch.zeros(1, 1, 16, 1), *torch.zeros(2, 1, 1, (1 << 18) + 1, 1)),
        "out 4194320 scores .* than 4194304",
    ),
    ("step", ask(Marked(torch.zeros(1, 2, 6, 4)), *tensors(6)[1:]), "read plain tensors, and here is a subclass"),
    ("step", ask(*(x.mT.contiguous().mT for x in tensors(6))), "read features that lie side by side"),
    ("half", asking_for("no mask", 6), "the loops of bfloat16 take it on a CPU; here is torch.float32 on cpu"),
    ("half", halves(Marked(torch.zeros(1, 2, 6, 4)), *tensors(6)[1:]), "bfloat16 read plain tensors, and here is a"),
    ("half", halves(*tensors(6)[:2], tensors(6)[2].bfloat16().requires_grad_()), "loops of bfloat16 give no gradients"),
    ("half", asking_for("window", 6, torch.bfloat16), "the loops of bfloat16 hide nothing but what is to come"),
    ("half", asking_for("bias tensor", 6, torch.bfloat16), "the loops of bfloat16 do not bend scores"),
    ("half", asking_for("sinks", 6, torch.bfloat16), "the loops of bfloat16 have no sinks and drop no weights"),
    ("half", halves(*tensors(0)), "there is nothing to look at"),
    ("half", halves(torch.zeros(1, 2, 1, 4), *tensors(16_385)[1:]), "lay out up to 16,384 keys, and here are 16,385"),
    ("half", halves(*torch.zeros(3, 1, 2, 6, 5)), "read pairs of features that lie side by side"),
    ("half", asking_for("hidden NaN or Inf", 6, torch.bfloat16), "holds NaN or Inf while something is hidden"),
    ("compiled", asking_for("dropout", 6), "drop no weights"),
    ("compiled", ask(*(x.double() for x in tensors(6))), "compute in float32, and float64 was given"),
    ("compiled", ask(*tensors(0)), "nothing to look at"),
    ("compiled", asking_for("hidden NaN or Inf", 6), "value holds NaN or Inf"),
    ("compiled", ask(tensors(6)[0] / 0, *tensors(6)[1:]), "query or key holds NaN, Inf or numbers so large"),
    ("compiled", ask(*tensors(6), bias=torch.full((6, 6), torch.inf)), "the bias holds NaN, Inf or numbers below"),
    ("compiled", ask(*(x.to("meta") for x in tensors(6))), "run on a CPU, and the tensors are on meta"),
    ("compiled", asking_for("score_mod", 6), "the loops take no function of scores"),
    ("fused", asking_for("score_mod", 6), "SDPA takes no function of scores"),
    ("fused", asking_for("softcap", 6), "no softcap"),
    ("fused", asking_for("sinks", 6), "no sinks"),
    ("compiled", ask(*tensors(6), bias=torch.full((6, 6), -3e38)), "numbers below -1e"),
    ("fused", ask(*tensors(0)), "nothing to attend"),
    ("fused", far(window=(3, 3)), r"T \* S = 17640000 pairs, more than 1048576"),
    ("fused", far(dropout=0.5), "with dropout SDPA would write out all 35280000 scores, more than 16777216"),
    ("fused", asking_for("Kv != K", FAR), "with values of another width than keys SDPA would write out"),
    ("fused", asking_for("bias that learns", FAR), "with a bias that learns SDPA would write out"),
    ("fused", ask(*(x.mT.contiguous().mT for x in tensors(FAR))), "features that do not lie side by side"),
    ("fused", ask(*tensors(6, G=1), dropout=0.5), "with dropout SDPA would repeat the keys and values of each group"),
    ("fused", asking_for("hidden NaN or Inf", 6), "NaN or Inf"),
    ("flex", ask(*(x.to("meta") for x in tensors(6))), "would have to be compiled on meta, which is untried"),
    ("flex", asking_for("sinks", 6), "FlexAttention has no sinks"),
    ("flex", asking_for("dropout", 6), "FlexAttention drops no weights"),
    ("flex", ask(*tensors(0)), "makes no mask of nothing"),
    ("flex", far(), "would write out all 35280000 scores, more than 8388608"),
    ("flex", asking_for("hidden NaN or Inf", 6), "NaN or Inf in an input"),
    ("reference", far(), "writes out all B .* = 35280000 scores, more than 4194304"),
]


if not PAIRS:
    REASONS = [each for each in REASONS if each[0] != "half"]


@pytest.mark.parametrize(("kernel", "request_", "reason"), REASONS, ids=[reason for _, _, reason in REASONS])
def test_every_refusal_can_be_met_and_a_named_kernel_raises_with_it(kernel: str, request_: Request, reason: str):
    assert re.search(reason, BY_NAME[kernel].can(request_) or "")
    with pytest.raises(ArgumentError, match=f"kernel '{kernel}' cannot serve this request: .*{reason}"):
        table.choose(request_, kernel)
    assert table.choose(request_, "auto")[0].name != kernel


def test_every_reason_in_the_source_is_met_above(monkeypatch: pytest.MonkeyPatch):
    met = " ".join(BY_NAME[kernel].can(request) or "" for kernel, request, _ in REASONS)
    loops.missing.cache_clear()
    monkeypatch.setattr(loops, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert BY_NAME["compiled"].can(far()) == BY_NAME["step"].can(asking_for("no mask", 6)) == loops.missing()
    assert "numba is not installed: pip install" in str(loops.missing())
    monkeypatch.undo()
    loops.missing.cache_clear()
    monkeypatch.setattr(flex, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    met += str(BY_NAME["flex"].can(far()))
    monkeypatch.setattr(loops, "multiplies_halves", lambda: False)
    met += str(BY_NAME["half"].can(halves(*tensors(6))))
    looked_at = (short, explicit, step, *([half] if PAIRS else []), loops, compiled, fused, blockwise, flex, reference)
    for module in looked_at:
        for function in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(function, ast.FunctionDef) and function.name in ("can", "why_unfused"):
                for said in (node.value for node in ast.walk(function) if isinstance(node, ast.Return)):
                    words = [part.value for part in ast.walk(said or function) if isinstance(part, ast.Constant)]
                    assert all(word in met for word in words if isinstance(word, str)), words


def test_if_no_kernel_can_serve_every_reason_is_listed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table, "KERNELS", tuple(k for k in KERNELS if k.name != "blockwise"))
    with pytest.raises(
        ArgumentError, match=r"explicit: .*; fused: SDPA has no sinks; flex: .*; reference: it is the spec"
    ):
        table.choose(asking_for("sinks", 6), "auto")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_takes_whole_heads_to_train_on_enough_short_sequences(dtype: torch.dtype):
    def chosen(B: int, T: int, *, K: int = 4, learns: bool = True) -> str:
        x = torch.randn(B, 4, T, K, dtype=dtype).requires_grad_(learns)
        return attend(x, x, x)[1].kernel

    assert [chosen(*sizes) for sizes in ((41, 10), (1, 64), (3, 128))] == ["short"] * 3
    assert [chosen(*sizes) for sizes in ((40, 10), (1, 63), (3, 129))] == [chosen(1, 5)] * 3 != ["short"] * 3
    assert chosen(41, 10, learns=False) == "fused"
    with torch.no_grad():
        assert chosen(41, 10) == "fused"
    assert chosen(3, 128, K=65) == ("fused" if dtype == torch.float32 else "short")


def test_auto_takes_the_formula_only_for_short_training_in_bfloat16(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(explicit, "multiplies", lambda: True)
    x = torch.randn(1, 2, 5, 4)
    assert attend(x, x, x)[1].kernel == "fused"
    assert "only for training in bfloat16" in attend(x, x, x)[1].reasons["explicit"]
    narrow = x.half().requires_grad_()
    assert attend(narrow, narrow, narrow)[1].kernel == "fused"
    half = x.bfloat16().requires_grad_()
    assert attend(half, half, half)[1].kernel == "explicit"
    with torch.no_grad():
        assert attend(half, half, half)[1].kernel == "fused"


def test_auto_leaves_bfloat16_to_sdpa_where_no_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch):
    half = torch.randn(1, 2, 5, 4).bfloat16().requires_grad_()
    for multiplies, wanted in ((True, "explicit"), (False, "fused")):
        monkeypatch.setattr(explicit, "multiplies", lambda multiplies=multiplies: multiplies)  # pyright: ignore
        assert attend(half, half, half)[1].kernel == wanted


def test_auto_takes_the_loops_for_many_scores_and_sdpa_in_half_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(half, "PAYS", 1 << 60)
    x = torch.randn(1, 5, 1000, 4)
    assert attend(x, x, x)[1].kernel == "compiled"
    assert attend(x, x, x, softcap=2.0)[1].kernel == "compiled"
    narrow = x.bfloat16()
    assert attend(narrow, narrow, narrow)[1].kernel == "fused"
    assert attend(narrow, narrow, narrow, softcap=2.0)[1].kernel == "compiled"  # SDPA has none
    assert "SDPA is faster" in attend(narrow, narrow, narrow)[1].reasons["compiled"]


@pytest.mark.parametrize("B", [1, 3, 40])
def test_auto_takes_a_step_where_few_queries_look_at_more_keys_without_gradients(
    B: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(step, "PAYS", 0)

    def chosen(T: int, S: int, **how: Any) -> str:
        return attend(torch.randn(B, 2, T, 4), torch.randn(B, 1, S, 4), torch.randn(B, 1, S, 4), **how)[1].kernel

    assert [chosen(T, S) for T, S in ((1, 2), (1, 300), (16, 17), (5, 9))] == ["step"] * 4
    assert [chosen(T, S) for T, S in ((1, 1), (5, 5), (9, 5), (17, 18))] == ["fused"] * 4
    assert chosen(2, 5, causal=True) == chosen(2, 5, lengths=torch.full((B,), 3)) == "step"
    assert chosen(2, 5, bias=torch.zeros(2, 5)) == "step"
    learned = torch.zeros(2, 5, requires_grad=True)
    assert chosen(2, 5, bias=learned) != "step"
    with torch.no_grad():
        assert chosen(2, 5, bias=learned) == "step"


def test_a_step_of_a_few_sentences_is_left_to_sdpa():
    query, key = torch.randn(1, 8, 1, 4), torch.randn(1, 8, 16, 4)  # 128 scores a sentence
    _, record = attend(query.expand(15, -1, -1, -1), key.expand(15, -1, -1, -1), key.expand(15, -1, -1, -1))
    assert record.kernel == "fused"
    assert record.reasons["step"] == "a step pays from 2,048 scores on, and here are 1920"
    assert attend(*(x.expand(16, -1, -1, -1) for x in (query, key, key)))[1].kernel == "step"


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch maps SDPA by a loop
def test_whatever_is_traced_is_no_step(monkeypatch: pytest.MonkeyPatch):
    """Nothing of the loops could be written into a graph, and their comparison of sizes would be."""
    monkeypatch.setattr(step, "PAYS", 0)
    query, key = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 7, 4)
    assert attend(query, key, key)[1].kernel == "step"
    wanted = attention(query, key, key)

    class Looks(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor) -> Tensor:
            return attention(query, key, key, finite=True)

    n = torch.export.Dim("n", min=1, max=99)
    exported = torch.export.export(Looks(), (query, key), dynamic_shapes=({}, {2: n})).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the trace, that sizes are constants in it, and of its age
        traced: Any = torch.jit.trace(Looks(), (query, key))
    compiled_: Any = torch.compile(Looks(), backend="eager")
    mapped = torch.vmap(lambda q, k: attention(q[None], k[None], k[None], finite=True)[0])
    for found in (exported, traced, compiled_, mapped):
        torch.testing.assert_close(found(query, key), wanted)
        other = torch.randn(2, 2, 3, 4)
        torch.testing.assert_close(found(other, key), attention(other, key, key))
    short = torch.randn(2, 2, 2, 4)  # as many keys as there are queries, or fewer: one graph for all
    torch.testing.assert_close(exported(query, short), attention(query, short, short))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # PyTorch's own first tangent
def test_a_tangent_is_not_lost():
    """Forward differentiation: a step would give the output without it."""
    query, key = torch.randn(1, 2, 2, 4).double(), torch.randn(1, 2, 6, 4).double()
    along = torch.randn_like(query)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(query.float(), along.float())
        tangent = forward_ad.unpack_dual(attention(dual, key.float(), key.float(), kernel="explicit")).tangent
        with pytest.raises(ArgumentError, match="differentiates forward"):
            attention(dual, key.float(), key.float(), kernel="step")
    ahead, behind = (attention(query + h * along, key, key) for h in (1e-5, -1e-5))
    assert tangent is not None
    torch.testing.assert_close(tangent.double(), (ahead - behind) / 2e-5, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("feature", TABLE)
def test_explain_matches_what_runs(feature: str):
    request = asking_for(feature, 6)
    how: dict[str, Any] = {
        "mask": request.rule, "bias": request.score_mod or request.bias, "softcap": request.softcap,
        "sinks": request.sinks, "dropout": request.dropout,
    }  # fmt: skip
    said = explain(request.query, request.key, request.value, **how)
    _, record = attend(request.query, request.key, request.value, **how)
    assert said.chosen == record.kernel
    ahead = list(said.kernels)[: list(said.kernels).index(record.kernel)]
    assert {name: said.kernels[name] for name in ahead} == dict(record.reasons)


def test_explain_prints_as_a_table_with_an_arrow():
    x = torch.randn(1, 2, 5, 4)
    lines = str(explain(x, x, x, softcap=2.0)).splitlines()
    assert [line.split()[0] for line in lines] == [
        "short",
        "explicit",
        "step",
        "half",
        "compiled",
        "fused",
        "->",
        "flex",
        "reference",
        "50",
        "beside",
    ]
    assert lines[6].startswith("-> blockwise ") and lines[6].endswith(" B  can serve")
    assert "SDPA has no softcap" in lines[5]
    assert lines[9] == "50 pairs may look: 800 FLOP, 640 B in and out"
    assert explain(x, x, x, kernel="reference").chosen == "reference"
    assert explain(x, x, x, sinks=torch.zeros(2), kernel="fused").chosen is None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases((torch.float32,)))
def test_the_cost_counts_the_pairs_that_may_look(case: Case):
    built = build(case, grad=False)
    found = cost(built.request())
    hidden_by_bias = None if built.bias is None else built.bias == -np.inf
    if hidden_by_bias is None or not hidden_by_bias.any():  # a bias of -inf is not a rule
        assert found.pairs == np.broadcast_to(built.visible, (case.B, case.H, case.T, case.S)).sum()
        assert found.flops == found.pairs * 2 * (case.K + case.Kv)


def test_bounds_are_as_the_docs_state_them():
    assert (fused.PLANE, fused.SCORES, explicit.SCORES, reference.SCORES) == (1 << 20, 1 << 24, 1 << 23, 1 << 22)
    assert (step.FEW, step.SCORES, short.SHORT) == (16, 1 << 22, 128)


def test_flash_and_sdpa_give_the_same_bits():
    """The adapter asks the flash kernel itself for the log-sum-exp; it must be the kernel that SDPA runs."""
    requests: list[dict[str, Any]] = [
        {}, {"causal": True}, {"lengths": torch.tensor([3, 6])}, {"bias": torch.randn(2, 4, 6, 6)},
    ]  # fmt: skip
    for how in requests:
        query, key, value = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
        request = ask(query, key, value, **how)
        mask = None if "causal" in how else fused.written(request)
        assert fused.teller(request, mask, "causal" in how) is aten.flash_on_cpu
        assert torch.equal(fused.run(request, True)[0], fused.run(request, False)[0])


@pytest.mark.parametrize("kernel", [aten.flash, aten.cudnn, aten.efficient])
def test_a_gpu_kernel_as_pytorch_describes_it_gives_one_number_a_row(kernel: aten.Call):
    """Tensors without memory pass PyTorch's own description of each; numbers are checked by benchmarks/gpu.sh."""
    query, key = (torch.empty(2, heads, 45, 64, device="meta", dtype=torch.bfloat16) for heads in (4, 4))
    out, lse = kernel(query, key, key, None, True, 0.1)
    assert (out.shape, out.dtype) == (query.shape, torch.bfloat16)
    assert (lse.shape, lse.dtype) == ((2, 4, 45), torch.float32)


def test_the_log_sum_exp_is_that_of_the_backend_which_sdpa_takes(monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(1, 2, 6, 8)
    wanted = attend(x, x, x, kernel="fused")[1].lse

    def as_if(*backend: object) -> None:
        monkeypatch.setattr(aten, "chosen", lambda *_: backend[0])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]

    def seven(query: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        return query, query.new_full(query.shape[:3], 7.0)

    as_if(SDPBackend.EFFICIENT_ATTENTION)
    monkeypatch.setitem(aten.CALLS, ("cpu", SDPBackend.EFFICIENT_ATTENTION), ("softmax", seven))
    assert (attend(x, x, x, kernel="fused")[1].lse == 7).all()
    assert (attend(x, x, x, kernel="fused", dropout=0.5)[1].lse != 7).all()
    monkeypatch.setitem(aten.CALLS, ("cpu", SDPBackend.EFFICIENT_ATTENTION), ("gone_from_this_release", seven))
    torch.testing.assert_close(attend(x, x, x, kernel="fused")[1].lse, wanted)
    as_if(SDPBackend.MATH)
    torch.testing.assert_close(attend(x, x, x, kernel="fused")[1].lse, wanted)
