"""Means over inputs, their intervals, and word alignments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyhead.errors import DataError
from polyhead.lens.heads import linked
from polyhead.lens.roles.alignment import Alignment, aer, ranks
from polyhead.lens.roles.measure import LOST, Measured
from polyhead.lens.roles.tally import Tally, estimate
from tests.lens.roles.made import call_of


def test_an_interval_holds_the_mean_it_was_drawn_from_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    rows = chance.normal(0.3, 0.1, (60, 400))  # inputs, heads
    found = estimate(rows, 500)
    inside = (found.low < 0.3) & (found.high > 0.3)
    assert 0.90 < inside.mean() < 0.98
    assert found.mean == pytest.approx(rows.mean(0)) and found.inputs == 60


def test_inputs_that_say_nothing_are_left_out_and_one_input_has_no_interval() -> None:
    rows = np.array([[0.1, np.nan, np.nan], [0.3, 0.5, np.nan]])
    found = estimate(rows, 100)
    assert found.mean[:2] == pytest.approx([0.2, 0.5]) and np.isnan(found.mean[2])
    assert not np.isnan(found.low[0]) and np.isnan(found.low[1:]).all() and np.isnan(found.high[1:]).all()


def test_the_offset_of_a_head_is_that_of_the_rows_of_all_inputs() -> None:
    tally = Tally()
    for offsets in ([[-1, -1, -1, 2]], [[2, 2, LOST, -1]], [[-1, LOST, LOST, LOST]]):
        tally.add(Measured({}, torch.tensor([offsets])))
    found = tally.settled()
    assert found["offset"].tolist() == [[-1.0]]
    assert found["positional"][:, 0] == pytest.approx([3 / 4, 1 / 3, 1.0])


def test_equal_numbers_share_their_rank() -> None:
    assert ranks(torch.tensor([0.2, 0.1, 0.2, 5.0])).tolist() == [1.5, 0.0, 1.5, 3.0]


def test_the_alignment_error_rate_counts_what_is_sure_and_what_may_be() -> None:
    gold = Alignment.read("0-0 1p1 2-1")
    assert aer([(0, 0), (2, 1)], gold) == 0.0
    assert aer([(0, 0), (1, 1)], gold) == pytest.approx(1 - (1 + 2) / (2 + 2))
    assert aer([(0, 1)], gold) == 1.0
    with pytest.raises(DataError, match="alignment 3: '0:0' is no link"):
        Alignment.read("0:0", "alignment 3")


def test_pieces_of_words_are_joined_before_the_best_is_taken() -> None:
    weights = torch.tensor([[[[0.3, 0.3, 0.4], [0.0, 0.1, 0.9], [0.4, 0.4, 0.2]]]])
    record = call_of(weights, kind="cross").record
    # source words: tokens 0-1, token 2; target words: token 0, tokens 1-2
    assert linked(record, [[0, 1], [2]], [[0], [1, 2]]) == [[(0, 0), (1, 1)]]
