"""What the operator promises whatever the kernel: looking changes nothing, packing and chunking change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from polyhead.errors import DataError
from polyhead.operator import Alibi, Buckets, Causal, Dense, Lengths, Observe, Record, attend, attention, explain, rows
from polyhead.operator.kernels import KERNELS, blockwise, reference
from polyhead.operator.request import ask
from tests.operator.cases import Case, build, cases, close

EVERY = tuple(kernel.name for kernel in KERNELS if kernel.name != "half")  # which is for bfloat16 alone: test_half.py
HALF = (torch.bfloat16, torch.float16)


def randn(*shape: int, grad: bool = False, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_(grad)


def widest(kernel: str) -> torch.dtype:
    """The widest numbers that a kernel computes in."""
    return torch.float32 if kernel in ("short", "step", "compiled") else torch.float64


def near(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, atol=2e-5 if x.dtype == torch.float32 else 1e-8)


# -------------------------------------------------------------------------------------------------------------- looking


@pytest.mark.parametrize("kernel", ["auto", *EVERY])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases((torch.float64, torch.float32, *HALF)))
def test_looking_changes_no_bit(kernel: str, case: Case):
    """Output, every gradient and the random state, with dropout and without."""
    built = build(case)
    query, key, value = (built.tensors[name] for name in ("query", "key", "value"))
    for dropout in (0.0, 0.3):
        how = {**built.how, "dropout": dropout, "kernel": kernel}
        if kernel != "auto" and explain(query, key, value, **how).chosen is None:
            continue
        found: list[list[Tensor]] = []
        for look in (False, True):
            torch.manual_seed(case.seed)
            out = attend(query, key, value, **how)[0] if look else attention(query, key, value, **how)
            state = torch.get_rng_state()
            d_out = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape).to(out)
            gradients = torch.autograd.grad(out, list(built.tensors.values()), d_out)
            found.append([out, *gradients, state, torch.get_rng_state()])
        assert all(torch.equal(blind, seen) for blind, seen in zip(*found, strict=True))


@pytest.mark.parametrize("kernel", EVERY)
def test_two_runs_give_the_same_bits(kernel: str):
    query, key, value = (randn(2, 3, 40, 8, dtype=torch.float32) for _ in range(3))
    query = query[:, :, :16] if kernel == "step" else query
    runs = [attend(query, key, value, causal=True, kernel=kernel) for _ in range(3)]
    assert all(torch.equal(runs[0][0], out) and torch.equal(runs[0][1].lse, record.lse) for out, record in runs)


def test_the_tile_size_changes_the_rounding_alone():
    query, key, value = (randn(2, 3, 40, 8) for _ in range(3))
    runs = [blockwise.run(ask(query, key, value, causal=True), True, tile=tile) for tile in ((1, 1), (7, 9), (64, 64))]
    for out, lse in runs:
        assert lse is not None
        assert torch.allclose(out, runs[0][0], atol=1e-12)


def test_the_record_names_the_kernel_and_why_those_ahead_refused():
    query, key, value = (randn(1, 2, 3, 4) for _ in range(3))
    _, record = attend(query, key, value, softcap=2.0)
    assert isinstance(record, Record)
    assert record.kernel == "blockwise"
    assert record.reasons["fused"] == "SDPA has no softcap"
    assert list(record.reasons) == ["short", "explicit", "step", "half", "compiled", "fused"]
    _, record = attend(query, key, value, kernel="reference")
    assert (record.kernel, record.reasons) == ("reference", {})


@pytest.mark.parametrize("kernel", EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_the_log_sum_exp_is_float32_or_wider_and_belongs_to_the_graph(kernel: str, dtype: torch.dtype):
    if kernel == "step" or (kernel in ("short", "compiled") and dtype == torch.float64):
        return  # it has no graph; it computes in float32
    if (kernel, dtype) == ("short", torch.float16):
        return  # which nobody trains in on a CPU
    query, key, value = (randn(2, 2, 3, 4, grad=True, dtype=dtype) for _ in range(3))
    out, record = attend(query, key, value, mask=torch.tensor([True, False, True]), kernel=kernel)
    assert out.dtype == dtype
    assert record.lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert record.lse.shape == (2, 2, 3)
    assert record.lse.is_contiguous()
    assert record.lse.requires_grad and not record.detached().lse.requires_grad
    scores = (query.double() @ key.double().mT / 2)[..., [0, 2]]
    assert torch.allclose(record.lse.double(), scores.logsumexp(-1), atol=1e-5)


def test_autocast_changes_nothing():
    query, key, value = (randn(1, 2, 3, 4, dtype=torch.float32) for _ in range(3))
    for kernel in EVERY:
        wanted = attention(query, key, value, kernel=kernel)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(attention(query, key, value, kernel=kernel), wanted)


@pytest.mark.parametrize("kernel", ["compiled", "fused", "blockwise"])
def test_autocast_changes_no_gradient_and_no_answer_of_a_record(kernel: str, tmp_path: Path):
    """A record asked, saved or loaded inside of it, and a backward inside of it."""
    query, key = (randn(1, 2, 40, 16, dtype=torch.float32) for _ in range(2))

    def told(*, cast: bool) -> list[Tensor]:
        q = query.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            out, record = attend(q, key, key, kernel=kernel, observe=Observe(entropy=True))
            assert record.statistics.entropy is not None
            (out.sum() + record.statistics.entropy.sum()).backward()
            record.save(tmp_path / "call")
            again = Record.load(tmp_path / "call")
            assert q.grad is not None
            return [q.grad, record.weights(), again.weights([3]), rows(q, key, record.lse)]

    assert all(torch.equal(a, b) for a, b in zip(told(cast=True), told(cast=False), strict=True))


def test_a_compiled_function_takes_any_length():
    found = torch.compile(lambda x: attention(x, x, x, causal=True), backend="eager")
    for n in (6, 7, 9):
        x = randn(1, 2, n, 8, dtype=torch.float32)
        assert torch.equal(found(x), attention(x, x, x, causal=True))


def test_training_in_float16_does_not_overflow_where_inference_does_not():
    query = randn(1, 2, 16, 64, dtype=torch.float32) * 120
    query, key = query.half(), (query.roll(1, 2) * 2).half()
    wanted = attention(query.double(), key.double(), key.double())
    for kernel in ("auto", "explicit"):
        out = attention(query.clone().requires_grad_(), key, key, kernel=kernel)
        torch.testing.assert_close(out.double(), wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max()))


def test_a_record_keeps_no_graph_of_a_computed_bias():
    x, learned = randn(1, 2, 5, 8, dtype=torch.float32), torch.randn(5, 5, requires_grad=True)
    record = attend(x, x, x, bias=learned * 2)[1]
    assert record.request.bias is not None and record.request.bias.weights.grad_fn is None
    record.lse.sum().backward()
    assert learned.grad is not None and learned.grad.any()


def test_a_record_that_was_asked_finds_out_what_is_written_over_later():
    x = randn(1, 2, 40, 8, dtype=torch.float32)
    record = attend(x, x, x)[1]
    record.weights([0])
    x[:, :, 17] += 3.0
    with pytest.raises(DataError, match="a query or key of this record was changed after the call"):
        record.weights([0])


def test_a_record_of_part_of_a_buffer_does_not_mind_its_growth():
    buffer = randn(1, 2, 9, 8, dtype=torch.float32)
    record = attend(buffer[:, :, :5], buffer[:, :, :5], buffer[:, :, :5])[1]
    before = record.weights()
    buffer[:, :, 5] = 0.0
    assert torch.equal(record.weights(), before)


# -------------------------------------------------------------------------------------------------------- exact weights


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases((torch.float64, torch.float32, *HALF)))
def test_rows_are_the_exact_weights(case: Case):
    built = build(case)
    request = built.request()
    y = reference.attention(built.inputs())
    query, key = built.tensors["query"], built.tensors["key"]
    lse = blockwise.logsumexp(request)
    how: dict[str, Any] = {name: built.how.get(name) for name in ("bias", "scale", "softcap")}
    whole = rows(query, key, lse, request.rule, **how)
    assert not whole.requires_grad
    tolerant = torch.float64 if case.dtype == torch.float64 else torch.float32
    assert whole.dtype == tolerant
    close(whole, y.weights, tolerant)
    if case.T and case.S:
        some, others = [case.T - 1, 0], torch.arange(0, case.S, 2)
        part = rows(query, key, lse, request.rule, some, others, **how)
        close(part, y.weights[:, :, some][..., others.numpy()], tolerant)
    assert rows(query, key, lse, request.rule, [], [], **how).shape == (case.B, case.H, 0, 0)


def test_statistics_are_told_in_one_line():
    x = torch.randn(1, 1, 4, 4)
    asked = Observe(links=1, entropy=True, mass={"first": range(1)}, rectangles=[(range(1), range(2))])
    assert repr(attend(x, x, x)[1].statistics) == "Statistics of nothing"
    found = attend(x, x, x, observe=asked)[1].statistics
    assert repr(found) == "Statistics of links, entropy, mass, rectangles, found in tiles"


def test_rows_sum_to_one_less_the_share_of_the_sink():
    query, key, value = randn(2, 4, 5, 8), randn(2, 2, 5, 8), randn(2, 2, 5, 8)
    sinks = randn(4)
    out, record = attend(query, key, value, causal=True, sinks=sinks)
    weights = rows(query, key, record.lse, Causal())
    share = (sinks[:, None] - record.lse).exp()
    assert torch.allclose(weights.sum(-1), 1 - share)
    assert torch.allclose(weights @ value.repeat_interleave(2, 1), out)


def test_a_sink_is_what_the_sigmoid_of_its_distance_to_the_log_sum_exp_says():
    """attention.md section 1: from a kernel without sinks, out * sigmoid(lse - sink)."""
    query, key, value = (randn(2, 4, 5, 8) for _ in range(3))
    sinks = randn(4)
    out, record = attend(query, key, value, causal=True)
    share = torch.sigmoid(record.lse - sinks[:, None])
    assert torch.allclose(attention(query, key, value, causal=True, sinks=sinks), out * share[..., None])


# ----------------------------------------------------------------------------------------------------------- empty rows


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("kernel", EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_a_query_that_may_look_nowhere_gets_zeros_and_zero_gradients(kernel: str, sinks: bool, dtype: torch.dtype):
    query, key, value = (randn(2, 2, 4, 4, grad=True, dtype=dtype) for _ in range(3))
    mask = torch.rand(2, 2, 4, 4) < 0.5
    mask[0, 1, 2], mask[1, :, 0], mask[1, 1] = False, False, False
    mask[:, :, 3] |= mask[:, :, 3].any(-1, keepdim=True)
    how: dict[str, Any] = {"mask": mask, "sinks": randn(2) if sinks else None}
    if dtype != torch.float64 and sinks:
        how["sinks"] = how["sinks"].float()
    if explain(query, key, value, kernel=kernel, **how).chosen is None:
        assert sinks or kernel in ("short", "step", "compiled")
        return
    out, record = attend(query, key, value, kernel=kernel, **how)
    empty = ~mask.any(-1)
    assert not out[empty].any()
    if sinks:  # the sink is in the sum, so an empty row's log-sum-exp is the sink itself
        assert torch.allclose(record.lse[empty].double(), how["sinks"].double()[:, None].expand(empty.shape)[empty])
    else:
        assert torch.equal(record.lse == -torch.inf, empty)
    gradients = torch.autograd.grad(out, (query, key, value), torch.randn(out.shape).to(dtype))
    assert all(d_x.isfinite().all() for d_x in gradients)
    assert not gradients[0][empty].any()
    assert not gradients[1][1, 1].any()  # the keys of a head whose every row is empty
    assert not rows(query, key, record.lse, mask)[empty].any()


@pytest.mark.parametrize("kernel", ["explicit", "blockwise", "reference"])
def test_no_keys_at_all_is_an_empty_row_for_every_query(kernel: str):
    query, key, value = randn(2, 4, 3, 4, grad=True), randn(2, 2, 0, 4, grad=True), randn(2, 2, 0, 5, grad=True)
    out, record = attend(query, key, value, kernel=kernel)
    assert out.shape == (2, 4, 3, 5)
    assert not out.any()
    assert (record.lse == -torch.inf).all()
    assert not torch.autograd.grad(out.sum(), query)[0].any()
    out, record = attend(query[:, :, :0], key, value, kernel=kernel)
    assert out.shape == (2, 4, 0, 5)


def test_more_queries_than_keys_leave_the_first_rows_empty_under_causal():
    query, key, value = randn(1, 1, 5, 4), randn(1, 1, 3, 4), randn(1, 1, 3, 4)
    out, record = attend(query, key, value, causal=True)
    assert not out[0, 0, :2].any()
    assert torch.equal((record.lse == -torch.inf)[0, 0], torch.tensor([True, True, False, False, False]))


# ------------------------------------------------------------------------------------------------------ same, otherwise


@pytest.mark.parametrize("kernel", EVERY)
@pytest.mark.parametrize("G", [1, 2, 6])
def test_grouped_heads_equal_repeated_keys_and_values(kernel: str, G: int):
    dtype, learns = widest(kernel), kernel != "step"
    query, key, value = (
        randn(2, 6, 5, 4, grad=learns, dtype=dtype),
        randn(2, G, 7, 4, grad=learns, dtype=dtype),
        randn(2, G, 7, 4, grad=learns, dtype=dtype),
    )
    repeat = 6 // G
    out = attention(query, key, value, causal=True, kernel=kernel)
    wanted = attention(
        query, key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1), causal=True, kernel=kernel
    )
    assert near(out, wanted)
    if not learns:
        return
    d_out = torch.randn_like(out)
    for found, d in zip(
        torch.autograd.grad(out, (query, key, value), d_out),
        torch.autograd.grad(wanted, (query, key, value), d_out),
        strict=True,
    ):
        assert near(found, d)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases((torch.float64,)))
def test_chunks_merged_by_output_and_log_sum_exp_equal_one_call(case: Case):
    assume(case.S >= 2)
    built = build(case, grad=False)
    query, key, value = (built.tensors[name] for name in ("query", "key", "value"))
    mask = torch.from_numpy(built.visible)
    bias = None if built.bias is None else torch.from_numpy(built.bias)
    how: dict[str, Any] = {"scale": case.scale, "softcap": case.softcap}
    wanted, record = attend(query, key, value, mask=mask, bias=bias, sinks=built.tensors.get("sinks"), **how)
    cut = 1 + case.seed % (case.S - 1)
    parts = [
        attend(
            query, key[:, :, at], value[:, :, at], mask=mask[..., at], bias=None if bias is None else bias[..., at],
            sinks=built.tensors.get("sinks") if first else None, **how,
        )
        for first, at in ((True, slice(cut)), (False, slice(cut, None)))
    ]  # fmt: skip
    lse = torch.stack([part.lse for _, part in parts]).logsumexp(0)
    share = [(part.lse - lse).nan_to_num(-torch.inf).exp()[..., None] for _, part in parts]
    merged = sum((out * s for (out, _), s in zip(parts, share, strict=True)), torch.zeros(()))
    assert torch.allclose(merged, wanted)
    assert torch.allclose(lse, record.lse)


@pytest.mark.parametrize("kernel", EVERY)
@pytest.mark.parametrize("bias", [None, "alibi", "buckets"])
def test_packed_documents_equal_separate_ones(kernel: str, bias: str | None):
    dtype = widest(kernel)
    sizes, H, K = [3, 1, 5], 2, 4
    weights = {"alibi": Alibi(randn(H, dtype=dtype)), "buckets": Buckets(randn(8, H, dtype=dtype), True, 6)}
    how: dict[str, Any] = {"causal": True, "window": (2, 0), "bias": weights[bias] if bias else None, "kernel": kernel}
    documents = [tuple(randn(1, H, n, K, dtype=dtype) for _ in range(3)) for n in sizes]
    query, key, value = (torch.cat(parts, 2) for parts in zip(*documents, strict=True))
    ids = torch.arange(3).repeat_interleave(torch.tensor(sizes))[None]
    packed = attention(query, key, value, segments=ids, **how)
    separate = torch.cat([attention(*document, **how) for document in documents], 2)
    assert near(packed, separate)


@pytest.mark.parametrize("kernel", EVERY)
@pytest.mark.parametrize("bias", [None, "alibi", "buckets"])
def test_padded_sequences_equal_separate_ones(kernel: str, bias: str | None):
    """Each with its own counts of queries and keys, hence its own diagonal, for mask and bias."""
    dtype = widest(kernel)
    queries, keys, H, K = torch.tensor([3, 1, 2]), torch.tensor([3, 4, 6]), 2, 4
    weights = {"alibi": Alibi(randn(H, dtype=dtype)), "buckets": Buckets(randn(8, H, dtype=dtype), True, 6)}
    how: dict[str, Any] = {"causal": True, "window": (2, 0), "bias": weights[bias] if bias else None, "kernel": kernel}
    query, key, value = randn(3, H, 3, K, dtype=dtype), randn(3, H, 6, K, dtype=dtype), randn(3, H, 6, K, dtype=dtype)
    padded = attention(query, key, value, lengths=(queries, keys), **how)
    for b, (t, s) in enumerate(zip(queries.tolist(), keys.tolist(), strict=True)):
        at = slice(b, b + 1)
        assert near(padded[at, :, :t], attention(query[at, :, :t], key[at, :, :s], value[at, :, :s], **how))
        assert not padded[at, :, t:].any()


@pytest.mark.parametrize("bias", [None, "alibi", "buckets"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_chunks_of_queries_against_growing_keys_equal_one_call(step: int, bias: str | None):
    weights = {"alibi": Alibi(randn(4)), "buckets": Buckets(randn(8, 4), False, 6)}
    how: dict[str, Any] = {"causal": True, "window": (4, 0), "bias": weights[bias] if bias else None}
    query, key, value = randn(2, 4, 7, 3), randn(2, 2, 7, 3), randn(2, 2, 7, 3)
    whole = attention(query, key, value, **how)
    for start in range(0, 7, step):
        stop = min(start + step, 7)
        out = attention(query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop], **how)
        assert torch.allclose(out, whole[:, :, start:stop])


def test_decoding_hides_nothing_so_it_stays_fused_and_searches_nothing():
    query, key, value = randn(2, 4, 1, 8), randn(2, 2, 9, 8), randn(2, 2, 9, 8)
    value[0, 0, 0, 0] = float("nan")  # may be seen, so it need not be searched for
    out, record = attend(query, key, value, mask=Causal())
    assert record.kernel == "fused"
    assert torch.equal(out[1], attention(query, key, value)[1])


def test_beams_folded_into_the_query_axis_equal_repeated_memory():
    """architecture.md section 4: [B*n, H, T, K] -> [B, H, n*T, K]."""
    B, n, H, T = 2, 3, 4, 2
    query, key, value = randn(B * n, H, T, 4), randn(B, H, 5, 4), randn(B, H, 5, 4)
    lengths = torch.tensor([5, 3])
    wanted = attention(
        query, key.repeat_interleave(n, 0), value.repeat_interleave(n, 0), lengths=lengths.repeat_interleave(n)
    )
    folded = query.unflatten(0, (B, n)).transpose(1, 2).flatten(2, 3)
    out = attention(folded, key, value, mask=Lengths(lengths))
    assert torch.allclose(out.unflatten(2, (n, T)).transpose(1, 2).flatten(0, 1), wanted)


@pytest.mark.parametrize("kernel", EVERY)
@pytest.mark.parametrize("shape", [(5,), (4, 1), (4, 5), (3, 1, 5), (2, 1, 1, 5), (2, 3, 4, 1), (1, 1, 1, 1)])
def test_a_mask_of_any_rank_broadcasts_from_the_right(kernel: str, shape: tuple[int, ...]):
    dtype = widest(kernel)
    query, key, value = randn(2, 3, 4, 6, dtype=dtype), randn(2, 3, 5, 6, dtype=dtype), randn(2, 3, 5, 6, dtype=dtype)
    mask = torch.rand(shape) < 0.6
    out = attention(query, key, value, mask=mask, kernel=kernel)
    assert near(out, attention(query, key, value, mask=mask.expand(2, 3, 4, 5), kernel="reference"))


@pytest.mark.parametrize("kernel", EVERY)
def test_shared_storage_and_odd_strides_change_nothing(kernel: str):
    dtype = widest(kernel)
    x = randn(2, 5, 3, 3, 8, dtype=dtype).permute(
        0, 2, 1, 3, 4
    )  # [B, H, T, 3, K], queries, keys and values side by side
    query, key, value = x.unbind(3)
    wanted = attention(*(each.contiguous() for each in (query, key, value)), causal=True, kernel="reference")
    assert near(attention(query, key, value, causal=True, kernel=kernel), wanted)
    backward = query.flip(3).mT.contiguous().mT, key.mT.contiguous().mT, value.mT.contiguous().mT
    if explain(*backward, causal=True, kernel=kernel).chosen is None:
        assert kernel in ("short", "step")
        return
    wanted = attention(*(each.contiguous() for each in backward), causal=True, kernel="reference")
    assert near(attention(*backward, causal=True, kernel=kernel), wanted)


def test_a_dense_rule_is_its_tensor():
    query, key, value = (randn(1, 2, 3, 4) for _ in range(3))
    mask = torch.rand(3, 3) < 0.7
    assert torch.equal(attention(query, key, value, mask=mask), attention(query, key, value, mask=Dense(mask)))
