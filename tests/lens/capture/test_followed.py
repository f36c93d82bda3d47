"""A softmax is followed back only where all that was done to its scores is known; else it is missed, not told wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyhead.errors import ArgumentError
from polyhead.lens.watch import watch
from tests.lens.capture.layers import HEADS, LONG, CausalSelfAttention, fused, x

Change = Callable[[Tensor], Tensor]
BIAS = torch.randn(LONG, LONG, generator=torch.Generator().manual_seed(4))
FEW = 80  # more rows than are compared


def one_row_filled(scores: Tensor) -> Tensor:
    scores[:, :, 1, 3] = 5.0
    return scores


def one_row_copied(scores: Tensor) -> Tensor:
    scores[:, :, 1].copy_(scores[:, :, 2] * 3)
    return scores


def a_corner_moved(scores: Tensor) -> Tensor:
    scores[:, :, 1:3, 5:] += 3.0
    return scores


def one_row_capped(scores: Tensor) -> Tensor:
    scores[:, :, 1].clamp_(max=-0.1)
    return scores


def places_put(scores: Tensor) -> Tensor:
    where = torch.zeros(scores.shape[-2:], dtype=torch.bool)
    where[1, 2:6] = True
    scores[:, :, where] = -torch.inf
    return scores


def buffer_used_again(scores: Tensor) -> Tensor:
    rows = [n for n in range(scores.shape[2]) if n % 3]
    scores[:, :, rows] = scores[:, :, rows].flip(1).clone()
    return scores


class Changed(CausalSelfAttention):
    """Whose scores are changed, and whose weights are kept as it had them."""

    def __init__(self, change: Change) -> None:
        super().__init__(fused)
        self.change = change

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        self.weights = self.change((q @ k.mT) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out((self.weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    "change", [one_row_filled, one_row_copied, a_corner_moved, one_row_capped, places_put, buffer_used_again]
)
@pytest.mark.parametrize("long", [LONG, FEW])
def test_scores_that_are_written_to_in_part_are_missed_and_never_told_wrong(change: Change, long: int) -> None:
    layer = Changed(change)
    with torch.no_grad():
        alone = layer(x(long=long))
        with pytest.raises(ArgumentError, match=r"missed 1: .*scores go"), watch(layer):
            watched = layer(x(long=long))
    assert torch.equal(alone, watched)


def test_terms_and_queries_that_are_written_over_before_the_softmax_are_those_of_the_scores() -> None:
    def term(scores: Tensor) -> Tensor:
        bias = torch.randn(FEW, FEW)
        hidden = torch.ones(FEW, FEW, dtype=torch.bool).triu(1)
        scores = (scores + bias).masked_fill(hidden, -torch.inf)
        bias[1], hidden[1] = 0, False
        return scores

    class Early(Changed):
        def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            self.queries, k, v = (part.contiguous() for part in super().heads(x))
            return self.queries, k, v

    def query(scores: Tensor) -> Tensor:
        layer.queries[:, :, 1] = 0
        return scores

    layer = Early(query)
    for change in (term, query):
        layer.change = change
        with torch.no_grad(), watch(layer) as recording:
            layer(x(long=FEW))
        torch.testing.assert_close(recording[""].weights(), layer.weights, rtol=0, atol=2e-6)


def test_a_term_from_before_heads_had_an_axis_and_a_change_of_the_whole_in_place_are_followed() -> None:
    terms = torch.randn(2 * HEADS, 1, LONG)
    mask = torch.zeros(2, 1, LONG, LONG).masked_fill(torch.ones(LONG, LONG, dtype=torch.bool).triu(1), -1e9)

    def bloom(scores: Tensor) -> Tensor:
        return (scores.flatten(0, 1) + terms).view(scores.shape) + mask

    def whole(scores: Tensor) -> Tensor:
        scores[...] += BIAS
        return scores

    for change in (bloom, whole):
        layer = Changed(change)
        with torch.no_grad(), watch(layer) as recording:
            layer(x())
        assert not recording.missed
        torch.testing.assert_close(recording[""].weights(), layer.weights, rtol=0, atol=2e-6)


class Ending(CausalSelfAttention):
    """With something else between its heads and its last projection."""

    def __init__(self, last: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__(fused)
        self.last, self.gate = last, nn.Linear(32, 32)

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        return self.last(self, (q @ k.mT).softmax(-1) @ v)


ENDINGS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "side by side": lambda layer, o: layer.out(o.transpose(1, 2).flatten(2)),
    "changed in place": lambda layer, o: layer.out(o.transpose(1, 2).flatten(2).mul_(0.5)),
    "one head inside the other": lambda layer, o: layer.out(o.permute(0, 2, 3, 1).flatten(2)),
    "never put side by side": lambda layer, o: layer.out(o.reshape(2, LONG, 32)),
    "two projections": lambda layer, o: (
        layer.out(o.transpose(1, 2).flatten(2)) * layer.gate(o.transpose(1, 2).flatten(2))
    ),
    "a gate of the same rows": lambda layer, o: (lambda rows: layer.out(rows) * layer.gate(rows))(
        o.transpose(1, 2).flatten(2)
    ),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_norms_are_those_after_the_projection_only_where_it_reads_the_heads_side_by_side(ending: str) -> None:
    layer = Ending(ENDINGS[ending])
    with torch.no_grad():
        with watch(layer) as recording:
            layer(x())
            layer(x(2))
        own = layer.heads(x(2))[2].norm(dim=-1)
    for call in recording.calls(""):
        assert call.norms.after == (ending == "side by side")
    if ending != "side by side":
        torch.testing.assert_close(recording[""].norms.values, own)


def test_products_that_are_no_scores_do_not_hide_the_call_before_them() -> None:
    class Experts(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            return (given @ torch.ones(2, 32, 7)) * torch.ones(3, 2, 9, 1)

    model = nn.Sequential(CausalSelfAttention(fused), Experts())
    with torch.no_grad(), watch(model) as recording:
        model(x())
    assert recording.names() == ["0"] and not recording.missed


def test_a_table_of_distances_does_not_make_attention_cross() -> None:
    class Relative(CausalSelfAttention):
        def __init__(self) -> None:
            super().__init__(fused)
            self.places = nn.Linear(32, 32)
            self.table = nn.Parameter(torch.randn(2 * LONG - 1, 32))

        def forward(self, given: Tensor) -> Tensor:
            q, k, v = self.heads(given)
            places = self.places(self.table).unflatten(-1, (HEADS, -1)).transpose(0, 1)
            far = torch.arange(LONG) - torch.arange(LONG)[:, None] + LONG - 1
            scores = q @ k.mT + (q @ places.mT).gather(-1, far.expand(2, HEADS, -1, -1))
            return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    layer = Relative()
    with torch.no_grad(), watch(layer) as recording:
        layer(x())
    assert [call.kind for call in recording] == ["self"]
