"""A folder's generation settings: obeyed as transformers obeys them, or refused, or named in a warning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polyhead.errors import ArgumentError, ConfigError
from polyhead.generation import Beam, ConstrainedBeam, Contrastive, DiverseBeam, Greedy, Sample, SampledBeam
from polyhead.tasks.decoding import chosen_search, decoding
from polyhead.tasks.load import load, save
from polyhead.tasks.translator import Translator, translate
from tests.tasks.contrasted import contrastive
from tests.tasks.words import asked_in_folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    return tmp_path / "model"


@pytest.fixture
def wild(folder: Path) -> Path:
    """With weights at random, which say more than a full stop."""
    loaded = load(folder)
    torch.manual_seed(5)
    for name, weights in loaded.model.named_parameters():
        weights.data += 0.5 * torch.randn_like(weights) if weights.dim() > 1 and "tokens" not in name else 0.0
    save(loaded, folder)
    return asking(folder, num_beams=None, forced_eos_token_id=None)


def asking(folder: Path, **settings: Any) -> Path:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | settings), "utf-8")
    return folder


@pytest.mark.parity
@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 1},
        {"num_beams": 3, "length_penalty": 2.0},
        {"num_beams": 3, "length_penalty": 0.3, "early_stopping": True},
        {"num_beams": 2, "early_stopping": "never", "no_repeat_ngram_size": 1},
        {"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.7},
        {"num_beams": 2, "min_length": 9},
        {"num_beams": 2, "max_length": 5},
        {"num_beams": 2, "max_new_tokens": 3},
        {"num_beams": 2, "bad_words_ids": [[0], [50], [51], [52]]},
        {"num_beams": 3, "forced_bos_token_id": 50},
        {"num_beams": 1, "forced_bos_token_id": 50, "no_repeat_ngram_size": 1, "min_length": 4},
        {"num_beams": 2, "max_length": 5, "forced_eos_token_id": None},
        {"num_beams": 2, "max_length": 5, "forced_eos_token_id": 51},
        {"num_beams": 3, "max_length": 5, "forced_eos_token_id": [51, 52]},
        {"num_beams": 1, "max_new_tokens": 1, "forced_bos_token_id": 50, "forced_eos_token_id": 51},
        {"num_beams": 2, "min_new_tokens": 9, "min_length": 20},
        {"num_beams": 1, "eos_token_id": [1, *range(200, 340)], "max_new_tokens": 9},
        {"num_beams": 3, "eos_token_id": [1, *range(200, 340)], "min_new_tokens": 3, "max_new_tokens": 9},
        {"num_beams": 2, "suppress_tokens": list(range(20, 60)), "begin_suppress_tokens": list(range(60, 90))},
        {"num_beams": 1, "begin_suppress_tokens": [0, 50], "forced_bos_token_id": 50, "max_new_tokens": 5},
        {"num_beams": 1, "sequence_bias": [[[50], 3.0], [[50, 51], 9.0], [[51, 52], 9.0], [[52, 53], -9.0]]},
        {"num_beams": 2, "bad_words_ids": [[1], [50, 50], [51, 51, 51], [0]], "max_new_tokens": 9},
        {"num_beams": 1, "exponential_decay_length_penalty": [2, 1.5], "max_new_tokens": 20},
        {"num_beams": 3, "exponential_decay_length_penalty": [0, 0.7], "max_new_tokens": 20},
        {"num_beams": 3, "renormalize_logits": True, "suppress_tokens": list(range(20, 60))},
        {"num_beams": 1, "encoder_repetition_penalty": 5.0, "repetition_penalty": 1.5, "max_new_tokens": 12},
        {"num_beams": 3, "encoder_repetition_penalty": 0.3, "max_new_tokens": 12},
        {"num_beams": 1, "encoder_no_repeat_ngram_size": 1, "encoder_repetition_penalty": 20.0, "max_new_tokens": 12},
        {"num_beams": 2, "encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 20.0, "max_new_tokens": 12},
    ],
)
def test_what_a_folder_asks_for_gives_the_words_of_transformers(folder: Path, settings: dict[str, Any]) -> None:
    from transformers import MarianMTModel

    torch.manual_seed(0)
    translator = Translator(load(asking(folder, **settings)))
    theirs: Any = MarianMTModel.from_pretrained(folder).eval()
    rows = translator.tokenizer.source.encode_batch(["我我我我天天天天", "山水火木。", "好", "我爱你你你"])
    for row, found in zip(rows, translator.batch(rows), strict=True):
        expected = theirs.generate(torch.tensor([row]))[0].tolist()[1:]
        ends = [0, 1, *(settings.get("eos_token_id") or [])]  # the first end, or padding behind it
        assert found[0].tokens == expected[: next((n for n, x in enumerate(expected) if x in ends), len(expected))]


def test_a_contrastive_search_tries_no_more_than_fit(folder: Path) -> None:
    asking(folder, penalty_alpha=0.5, num_beams=None, top_k=5000)
    with pytest.raises(ConfigError, match="top_k is 5000, but must be a whole number of at least 0 and at most 1000"):
        translate("天", model=folder)
    assert decoding(load(asking(folder, penalty_alpha=None, do_sample=True))).search == Sample(1.0, 5000)


def test_ends_count_once_and_those_beyond_the_vocabulary_do_not(wild: Path) -> None:
    rules = {"min_new_tokens": 3, "exponential_decay_length_penalty": [4, 1.3], "max_new_tokens": 12, "num_beams": 3}
    rows = ["我我我我天天天天", "山水火木。", "好"]
    plain = translate(rows, model=load(asking(wild, eos_token_id=[1, 51], **rules)))
    again = translate(rows, model=load(asking(wild, eos_token_id=[1, 51, 99999, 1, 51], **rules)))
    assert again == plain


@pytest.mark.parity
def test_a_model_may_end_by_its_padding(tmp_path: Path) -> None:
    theirs = asked_in_folder(tmp_path, "MarianMTModel")
    theirs.final_logits_bias[0, 0] += 7.0
    theirs.generation_config.eos_token_id, theirs.generation_config.bad_words_ids = 0, None
    theirs.save_pretrained(tmp_path)
    translator, ended = Translator(load(tmp_path), search=Beam(3), max_new=12), 0
    for row in [[40, 8, 60, 1], [5, 1], [70, 33, 12, 21, 45, 1]]:
        expected = theirs.generate(torch.tensor([row]), num_beams=3, max_new_tokens=12, forced_eos_token_id=None)
        expected = expected[0, 1:].tolist()
        assert translator.batch([row])[0][0].tokens == expected[: expected.index(0) if 0 in expected else 12]
        ended += 0 in expected
    assert ended


@pytest.mark.parity
def test_an_old_folder_keeps_its_settings_in_config_json(folder: Path) -> None:
    from transformers import MarianMTModel

    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    settings = {"num_beams": 3, "length_penalty": 0.5, "no_repeat_ngram_size": 2, "max_length": 9}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | settings), "utf-8")
    theirs: Any = MarianMTModel.from_pretrained(folder).generation_config
    assert {key: getattr(theirs, key) for key in settings} == settings
    how = decoding(load(folder))
    assert (how.beam, how.longest) == (Beam(3, length_penalty=0.5), 9) and how.rules.repeat == 2


def test_settings_change_what_comes_out_and_an_argument_outweighs_them(folder: Path) -> None:
    text = "我我我我我我我我"
    before = translate(text, model=folder, beam=2)
    asking(folder, num_beams=2, no_repeat_ngram_size=1)
    after = translate(text, model=folder)
    assert after.text != before.text and len(set(after.text.split())) == len(after.text.split())
    loaded = load(asking(folder, num_beams=3, length_penalty=0.5, max_length=4))
    assert chosen_search(loaded, None, None) == Beam(3, length_penalty=0.5)
    assert chosen_search(loaded, None, 2, 2) == Beam(2, length_penalty=0.5, n_best=2)
    assert chosen_search(loaded, None, None, 6) == Beam(6, length_penalty=0.5, n_best=6)
    assert chosen_search(loaded, Greedy(), None) == Greedy()
    assert (Translator(loaded).most, Translator(loaded, max_new=9).most) == (3, 23)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_beams", 0), ("num_beams", "4"), ("num_beams", 10**9), ("num_beams", True), ("length_penalty", "long"),
        ("length_penalty", float("inf")), ("early_stopping", "soon"), ("early_stopping", []),
        ("no_repeat_ngram_size", -1), ("no_repeat_ngram_size", 1.5), ("repetition_penalty", 0), ("max_length", 1),
        ("forced_eos_token_id", 99999), ("forced_eos_token_id", "1"), ("forced_eos_token_id", [1, -1]),
        ("do_sample", 1), ("temperature", -1), ("top_p", 0), ("min_p", 2), ("typical_p", 0), ("epsilon_cutoff", 2),
        ("eta_cutoff", "x"), ("top_h", 0), ("penalty_alpha", 2), ("num_beam_groups", 3), ("diversity_penalty", -1),
        ("force_words_ids", [[]]), ("force_words_ids", [[[5], []]]), ("force_words_ids", [[99999]]),
        ("sequence_bias", {"5": 1.0}), ("sequence_bias", [[[5], "x"]]), ("sequence_bias", [[[99999], 1.0]]),
        ("exponential_decay_length_penalty", [1]), ("exponential_decay_length_penalty", [1, 0]),
        ("encoder_no_repeat_ngram_size", -1), ("encoder_repetition_penalty", 0), ("renormalize_logits", 1),
        ("suppress_tokens", [99999]), ("begin_suppress_tokens", 5), ("stop_strings", [""]), ("min_new_tokens", -1),
        ("eos_token_id", "x"), ("bad_words_ids", [0]), ("bad_words_ids", [[99999]]), ("bad_words_ids", 5),
        ("bad_words_ids", [[]]),
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_one_sentence(folder: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"generation_config.json: {key} is .*, but must be"):
        translate("天", model=asking(folder, **{key: value}))


def test_null_and_neutral_values_ask_for_nothing(folder: Path) -> None:
    usual = decoding(load(folder))
    neutral = {"do_sample": False, "top_k": 50, "temperature": 1.0, "num_beam_groups": 1, "suppress_tokens": None}
    asking(folder, no_repeat_ngram_size=0, repetition_penalty=1.0, length_penalty=None, min_length=0, **neutral)
    assert decoding(load(folder)) == usual and not usual.unheeded


def test_what_is_not_obeyed_is_named(folder: Path) -> None:
    asking(folder, guidance_scale=2.0, watermarking_config={"bias": 1.0}, suppress_tokens=[7], do_sample=True)
    with pytest.warns(UserWarning, match="asks for watermarking_config, guidance_scale in its generation settings"):
        translate("天", model=folder)
    asking(folder, guidance_scale=1.0, watermarking_config=None, renormalize_logits=True, num_beams=2)
    with pytest.warns(UserWarning, match="asks for renormalize_logits beside num_beams and do_sample"):
        translate("天", model=folder)


LINES = ["我我我我天天天天", "山水火木。", "好", "我爱你你你"]


@pytest.mark.parametrize(
    ("settings", "search"),
    [
        ({"do_sample": True}, Sample(top_k=50)),
        ({"do_sample": True, "num_beams": 1, "top_k": 0, "top_p": 0.9, "min_p": 0.01}, Sample(top_p=0.9, min_p=0.01)),
        (
            {"do_sample": True, "temperature": 2.0, "typical_p": 0.9, "epsilon_cutoff": 0.001, "eta_cutoff": 0.002},
            Sample(2.0, 50, typical_p=0.9, epsilon_cutoff=0.001, eta_cutoff=0.002),
        ),
        ({"do_sample": True, "num_beams": 3, "top_h": 0.5}, SampledBeam(3, draw=Sample(top_k=50, top_h=0.5))),
        (
            {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 1.5, "length_penalty": 0.5},
            DiverseBeam(6, 0.5, groups=3, penalty=1.5),
        ),
        (
            {"num_beams": 6, "force_words_ids": [[50, 51], [[52], [53, 54]]]},
            ConstrainedBeam(6, forced=[[[50, 51]], [[52], [53, 54]]]),
        ),
        ({"penalty_alpha": 0.5, "top_k": 5}, Contrastive(0.5, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_folder_says_how_it_is_searched(wild: Path, settings: dict[str, Any], search: Any) -> None:
    plain = [found.text for found in translate(LINES, model=wild)]
    given = [found.text for found in translate(LINES, model=wild, search=search, max_new=20)]
    loaded = load(asking(wild, **settings))
    assert decoding(loaded).search == search
    assert [found.text for found in translate(LINES, model=loaded, max_new=20)] == given != plain
    several = translate(LINES, model=loaded, n_best=3, max_new=20)
    assert all(len(found.candidates) == 3 and found.candidates[0].score is not None for found in several)


def test_what_is_forced_is_said_or_its_lack_is_told(wild: Path) -> None:
    words = ["山", ("火", "木")]
    found = translate(LINES, model=wild, search=ConstrainedBeam(10, n_best=2, words=words), max_new=20)
    assert all("山" in each.text and ("火" in each.text or "木" in each.text) for each in found)
    with pytest.warns(UserWarning, match="4 of 4 answers do not hold all that was forced: the limit"):
        translate(LINES, model=wild, search=ConstrainedBeam(10, words=words), max_new=1)


def test_a_stop_string_of_the_folder_ends_an_answer_and_is_left_out(wild: Path) -> None:
    whole = translate(LINES, model=asking(wild, num_beams=1), max_new=20)
    stop = whole[0].text[3:6]
    for before, found in zip(
        whole, translate(LINES, model=asking(wild, stop_strings=[stop, "never"]), max_new=20), strict=True
    ):
        assert found.text == before.text.split(stop)[0]
        assert found.candidates[0].finished or stop not in before.text


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 20.0}, {"encoder_repetition_penalty": 9.0},
        {"penalty_alpha": 0.6, "top_k": 4}, {"num_beam_groups": 2, "num_beams": 4, "diversity_penalty": 1.0},
        {"force_words_ids": [[60, 61]], "num_beams": 4}, {"do_sample": True, "num_beams": 4},
    ],
    ids=repr,
)  # fmt: skip
def test_lines_of_one_batch_do_not_change_each_other(wild: Path, settings: dict[str, Any]) -> None:
    translator = Translator(load(asking(wild, **settings)), max_new=12)
    together = translator(LINES)
    alone = [translator([line], numbers=[n])[0] for n, line in enumerate(LINES, 1)]
    assert [each.text for each in together] == [each.text for each in alone]
    usual = Translator(load(asking(wild, **{next(iter(settings)): None})), max_new=12)(LINES)  # without the first
    assert [each.text for each in together] != [each.text for each in usual]


@pytest.mark.parity
def test_contrastive_search_is_the_plain_loop_of_transformers_vectors(wild: Path) -> None:
    from transformers import MarianMTModel

    theirs: Any = MarianMTModel.from_pretrained(wild).eval()
    translator = Translator(load(wild), search=Contrastive(0.6, 5), max_new=12)
    rows = translator.tokenizer.source.encode_batch(LINES)
    bad = [
        token
        for rule in translator.logit_rules(torch.tensor([[5]]), torch.tensor([1]))
        for token in getattr(rule, "ids", [])
    ]
    for row, [found] in zip(rows, translator.batch(rows), strict=True):
        assert [*found.tokens, *([1] if found.finished else [])] == contrastive(
            lambda tokens, row=row: theirs(
                torch.tensor([row]), decoder_input_ids=torch.tensor([tokens]), output_hidden_states=True
            ),
            [translator.start_id], alpha=0.6, k=5, end=1, limit=12, never=bad,
        )  # fmt: skip


@pytest.mark.parametrize("how", [{"beam": 2.5}, {"beam": True}, {"beam": 0}, {"beam": 10**8}, {"n_best": "2"}])
def test_a_beam_that_is_no_count_is_refused(trained: Path, how: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be a whole number from 1 to 1000"):
        translate("天", model=trained, **how)


@pytest.mark.parametrize("wrong", [1.5, 0, -3, "2", True])
def test_max_new_is_a_whole_number(trained: Path, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"max_new is .*, but must be a whole number of at least 1"):
        translate("天", model=trained, max_new=wrong)


def test_a_limit_beyond_every_number_is_the_models_own(trained: Path) -> None:
    assert translate("天地", model=trained, max_new=10**24) == translate("天地", model=trained)
