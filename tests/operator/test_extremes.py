"""Calls that are rare and right all the same: odd scales, huge biases, equal keys, nothing at all, a forked process."""

from __future__ import annotations

import math
import os
import sys
import warnings

import pytest
import torch
from torch import Tensor

import polyhead
from polyhead import ArgumentError, MaskMod, Observe, ScoreMod
from polyhead.operator import loops
from polyhead.operator.statistics import WAYS

KERNELS = ("short", "step", "compiled", "fused", "blockwise", "explicit", "flex", "reference", "auto")
LOWEST = torch.finfo(torch.float32).min


def tensors(T: int, *, H: int = 2, S: int | None = None, K: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(1, H, T, K, generator=draw)
    key, value = torch.randn(2, 1, H, S or T, K, generator=draw)
    return query, key, value


def by_softmax(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """The formula in float64, with nothing of ours."""
    return torch.softmax(scale * query.double() @ key.double().mT + bias.double(), -1) @ value.double()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [-0.5, 0.0, -1e-3])
def test_a_causal_call_may_have_any_scale(kernel: str, scale: float):
    n = 16 if kernel == "step" else 31
    query, key, value = tensors(n)
    future = torch.full((n, n), -math.inf).triu(1)
    out = polyhead.attention(query, key, value, causal=True, scale=scale, kernel=kernel)
    torch.testing.assert_close(out.double(), by_softmax(query, key, value, future, scale), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("T", [8, 1500])  # few scores, and enough for the compiled kernel
@pytest.mark.parametrize("kernel", ["auto", "blockwise"])
def test_a_row_of_the_lowest_number_is_not_hidden(kernel: str, T: int):
    """Padding masks are often written with it; where all of a row is so low, SDPA gives the mean, and so do we."""
    query, key, value = tensors(T)
    bias = torch.zeros(T, T)
    bias[2] = LOWEST
    out = polyhead.attention(query, key, value, bias=bias, kernel=kernel)
    torch.testing.assert_close(out[:, :, 2], value.mean(2), rtol=1e-4, atol=1e-5)


def test_the_reference_weighs_a_row_of_the_lowest_number_evenly():
    query, key, value = tensors(8)
    bias = torch.zeros(8, 8)
    bias[2] = LOWEST
    out = polyhead.attention(query, key, value, bias=bias, kernel="reference")
    torch.testing.assert_close(out[:, :, 2], value.mean(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e38, 1e16])
def test_scores_beyond_what_the_loops_can_hold_go_to_another_kernel(scale: float):
    query, key, value = tensors(8)
    with pytest.raises(ArgumentError, match="so large"):
        polyhead.attention(1e8 * query, 1e8 * key, value, kernel="compiled", scale=scale)


def test_a_table_of_buckets_may_hide():
    query, key, value = tensors(300)
    table = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    table[3] = -math.inf
    buckets = polyhead.Buckets(table, bidirectional=False, max_distance=20)
    wish = Observe(entropy=True, links=3)
    found = [
        polyhead.attend(query, key, value, bias=buckets, causal=True, observe=wish, kernel=kernel)[1].statistics
        for kernel in ("compiled", "blockwise")
    ]
    entropies = [each.entropy for each in found]
    assert entropies[0] is not None and entropies[1] is not None and not entropies[0].isnan().any()
    torch.testing.assert_close(*entropies, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", ["compiled", "blockwise", "explicit"])
@pytest.mark.parametrize("softcap", [0.3, 5.0, 50.0, 1e4, 1e8])
def test_softcap_of_any_size_is_as_exact_as_float32(kernel: str, softcap: float):
    query, key, value = tensors(64)
    wide = polyhead.attention(query.double(), key.double(), value.double(), softcap=softcap, kernel="reference")
    out = polyhead.attention(query, key, value, softcap=softcap, kernel=kernel)
    torch.testing.assert_close(out.double(), wide, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("small", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_lengths_may_be_counted_in_small_numbers(small: torch.dtype):
    query, key, value = tensors(8)

    def of(kind: torch.dtype) -> Tensor:
        lengths = torch.tensor([6], dtype=kind), torch.tensor([3], dtype=kind)
        return polyhead.attention(query, key, value, causal=True, lengths=lengths)

    assert torch.equal(of(small), of(torch.int64))


@pytest.mark.parametrize("small", [torch.uint8, torch.int8])
def test_lengths_in_small_numbers_hide_beside_a_rule_whatever_the_keys(small: torch.dtype):
    """1,536 keys are 0 in eight bits."""
    query, key, value = tensors(1536, H=1)
    lengths = torch.tensor([100], dtype=small)
    out = polyhead.attention(query, key, value, lengths=lengths, causal=True, kernel="compiled")
    torch.testing.assert_close(out, polyhead.attention(query, key, value, lengths=lengths.long(), causal=True))
    assert polyhead.explain(query, key, value, lengths=lengths, causal=True).cost.pairs == 1536 * 100 - 99 * 100 // 2


@pytest.mark.parametrize("far", [sys.maxsize, 2**62])
def test_a_window_may_be_as_wide_as_a_number(far: int):
    query, key, value = tensors(40, H=1)
    for rule in (polyhead.Window(far, far), polyhead.Window(0, far), polyhead.Window(far, 0)):
        wanted, plain = polyhead.attend(query, key, value, mask=rule, kernel="blockwise")
        out, record = polyhead.attend(query, key, value, mask=rule, kernel="compiled", observe=Observe(received=True))
        torch.testing.assert_close(out, wanted)
        torch.testing.assert_close(record.lse, plain.lse)
        assert float(record.statistics.received.sum()) == pytest.approx(40)  # pyright: ignore


@pytest.mark.parametrize(("keys", "queries"), [([20], None), ([-1], None), ([6], [9]), ([6], [-2])])
def test_lengths_outside_the_call_are_refused(keys: list[int], queries: list[int] | None):
    """More keys than there are would move the diagonal, and show the future."""
    query, key, value = tensors(8)
    lengths: object = torch.tensor(keys)
    if queries is not None:
        lengths = torch.tensor(queries), lengths
    with pytest.raises(ArgumentError, match=r"Lengths (keys|queries) must be from 0 to 8; found (20|-1|9|-2)$"):
        polyhead.attention(query, key, value, causal=True, lengths=lengths)  # pyright: ignore[reportArgumentType]


def test_distances_keep_their_digits_when_half_precision_trains():
    query, _, _ = tensors(257, H=1)
    key, _, value = (x.bfloat16() for x in tensors(3, H=1, seed=1))
    bias, half = polyhead.Alibi(torch.tensor([0.5])), query.bfloat16().requires_grad_()
    out, record = polyhead.attend(half, key, value, bias=bias)
    assert record.kernel == "explicit"
    distance = (torch.arange(257)[:, None] + 3 - 257 - torch.arange(3)).abs()
    right = by_softmax(half.detach(), key, value, -0.5 * distance, 0.25)
    torch.testing.assert_close(out.double(), right, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("way", ["loops", "tiles"])
@pytest.mark.parametrize("S", [2, 5, 7, 17, 33, 130])
def test_of_equal_keys_the_leftmost_comes_first(way: str, S: int):
    from polyhead.operator.statistics import measure

    query, key, value = tensors(5, S=S)
    key[:] = key[:, :, :1]
    _, record = polyhead.attend(query, key, value)
    links = measure(record.request, record.lse, Observe(links=2), way=way).links
    assert links is not None and way in [each.name for each in WAYS]
    assert torch.equal(links.keys, torch.arange(2).expand(1, 2, 5, 2))


@pytest.mark.parametrize("way", ["loops", "tiles"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("T", "S"), [(1, 300), (7, 64), (3, 252), (5, 513), (1, 520), (257, 260)])
def test_of_keys_that_are_all_one_the_leftmost_comes_first(way: str, dtype: torch.dtype, T: int, S: int):
    from polyhead.operator.statistics import measure

    for seed in range(4):
        query, key, _ = tensors(T, S=S, seed=seed)
        query, key = query.to(dtype), key[:, :, :1].expand(key.shape).to(dtype)
        _, record = polyhead.attend(query, key, key, causal=T > 1)
        if loops.can(record.request) is not None and way == "loops":
            continue
        links = measure(record.request, record.lse, Observe(links=1), way=way).links
        assert links is not None and not links.keys.any()


@pytest.mark.parametrize("kernel", ["compiled", "blockwise"])
def test_entropy_does_not_drown_in_what_all_scores_share(kernel: str):
    query, key, value = tensors(200)
    plain, far = (
        polyhead.attend(query, key, value, bias=torch.full((1, 1), x), kernel=kernel, observe=Observe(entropy=True))[1]
        for x in (0.0, 1e4)
    )
    assert plain.statistics.entropy is not None and far.statistics.entropy is not None
    torch.testing.assert_close(far.statistics.entropy, plain.statistics.entropy, rtol=0, atol=5e-3)  # scores: 1e-3


@pytest.mark.parametrize("T", [8, 1500])
def test_values_of_no_width_give_outputs_of_none(T: int):
    query, key, value = tensors(T)
    out = polyhead.attention(query, key, value[..., :0])
    assert list(out.shape) == [1, 2, T, 0]


def test_no_head_is_refused_in_words():
    query, key, value = tensors(8)
    with pytest.raises(ArgumentError, match=r"heads of query \(0\) must be a multiple .* and at least 1"):
        polyhead.attention(query[:, :0], key, value)


def test_no_rows_and_no_columns_of_a_function_are_an_empty_answer():
    query, key, value = tensors(8)
    scored = polyhead.attend(query, key, value, bias=ScoreMod(lambda score, b, h, i, j: score + j))[1]
    masked = polyhead.attend(query, key, value, mask=MaskMod(lambda b, h, i, j: i >= j))[1]
    assert list(scored.weights(rows=[]).shape) == [1, 2, 0, 8]
    assert list(masked.weights(rows=[], columns=[]).shape) == [1, 2, 0, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no process")
def test_a_forked_process_may_look_with_its_own_thread():
    """As a worker of a DataLoader does: it may not start the threads that its parent had."""
    query, key, value = tensors(64)
    right = polyhead.attention(query, key, value, kernel="compiled")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork among threads, which is what is tested
        child = os.fork()
    if not child:
        torch.set_num_threads(1)
        same = torch.equal(polyhead.attention(query, key, value, kernel="compiled"), right)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
