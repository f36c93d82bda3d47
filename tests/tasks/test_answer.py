"""Answers from a passage: the best of all spans that the reference's logits allow, with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import polyhead
from polyhead import ArgumentError, DataError
from tests.tasks.words import in_folder, vocabulary

pytestmark = pytest.mark.parity
QUESTION = "where is the cat?"
PASSAGE = "The dog ran. It was a big red house, and the Cat sat in it."
LONG = " ".join(["The big dogs ran to the garden."] * 3 + [PASSAGE])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("bert")
    return in_folder(folder, "BertForQuestionAnswering", num_labels=2), folder


@torch.no_grad()
def spans(model: Any, passage: str, longest: int) -> tuple[dict[tuple[int, int], float], float]:
    """Every span of the passage by its place, with its score, and the score of no answer; all by brute force."""
    how = {"return_offsets_mapping": True, "return_token_type_ids": True}
    batch = vocabulary()(QUESTION, passage, return_tensors="pt", **how)
    places, sides = batch.pop("offset_mapping")[0].tolist(), batch.sequence_ids(0)
    found = model(**batch)
    begins, ends = found.start_logits[0].double(), found.end_logits[0].double()
    inside = [i for i, side in enumerate(sides) if side == 1]
    scores = {
        (places[i][0], places[j][1]): float(begins[i] + ends[j]) for i in inside for j in inside if i <= j < i + longest
    }
    return scores, float(begins[0] + ends[0])


@pytest.mark.parametrize("longest", [3, 30])
def test_the_best_span_is_that_of_brute_force(both: tuple[Any, Path], longest: int) -> None:
    model, folder = both
    short = "It was a big red house, and the Cat sat."
    wanted, none = spans(model, short, longest)
    found = polyhead.answer(QUESTION, short, model=folder, n_best=3, longest=longest)
    best = sorted(wanted, key=lambda place: -wanted[place])[:3]
    assert [(span.start, span.end) for span in found.spans] == best
    assert [span.score for span in found.spans] == pytest.approx([wanted[place] for place in best], abs=1e-4)
    assert all(span.text == short[span.start : span.end] for span in found.spans)
    assert found.found == (wanted[best[0]] > none) and found.windows == 1
    assert sum(span.probability for span in found.spans) + found.none <= 1 + 1e-9
    assert polyhead.answer(QUESTION, short, model=folder, may_fail=False, longest=longest).text == found.spans[0].text


def test_a_long_passage_is_read_whole_in_windows_and_places_hold(both: tuple[Any, Path]) -> None:
    folder = both[1]
    found = polyhead.answer(QUESTION, LONG, model=folder, n_best=5)
    assert found.windows > 2
    assert all(span.text == LONG[span.start : span.end] for span in found.spans)


def test_many_are_answered_as_each_alone(both: tuple[Any, Path]) -> None:
    folder, asked = both[1], [QUESTION, "who ran?", "what is red?"]
    short = "a small red dog ran."
    alone = [polyhead.answer(question, PASSAGE, model=folder) for question in asked]
    for together in (
        polyhead.answer(asked, PASSAGE, model=folder),
        polyhead.answer(asked, [PASSAGE] * 3, model=folder),
    ):
        assert isinstance(together, list)
        assert [(each.question, each.text, each.found) for each in together] == [
            (each.question, each.text, each.found) for each in alone
        ]
    two = polyhead.answer(QUESTION, [short, LONG], model=folder)
    assert isinstance(two, list) and [each.windows > 1 for each in two] == [False, True]
    assert polyhead.answer([], [], model=folder) == []
    with pytest.raises(ArgumentError, match="There are 3 questions and 2 passages; give one for each"):
        polyhead.answer(asked, [PASSAGE] * 2, model=folder)


def test_what_cannot_be_is_one_sentence(both: tuple[Any, Path]) -> None:
    folder = both[1]
    with pytest.raises(DataError, match="Pair 1 has an empty passage; give a question and the passage to look in"):
        polyhead.answer(QUESTION, "  ", model=folder)
    with pytest.raises(DataError, match="Pair 1 has an empty question"):
        polyhead.answer("", PASSAGE, model=folder)
    with pytest.raises(DataError, match=r"takes \d+ tokens of the 24 that the model reads"):
        polyhead.answer(" ".join(["where is the cat"] * 6), PASSAGE, model=folder)
    with pytest.raises(ArgumentError, match="n_best must be a whole number of at least 1; found 0"):
        polyhead.answer(QUESTION, PASSAGE, model=folder, n_best=0)
    with pytest.raises(ArgumentError, match="passage must be a text or a list of texts, found 3"):
        polyhead.answer(QUESTION, 3, model=folder)  # pyright: ignore
