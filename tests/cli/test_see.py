"""`polyhead see`: what is drawn is what the model did, by words, with nothing hidden and nothing obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import ACTING, Polyhead, refused
from tests.hostile import HOSTILE

SOURCE, TARGET = "我爱吃苹果。", "I like eating apples."


def test_the_source_and_the_translation_stand_above_their_maps(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "--translation", TARGET)
    assert answer.code == 0
    assert answer.lines[:2] == [SOURCE, TARGET]
    for text in ("Layer 0: row = the word that looks", "Layer 1:", "head 0", "head 3", "weights of", "softmax."):
        assert text in answer.out
    assert "importan" not in answer.out


def test_without_a_translation_the_models_own_is_shown(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "--layer", 0)
    assert answer.lines[1].split() == polyhead("translate", "-m", model, SOURCE).out.split()


def test_one_head_is_drawn_with_its_words_and_values(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "--translation", TARGET, "--layer", 1, "--head", 2, "--values")
    assert "Layer 1 head 2: row" in answer.out
    assert "apples" in answer.out
    assert "head 3" not in answer.out


@pytest.mark.parametrize("part", ["cross", "encoder", "decoder"])
@pytest.mark.parametrize(
    "how", [[], ["--links"], ["--head", "0"], ["--pieces"]], ids=["maps", "links", "head", "pieces"]
)
def test_every_part_can_be_seen_every_way(polyhead: Polyhead, model: Path, part: str, how: list[str]):
    answer = polyhead("see", "-m", model, SOURCE, "--translation", TARGET, "--part", part, *how)
    assert answer.code == 0
    assert answer.err == ""


def test_joined_pieces_are_said_to_be_joined(polyhead: Polyhead, model: Path):
    words = ["see", "-m", model, "雨", "--layer", 0, "--translation"]
    assert "Pieces of one word are joined" in polyhead(*words, "abcI").out.replace("\n", " ")
    assert "Pieces of one word" not in polyhead(*words, "abcI", "--pieces").out


def test_several_sentences_are_shown_one_after_the_other(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "雨", "--links")
    assert SOURCE in answer.lines
    assert "雨" in answer.lines


@pytest.mark.parametrize("token", [t for t in HOSTILE if t.strip() and not any("\ud800" <= c <= "\udfff" for c in t)])
def test_no_character_of_a_text_acts_on_the_terminal(polyhead: Polyhead, model: Path, token: str):
    answer = polyhead("see", "-m", model, f"雨{token}雨", "--translation", f"rain{token}", "--layer", 0)
    assert answer.code == 0
    assert not set(answer.out) & set(ACTING)


def test_what_cannot_be_seen_is_refused_in_one_sentence(polyhead: Polyhead, model: Path):
    refused(polyhead("see", "-m", model, "  "), "empty")
    refused(polyhead("see", "-m", model, "\x07"), "empty")
    refused(polyhead("see", "-m", model, SOURCE, "--translation", ""), "empty")
    refused(polyhead("see", "-m", model, SOURCE, "--layer", 9), "layers are 0 to 1", "9")
    refused(polyhead("see", "-m", model, SOURCE, "--head", 4), "heads 0 to 3, but head is 4")
    refused(polyhead("see", "-m", model, SOURCE, "雨", "--translation", TARGET), "one sentence")
    refused(polyhead("see", "-m", model, "雨" * 80, "--translation", TARGET), "at most 64")


def test_options_that_would_be_ignored_are_refused(polyhead: Polyhead, model: Path):
    refused(polyhead("see", "-m", model, SOURCE, "--values"), "choose a head")
    refused(polyhead("see", "-m", model, SOURCE, "--links", "--head", 1), "leave one of them out")
    refused(polyhead("see", "-m", model, SOURCE, "--translation", TARGET, "--beam", 2), "leave one of them out")
    refused(polyhead("see", "-m", model, SOURCE, "--device", "cuda:99"), "There is no device 'cuda:99' here")
