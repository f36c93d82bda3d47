"""Continuations are those of `transformers`; stop strings are never missed, and what is told is what is written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import polyhead
from polyhead import ArgumentError, Beam, ConfigError, DataError, Greedy, Sample
from polyhead.cli.main import app
from polyhead.families import ARCHITECTURES, family
from polyhead.generation import ConstrainedBeam, Contrastive, DiverseBeam, SampledBeam
from polyhead.tasks.complete import Completer
from polyhead.tasks.decoder import StopText, Telling
from polyhead.tasks.load import load
from tests.tasks.contrasted import contrastive
from tests.tasks.words import LINES, byte_vocabulary, decoder_in_folder

pytestmark = pytest.mark.parity
PROMPTS = ["the cat", "我爱吃", "a", "def f(x): return x and the dog ran"]
DECODERS: list[tuple[str, dict[str, Any]]] = [
    ("GPT2LMHeadModel", {}),
    ("BloomForCausalLM", {}),
    ("LlamaForCausalLM", {}),
    ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("Qwen3ForCausalLM", {"head_dim": 8}),
    ("MistralForCausalLM", {"sliding_window": 5}),
    ("MixtralForCausalLM", {"num_local_experts": 4}),
]


def test_every_decoder_of_words_is_among_them() -> None:
    words = {architecture for architecture in ARCHITECTURES if family(architecture).does == "next word"}
    assert {architecture for architecture, _ in DECODERS} == words


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


def test_all_that_a_search_finds_are_candidates(both: tuple[Any, Path]) -> None:
    """Those of the reference, the best first; of one prompt and of many, by a beam and drawn."""
    model, folder = both
    wanted = theirs(model, PROMPTS, num_beams=4, num_return_sequences=3)
    texts = [byte_vocabulary().decode(row, skip_special_tokens=True) for row in wanted]
    how: dict[str, Any] = {"model": load(folder), "max_new": 20}
    found = polyhead.complete(PROMPTS, search=Beam(4, n_best=3), **how)
    assert [each.text for some in found for each in some.candidates] == texts
    for some in found:
        scores = [each.score for each in some.candidates]
        assert None not in scores and scores == sorted(scores, key=lambda score: -(score or 0))
    alone = polyhead.complete(PROMPTS[0], search=Beam(4, n_best=3), **how)
    assert [each.text for each in alone.candidates] == texts[:3]
    for search in (None, Sample(seed=1, n_best=2)):
        for some in polyhead.complete(PROMPTS, search=search, **how):
            first = some.candidates[0]
            assert len(some.candidates) == (2 if search else 1)
            assert (first.text, first.score, first.finished, first.stop) == (
                some.text, some.score, some.finished, some.stop,
            )  # fmt: skip


SEARCHES: list[Any] = [
    Contrastive(0.6, 4),
    DiverseBeam(4, groups=2, penalty=1.0),
    ConstrainedBeam(5, forced=[[[104, 105]], [[120], [121, 122]]]),
    SampledBeam(3, draw=Sample(seed=3)),
    Sample(seed=1, min_p=0.02, typical_p=0.9, eta_cutoff=0.001),
]


@pytest.mark.parametrize("search", [None, *SEARCHES], ids=lambda search: type(search).__name__)
def test_rules_of_the_folder_hold_whatever_the_batch(llama: Path, tmp_path: Path, search: Any) -> None:
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rules = {
        "repetition_penalty": 3.0,
        "no_repeat_ngram_size": 2,
        "min_length": 14,
        "eos_token_id": [*range(130, 250)],
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(rules))
    completer = Completer(load(tmp_path), search=search, max_new=20)
    together, ids = completer(PROMPTS), [completer.read(prompt) for prompt in PROMPTS]
    alone = [completer.decoder([row], numbers=[n])[0] for n, row in enumerate(ids)]
    assert [[each.text for each in some.candidates] for some in together] == [
        [each.text for each in some] for some in alone
    ]
    assert together != polyhead.complete(PROMPTS, model=llama, search=search, max_new=20)


def test_draws_of_a_long_file_do_not_begin_anew_in_the_middle(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("the cat\n" * 4, "utf-8")
    found: list[list[str]] = []
    for window in (2000, 3, 1):
        monkeypatch.setattr("polyhead.cli.door.WINDOW", window)
        out = tmp_path / f"{window}.txt"
        words = ["complete", "-m", llama, "-i", tmp_path / "in.txt", "-o", out, "--temperature", 1, "--max-new", 9]
        assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
        found.append(out.read_text("utf-8").splitlines())
    assert found[0] == found[1] == found[2] and len(set(found[0])) == 4


def test_draws_are_of_the_prompts_number_and_the_seed(llama: Path) -> None:
    def drawn(seed: int) -> list[str]:
        return [x.text for x in polyhead.complete(PROMPTS, model=llama, max_new=12, search=Sample(seed=seed))]

    assert drawn(0) == drawn(0) != drawn(1)


def test_an_end_that_the_limit_makes_is_none(llama: Path, tmp_path: Path) -> None:
    """Prompts of other lengths reach it after other numbers of tokens."""
    folder = with_settings(llama, tmp_path, {"max_length": 40, "forced_eos_token_id": 7, "eos_token_id": [7, 8]})
    together = polyhead.complete(PROMPTS, model=folder)
    assert together == [polyhead.complete(prompt, model=folder) for prompt in PROMPTS]
    completer = Completer(load(folder))
    for prompt, each in zip(PROMPTS, together, strict=True):
        [[found]] = completer.decoder([row := completer.read(prompt)])
        assert found.text == each.text and not each.finished and len(row) + len(found.tokens) == 39


def test_guidance_is_the_folders_or_what_is_given(llama: Path, tmp_path: Path) -> None:
    folder = with_settings(llama, tmp_path, {"guidance_scale": 3.0})
    guided, plain = polyhead.complete(PROMPTS, model=folder), polyhead.complete(PROMPTS, model=llama)
    assert polyhead.complete(PROMPTS, model=llama, guidance=3.0) == guided != plain
    assert polyhead.complete(PROMPTS, model=folder, guidance=1.0) == plain
    with pytest.raises(ArgumentError, match="guidance is 'x', but must be a finite number; 1 changes nothing"):
        polyhead.complete("a", model=llama, guidance="x")  # pyright: ignore[reportArgumentType, reportCallIssue]


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


def with_settings(llama: Path, folder: Path, settings: dict[str, Any]) -> Path:
    for file in llama.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("search", [Greedy(), Sample(1.5, seed=2), Sample(n_best=2), Beam(4), None], ids=repr)
def test_what_is_told_is_the_answer_by_every_search(llama: Path, tmp_path: Path, search: Any) -> None:
    folder = with_settings(llama, tmp_path, {"num_beams": 4})
    for prompt in PROMPTS:
        heard: list[str] = []
        found = polyhead.complete(prompt, model=folder, max_new=30, search=search, tell=heard.append)
        assert "".join(heard) == found.text


@pytest.mark.parametrize(
    "asked",
    [
        {"max_new_tokens": 5},
        {"max_length": 30},
        {"min_new_tokens": 9, "eos_token_id": list(range(0, 200, 2)), "max_new_tokens": 15},
        {"min_length": 22, "eos_token_id": list(range(0, 200, 2)), "max_new_tokens": 25},
        {"suppress_tokens": list(range(200)), "bad_words_ids": [[250], [251]], "max_new_tokens": 9},
        {"num_beams": 3, "early_stopping": True, "max_new_tokens": 9, "eos_token_id": [2, 3]},
        {"bad_words_ids": [[250], *([a, b] for a in range(40, 60) for b in range(90, 99))], "max_new_tokens": 9},
        {"sequence_bias": [[[40, 41], 9.0], [[41], 5.0], [[41, 41], -9.0]], "max_new_tokens": 9},
        {"begin_suppress_tokens": list(range(200)), "max_new_tokens": 5},
        {"encoder_no_repeat_ngram_size": 1, "max_new_tokens": 9},
        {"encoder_repetition_penalty": 3.0, "num_beams": 3, "max_new_tokens": 9},
        {"exponential_decay_length_penalty": [3, 1.7], "eos_token_id": [2, 3, 4], "max_new_tokens": 30},
        {"forced_eos_token_id": 7, "max_length": 20},
        {"forced_bos_token_id": 9, "max_new_tokens": 4},
        {"renormalize_logits": True, "suppress_tokens": list(range(200)), "num_beams": 3, "max_new_tokens": 9},
        {"guidance_scale": 1.7, "max_new_tokens": 12},
        {"guidance_scale": 0.5, "max_new_tokens": 12, "repetition_penalty": 1.3},
    ],
    ids=repr,
)
def test_settings_of_the_folder_are_obeyed_as_by_the_reference(
    llama: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    folder, words = with_settings(llama, tmp_path, asked), byte_vocabulary()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = words("the cat", return_tensors="pt")["input_ids"]
    wanted = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False)[0, ids.shape[1] :].tolist()
    ends = {*asked.get("eos_token_id", [words.eos_token_id])}
    wanted = wanted[: next((n for n, token in enumerate(wanted) if token in ends), len(wanted))]
    completer = Completer(load(folder))
    assert completer.decoder([ids[0].tolist()])[0][0].tokens == wanted


def test_a_search_of_many_rows_takes_fewer_prompts_at_once(llama: Path) -> None:
    loaded, lengths = load(llama), [5] * 100
    for search, most in (
        (Greedy(), 32),
        (Beam(4), 32),
        (Beam(10), 12),
        (Contrastive(0.5, 500), 1),
        (Sample(n_best=64), 2),
    ):
        batches = Completer(loaded, search=search).decoder.batches(lengths)
        assert max(map(len, batches)) == most and sorted(i for batch in batches for i in batch) == [*range(100)]


def test_a_folders_limit_holds_for_each_prompt_of_a_batch(llama: Path, tmp_path: Path) -> None:
    """As for each alone by the reference; a prompt that leaves no place is named before anything is written."""
    folder, words = (
        with_settings(llama, tmp_path, {"max_length": 6, "eos_token_id": [], "pad_token_id": 0}),
        byte_vocabulary(),
    )
    prompts = ["the cat", "a", "the cat sat"]  # the last leaves one place
    loaded = load(folder)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
    rows = [words(prompt)["input_ids"] for prompt in prompts]
    assert max(map(len, rows)) == 5
    wanted = [model.generate(torch.tensor([row]), do_sample=False)[0, len(row) :].tolist() for row in rows]
    assert [found[0].tokens for found in Completer(loaded).decoder(rows)] == wanted
    assert [len(row) + len(added) for row, added in zip(rows, wanted, strict=True)] == [6] * 3
    heard: list[int] = []
    told = r"Prompt 4 has 6 tokens, but the model's generation_config.json gives it 6 places \(max_length; max_new"
    with pytest.raises(DataError, match=told):
        Completer(loaded)([*prompts, "the cat sat!"], progress=heard.append)
    assert not heard
    assert len(Completer(loaded, max_new=3)(["the cat sat!"])[0].text) > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("repetition_penalty", "x"), ("num_beams", "four"), ("eos_token_id", "x"), ("no_repeat_ngram_size", 1.5),
        ("temperature", "hot"), ("top_k", -1), ("top_p", 2), ("max_new_tokens", 0), ("bad_words_ids", [1]),
        ("suppress_tokens", "x"), ("min_length", True), ("do_sample", 1), ("early_stopping", 3),
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_one_sentence(llama: Path, tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"generation_config.json: {key} is .*, but must be"):
        polyhead.complete("a", model=with_settings(llama, tmp_path, {key: value}))


def test_a_setting_that_is_not_obeyed_is_named(llama: Path, tmp_path: Path) -> None:
    asked = {"watermarking_config": {"bias": 1.0}, "dola_layers": "high", "guidance_scale": 2.0, "num_beams": 3}
    with pytest.warns(UserWarning, match="asks for dola_layers, watermarking_config in its generation settings"):
        polyhead.complete("a", model=with_settings(llama, tmp_path, asked | {"do_sample": True}), max_new=2)


def test_a_folders_stop_strings_hold_beside_those_that_are_given(llama: Path, tmp_path: Path) -> None:
    whole = polyhead.complete(PROMPTS[0], model=llama, max_new=40).text
    early, late = whole[10:13], whole[20:23]
    folder = with_settings(llama, tmp_path, {"stop_strings": late})
    assert polyhead.complete(PROMPTS[0], model=folder, max_new=40).stop == late
    assert polyhead.complete(PROMPTS[0], model=folder, max_new=40, stop=[early]).stop == early


def test_guidance_is_not_for_drafts(llama: Path, tmp_path: Path) -> None:
    folder = with_settings(llama, tmp_path, {"guidance_scale": 2.0})
    with pytest.raises(
        ArgumentError, match=r"Guidance, of 2\.0 here, reads every token twice, which drafts and lookups do not do"
    ):
        polyhead.complete("a", model=folder, draft=llama)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)
@pytest.mark.parametrize("asked", [{}, {"guidance_scale": 1.5}, {"encoder_repetition_penalty": 2.0}], ids=repr)
def test_prompts_of_one_batch_do_not_change_each_other(
    llama: Path, tmp_path: Path, search: Any, asked: dict[str, Any]
) -> None:
    """Of other lengths, so padded; what the cache holds is reordered as rows are."""
    completer = Completer(load(with_settings(llama, tmp_path, asked)), search=search, max_new=12)
    ids = [completer.read(prompt) for prompt in PROMPTS]
    together = completer.batch(ids, PROMPTS, numbers=range(len(ids)))
    alone = [
        completer.batch([row], [prompt], numbers=[n])[0]
        for n, (row, prompt) in enumerate(zip(ids, PROMPTS, strict=True))
    ]
    assert [[each.text for each in some.candidates] for some in together] == [
        [each.text for each in some.candidates] for some in alone
    ]


def test_contrastive_search_is_the_plain_loop_of_transformers_vectors(both: tuple[Any, Path]) -> None:
    model, folder = both
    completer = Completer(load(folder), search=Contrastive(0.6, 5), max_new=15)
    rows = [completer.read(prompt) for prompt in PROMPTS]
    for row, [found] in zip(rows, completer.decoder(rows), strict=True):
        expected = contrastive(
            lambda tokens: model(torch.tensor([tokens]), output_hidden_states=True), row,
            alpha=0.6, k=5, end=completer.decoder.ends[0], limit=15,
        )  # fmt: skip
        assert [*found.tokens, *(completer.decoder.ends if found.finished else [])] == expected


@pytest.mark.parametrize("search", [Greedy(), Beam(2)], ids=repr)
def test_damaged_weights_are_named(llama: Path, search: Any) -> None:
    loaded = load(llama)
    for weights in loaded.model.parameters():
        weights.data.fill_(math.nan)
    with pytest.raises(ArgumentError, match=r"^The model's scores are not numbers .* its weights are damaged"):
        polyhead.complete("a", model=loaded, search=search)


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
