"""Logit rules and cuts give the numbers of the logits processors of transformers, on random scores and rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from polyhead.errors import ArgumentError
from polyhead.generation import (
    EndsGrow,
    Forbid,
    ForbidFirst,
    MinLength,
    Normalize,
    Sample,
    SequenceBias,
    Source,
    SourceNoRepeatNgram,
    SourceReward,
)

pytestmark = pytest.mark.parity
theirs: Any = logits_process
WORDS = 7
SEEDS = st.integers(0, 2**32 - 1)


def case(seed: int, *, rows: int = 6, length: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [N, V], some of them -inf, and rows so far [N, t] of few words."""
    dice = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(rows, WORDS, generator=dice)
    scores[torch.rand(scores.shape, generator=dice) < 0.1] = -math.inf
    scores[:, 3] = scores[:, 3].clamp(min=-9)  # something is left
    return scores, torch.randint(0, 4, (rows, length), generator=dice)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.equal(found.isinf(), expected.isinf())
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


SEQUENCES = st.lists(
    st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=7).map(tuple), st.floats(-9, 9)),
    min_size=1,
    max_size=9,
    unique_by=lambda pair: pair[0],
)


@given(SEEDS, SEQUENCES)
@settings(deadline=None)
def test_biases_of_sequences(seed: int, biases: list[tuple[tuple[int, ...], float]]) -> None:
    scores, tokens = case(seed)
    processor = theirs.SequenceBiasLogitsProcessor([[list(ids), bias] for ids, bias in biases])
    same(SequenceBias(biases)(scores, tokens), processor(tokens, scores))


@given(SEEDS, SEQUENCES)
@settings(deadline=None)
def test_bad_words_of_several_tokens(seed: int, biases: list[tuple[tuple[int, ...], float]]) -> None:
    scores, tokens = case(seed)
    words = [list(ids) for ids, _ in biases]
    rule = SequenceBias([(tuple(ids), -math.inf) for ids in words])
    same(rule(scores, tokens), theirs.NoBadWordsLogitsProcessor(words)(tokens, scores))


@given(SEEDS, st.integers(1, 5), st.integers(1, 3))
@settings(deadline=None)
def test_runs_and_tokens_of_the_source(seed: int, n: int, rows: int) -> None:
    scores, tokens = case(seed, rows=3 * rows)
    ids = torch.randint(0, 5, (3, 8), generator=torch.Generator().manual_seed(seed))
    source = Source(ids, torch.ones_like(ids, dtype=torch.bool))
    expected = theirs.EncoderNoRepeatNGramLogitsProcessor(n, ids)(tokens, scores)
    same(SourceNoRepeatNgram(n, source)(scores, tokens), expected)
    reward = 0.3 * n
    expected = theirs.EncoderRepetitionPenaltyLogitsProcessor(reward, ids)(tokens, scores)
    same(SourceReward(reward, source)(scores, tokens), expected)


@given(SEEDS, st.integers(0, 6), st.floats(0.5, 2), st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True))
@settings(deadline=None)
def test_ends_that_grow_and_tokens_that_are_suppressed(seed: int, start: int, factor: float, ends: list[int]) -> None:
    scores, tokens = case(seed)
    decay = theirs.ExponentialDecayLengthPenalty((start, factor), ends, 2)
    same(EndsGrow(2 + start, factor, ends)(scores, tokens), decay(tokens, scores))
    least = theirs.MinNewTokensLengthLogitsProcessor(2, start, ends)
    same(MinLength(2 + start, ends)(scores, tokens), least(tokens, scores))
    same(Forbid(ends)(scores, tokens), theirs.SuppressTokensLogitsProcessor(ends)(tokens, scores))
    begin = theirs.SuppressTokensAtBeginLogitsProcessor(ends, start)
    same(ForbidFirst(start, ends)(scores, tokens), begin(tokens, scores))
    same(Normalize()(scores, tokens), theirs.LogitNormalization()(tokens, scores))


CUTS = {
    "top_h": (theirs.TopHLogitsWarper, False), "top_k": (theirs.TopKLogitsWarper, True),
    "top_p": (theirs.TopPLogitsWarper, True), "min_p": (theirs.MinPLogitsWarper, True),
    "typical_p": (theirs.TypicalLogitsWarper, True), "epsilon_cutoff": (theirs.EpsilonLogitsWarper, True),
    "eta_cutoff": (theirs.EtaLogitsWarper, True),
}  # fmt: skip
"""In the order in which transformers applies them, and whether a least number of tokens may be set."""


