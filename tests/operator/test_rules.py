"""Rules and biases say of every tile what their definitions say of every pair."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask, flex_attention

from polyhead.errors import ArgumentError
from polyhead.operator import Alibi, Buckets, Causal, Dense, Lengths, MaskMod, Observe, Prefix, ScoreMod, Window, attend
from polyhead.operator.request import frame_of
from polyhead.operator.rules import Frame, Span
from tests.operator.cases import BUCKETS, Case, bucket, build, cases


def run_of(n: int) -> st.SearchStrategy[range]:
    return st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda ends: range(min(ends), max(ends)))


def numbers(span: Span) -> list[int]:
    return list(span) if isinstance(span, range) else [int(i) for i in span]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases(), st.data())
def test_a_tile_of_a_rule_is_what_its_definition_says_of_each_pair(case: Case, data: st.DataObject):
    built = build(case, grad=False)
    request = built.request()
    rows: Span = data.draw(run_of(case.T))
    columns: Span = data.draw(run_of(case.S))
    if data.draw(st.booleans()):  # any indices, in any order
        rows, columns = torch.tensor(numbers(rows)[::-2]), torch.tensor(numbers(columns)[::-1])
        rows, columns = rows.long(), columns.long()
    place = np.ix_(range(case.B), range(case.H), numbers(rows), numbers(columns))
    if request.rule is not None:
        tile = request.rule.visible(request.frame, rows, columns)
        wanted = built.visible[place]
        found = np.broadcast_to(True if tile is None else tile.numpy(), wanted.shape)
        np.testing.assert_array_equal(found, wanted)
    if request.bias is not None and request.weights is not None and built.bias is not None:
        tile = request.bias.tile(request.weights, request.frame, rows, columns)
        wanted = built.bias[place]
        np.testing.assert_allclose(np.broadcast_to(tile.numpy(), wanted.shape), wanted, rtol=1e-5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases(), st.data())
def test_a_rule_reaches_every_key_that_some_row_sees(case: Case, data: st.DataObject):
    built = build(case, grad=False)
    request = built.request()
    if request.rule is None:
        return
    rows = data.draw(run_of(case.T))
    reach = request.rule.reach(request.frame, rows)
    seen = np.flatnonzero(built.visible[:, :, rows.start : rows.stop].any(axis=(0, 1, 2)))
    assert all(j in reach for j in seen)
    assert not len(reach) or (0 <= reach.start and reach.stop <= case.S)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases())
def test_extent_bounds_the_shape_of_the_whole_and_none_hides_nothing(case: Case):
    request = build(case, grad=False).request()
    if request.rule is None:
        return
    extent = request.rule.extent(request.frame)
    whole = request.rule.visible(request.frame, range(case.T), range(case.S))
    if extent is None:
        assert whole is None
    elif whole is not None:
        assert all(size <= bound for size, bound in zip(whole.shape, extent, strict=True))


def frame(T: int, S: int) -> Frame:
    query = torch.zeros(1, 1, T, 1)
    return frame_of(query, torch.zeros(1, 1, S, 1), None)


def test_causal_and_windows_reach_only_the_keys_they_need():
    assert Causal().reach(frame(100, 100), range(20, 30)) == range(30)
    assert Causal().reach(frame(10, 100), range(5)) == range(95)
    assert not Causal().reach(frame(100, 10), range(50))
    assert Window(4, 0).reach(frame(100, 100), range(20, 30)) == range(16, 30)
    assert (Causal() & Window(4, None)).reach(frame(100, 100), range(20, 30)) == range(16, 30)
    assert Prefix(40).reach(frame(100, 100), range(20, 30)) == range(40)
    assert Lengths(torch.tensor([7])).reach(frame(100, 100), range(20, 30)) == range(7)


def test_a_tile_below_the_diagonal_needs_no_mask():
    assert Causal().visible(frame(100, 100), range(50, 60), range(50)) is None
    assert Causal().visible(frame(1, 100), range(1), range(100)) is None
    assert Window(100, 0).visible(frame(100, 100), range(50, 60), range(50)) is None


def test_one_query_sees_every_key_so_causal_hides_nothing():
    assert Causal().extent(frame(1, 9)) is None
    assert Causal().extent(frame(2, 9)) == (1, 1, 2, 9)


def test_composition_is_flat_and_takes_tensors_and_none():
    mask = torch.ones(3, 3, dtype=torch.bool)
    rule = Causal() & Window(2, 2) & mask & None
    assert [type(part) for part in rule.parts()] == [Causal, Window, Dense]
    assert sorted(type(part).__name__ for part in (mask & Causal() & Window(2, 2)).parts()) == [
        "Causal",
        "Dense",
        "Window",
    ]
    assert None & Causal() == Causal()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_the_definition(bidirectional: bool):
    for n, far in ((8, 6), (32, 128), (10, 20)):
        rule = Buckets(torch.zeros(n, 1), bidirectional, far)
        distances = list(range(-3 * far, 3 * far + 1))
        found = rule.bucket(torch.tensor(distances)).tolist()
        assert found == [bucket(d, n, bidirectional, far) for d in distances]
        assert 0 <= min(found)
        assert max(found) == n - 1 if bidirectional else max(found) <= n - 1


@pytest.mark.parity
def test_buckets_are_those_of_t5():
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-300, 301)
    for bidirectional in (True, False):
        wanted = T5Attention._relative_position_bucket(distances, bidirectional, 32, 128)
        assert torch.equal(Buckets(torch.zeros(32, 1), bidirectional, 128).bucket(distances), wanted)


def test_every_bucket_that_a_distance_can_have_is_met():
    assert {bucket(d, *BUCKETS) for d in range(-9, 10)} == {0, 1, 2, 3, 5, 6, 7}  # 4: right, at distance 0


# ------------------------------------------------------------------------------------------ functions of FlexAttention


DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 2]])


def packed_and_sliding(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Documents by sequence, and a window that grows with the head."""
    return (DOCUMENTS[b, i] == DOCUMENTS[b, j]) & (i - j <= h) & (j <= i)


