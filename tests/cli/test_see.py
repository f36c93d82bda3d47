"""`polyhead see`: what is drawn is what the model did, by words, with nothing hidden and nothing obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.cli.look import END, START, look
from polyhead.tasks.load import load
from tests.cli.conftest import Polyhead, refused
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


@pytest.mark.parametrize("token", [token for token in HOSTILE if token.strip() and "\ud800" > token])
def test_no_character_of_a_text_acts_on_the_terminal(polyhead: Polyhead, model: Path, token: str):
    answer = polyhead("see", "-m", model, f"雨{token}雨", "--translation", f"rain{token}", "--layer", 0)
    assert answer.code == 0
    assert not any(c in answer.out for c in "\x1b\x07\x08\r\t\x00\x7f\x9b\u202e\u2028\ufeff")


def test_what_cannot_be_seen_is_refused_in_one_sentence(polyhead: Polyhead, model: Path):
    refused(polyhead("see", "-m", model, "  "), "empty")
    refused(polyhead("see", "-m", model, "\x07"), "empty")
    refused(polyhead("see", "-m", model, SOURCE, "--layer", 9), "layers are 0 to 1", "9")
    refused(polyhead("see", "-m", model, SOURCE, "雨", "--translation", TARGET), "one sentence")
    refused(polyhead("see", "-m", model, "雨" * 80, "--translation", TARGET), "at most 64")
    answer = polyhead("see", "-m", model, SOURCE, "--head", 4)
    assert answer.code == 2
    assert "heads 0 to 3, but --head is 4" in answer.err


def test_the_weights_are_those_of_the_model_itself(model: Path):
    """Cross-attention of the first layer, computed by hand from the layer's own inputs."""
    loaded = load(model)
    seen = look(loaded, SOURCE, TARGET, beam=1, by_words=False)
    source = torch.tensor([loaded.tokenizer.source.encode(SOURCE)])
    target = [loaded.config.start_id, *loaded.tokenizer.target.encode(TARGET)[:-1]]
    net: Any = loaded.model
    caught: list[Any] = []
    cross = net.decoder.blocks[0].cross
    hook = cross.register_forward_pre_hook(lambda module, given: caught.extend(given))
    with torch.no_grad():
        net(source, torch.tensor([target]))
        hook.remove()
        x, run = caught
        query, key = cross.split(cross.query(x)), cross.split(cross.key(run.memory))
        by_hand = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)[0]
    ((_, call), *_) = seen.layers("cross", 0)
    np.testing.assert_allclose(seen.weights(call, "cross"), by_hand.double().numpy(), atol=1e-5)


@pytest.mark.parametrize("part", ["cross", "encoder", "decoder"])
@pytest.mark.parametrize("by_words", [True, False])
def test_rows_add_up_to_one_and_both_axes_have_their_words(model: Path, part: str, by_words: bool):
    seen = look(load(model), SOURCE, TARGET, beam=1, by_words=by_words)
    rows, columns = seen.axes(part)
    for _, call in seen.layers(part, None):
        weights = seen.weights(call, part)
        assert weights.shape == (4, len(rows.labels), len(columns.labels))
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert rows.labels[-1] == END
    assert columns.labels[0 if part == "decoder" else -1] == (START if part == "decoder" else END)
    if by_words and part == "cross":
        assert rows.labels == ["I", "like", "eating", "apples", ".", END]
