"""Batches of like length, and answers in the input's order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyhead.errors import ArgumentError
from polyhead.generation import restore, sorted_batches


@given(st.lists(st.integers(0, 60)), st.integers(1, 200), st.none() | st.integers(1, 9))
def test_batches_hold_every_source_once_within_budget_and_longest_first(lengths, budget, rows):
    batches = sorted_batches(lengths, budget=budget, rows=rows)
    order = [place for batch in batches for place in batch]
    assert order == sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= budget
        assert rows is None or len(batch) <= rows
    for batch in batches[:-1]:  # one more would not have fitted
        assert len(batch) == rows or (len(batch) + 1) * max(1, lengths[batch[0]]) > budget


@given(st.lists(st.integers(0, 60)), st.integers(1, 200))
def test_outputs_return_in_the_order_of_the_input(lengths, budget):
    batches = sorted_batches(lengths, budget=budget)
    outputs = ([(place, lengths[place]) for place in batch] for batch in batches)
    assert restore(batches, outputs) == list(enumerate(lengths))


def test_a_lost_output_is_noticed():
    with pytest.raises(ValueError, match="shorter"):
        restore([[1, 0]], [["a"]])


@pytest.mark.parametrize("change", [{"budget": 0}, {"rows": 0}])
def test_an_empty_batch_is_refused(change):
    with pytest.raises(ArgumentError, match="is 0, but must be at least 1"):
        sorted_batches([1, 2], **{"budget": 5, **change})
