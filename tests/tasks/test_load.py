"""A folder from anywhere: what does not make a model is one sentence, whatever its config.json says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from polyhead.errors import ArgumentError, CheckpointError, ConfigError, PolyheadError, WriteError
from polyhead.tasks.info import info
from polyhead.tasks.load import load, save
from tests.test_files import files_no_larger_than


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("d_model", "abc"), ("d_model", None), ("d_model", 256.5), ("d_model", -256), ("d_model", 0),
        ("d_model", 1 << 40), ("encoder_layers", "3"), ("encoder_attention_heads", 0), ("encoder_attention_heads", 7),
        ("max_position_embeddings", []), ("activation_function", ["relu"]), ("activation_function", "rleu"),
        ("pad_token_id", 99999), ("eos_token_id", None), ("decoder_start_token_id", -1), ("dropout", 1.5),
        ("tie_word_embeddings", "no"), ("architectures", [["x"]]), ("architectures", {"a": 1}), ("architectures", 5),
        ("architectures", ["MarianMTModle"]), ("vocab_size", 20), ("no_such_setting", 1),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_model_is_one_sentence(folder: Path, key: str, value: Any) -> None:
    raw = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(raw | {key: value}), "utf-8")
    with pytest.raises(PolyheadError) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_a_tensor_without_axes_is_one_sentence(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.shared.weight"] = torch.tensor(1.0)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(PolyheadError, match=r"model.shared.weight has shape \[\]"):
        load(folder)


def test_loading_leaves_the_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_a_tokenizer_that_asks_to_cut_or_fill_up_does_neither(folder: Path) -> None:
    path = folder / "tokenizer.json"
    held = json.loads(path.read_text("utf-8"))
    held["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    held["padding"] = {
        "strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    before = load(folder).tokenizer.source.encode("天地人你我")
    path.write_text(json.dumps(held), "utf-8")
    assert load(folder).tokenizer.source.encode("天地人你我") == before


@pytest.mark.parametrize("wrong", [5, None, b"zh-en", ["zh-en"]])
def test_what_is_no_name_is_refused_in_one_sentence(wrong: Any) -> None:
    for verb in (load, info):
        with pytest.raises(ArgumentError, match="model must be a folder, a shipped model's name or what load returned"):
            verb(wrong)


def test_a_full_disk_leaves_the_old_model_or_nothing(folder: Path, tmp_path: Path) -> None:
    loaded = load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for place in (folder, tmp_path / "new"):
        with files_no_larger_than(30_000), pytest.raises(WriteError, match=rf"^{place}\S* could not be written"):
            save(loaded, place, dtype=torch.float16)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []


def test_a_model_too_large_for_memory_is_told_in_gigabytes(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(raw | {"vocab_size": 1 << 30, "d_model": 1 << 12}), "utf-8")
    for verb in (load, info):
        with pytest.raises(
            ConfigError, match=r"describes a model that needs [\d,]+\.\d GB in float32, more"
        ) as refused:
            verb(folder)
        told = float(str(refused.value).split("needs ")[1].split(" GB")[0].replace(",", ""))
        assert told >= (1 << 30) * (1 << 12) * 4 / 1e9  # the words alone
        assert "alloc" not in str(refused.value)


def test_an_unknown_architecture_is_told_the_nearest_and_where_a_new_one_goes(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(raw | {"architectures": ["BertForMaskedLN"]}), "utf-8")
    with pytest.raises(ConfigError) as refused:
        load(folder)
    said = str(refused.value)
    assert (
        said.index("the nearest is 'BertForMaskedLM'") < said.index("docs/new-family.md") < said.index("marian, bert")
    )
    assert said.count("bert,") == 2 and "ForSequenceClassification" not in said  # bert and distilbert, no heads


@pytest.mark.parametrize(
    ("settings", "made", "key"),
    [
        ({"size": {"height": 20, "width": 20}}, "20 x 20", "size"),
        ({"size": {"height": 16, "width": 20}}, "16 x 20", "size"),
        ({"size": 32, "do_center_crop": True, "crop_size": 24}, "24 x 24", "crop_size"),
        ({"size": {"height": 16, "width": 16}}, None, ""),
        ({"size": 32, "do_center_crop": True, "crop_size": 16}, None, ""),
    ],
)
def test_images_of_another_size_than_the_model_reads_are_refused_at_load(
    tmp_path: Path, settings: dict[str, Any], made: str | None, key: str
) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "intermediate_size": 20,
    }
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4)).save_pretrained(tmp_path)
    kind = {"image_processor_type": "ViTImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(kind | settings), "utf-8")
    if made is None:
        assert load(tmp_path).images is not None
        return
    expected = rf"preprocessor_config\.json makes images of {made} pixels .*the model reads 16 x 16; mend {key} there$"
    with pytest.raises(CheckpointError, match=expected):
        load(tmp_path)
