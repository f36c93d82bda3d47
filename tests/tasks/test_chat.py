"""Replies are those of `transformers`; a conversation reads nothing twice, forgets aloud, and can be taken back."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import polyhead
from polyhead import ArgumentError, Beam, CheckpointError, Contrastive, Conversation, DataError, Greedy, Sample
from polyhead.families import ARCHITECTURES, family
from polyhead.tasks.chat import Chatter
from polyhead.tasks.load import load, save
from tests.tasks.words import decoder_in_folder

pytestmark = pytest.mark.parity
SAID = ["the cat", "我爱 <|im_end|>?", "a", "where is the dog", "b"]
LONG: dict[str, Any] = {"max_position_embeddings": 1000}
DECODERS: list[tuple[str, dict[str, Any]]] = [
    ("GPT2LMHeadModel", {"n_positions": 1000}),
    ("BloomForCausalLM", {}),
    ("LlamaForCausalLM", LONG),
    ("Qwen2ForCausalLM", LONG | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("Qwen3ForCausalLM", LONG | {"head_dim": 8}),
    ("MistralForCausalLM", LONG | {"sliding_window": 30}),
    ("MixtralForCausalLM", LONG | {"num_local_experts": 4}),
]


def test_every_decoder_of_words_is_among_them() -> None:
    words = {architecture for architecture in ARCHITECTURES if family(architecture).does == "next word"}
    assert {architecture for architecture, _ in DECODERS} == words


@pytest.fixture(scope="module", params=DECODERS, ids=lambda kind: kind[0])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("decoder")
    return decoder_in_folder(folder, request.param[0], chats=True, **request.param[1]), folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    decoder_in_folder(folder, "LlamaForCausalLM", chats=True, **LONG)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    decoder_in_folder(folder, "LlamaForCausalLM", chats=True, max_position_embeddings=128)
    return folder


def theirs(model: Any, folder: Path, messages: list[dict[str, str]], new: int, **how: Any) -> str:
    words = transformers.AutoTokenizer.from_pretrained(folder)
    ids = words.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, sanitize_control_tokens=True
    )["input_ids"]
    found = model.generate(ids, max_new_tokens=new, do_sample=False, attention_mask=torch.ones_like(ids), **how)
    return words.decode(found[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_reply_has_all_that_the_search_found_and_a_conversation_goes_on_with_the_best(llama: Path) -> None:
    talk = Conversation(llama, search=Beam(4, n_best=3), max_new=12)
    reply = talk.say(SAID[0])
    assert len({each.text for each in reply.candidates}) == 3
    assert (reply.candidates[0].text, reply.candidates[0].finished) == (reply.text, reply.finished)
    assert talk.messages[-1]["content"] == reply.text
    assert polyhead.chat(SAID[0], model=llama, search=Beam(4, n_best=3), max_new=12).candidates == reply.candidates
    [one] = polyhead.chat(SAID[0], model=llama, search=Greedy(), max_new=12).candidates
    assert one.text


@pytest.mark.parametrize("search", [Greedy(), Beam(3), Sample(0.7, seed=3), Sample(0.7, seed=3, n_best=2)], ids=repr)
def test_every_turn_is_what_the_whole_conversation_gives(both: tuple[Any, Path], search: Any) -> None:
    """Greedily and with a beam as in `transformers`, with the cache of the turns before and without."""
    model, folder = both
    talk = Conversation(folder, system="Be brief.", search=search, max_new=24)
    reader = load(folder)
    chatter, before = Chatter(reader, search=search, max_new=24), 0
    for number, said in enumerate(SAID):
        asked = [*talk.messages, {"role": "user", "content": said}]
        reply = talk.say(said)
        whole = chatter.reply(chatter.ids(asked), number=number)
        assert (reply.text, reply.finished, reply.new_tokens) == (whole.text, whole.finished, whole.new_tokens)
        assert whole.remembered == 0 and reply.prompt_tokens == whole.prompt_tokens
        if not isinstance(search, Sample):
            width = {"num_beams": 3} if isinstance(search, Beam) else {}
            assert reply.text == theirs(model, folder, asked, 24, **width)
        assert reply.remembered >= before  # nothing that the turn before was given is read again
        before = reply.prompt_tokens
    assert [m["role"] for m in talk.messages] == ["system", *["user", "assistant"] * len(SAID)]


def test_a_second_turn_reads_only_what_is_new(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, read = Conversation(llama, search=Greedy(), max_new=12), list[int]()
    decode = talk.chatter.decoder.model.decode
    monkeypatch.setattr(
        talk.chatter.decoder.model, "decode", lambda ids, run: (read.append(ids.shape[1]), decode(ids, run))[1]
    )
    first = talk.say("the cat sat on the mat and the dog ran to the house")
    assert read[0] == first.prompt_tokens and set(read[1:]) == {1}
    read.clear()
    second = talk.say("a")
    assert read[0] == second.prompt_tokens - second.remembered < 40 < second.prompt_tokens
    read.clear()
    talk.again()
    assert read[0] == 1  # all but the last place is known


def test_a_folder_whose_keys_depend_on_the_length_is_read_anew(tmp_path: Path) -> None:
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    decoder_in_folder(tmp_path, "LlamaForCausalLM", chats=True, max_position_embeddings=300, rope_parameters=scaling)
    talk = Conversation(tmp_path, max_new=5)
    assert [talk.say(said).remembered for said in SAID[:2]] == [0, 0]


def test_a_search_that_needs_every_vector_reads_anew(llama: Path) -> None:
    talk = Conversation(llama, search=Contrastive(0.6, 3), max_new=12)
    for said in SAID[:3]:
        before = talk.messages
        reply = talk.say(said)
        assert reply.remembered == 0
        asked = [*before, {"role": "user", "content": said}]
        assert reply == polyhead.chat(asked, model=llama, search=Contrastive(0.6, 3), max_new=12)


def test_one_call_is_the_first_turn_and_tells_as_it_writes(both: tuple[Any, Path]) -> None:
    model, folder = both
    heard: list[str] = []
    found = polyhead.chat("the cat", model=folder, max_new=30, tell=heard.append)
    assert "".join(heard) == found.text == theirs(model, folder, [{"role": "user", "content": "the cat"}], 30)
    assert found == Conversation(folder, max_new=30).say("the cat")
    middle = found.text[len(found.text) // 2 :][:2]
    cut = polyhead.chat("the cat", model=folder, max_new=30, stop=[middle])
    assert (cut.text, cut.finished, cut.stop) == (found.text[: found.text.index(middle)], True, middle)


def test_a_reply_goes_on_with_what_the_model_said(both: tuple[Any, Path]) -> None:
    model, folder = both
    words = transformers.AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on"}]
    ids = words.apply_chat_template(asked, continue_final_message=True, return_tensors="pt")["input_ids"]
    wanted = model.generate(ids, max_new_tokens=9, do_sample=False, attention_mask=torch.ones_like(ids))
    found = polyhead.chat(asked, model=folder, max_new=9)
    assert found.text == words.decode(wanted[0, ids.shape[1] :], skip_special_tokens=True)


def test_the_oldest_turns_are_forgotten_aloud_and_the_system_stays(small: Path) -> None:
    talk = Conversation(small, system="Be brief.", max_new=20)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        replies = [talk.say(said) for said in SAID * 2]
    gone = [reply.forgotten for reply in replies]
    assert gone[0] == 0 and gone == sorted(gone) and gone[-1] > 3
    said = [str(each.message) for each in heard]
    assert len(said) == len(set(gone)) - 1 and len(talk.history) == 2 * len(replies)
    assert said[-1] == (
        f"The oldest {gone[-1]} of {len(replies)} turns no longer fit in the model's 128 places;"
        " it replies without them"
    )
    kept = [*talk.messages[:1], *talk.history[2 * gone[-1] : -1]]
    assert replies[-1].text == polyhead.chat(kept, model=small, max_new=20).text
    assert all(reply.prompt_tokens + 20 <= 128 for reply in replies)


def test_what_has_no_place_is_refused_and_changes_nothing(small: Path) -> None:
    talk = Conversation(small, search=Greedy(), max_new=30, stop=["N"])
    talk.say("a")
    before = talk.messages
    with pytest.raises(DataError, match=r"What is said last, with .*, has \d+ tokens, but the model has 128 places"):
        talk.say("我" * 100)
    with pytest.raises(DataError, match="Message 1 holds what is no text"):
        talk.say("\ud800")
    with pytest.raises(DataError, match=r"that ends with '我+ has \d+ tokens, but the model has 128 places"):
        polyhead.chat("我" * 100, model=small)
    assert talk.messages == before and talk.say("the dog").forgotten == 0
    room = "我" * 45  # fits, with less room than max_new
    assert 98 < len(Chatter(load(small)).ids([{"role": "user", "content": room}])) < 128
    with pytest.warns(UserWarning, match="The oldest 2 of 3 turns"):
        assert talk.say(room).forgotten == 2


def test_turns_are_forgotten_where_the_folder_gives_fewer_places_than_the_model(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "less")
    (tmp_path / "less" / "generation_config.json").write_text('{"max_length": 90}', "utf-8")
    talk = Conversation(tmp_path / "less", search=Greedy())
    with pytest.warns(UserWarning, match="no longer fit in the model's 90 places; it replies without them"):
        replies = [talk.say(said) for said in [*SAID, *SAID]]
    assert replies[-1].forgotten > 0 and all(each.prompt_tokens + each.new_tokens <= 90 for each in replies)
    with pytest.raises(DataError, match=r"has \d+ tokens, but the model's generation_config.json gives it 90 places"):
        talk.say("我" * 45)
    assert Conversation(tmp_path / "less", max_new=20).say("我" * 45).new_tokens <= 20  # outweighs the folder's


def test_a_turn_is_taken_back_or_answered_again(llama: Path) -> None:
    talk = Conversation(llama, search=Sample(1.5), max_new=12)
    for empty in (talk.undo, talk.again):
        with pytest.raises(ArgumentError, match="Nothing has been said yet"):
            empty()
    first, second = talk.say("the cat"), talk.say("a")
    other = talk.again()
    assert other.text != second.text and [m["content"] for m in talk.history] == [
        "the cat",
        first.text,
        "a",
        other.text,
    ]
    assert talk.undo() == "a" and len(talk.history) == 2
    assert talk.undo() == "the cat" and talk.history == []
    fresh = Conversation(llama, search=Sample(1.5), max_new=12)
    assert fresh.say("the cat") == first  # drawn by its number, whatever was said elsewhere
    greedy = Conversation(llama, search=Greedy(), max_new=12)
    assert greedy.say("the cat").text == greedy.again().text


def test_a_reply_that_is_stopped_stays_as_it_is(llama: Path) -> None:
    whole, heard = polyhead.chat("the cat", model=llama, max_new=30, search=Greedy()), list[str]()
    talk = Conversation(llama, search=Greedy(), max_new=30)
    cut = talk.say("the cat", tell=heard.append, stopped=lambda: len("".join(heard)) >= 4)
    assert 4 <= len(cut.text) < len(whole.text) and whole.text.startswith(cut.text) and "".join(heard) == cut.text
    assert not cut.finished and talk.history[-1]["content"] == cut.text
    after = talk.say("a")
    assert after.text == polyhead.chat(talk.messages[:-1], model=llama, max_new=30, search=Greedy()).text
    assert after.remembered > cut.prompt_tokens


def test_an_interrupt_leaves_the_conversation_as_it_was(llama: Path) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    talk = Conversation(llama, search=Greedy(), max_new=12)
    first = talk.say("the cat")
    with pytest.raises(KeyboardInterrupt):
        talk.say("a", tell=interrupt)
    assert [m["content"] for m in talk.history] == ["the cat", first.text]
    assert talk.say("a").text == polyhead.chat(talk.messages[:-1], model=llama, max_new=12, search=Greedy()).text


def test_a_conversation_is_saved_and_gone_on_with(llama: Path, tmp_path: Path) -> None:
    talk = Conversation(llama, system="Be 我.", max_new=8)
    talk.say("the cat\nsat")
    talk.save(tmp_path / "talk.jsonl")
    told = [json.loads(line) for line in (tmp_path / "talk.jsonl").read_text("utf-8").splitlines()]
    assert told == talk.messages and told[0] == {"role": "system", "content": "Be 我."}
    other = Conversation(llama, max_new=8)
    other.load(tmp_path / "talk.jsonl")
    assert other.messages == talk.messages and other.say("a").text == talk.say("a").text
    assert Conversation(llama, history=talk.history, system="Be 我.").messages == talk.messages
    for line, told in (("{", "line 2 is not JSON"), ('{"role": 1}', "line 2 must be an object with the texts")):
        (tmp_path / "talk.jsonl").write_text('{"role": "user", "content": "x"}\n' + line + "\n", "utf-8")
        with pytest.raises(DataError, match=told):
            other.load(tmp_path / "talk.jsonl")
    (tmp_path / "talk.jsonl").write_text("", "utf-8")
    with pytest.raises(DataError, match="holds no messages"):
        other.load(tmp_path / "talk.jsonl")
    assert other.history == talk.history


def test_many_conversations_are_answered_as_one_alone(llama: Path) -> None:
    talks = [[{"role": "user", "content": said * n}] for n, said in enumerate(SAID, 1)]
    heard: list[int] = []
    found = Chatter(load(llama), max_new=15)(talks, progress=heard.append)
    assert found == [polyhead.chat(talk, model=llama, max_new=15) for talk in talks]
    assert sum(heard) == len(talks)


def test_without_a_template_it_is_said_what_to_do(llama: Path, tmp_path: Path) -> None:
    decoder_in_folder(tmp_path / "plain", "LlamaForCausalLM")
    with pytest.raises(CheckpointError, match=r"plain has no chat template, .* or give a template \(--template FILE\)"):
        polyhead.chat("a", model=tmp_path / "plain")
    with pytest.raises(ArgumentError, match=r"chat needs a model that gives next word; .* is a MarianMTModel"):
        polyhead.chat("a", model="zh-en")
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}{{ m.content }} {{ mood }}\n{% endfor %}", "utf-8")
    given = polyhead.chat("the cat", model=tmp_path / "plain", template=file, values={"mood": "glad"}, max_new=5)
    assert given.text == polyhead.complete("the cat glad\n", model=tmp_path / "plain", max_new=5).text
    save(load(llama), tmp_path / "kept")
    assert polyhead.chat("a", model=tmp_path / "kept", max_new=5) == polyhead.chat("a", model=llama, max_new=5)
