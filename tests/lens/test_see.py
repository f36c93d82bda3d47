"""Seeing: the tokens that were searched are the tokens that are watched, and their words and weights are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.errors import ArgumentError, DataError
from polyhead.families.wiring import EncoderDecoder
from polyhead.generation import Hypothesis
from polyhead.lens.see import START, Part, see
from polyhead.tasks.load import load
from polyhead.tasks.translator import Translator, translate

SOURCE, TARGET, END = "我爱吃苹果。", "I like eating apples.", "</s>"
PARTS = pytest.mark.parametrize("part", ["cross", "encoder", "decoder"])


def test_the_weights_are_those_of_the_model_itself(model: Path):
    """Cross-attention of the first layer, computed by hand from the layer's own inputs."""
    loaded = load(model)
    seen = see(SOURCE, model=loaded, translation=TARGET, by_words=False)
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
    np.testing.assert_allclose(seen.weights("cross", layer=0), by_hand.double().numpy(), atol=1e-5)


@PARTS
@pytest.mark.parametrize("by_words", [True, False])
@pytest.mark.parametrize("translation", [TARGET, None], ids=["given", "searched"])
def test_rows_add_up_to_one_and_both_axes_have_their_words(
    model: Path, part: Part, by_words: bool, translation: str | None
):
    seen = see(SOURCE, model=model, translation=translation, by_words=by_words)
    rows, columns = seen.words(part)
    assert seen.layers(part) == [0, 1]
    for layer in seen.layers(part):
        weights = seen.weights(part, layer=layer)
        assert weights.shape == (4, len(rows.labels), len(columns.labels))
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    if translation:
        assert rows.labels[-1] == END and rows.signs == [len(rows.labels) - 1]
    assert columns.labels[0 if part == "decoder" else -1] == (START if part == "decoder" else END)
    if by_words and translation and part == "cross":
        assert rows.labels == ["I", "like", "eating", "apples", ".", END]


def found(monkeypatch: pytest.MonkeyPatch, tokens: list[int], *, finished: bool) -> list[torch.Tensor]:
    """Make every search find these tokens; what the model's decoder then reads is caught."""
    answer = [[Hypothesis(tokens, None, finished)]]
    monkeypatch.setattr(Translator, "batch", lambda self, ids, **how: answer)
    read: list[torch.Tensor] = []
    decode = EncoderDecoder.decode

    def spied(model: EncoderDecoder, ids: torch.Tensor, run: Any) -> torch.Tensor:
        read.append(ids)
        return decode(model, ids, run)

    monkeypatch.setattr(EncoderDecoder, "decode", spied)
    return read


def test_the_very_tokens_that_the_search_found_are_watched(model: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where their text would be cut into other tokens."""
    loaded = load(model)
    tokenizer: Any = loaded.tokenizer.target
    letters: list[int] = [tokenizer.inner.token_to_id(letter) for letter in "apples"]
    assert letters != tokenizer.encode("apples")[:-1]
    read = found(monkeypatch, [*letters, tokenizer.unk_id], finished=True)
    seen = see(SOURCE, model=loaded)
    assert read[0].tolist() == [[loaded.config.start_id, *letters, tokenizer.unk_id]]
    assert seen.target == "apples"
    assert seen.target_words.labels == ["apples", "<unk>", END]
    assert seen.target_words.signs == [1, 2]
    assert see(SOURCE, model=loaded, by_words=False).target_words.labels == [*"apples", "<unk>", END]


def test_a_translation_that_was_cut_short_shows_no_end(model: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = load(model)
    letters = [loaded.tokenizer.target.encode(letter)[-2] for letter in (",", "a", "p")]
    found(monkeypatch, letters, finished=False)
    seen = see(SOURCE, model=loaded)
    assert seen.target_words.labels == [",", "ap"]
    assert seen.words("decoder")[1].labels == [START, ",", "a"]  # what it had read of the word when it went on
    np.testing.assert_allclose(seen.weights("decoder", layer=0).sum(-1), 1, atol=1e-5)


def test_the_translation_is_that_of_translate(model: Path):
    assert see(SOURCE, model=model, beam=2).target == translate(SOURCE, model=model, beam=2).text


def test_a_sign_is_known_by_what_it_is_and_not_by_its_letters(model: Path):
    seen = see("雨</s>", model=model, translation="I")
    assert seen.source_words.signs == [len(seen.source_words.labels) - 1]


def test_what_was_seen_prints_as_text(model: Path):
    seen = see(SOURCE, model=model, translation="I like \u202eeating[red].")
    lines = str(seen).splitlines()
    assert lines[:3] == [SOURCE, "I like eating[red].", ""]
    assert "Layer 1: row" in str(seen)
    assert not any(c in str(seen) for c in "\x1b\u202e")


def test_what_cannot_be_seen_is_refused_in_one_sentence(model: Path):
    for text in ("", "  ", "\x07"):
        with pytest.raises(DataError, match="nothing to see"):
            see(text, model=model)
        with pytest.raises(DataError, match="nothing to see"):
            see(SOURCE, model=model, translation=text)
    for text, translation in (("雨" * 80, None), ("雨", "雨" * 80)):
        with pytest.raises(DataError, match="has 81 tokens, but the model reads at most 64"):
            see(text, translation=translation, model=model)
    with pytest.raises(ArgumentError, match="leave one of them out"):
        see(SOURCE, model=model, translation=TARGET, beam=2)
    seen = see(SOURCE, model=model, translation=TARGET)
    for how, sentence in (
        ({"layer": 9}, "layers are 0 to 1, but layer is 9"),
        ({"layer": -1}, "layers are 0 to 1, but layer is -1"),
        ({"head": 4}, "heads 0 to 3, but head is 4"),
        ({"values": True}, "choose a head"),
        ({"links": True, "head": 1}, "leave one of them out"),
        ({"part": "cros"}, "part must be one of cross, encoder, decoder, found 'cros'"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            seen.draw(**how)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("how", [{"text": 5}, {"text": None}, {"text": "雨", "translation": 5}])
def test_what_is_no_text_is_refused(model: Path, how: dict[str, Any]):
    with pytest.raises(ArgumentError, match=r"(text|translation) must be a text, found"):
        see(**how, model=model)
