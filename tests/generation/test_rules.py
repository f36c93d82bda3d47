"""What each logit rule allows, and that rules remember nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation import Forbid, ForcedAt, MinLength, NoRepeatNgram, RepetitionPenalty
from polyhead.generation.rules import after

RULES = [
    Forbid([2, 7]),
    Forbid([]),
    MinLength(5, [0, 3]),
    MinLength(6, [0, 3]),
    ForcedAt(6, [0, 3]),
    ForcedAt(7, [0, 3]),
    NoRepeatNgram(1),
    NoRepeatNgram(2),
    NoRepeatNgram(3),
    NoRepeatNgram(9),
    RepetitionPenalty(1.7),
    RepetitionPenalty(0.4),
]


def case(seed=0):
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(6, 9, generator=dice), torch.randint(0, 3, (6, 5), generator=dice)  # [N, V], [N, t]


def naive(rule, scores, tokens):
    """One row, one token at a time."""
    scores, row = scores.tolist(), tokens.tolist()
    for token in range(len(scores)):
        match rule:
            case Forbid(ids):
                banned = token in ids
            case MinLength(length, ends):
                banned = token in ends and len(row) < length
            case ForcedAt(length, ids):
                banned = len(row) + 1 == length and token not in ids
                if len(row) + 1 == length:
                    scores[token] = 0.0
            case NoRepeatNgram(n):
                runs = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
                banned = tuple([*row, token][-n:]) in runs and len(row) >= n
            case RepetitionPenalty(penalty):
                banned = False
                if token in row:
                    scores[token] *= penalty if scores[token] < 0 else 1 / penalty
        if banned:
            scores[token] = -math.inf
    return scores


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_rules_do_what_their_sentence_says(rule, seed):
    scores, tokens = case(seed)
    before = scores.clone()
    out = rule(scores, tokens)
    assert torch.equal(scores, before)
    for row in range(6):
        assert out[row].tolist() == pytest.approx(naive(rule, scores[row], tokens[row]))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_keep_working_when_rows_are_reordered_and_dropped(rule):
    scores, tokens = case()
    rows = torch.tensor([4, 0, 0, 3])
    whole = rule(scores, tokens)
    assert torch.equal(rule(scores[rows], tokens[rows]), whole[rows])
    assert torch.equal(rule(scores, tokens), whole)


@pytest.mark.parametrize("make", [lambda: NoRepeatNgram(0), lambda: RepetitionPenalty(0.0)])
def test_rules_that_mean_nothing_are_refused(make):
    with pytest.raises(ArgumentError, match="must be"):
        make()


def test_forbidding_writes_only_where_nobody_can_tell() -> None:
    tokens, given = torch.zeros(2, 3, dtype=torch.long), torch.randn(2, 9)
    seen: list[Tensor] = []

    def listen(scores: Tensor, tokens: Tensor) -> Tensor:
        seen.append(scores)
        return scores

    for own in (False, True):
        for rules in ([Forbid([1]), Forbid([2])], [Forbid([1]), listen, Forbid([2])], [MinLength(9, [1]), Forbid([2])]):
            scores = given.clone()
            found = after(rules, scores, tokens, own=own)
            assert torch.equal(found, given.index_fill(1, torch.tensor([1, 2]), -math.inf))
            assert torch.equal(scores, given) == (not own or rules[0] != Forbid([1]))
    assert all(torch.equal(each, given.index_fill(1, torch.tensor([1]), -math.inf)) for each in seen)
