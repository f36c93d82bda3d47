"""Translating: as many lines come out as went in, in order, and no line's words depend on its batch mates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from polyhead.errors import ArgumentError, CheckpointError, DataError
from polyhead.generation import Beam, Greedy, Sample, Search
from polyhead.lens.watch import watch
from polyhead.tasks import text_to_text as module
from polyhead.tasks.load import load, shipped
from polyhead.tasks.translator import Translator, translate
from tests.tasks.conftest import pairs

LINES = [zh for zh, _ in pairs(40, seed=5)]


@pytest.mark.parametrize("search", [Greedy(), Beam(4), Sample(seed=3)])
def test_the_batch_changes_no_word(trained: Path, search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(load(trained), search=search)
    together = [t.text for t in translator(LINES)]
    monkeypatch.setattr(module, "ROWS", 3)
    assert [t.text for t in translator(LINES)] == together
    alone = [translator([line], numbers=[number])[0].text for number, line in enumerate(LINES, 1)]
    assert alone == together


def test_a_wide_search_takes_fewer_lines_at_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(batch) for batch in module.batches_of([9] * 70, Beam(4))] == [64, 6]
    assert [len(batch) for batch in module.batches_of([9] * 3, Beam(300))] == [1, 1, 1]
    translator = Translator(load(trained), search=Beam(20))
    here, sizes = translator.batch, list[int]()

    def sized(ids: Sequence[Sequence[int]], *, numbers: Sequence[int]) -> Any:
        sizes.append(len(ids))
        return here(ids, numbers=numbers)

    monkeypatch.setattr(translator, "batch", sized)
    found = [t.text for t in translator(LINES)]
    assert max(sizes) == 12 and sum(sizes) == len(LINES)  # 12 * 20 rows of at most 256
    monkeypatch.setattr(module, "MOST_ROWS", 10_000)
    assert [t.text for t in translator(LINES)] == found
    assert max(sizes) == len(LINES)


def test_empty_lines_stay_empty_and_in_place(trained: Path) -> None:
    lines = ["", LINES[0], "  \t ", "\ufeff", LINES[1], ""]
    found = translate(lines, model=trained)
    assert [bool(t.candidates) for t in found] == [False, True, False, False, True, False]
    assert [t.text for t in found if not t.candidates] == [""] * 4
    assert [t.source for t in found] == lines


def test_no_lines_give_no_lines(trained: Path) -> None:
    assert translate([], model=trained) == []


def test_a_line_beyond_the_models_positions_is_refused_before_any_work(trained: Path) -> None:
    with pytest.raises(DataError, match="Line 2 has 31 tokens, but the model reads at most 24"):
        translate([LINES[0], "天" * 30], model=trained)


def test_a_message_cites_the_number_that_the_line_has_in_its_file(trained: Path) -> None:
    with pytest.raises(DataError, match="Line 17 has 31 tokens"):
        Translator(load(trained))([LINES[0], "天" * 30], numbers=[3, 17])


def test_n_best_come_best_first(trained: Path) -> None:
    found = translate(LINES[0], model=trained, search=Beam(4, n_best=4))
    scores = [candidate.score or 0.0 for candidate in found.candidates]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)
    assert found.text == found.candidates[0].text
    assert translate(LINES[0], model=trained, n_best=4) == found
    assert len(translate(LINES[0], model=trained, n_best=6).candidates) == 6


def test_what_would_be_ignored_is_refused(trained: Path) -> None:
    with pytest.raises(ArgumentError, match="leave them out, or give search=Beam"):
        translate("天", model=trained, search=Greedy(), n_best=3)
    with pytest.raises(ArgumentError, match="n_best is 3, but must be from 1 to the beam's width, 2"):
        translate("天", model=trained, beam=2, n_best=3)


def test_progress_hears_of_every_line(trained: Path) -> None:
    heard: list[int] = []
    Translator(load(trained))(["", *LINES], progress=heard.append)
    assert sum(heard) == len(LINES) + 1


def test_a_loaded_model_serves_as_well_as_its_name(trained: Path) -> None:
    assert translate(LINES[0], model=load(trained)).text == translate(LINES[0], model=trained).text


def test_a_mistyped_model_is_one_sentence_and_no_request() -> None:
    with pytest.raises(CheckpointError, match="There is no model 'no-such-model'"):
        load("no-such-model")


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("我爱吃苹果。", r"\bI (really )?(love|like|enjoy)\b.*\bapples?\b"),
        ("他说她没来。", r"\bHe (said|says|told)\b.*\bshe\b.*(n't|\bnot\b|never).*\b(come|came|coming|here|there)\b"),
        ("虽然下雨，但我很开心。", r"(?=.*\b(rain\w*))(?=.*\bI('m| am| was| feel)\b)(?=.*\b(happy|glad|joyful)\b)"),
    ],
)
def test_the_shipped_translator_says_what_the_sentence_says(chinese: str, english: str) -> None:
    assert re.search(english, translate(chinese, model="zh-en").text)


def test_what_ships_is_what_the_documents_name() -> None:
    assert shipped() == ["zh-en"]


def test_a_translation_can_be_watched_and_every_recorded_row_sums_to_one(trained: Path) -> None:
    """With a beam and its cache, whose buffers are written again while the recording keeps what it saw."""
    loaded = load(trained)
    blind = translate(LINES[:3], model=loaded)
    with watch(loaded.model) as recording:
        assert translate(LINES[:3], model=loaded) == blind
    assert {call.name for call in recording} == {
        "encoder.blocks.0.attn", "decoder.blocks.0.attn", "decoder.blocks.0.cross",
    }  # fmt: skip
    for call in recording:
        sums = call.weights().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-4, atol=1e-4)


def test_max_new_is_kept_to_the_token(trained: Path) -> None:
    translator = Translator(load(trained), search=Beam(2), max_new=3)
    found = translator.batch(translator.tokenizer.source.encode_batch(LINES))
    assert max(len(hypotheses[0].tokens) + hypotheses[0].finished for hypotheses in found) == 3  # the end is one


@pytest.mark.parametrize("texts", [5, ["a", None], None])
def test_what_is_no_text_is_refused(texts: Any) -> None:
    with pytest.raises(ArgumentError, match="texts must be a text or an iterable of texts"):
        translate(texts)
