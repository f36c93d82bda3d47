"""Texts that are handed in at any time are answered as `complete` answers each of them alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import polyhead
from polyhead import ArgumentError, Beam, ConstrainedBeam, DataError, Greedy, Sample, Serving
from polyhead.tasks.chat import Chatter
from polyhead.tasks.complete import Completer
from polyhead.tasks.serving import Ticket, pays
from tests.tasks.words import decoder_in_folder

DECODERS: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {},
    "BloomForCausalLM": {},
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {"sliding_window": 5},
    "MixtralForCausalLM": {"num_local_experts": 4, "sliding_window": None},
    "Qwen2ForCausalLM": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
}
START = "the cat sat on the mat, and the dog "
PROMPTS = ["the cat", START + "ran", "我爱吃苹果。", START + "sat", "a", "def f(x): return x", START + "的", ""]
SEARCHES = [None, Greedy(scored=True), Sample(1.3, top_k=20, seed=4), Beam(3)]


@pytest.fixture(scope="module", params=DECODERS)
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writer")
    decoder_in_folder(folder, request.param, **DECODERS[request.param])
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    decoder_in_folder(folder, "LlamaForCausalLM", chats=True)
    return folder


def with_settings(folder: Path, other: Path, **settings: Any) -> Path:
    """The same model, whose generation_config.json says something."""
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return other


def test_each_is_answered_as_if_it_were_alone(writer: Path, tmp_path: Path) -> None:
    ruled = with_settings(writer, tmp_path / "ruled", repetition_penalty=1.4, no_repeat_ngram_size=3, min_new_tokens=3)
    for folder in (writer, ruled):
        model, dice = polyhead.load(folder), random.Random(1)
        serving = Serving(model, rows=7, budget=40)
        asked = [
            {"prompt": prompt, "search": dice.choice(SEARCHES), "max_new": dice.randint(1, 20), "stop": ["at", "的"]}
            for prompt in 2 * PROMPTS
        ]
        tickets: list[Ticket] = []
        for how in asked:
            tickets.append(serving.submit(**how))
            for _ in range(dice.randint(0, 4)):
                serving.step()
        serving.run()
        for ticket, how in zip(tickets, asked, strict=True):
            prompt = how.pop("prompt")
            wanted = polyhead.complete(prompt, model=model, **how)
            found = ticket.answers[0]
            assert ticket.done and ticket.error is None and ticket.text == wanted.text
            assert (found.text, found.finished, found.stop) == (wanted.text, wanted.finished, wanted.stop)
            assert (found.score is None) == (wanted.score is None)
        assert not serving.tickets and not serving.busy


def test_what_is_streamed_is_what_is_written(llama: Path) -> None:
    serving, heard = Serving(llama), list[str]()
    first = serving.submit("我爱", max_new=25, tell=heard.append)
    second = serving.submit("the", max_new=4)
    pieces = list(serving.stream(first))
    assert "".join(pieces) == "".join(heard) == first.text == first.answers[0].text and len(pieces) > 3
    assert second.done and list(serving.stream(second)) == [second.text]
    third = serving.submit("the", max_new=20, search=Beam(2))
    assert list(serving.stream(third)) == [third.answers[0].text]


def test_messages_are_read_by_the_folders_template(llama: Path) -> None:
    serving = Serving(llama)
    messages = [{"role": "user", "content": "the cat"}]
    one = serving.submit(messages, max_new=12)
    same = serving.submit(Chatter(polyhead.load(llama)).ids(messages), max_new=12)
    serving.run()
    assert one.text == same.text == polyhead.chat(messages, model=llama, max_new=12).text


def test_draws_depend_on_the_number_and_the_seed(llama: Path) -> None:
    serving = Serving(llama)
    asked = [(1, 0), (1, 0), (1, 1), (2, 0)]
    tickets = [serving.submit("a", search=Sample(seed=seed), max_new=15, number=n) for seed, n in asked]
    serving.run()
    texts = [ticket.text for ticket in tickets]
    assert texts[0] == texts[1] and len(set(texts)) == 3


def test_an_answer_that_lacks_what_was_forced_is_told_of(llama: Path) -> None:
    serving = Serving(llama)
    serving.submit("a", search=ConstrainedBeam(4, words=["cat sat on"]), max_new=1)
    with pytest.warns(UserWarning, match="1 of 1 answers do not hold all that was forced"):
        serving.run()


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_is_its_own_tickets(llama: Path) -> None:
    serving = Serving(llama)
    lacking = serving.submit("a", search=ConstrainedBeam(4, words=["cat sat on"]), max_new=1)
    other = serving.submit("b", max_new=1)
    serving.run()
    assert isinstance(lacking.error, UserWarning) and other.error is None
    assert other.answers and lacking.answers and not serving.tickets


def test_one_that_is_let_go_is_answered_no_more(llama: Path) -> None:
    serving = Serving(llama)
    one, other = (serving.submit(prompt, max_new=10) for prompt in ("the cat", "a"))
    serving.step()
    serving.cancel(one)
    serving.run()
    assert one.done and one.answers == [] and other.text == polyhead.complete("a", model=llama, max_new=10).text
    serving.cancel(other)
    assert other.answers


def test_whoever_hears_may_let_go_and_may_fail(llama: Path) -> None:
    serving, tickets = Serving(llama), list[Ticket]()

    def let_go(text: str) -> None:
        serving.cancel(tickets[0])
        serving.cancel(tickets[2])

    def fail(text: str) -> None:
        raise OSError("nobody listens")

    tickets += [serving.submit("the cat", max_new=12, tell=tell) for tell in (let_go, fail, None, None)]
    serving.run()
    assert all(ticket.done for ticket in tickets) and not serving.tickets and not any(serving.engine.pool.holders)
    assert [len(ticket.answers) for ticket in tickets] == [0, 0, 0, 1]
    assert isinstance(tickets[1].error, OSError) and [tickets[i].error for i in (0, 2, 3)] == [None] * 3
    with pytest.raises(OSError, match="nobody listens"):
        list(serving.stream(tickets[1]))
    assert tickets[3].text == polyhead.complete("the cat", model=llama, max_new=12).text
    late = serving.submit("the cat", max_new=1, tell=fail)  # only its end is told
    serving.run()
    assert late.answers and isinstance(late.error, OSError)


def test_memory_that_is_full_makes_nobody_fail(llama: Path) -> None:
    one_place = 2 * 2 * 2 * 6 * 4  # keys and values of two layers, two heads of six numbers of four bytes
    serving = Serving(llama, memory=one_place * 16 * 5)
    assert serving.engine.pool.blocks == 5
    tickets = [serving.submit(prompt, max_new=30) for prompt in ("the cat sat", "我爱吃苹果", "and the dog")]
    serving.run()
    assert serving.engine.preempted > 0
    for ticket, prompt in zip(tickets, ("the cat sat", "我爱吃苹果", "and the dog"), strict=True):
        assert ticket.text == polyhead.complete(prompt, model=llama, max_new=30).text


def test_many_prompts_go_over_pages_where_that_pays(writer: Path, tmp_path: Path) -> None:
    model = polyhead.load(writer)
    alike, unlike = [START + word for word in ("ran", "sat", "的")], ["the cat", "a", "我爱吃"]
    ruled = polyhead.load(with_settings(writer, tmp_path / "ruled", repetition_penalty=1.4))
    for which, prompts, expected in [(model, alike, True), (model, unlike, False), (ruled, unlike, True)]:
        completer = Completer(which, max_new=12)
        assert pays(completer.decoder, [completer.read(prompt) for prompt in prompts]) == expected
        done: list[int] = []
        found = completer(prompts, progress=done.append)
        assert sum(done) == len(prompts)
        assert found == [polyhead.complete(prompt, model=which, max_new=12) for prompt in prompts]
    assert not pays(Completer(model, search=Sample(seed=1)).decoder, [[5]])


def test_what_cannot_be_served_is_refused(llama: Path, tmp_path: Path) -> None:
    serving = Serving(llama)
    with pytest.raises(DataError, match="The prompt has 70 tokens, but the model has 64 places"):
        serving.submit([5] * 70)
    with pytest.raises(DataError, match="Ids of tokens go from 0 to"):
        serving.submit([5, 5000])
    with pytest.raises(DataError, match='Message 1 must hold the texts "role" and "content"'):
        serving.submit([{"content": "the cat"}])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="max_new is 0"):
        serving.submit("a", max_new=0)
    with pytest.raises(ArgumentError, match="memory is 1000 bytes, but 16 tokens of this model take"):
        Serving(llama, memory=1000)
    with pytest.raises(ArgumentError, match="a guidance_scale of 2"):
        Serving(with_settings(llama, tmp_path / "guided", guidance_scale=2.0))
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    decoder_in_folder(tmp_path / "grows", "LlamaForCausalLM", rope_parameters=scaling)
    with pytest.raises(ArgumentError, match="by how long a text has become"):
        Serving(tmp_path / "grows")
