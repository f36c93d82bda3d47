"""Times among words come in the order that the reference asks for, whatever the scores and the rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)

from polyhead.generation.rules import ForbidFirst
from polyhead.generation.times import Times

pytestmark = pytest.mark.parity
WORDS, END, SILENT, FIRST, SIZE = 12, 12, 15, 16, 30  # ids below END are words; 13 and 14 other signs; times from FIRST
START = 3
ROWS = [
    [],
    [16],
    [18, 4],
    [18, 4, 7],
    [18, 4, 20],
    [18, 4, 20, 20],
    [18, 4, 20, 20, 5],
    [18, 4, 20, 22],
    [4, 5],
    [29],
    [16, 2, 29],
    [16, 2, 29, 29],
]


def theirs(latest: int | None) -> Any:
    more = {} if latest is None else {"max_initial_timestamp_index": latest}
    config = GenerationConfig(no_timestamps_token_id=SILENT, eos_token_id=END, **more)
    return WhisperTimeStampLogitsProcessor(config, begin_index=START)


def batch(told: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Random scores, some of them forbidden already, of rows that have told this."""
    dice = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(6, SIZE, generator=dice)
    scores[:, :END] += torch.linspace(-3, 6, 6)[:, None]  # from times that win to words that win
    scores[:, torch.randint(0, END, (3,), generator=dice)] = -math.inf
    return torch.tensor([[13, 14, 13, *told]] * 6), scores


@pytest.mark.parametrize("told", ROWS, ids=str)
@pytest.mark.parametrize("latest", [None, 4])
def test_a_time_may_come_when_the_reference_lets_it(told: list[int], latest: int | None) -> None:
    rule = Times(START, FIRST, END, SILENT, latest)
    for seed in range(5):
        tokens, scores = batch(told, seed)
        before = scores.clone()
        assert torch.equal(rule(scores, tokens), theirs(latest)(tokens, scores))
        assert torch.equal(scores, before)


def test_rows_that_told_different_things_do_not_meet() -> None:
    rows = [row for row in ROWS if len(row) == 3]
    tokens = torch.tensor([[13, 14, 13, *row] for row in rows])
    scores = torch.randn(len(rows), SIZE, generator=torch.Generator().manual_seed(0))
    rule = Times(START, FIRST, END, SILENT)
    together = rule(scores, tokens)
    assert torch.equal(together, torch.cat([rule(scores[i : i + 1], tokens[i : i + 1]) for i in range(len(rows))]))
    assert torch.equal(together, theirs(None)(tokens, scores))


@pytest.mark.parametrize("told", [[], [4], [4, 5]], ids=str)
def test_what_may_not_come_first_may_come_later(told: list[int]) -> None:
    tokens, scores = batch(told, 0)
    reference: Any = SuppressTokensAtBeginLogitsProcessor([2, END], START)
    wanted = reference(tokens, scores)
    assert torch.equal(ForbidFirst(START, [2, END])(scores, tokens), wanted)
