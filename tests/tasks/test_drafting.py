"""A draft or a look-up changes how soon an answer comes, and nothing of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import polyhead
from polyhead import ArgumentError, Beam, Conversation, Greedy, Lookup, Sample
from tests.tasks.words import byte_vocabulary, decoder_in_folder

DECODERS: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {},
    "BloomForCausalLM": {},
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {"sliding_window": 5},
    "MixtralForCausalLM": {"num_local_experts": 4, "sliding_window": None},
    "Qwen2ForCausalLM": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
}
PROMPTS = ["the cat sat on the mat, and the dog", "我爱吃苹果。我爱", "a"]


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("draft")
    decoder_in_folder(folder, "GPT2LMHeadModel", n_layer=1, n_positions=30)
    return folder


@pytest.fixture(scope="module", params=DECODERS)
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writer")
    decoder_in_folder(folder, request.param, **DECODERS[request.param])
    return folder


def test_answers_are_the_same_whoever_proposes(writer: Path, draft: Path, tmp_path: Path) -> None:
    for file in writer.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rules = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 4}
    (tmp_path / "generation_config.json").write_text(json.dumps(rules), "utf-8")
    for folder in (writer, tmp_path):
        plain = polyhead.load(folder)
        for by in (draft, folder, Lookup(least=1)):
            how: dict[str, Any] = {"model": plain, "max_new": 20, "stop": ["at"]}
            wanted = polyhead.complete(PROMPTS, search=Greedy(scored=True), **how)
            found = polyhead.complete(PROMPTS, search=Greedy(scored=True), draft=by, **how)
            assert [(x.text, x.finished, x.stop) for x in found] == [(x.text, x.finished, x.stop) for x in wanted]
            assert [x.score for x in found] == pytest.approx([x.score for x in wanted], abs=1e-3)
            assert all(x.drafted is not None for x in found) and all(x.drafted is None for x in wanted)
            if by == folder:
                assert all(x.drafted and x.drafted.taken >= 0.8 * x.drafted.proposed for x in found)
    heard: list[str] = []
    told = polyhead.complete(
        PROMPTS[0], model=writer, max_new=20, search=Sample(seed=1), draft=draft, tell=heard.append
    )
    assert "".join(heard) == told.text
    assert told.text == polyhead.complete(PROMPTS[0], model=writer, max_new=20, search=Sample(seed=1), draft=draft).text


def test_a_conversation_goes_on_as_without_a_draft(tmp_path: Path) -> None:
    decoder_in_folder(tmp_path / "talker", "LlamaForCausalLM", chats=True, max_position_embeddings=400)
    decoder_in_folder(tmp_path / "draft", "LlamaForCausalLM", chats=True, num_hidden_layers=1)
    for by in (tmp_path / "draft", Lookup()):
        talks = [Conversation(tmp_path / "talker", max_new=15, draft=who) for who in (None, by)]
        for said in ("the cat", "and the dog", "我爱吃苹果。"):
            wanted, found = (vars(talk.say(said)) for talk in talks)
            assert wanted.pop("drafted") is None and found.pop("drafted").passes > 0
            assert found == wanted


def test_whoever_cannot_propose_is_refused(writer: Path, draft: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the search is Beam"):
        polyhead.complete("the cat", model=writer, search=Beam(3), draft=draft)
    decoder_in_folder(tmp_path / "chats", "GPT2LMHeadModel", chats=True)
    n = len(byte_vocabulary())
    with pytest.raises(ArgumentError, match=rf"must have the model's vocabulary of {n} tokens, but of its own {n + 4}"):
        polyhead.complete("the cat", model=writer, draft=tmp_path / "chats")
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    decoder_in_folder(tmp_path / "grows", "LlamaForCausalLM", rope_parameters=scaling)
    with pytest.raises(ArgumentError, match="by how long a text has become"):
        polyhead.complete("the cat", model=tmp_path / "grows", draft=Lookup())
