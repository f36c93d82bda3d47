"""BART in folders as people have them: the words of `transformers`, and the keys that older files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoTokenizer

import polyhead
from polyhead import ConfigError
from polyhead.families import family
from polyhead.tasks.load import load
from polyhead.tasks.summarize import Summarizer
from polyhead.tasks.translator import Translator
from tests.tasks.words import asked_in_folder

pytestmark = pytest.mark.parity
BART = "BartForConditionalGeneration"
TEXTS = ["The dog ran.", "It was not bad!", "我爱吃苹果。", "a cat"]
SUMMARY: dict[str, Any] = {
    "num_beams": 3, "max_length": 14, "min_length": 5, "no_repeat_ngram_size": 2, "length_penalty": 2.0,
    "early_stopping": True, "forced_bos_token_id": 2,
}  # fmt: skip
#  of files from before generation_config.json
OLD: dict[str, Any] = {
    "_num_labels": 3, "add_bias_logits": False, "add_final_layer_norm": False, "classif_dropout": 0.0,
    "extra_pos_embeddings": 2, "force_bos_token_to_be_generated": True, "forced_bos_token_id": 2,
    "gradient_checkpointing": False, "normalize_before": False, "normalize_embedding": True, "num_hidden_layers": 2,
    "output_past": True, "prefix": " ", "save_step": 58, "static_position_embeddings": False,
}  # fmt: skip


def theirs(model: Any, text: str, **how: Any) -> str:
    words = AutoTokenizer.from_pretrained(model.name_or_path)
    found = model.generate(**words(text, return_tensors="pt", return_token_type_ids=False), **how)
    return words.decode(found[0], skip_special_tokens=True)


def test_summaries_and_translations_are_the_words_of_the_reference(tmp_path: Path) -> None:
    model = asked_in_folder(tmp_path, BART, task_specific_params={"summarization": SUMMARY})
    expected = [theirs(model, text, **SUMMARY) for text in TEXTS]
    assert len(set(expected)) > 1
    assert [each.text for each in polyhead.summarize(TEXTS, model=tmp_path)] == expected
    plain = {"num_beams": 4, "max_new_tokens": 9}
    translated = polyhead.translate(TEXTS, model=tmp_path, max_new=9)
    assert [each.text for each in translated] == [theirs(model, text, **plain) for text in TEXTS]


@pytest.mark.parametrize("architecture", [BART, "MarianMTModel"])
@pytest.mark.parametrize("there", ["absent", None, 1, 30, [30, 31], "no file"])
@pytest.mark.parametrize("here", ["absent", None, 1, 30])
def test_the_forced_end_is_that_of_the_generation_settings_and_stands_at_the_limit(
    tmp_path: Path, architecture: str, there: Any, here: Any
) -> None:
    asked_in_folder(tmp_path, architecture)
    for file, value in (("config.json", here), ("generation_config.json", there)):
        told = json.loads((tmp_path / file).read_text("utf-8"))
        told.pop("forced_eos_token_id", None)
        (tmp_path / file).write_text(json.dumps(told | ({} if value == "absent" else {"forced_eos_token_id": value})))
    if there == "no file":
        (tmp_path / "generation_config.json").unlink()
    model: Any = getattr(transformers, architecture).from_pretrained(tmp_path).eval()
    translator = Translator(load(tmp_path), max_new=5)
    rows = translator.tokenizer.source.encode_batch(TEXTS)
    for row, found in zip(rows, translator.batch(rows), strict=True):
        expected = model.generate(torch.tensor([row]), num_beams=4, max_new_tokens=5, bad_words_ids=[[0]])[0].tolist()
        assert found[0].tokens + [1] * found[0].finished == [token for token in expected[1:] if token != 0]


def test_an_end_that_the_limit_forces_is_none_of_the_models_own(tmp_path: Path) -> None:
    model = asked_in_folder(tmp_path, BART)
    assert not any(each.finished for each in polyhead.summarize(TEXTS, model=tmp_path, max_new=6))
    model.final_logits_bias[0, 1] += 20  # an end is all that it says
    model.save_pretrained(tmp_path)
    assert all(each.finished for each in polyhead.summarize(TEXTS, model=tmp_path, max_new=6))


def test_as_many_tokens_as_it_has_places_are_read_at_a_time(tmp_path: Path) -> None:
    asked_in_folder(tmp_path, BART, max_position_embeddings=1024)
    path = tmp_path / "tokenizer_config.json"
    told = json.loads(path.read_text("utf-8")) | {"model_max_length": int(1e30)}  # as "no limit" is written
    path.write_text(json.dumps(told), "utf-8")
    assert Summarizer(load(tmp_path)).window == 1024


def test_an_old_file_is_read_and_what_asks_for_another_model_is_refused() -> None:
    keys, default = family(BART).keys, family(BART).config()
    sizes = {"encoder_layers": 2, "model_type": "bart"}
    assert keys.read(OLD | sizes, default).n_layers == 2
    for key, value in {"normalize_before": True, "static_position_embeddings": True, "extra_pos_embeddings": 0}.items():
        with pytest.raises(ConfigError, match=f"{key}={value} is not supported"):
            keys.read(OLD | sizes | {key: value}, default)
