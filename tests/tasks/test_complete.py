"""Continuations are those of `transformers`; stop strings are never missed, and what is told is what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import polyhead
from polyhead import ArgumentError, Beam, DataError, Greedy, Sample
from polyhead.tasks.complete import Completer
from polyhead.tasks.decoder import StopText, Telling
from polyhead.tasks.load import load
from tests.tasks.words import LINES, byte_vocabulary, decoder_in_folder

pytestmark = pytest.mark.parity
PROMPTS = ["the cat", "我爱吃", "a", "def f(x): return x and the dog ran"]
DECODERS: list[tuple[str, dict[str, Any]]] = [
    ("GPT2LMHeadModel", {}),
    ("LlamaForCausalLM", {}),
    ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("Qwen3ForCausalLM", {"head_dim": 8}),
    ("MistralForCausalLM", {"sliding_window": 5}),
]


@pytest.fixture(scope="module", params=DECODERS, ids=lambda kind: kind[0])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("decoder")
    return decoder_in_folder(folder, request.param[0], **request.param[1]), folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    decoder_in_folder(folder, "LlamaForCausalLM")
    return folder


def theirs(model: Any, prompts: list[str], **how: Any) -> list[list[int]]:
    """Their new tokens up to the end sign, prompts padded on the left."""
    words = byte_vocabulary()
    words.padding_side = "left"
    batch = words(prompts, padding=True, return_tensors="pt")
    found = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=20, do_sample=False, **how
    )[:, batch["input_ids"].shape[1] :]
    ends = words.eos_token_id
    return [row[: row.index(ends)] if ends in row else row for row in found.tolist()]


@pytest.mark.parametrize("beam", [1, 3])
def test_left_padded_batches_give_the_tokens_of_the_reference(both: tuple[Any, Path], beam: int) -> None:
    model, folder = both
    wanted = theirs(model, PROMPTS, num_beams=beam)
    found = polyhead.complete(PROMPTS, model=folder, max_new=20, search=Beam(beam) if beam > 1 else Greedy())
    words = byte_vocabulary()
    assert [each.text for each in found] == [words.decode(row, skip_special_tokens=True) for row in wanted]
    alone = [
        polyhead.complete(p, model=folder, max_new=20, search=Beam(beam) if beam > 1 else Greedy()) for p in PROMPTS
    ]
    assert [each.text for each in alone] == [each.text for each in found]


def test_rules_of_the_folder_hold_whatever_the_batch(llama: Path, tmp_path: Path) -> None:
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "generation_config.json").write_text('{"repetition_penalty": 3.0, "no_repeat_ngram_size": 2}')
    together = polyhead.complete(PROMPTS, model=tmp_path, max_new=20)
    alone = [polyhead.complete(prompt, model=tmp_path, max_new=20) for prompt in PROMPTS]
    assert [each.text for each in together] == [each.text for each in alone]
    assert together != polyhead.complete(PROMPTS, model=llama, max_new=20)


def test_draws_are_of_the_prompts_number_and_the_seed(llama: Path) -> None:
    def drawn(seed: int) -> list[str]:
        return [x.text for x in polyhead.complete(PROMPTS, model=llama, max_new=12, search=Sample(seed=seed))]

    assert drawn(0) == drawn(0) != drawn(1)


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab我🍎 é", min_size=1, max_size=12), stop=st.text("ab我🍎 é", min_size=1, max_size=4))
def test_a_stop_string_is_met_exactly_when_it_is_spelled(text: str, stop: str) -> None:
    """Wherever tokens begin and end: "aab" in "aaab" too."""
    tokenizer = WORDS
    ids = tokenizer.encode(text)
    rule = StopText([stop], tokenizer, 0)
    row = torch.tensor([ids])
    met = [bool(rule(row[:, :n], row[:, n : n + 1])) for n in range(len(ids))]
    assert met == [stop in tokenizer.decode(ids[: n + 1]) for n in range(len(ids))]
    assert any(met) == (stop in text)


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab我🍎 é", max_size=12), stop=st.text("ab我🍎", min_size=1, max_size=3))
def test_what_is_told_is_whole_characters_and_never_taken_back(text: str, stop: str) -> None:
    heard: list[str] = []
    telling, ids = Telling(WORDS, 0, [stop], heard.append), WORDS.encode(text)
    final = text.split(stop)[0]
    for n in range(len(ids) + 1):
        so_far = WORDS.decode(ids[:n])
        if stop in so_far:
            break
        telling(torch.zeros(1, 1), torch.tensor([ids[:n]], dtype=torch.long))
        assert final.startswith("".join(heard)) and "\ufffd" not in "".join(heard)
    telling.show(final, last=True)
    assert "".join(heard) == final


def test_a_continuation_ends_before_the_stop_string_and_is_told_as_written(llama: Path) -> None:
    whole = polyhead.complete(PROMPTS[0], model=llama, max_new=40)
    place = len(whole.text) // 2
    stop = whole.text[place : place + 3]
    heard: list[str] = []
    found = polyhead.complete(PROMPTS[0], model=llama, max_new=40, stop=["never", stop], tell=heard.append)
    assert found.text == whole.text[: whole.text.index(stop)] == "".join(heard)
    assert found.finished and found.stop == stop and not whole.finished and whole.stop is None


def test_what_cannot_be_is_one_sentence(llama: Path) -> None:
    with pytest.raises(DataError, match=r"Prompt 2 has \d+ tokens, but the model has 64 places"):
        polyhead.complete(["a", " ".join(LINES * 9)], model=llama)
    with pytest.raises(ArgumentError, match=r"stop must be a list of strings that are not empty; found 'x'"):
        polyhead.complete("a", model=llama, stop="x")
    with pytest.raises(ArgumentError, match="max_new is 0, but must be a whole number of at least 1"):
        polyhead.complete("a", model=llama, max_new=0)
    with pytest.raises(ArgumentError, match="tell hears one continuation as it is written; give one prompt"):
        polyhead.complete(["a"], model=llama, tell=print)
    with pytest.raises(ArgumentError, match=r"complete needs a model that gives next word; .* is a MarianMTModel"):
        polyhead.complete("a", model="zh-en")


def test_an_empty_prompt_begins_with_the_start_sign(llama: Path) -> None:
    assert Completer(load(llama)).read("") == [byte_vocabulary().eos_token_id]
    polyhead.complete("", model=llama, max_new=2)


def made() -> Any:
    from polyhead.inputs.tokenizer import Tokenizer

    words = byte_vocabulary()
    return Tokenizer(words.backend_tokenizer, {"eos_token": words.eos_token, "pad_token": words.pad_token})


WORDS = made()