def test_a_mask_mod_means_what_flex_attention_makes_of_it() -> None:
    B, H, n = 2, 3, 7
    written = create_mask(packed_and_sliding, B, H, n, n, device="cpu")
    query, key, value = (torch.randn(B, H, n, 4) for _ in range(3))
    mod = MaskMod(packed_and_sliding)
    out, record = attend(query, key, value, mask=mod, observe=Observe(received=True))
    wanted, dense = attend(query, key, value, mask=written, observe=Observe(received=True))
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(record.statistics.received, dense.statistics.received)
    torch.testing.assert_close(record.weights(), dense.weights())
    blocks = create_block_mask(packed_and_sliding, B, H, n, n, device="cpu")
    assert torch.equal(out, attend(query, key, value, mask=blocks)[0])
    for kernel in ("explicit", "compiled", "fused", "blockwise", "flex", "reference"):
        torch.testing.assert_close(attend(query, key, value, mask=mod, kernel=kernel)[0], out)
        torch.testing.assert_close(
            attend(query, key, value, mask=mod & Window(2, 0), kernel=kernel)[0],
            attend(query, key, value, mask=written, window=(2, 0))[0],
        )


def test_a_block_mask_is_read_for_the_call_it_was_made_for() -> None:
    x = torch.randn(2, 3, 7, 4)
    for made_for in ((None, None, 8, 8), (1, 2, 7, 7), (4, 3, 7, 7)):
        blocks = create_block_mask(lambda b, h, i, j: i >= j, *made_for, device="cpu")
        with pytest.raises(
            ArgumentError, match=r"a BlockMask must be made for \[1 or B, 1 or H, T, S\] = \[2, 3, 7, 7\]"
        ):
            attend(x, x, x, mask=blocks)
    count, places = torch.ones(1, 1, 1, dtype=torch.int32), torch.zeros(1, 1, 1, 1, dtype=torch.int32)
    with pytest.raises(ArgumentError, match="a BlockMask is read by its mask_mod, and this one has none"):
        attend(x, x, x, mask=BlockMask.from_kv_blocks(count, places, seq_lengths=(7, 7)))


