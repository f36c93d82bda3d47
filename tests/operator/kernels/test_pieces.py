"""Packed documents fall apart into calls of their own, bit for bit those of the documents alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import Alibi, Buckets, Observe, Prefix, attend, attention, explain
from polyhead.operator.kernels import compiled, fused
from polyhead.operator.kernels.pieces import pieces
from polyhead.operator.request import ask
from polyhead.operator.rules import Dense, Segments


def packed(sizes: list[int], H: int = 2, G: int = 1, K: int = 4) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values of documents side by side, and whose each place is."""
    torch.manual_seed(sum(sizes))
    n = sum(sizes)
    ids = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[None]
    return [torch.randn(1, heads, n, K) for heads in (H, G, G)], ids


HOW: dict[str, Any] = {
    "plain": {}, "causal": {"causal": True}, "window": {"causal": True, "window": (2, 0)},
    "alibi": {"bias": Alibi(torch.tensor([0.5, 0.25]))}, "buckets": {"bias": Buckets(torch.randn(8, 2), True, 6)},
}  # fmt: skip


@pytest.mark.parametrize("how", HOW)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_document_among_others_is_the_document_alone(how: str, sizes: list[int]) -> None:
    (query, key, value), ids = packed(sizes)
    out, record = attend(query, key, value, segments=ids, **HOW[how])
    assert record.kernel == "fused" and torch.equal(out, attention(query, key, value, segments=ids, **HOW[how]))
    start = 0
    for size in sizes:
        own = [x[:, :, start : start + size] for x in (query, key, value)]
        alone, level = attend(*own, **HOW[how])
        assert torch.equal(out[:, :, start : start + size], alone)
        torch.testing.assert_close(record.lse[:, :, start : start + size], level.lse, rtol=1e-6, atol=1e-6)
        start += size
    torch.testing.assert_close(
        out, attention(query, key, value, segments=ids, kernel="reference", **HOW[how]), rtol=1e-5, atol=1e-6
    )


def test_rows_of_a_batch_hold_documents_of_their_own() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[3, 3, 1, 1, 1, 0], [0, 0, 0, 0, 2, 2]])
    query, key, value = (torch.randn(2, 3, 6, 4, requires_grad=True) for _ in range(3))
    request = ask(query, key, value, segments=ids, causal=True)
    assert pieces(request) == [(0, 0, 2), (0, 2, 5), (0, 5, 6), (1, 0, 4), (1, 4, 6)]
    found = attention(query, key, value, segments=ids, causal=True)
    wanted = attention(query, key, value, segments=ids, causal=True, kernel="reference")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    seed = torch.randn_like(found)
    for mine, theirs in zip(
        torch.autograd.grad(found, (query, key, value), seed), torch.autograd.grad(wanted, (query, key, value), seed),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_damage_in_one_document_stays_there() -> None:
    (query, key, value), ids = packed([3, 4])
    value[:, :, 1] = float("nan")
    out = attention(query, key, value, segments=ids)
    assert out[:, :, :3].isnan().all() and out[:, :, 3:].isfinite().all()


@pytest.mark.parametrize("how", ["plain", "causal"])
def test_a_long_document_sends_none_beside_it_to_another_kernel(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SCORES", 2 * 40 * 40)
    sizes = [3, 40, 7, 5, 41]
    (query, key, value), ids = packed(sizes)
    out, record = attend(query, key, value, segments=ids, **HOW[how])
    told = explain(query, key, value, segments=ids, **HOW[how])
    assert record.kernel == told.chosen == "compiled + fused" and str(told).count("-> ") == 2
    assert torch.equal(out, attention(query, key, value, segments=ids, **HOW[how]))
    start = 0
    for size in sizes:
        own = [x[:, :, start : start + size] for x in (query, key, value)]
        alone, level = attend(*own, **HOW[how])
        assert level.kernel == ("compiled" if size >= 40 else "fused")
        assert torch.equal(out[:, :, start : start + size], alone)
        assert torch.equal(record.lse[:, :, start : start + size], level.lse)
        start += size
    seen, observed = attend(query, key, value, segments=ids, observe=Observe(links=2), **HOW[how])
    whole = attend(query, key, value, segments=ids, observe=Observe(links=2), kernel="reference", **HOW[how])[1]
    assert torch.equal(seen, out)
    torch.testing.assert_close(observed.weights(), whole.weights(), rtol=1e-5, atol=1e-6)
    links = observed.statistics.links, whole.statistics.links
    assert links[0] is not None and links[1] is not None
    torch.testing.assert_close(links[0].weights, links[1].weights, rtol=1e-5, atol=1e-6)
    learning = [x.clone().requires_grad_() for x in (query, key, value)]
    ours, theirs = (
        torch.autograd.grad(attention(*learning, segments=ids, kernel=kernel, **HOW[how]).square().sum(), learning)
        for kernel in ("auto", "reference")
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_damaged_document_sends_none_beside_it_to_another_kernel() -> None:
    (query, key, value), ids = packed([3, 4])
    value[:, :, 1] = float("nan")
    out, record = attend(query, key, value, segments=ids, causal=True)
    assert "fused" in record.kernel and record.kernel != "fused"
    alone = attention(*(x[:, :, 3:] for x in (query, key, value)), causal=True)
    assert torch.equal(out[:, :, 3:], alone)
    assert out[:, :, 0].isfinite().all() and out[:, :, 1:3].isnan().all()


def test_documents_of_any_number_need_no_mask_of_all_pairs() -> None:
    (query, key, value), ids = packed([40] * 100)
    assert explain(query, key, value, segments=ids).chosen == "fused"
    assert fused.room(ask(query, key, value, segments=ids)) < 4000 * 8 * 4 + 10_000  # the output, once more


@pytest.mark.parametrize(
    "how",
    [
        {"mask": Segments(torch.tensor([[0, 1, 0, 1]]))},  # interleaved
        {"mask": Segments(torch.tensor([[0, 0, 1, 1]])) & Prefix(2)},
        {"mask": Segments(torch.tensor([[0, 0, 1, 1]])) & Dense(torch.rand(4, 4) > 0.3)},
        {"segments": torch.tensor([[0, 0, 1, 1]]), "bias": torch.randn(4, 4)},
        {"segments": (torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 1, 1]]))},
    ],
)
def test_others_stay_whole_and_are_right(how: dict[str, Any]) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 4, 4) for _ in range(3))
    assert pieces(ask(query, key, value, **how)) is None
    wanted = attention(query, key, value, kernel="reference", **how)
    torch.testing.assert_close(attention(query, key, value, **how), wanted, rtol=1e-5, atol=1e-6)


def test_segments_that_were_changed_are_found_anew() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[0, 0, 1, 1]])
    rule = Segments(ids)
    query, key, value = (torch.randn(1, 2, 4, 4) for _ in range(3))
    attention(query, key, value, mask=rule)
    ids.copy_(torch.tensor([[0, 1, 1, 1]]))
    wanted = attention(query, key, value, segments=ids.clone())
    assert torch.equal(attention(query, key, value, mask=rule), wanted)