@given(
    SEEDS,
    st.fixed_dictionaries(
        {"temperature": st.floats(0.3, 3)},
        optional={
            "top_h": st.floats(0.05, 0.98), "top_k": st.integers(1, 9), "top_p": st.floats(0.05, 0.99),
            "min_p": st.floats(0.01, 1), "typical_p": st.floats(0.05, 0.99),
            "epsilon_cutoff": st.floats(0.001, 0.9), "eta_cutoff": st.floats(0.001, 0.9),
        },
    ),
    st.integers(1, 3),
)  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_cuts_of_draws_in_any_company(seed: int, how: dict[str, Any], least: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    logits = (4 * torch.rand(4, 1, generator=dice) * torch.randn(4, 13, generator=dice)).double()
    expected = theirs.TemperatureLogitsWarper(how["temperature"])(logits, logits)
    for name, (warper, bounded) in CUTS.items():
        if name in how:
            bound: dict[str, Any] = {"min_tokens_to_keep": least} if bounded else {}
            expected = warper(how[name], **bound)(logits.long(), expected)
    scores, names = Sample(**how).shaped(logits, least=least)
    whole = torch.full_like(logits, -math.inf)
    same(scores if names is None else whole.scatter(1, names, scores), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_ends_that_grow_for_long_stay_numbers(dtype: torch.dtype) -> None:
    """Beyond what a number holds, and beyond what a power of Python holds."""
    scores = torch.tensor([[-3.0, 0.0, -math.inf, 2.0]], dtype=dtype)
    for length in (20, 500, 30_000):
        grown = EndsGrow(5, 2.0, [0, 1, 2])(scores, torch.zeros(1, length, dtype=torch.long))
        assert grown[0, 0].isfinite() and grown[0, 0] > 1000 and grown[0, 1:].tolist() == scores[0, 1:].tolist()
        assert grown.log_softmax(-1)[0, 0] == 0


def test_log_probabilities_of_nothing_are_none() -> None:
    scores = torch.tensor([[1.0, -math.inf, 2.0], [-math.inf] * 3])
    made = Normalize()(scores, torch.zeros(2, 1, dtype=torch.long))
    assert made[0, [0, 2]].exp().sum() == pytest.approx(1) and made.isneginf().sum() == 4


def test_batch_mates_change_nothing_of_a_source_and_padding_is_no_token_of_it() -> None:
    scores, tokens = case(5, rows=6)
    ids = torch.tensor([[1, 2, 3, 1], [2, 2, 0, 0], [3, 0, 1, 0]])
    real = torch.tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])
    for make in (lambda source: SourceNoRepeatNgram(2, source), lambda source: SourceReward(1.7, source)):
        whole = make(Source(ids, real))
        for i, n in enumerate((4, 2, 3)):
            alone = make(Source(ids[i : i + 1, :n], real[i : i + 1, :n]))
            rows = slice(2 * i, 2 * i + 2)
            assert torch.equal(alone(scores[rows], tokens[rows]), whole(scores, tokens)[rows])
        left = torch.tensor([0, 2])
        kept = torch.tensor([0, 1, 4, 5])
        assert torch.equal(whole.keep(left)(scores[kept], tokens[kept]), whole(scores, tokens)[kept])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SequenceBias([((), 1.0)]), lambda: SequenceBias([((1,), math.inf)]),
        lambda: SequenceBias([((1,), math.nan)]), lambda: SequenceBias([((1,), 1.0), ((1,), 2.0)]),
        lambda: EndsGrow(1, 0, [0]), lambda: SourceNoRepeatNgram(0, Source(torch.ones(1, 1), torch.ones(1, 1))),
        lambda: SourceReward(0, Source(torch.ones(1, 1), torch.ones(1, 1))), lambda: Sample(min_p=1.5),
        lambda: Sample(typical_p=0), lambda: Sample(epsilon_cutoff=1), lambda: Sample(eta_cutoff=-1),
        lambda: Sample(top_h=0),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(make: Any) -> None:
    with pytest.raises(ArgumentError):
        make()
