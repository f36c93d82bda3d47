"""One head of one sequence, taken out of a call, has the weights that the whole call gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from polyhead.operator import MaskMod, ScoreMod, attend, single
from polyhead.operator.record import Record
from polyhead.operator.single import Single
from tests.operator.cases import Case, build, cases


def each_head(record: Record) -> list[tuple[int, int, Single]]:
    B, H, _ = record.lse.shape
    return [(b, h, Single.of(record.request, record.lse, row=b, head=h)) for b, h in np.ndindex(B, H)]


@settings(max_examples=80, deadline=None)
@given(case=cases())
def test_weights_of_every_head_are_those_of_the_call(case: Case) -> None:
    x = build(case, grad=False)
    _, record = attend(x.tensors["query"], x.tensors["key"], x.tensors["value"], **x.how)
    wanted = record.weights()
    near = 1e-10 if case.dtype == torch.float64 else 1e-5
    dice = torch.Generator().manual_seed(case.seed)
    for b, h, one in each_head(record):
        torch.testing.assert_close(one.weights(range(case.T), range(case.S)), wanted[b, h], rtol=0, atol=near)
        rows, columns = (torch.randperm(n, generator=dice)[: n // 2 + 1] for n in (case.T, case.S))
        torch.testing.assert_close(one.weights(rows, columns), wanted[b, h][rows][:, columns], rtol=0, atol=near)
        for i, j in {(0, 0), (case.T - 1, case.S - 1)} if case.T and case.S else ():
            score = one.score(i, j)
            assert score.weight == pytest.approx(float(wanted[b, h, i, j]), abs=near)
            if record.lse[b, h, i] > -torch.inf:
                assert np.exp(score.score - float(record.lse[b, h, i])) == pytest.approx(score.weight, abs=10 * near)
            if case.softcap is None and score.score > -torch.inf:
                scale = case.scale or case.K**-0.5
                product = float(x.tensors["query"][b, h, i].double() @ x.tensors["key"][b, h // case.R, j].double())
                assert score.score == pytest.approx(product * scale + score.bias, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_long_rows_in_pieces_are_the_rows(case: Case) -> None:
    """In whatever order rows are asked for, from whichever key on; what they cannot see is left out and zero."""
    x = build(case, grad=False)
    _, record = attend(x.tensors["query"], x.tensors["key"], x.tensors["value"], **x.how)
    wanted = record.weights()
    near = 1e-10 if case.dtype == torch.float64 else 1e-5
    dice = torch.Generator().manual_seed(case.seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "SIDE", 3)
        patch.setattr(single, "TALL", 2)
        for b, h, one in each_head(record):
            rows = torch.randperm(case.T, generator=dice)
            for start in range(min(case.S, 2) + 1):
                found = one.weights(rows, range(start, case.S))
                torch.testing.assert_close(found, wanted[b, h][rows][:, start:], rtol=0, atol=near)
                found = one.weights(range(case.T), range(start, case.S))
                torch.testing.assert_close(found, wanted[b, h][:, start:], rtol=0, atol=near)


@pytest.mark.parametrize("batch", [True, False])
def test_functions_are_called_for_their_own_sequence_and_head(batch: bool) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 6, 4)
    table = torch.randn(2, 3)

    def mask(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i + h + (b if batch else 0)) % 3 != j % 3

    def bent(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return score + table[b, h] * (i - j)

    _, record = attend(query, key, key, mask=MaskMod(mask, batch=batch), bias=ScoreMod(bent))
    for b, h, one in each_head(record):
        torch.testing.assert_close(one.weights(range(5), range(6)), record.weights()[b, h])
        assert np.isnan(one.score(1, 2).bias)