def test_a_function_that_cannot_be_called_is_refused_in_one_sentence() -> None:
    x = torch.randn(1, 1, 2, 4)
    with pytest.raises(
        ArgumentError, match=r"mask_mod\(b, h, i, j\) could not be called with tensors without axes: .*takes 2"
    ):
        attend(x, x, x, mask=MaskMod(lambda i, j: i >= j))  # pyright: ignore
    with pytest.raises(ArgumentError, match=r"score_mod\(score, b, h, i, j\) could not be called .* not callable"):
        attend(x, x, x, bias=ScoreMod(3))  # pyright: ignore
    x = torch.randn(1, 1, 6, 4)
    short = torch.ones(5, dtype=torch.bool)
    for function in (lambda b, h, i, j: (i >= j) if i > 3 else (i == j), lambda b, h, i, j: short[j]):
        with pytest.raises(ArgumentError, match="mask_mod could not be mapped over the corners of the map; write it"):
            attend(x, x, x, mask=MaskMod(function))
    with pytest.raises(ArgumentError, match="score_mod could not be mapped over the corners of the map; write it"):
        attend(x, x, x, bias=ScoreMod(lambda s, b, h, i, j: s if i >= j else s - 1))


def test_flex_asks_no_head_of_a_function_that_depends_on_none() -> None:
    x = torch.randn(1, 2, 6, 4)
    mod = MaskMod(lambda b, h, i, j: (h == 0) | (i >= j), heads=False)
    torch.testing.assert_close(
        attend(x, x, x, mask=mod, kernel="flex")[0], attend(x, x, x, mask=mod, kernel="blockwise")[0]
    )


def test_a_mask_mod_that_ignores_batch_and_heads_is_evaluated_once_for_all() -> None:
    frame = frame_of(torch.zeros(2, 3, 7, 4), torch.zeros(2, 3, 7, 4), None)
    mod = MaskMod(lambda b, h, i, j: (i >= j) & (b == 0), batch=False, heads=False)
    assert mod.visible(frame, range(2, 4), range(7)).shape == (1, 1, 2, 7)
    assert mod.extent(frame) == (1, 1, 7, 7)


def test_a_mask_mod_that_gives_no_boolean_is_refused() -> None:
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ArgumentError, match=r"mask_mod must give one boolean tensor without axes .* found tensor\(0\)"):
        attend(x, x, x, mask=MaskMod(lambda b, h, i, j: i - j))


SLOPES = torch.tensor([0.5, 0.25, 0.125])


def capped_and_sloped(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return 2 * torch.tanh(score / 2) - SLOPES[h] * (i - j).abs()


def test_a_score_mod_is_the_softcap_and_bias_that_it_says_forward_and_backward() -> None:
    for kernel in ("auto", "explicit", "blockwise", "flex", "reference"):
        found: list[list[Tensor]] = []
        for how in ({"bias": ScoreMod(capped_and_sloped)}, {"softcap": 2.0, "bias": Alibi(SLOPES)}):
            dice = torch.Generator().manual_seed(0)
            tensors = [torch.randn(2, h, 7, 4, generator=dice).requires_grad_() for h in (3, 1, 1)]
            out, record = attend(*tensors, causal=True, kernel=kernel, observe=Observe(entropy=True), **how)  # pyright: ignore
            assert record.statistics.entropy is not None
            loss = out.square().sum() + record.statistics.entropy.sum()
            found.append([out, record.lse, record.weights(), *torch.autograd.grad(loss, tensors)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_score_mod_means_what_flex_attention_makes_of_it() -> None:
    query, key, value = (torch.randn(2, 3, 7, 4) for _ in range(3))
    block_mask = create_block_mask(packed_and_sliding, 2, 3, 7, 7, device="cpu")
    with warnings.catch_warnings(action="ignore"):  # that it is not compiled here
        wanted = flex_attention(query, key, value, score_mod=capped_and_sloped, block_mask=block_mask)
    out, _ = attend(query, key, value, mask=MaskMod(block_mask.mask_mod), bias=ScoreMod(capped_and_sloped))
    torch.testing.assert_close(out, wanted)


def test_a_score_mod_that_cannot_be_is_refused_in_one_sentence() -> None:
    x, slope = torch.zeros(1, 1, 2, 4), torch.zeros(1, requires_grad=True)
    for how, said in (
        ({"bias": ScoreMod(lambda score, b, h, i, j: i)}, "must give one float tensor without axes"),
        ({"bias": ScoreMod(lambda score, b, h, i, j: score * slope[0])}, "reads a tensor that requires a gradient"),
        ({"bias": ScoreMod(capped_and_sloped), "softcap": 2.0}, "in the place of softcap; found both"),
    ):
        with pytest.raises(ArgumentError, match=said):
            attend(x, x, x, **how)  # pyright: ignore
