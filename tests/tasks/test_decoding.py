"""A folder's generation settings: obeyed as transformers obeys them, or refused, or named in a warning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polyhead.errors import ArgumentError, ConfigError
from polyhead.generation import Beam, Greedy, NoRepeatNgram
from polyhead.tasks.decoding import chosen_search, decoding
from polyhead.tasks.load import load
from polyhead.tasks.translator import Translator, translate


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    return tmp_path / "model"


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
    ],
)
def test_what_a_folder_asks_for_gives_the_words_of_transformers(folder: Path, settings: dict[str, Any]) -> None:
    from transformers import MarianMTModel

    torch.manual_seed(0)
    translator = Translator(load(asking(folder, **settings)))
    theirs: Any = MarianMTModel.from_pretrained(folder).eval()
    rows = translator.tokenizer.source.encode_batch(["我我我我天天天天", "山水火木。", "好", "我爱你你你"])
    for row, found in zip(rows, translator.batch(rows), strict=True):
        expected = theirs.generate(torch.tensor([row]))[0].tolist()
        assert found[0].tokens == [token for token in expected[1:] if token not in (0, 1)]


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
    assert (how.beam, how.longest) == (Beam(3, length_penalty=0.5), 9) and NoRepeatNgram(2) in how.rules


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
        ("bad_words_ids", [0]), ("bad_words_ids", [[99999]]), ("bad_words_ids", 5), ("bad_words_ids", [[]]),
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
    asking(folder, do_sample=True, suppress_tokens=[7], bad_words_ids=[[0], [5, 6]], eos_token_id=[1, 2])
    named = "do_sample, suppress_tokens, bad_words_ids of several tokens, eos_token_id in its generation settings"
    with pytest.warns(UserWarning, match=named):
        translate("天", model=folder)


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
