"""The candidates of a batch: whole tokens become numbers and come back, and what is none stands for nothing."""

from __future__ import annotations

import torch

from polyhead.generation import ConstrainedBeam, EndToken, Hypothesis, Source
from polyhead.generation.candidates import Candidates, CandidateStop

AMONG = Candidates(torch.tensor([1, 4, 5, 8]))


def test_tokens_become_numbers_and_what_is_no_candidate_none() -> None:
    tokens = torch.tensor([[1, 4, 5], [8, 0, 9], [7, 2, 3]])
    assert AMONG.numbers(tokens).tolist() == [[0, 1, 2], [3, -1, -1], [-1, -1, -1]]
    assert AMONG.those([8, 3, 1, 99]) == (3, 0)
    assert AMONG.run([4, 8]) == (1, 3) and AMONG.run([4, 7]) is None


def test_a_sources_other_tokens_count_as_padding() -> None:
    real = torch.tensor([[True, True, True], [True, True, False]])
    found = AMONG.source(Source(torch.tensor([[5, 6, 1], [0, 8, 4]]), real))
    assert found.real.tolist() == [[True, False, True], [False, True, False]]
    assert found.ids[found.real].tolist() == [2, 0, 3]


def test_forced_phrases_are_in_numbers_and_answers_in_tokens() -> None:
    search = AMONG.search(ConstrainedBeam(4, forced=[[[4, 8], [5]], [[1]]]))
    assert search == ConstrainedBeam(4, forced=[[[1, 3], [2]], [[0]]])
    assert AMONG.answers([[Hypothesis([3, 0, 0], -1.0, True)], []]) == [[Hypothesis([8, 1, 1], -1.0, True)], []]


def test_a_stop_rule_is_asked_in_whole_tokens() -> None:
    stop = CandidateStop(EndToken([8, 99]), AMONG)
    assert stop.ids == (3,)
    assert stop(torch.tensor([[0, 1]]), torch.tensor([[3, 0, 2]])).tolist() == [[True, False, False]]
