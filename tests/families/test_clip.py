"""CLIP beside `transformers`, from a folder as people have it: vectors of both towers, scores, and released files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import polyhead
from polyhead.errors import CheckpointError, ConfigError
from polyhead.families.clip import Config
from polyhead.inputs.batch import pad
from polyhead.tasks.load import Loaded, load, save
from tests.tasks.clip import LINES, clip_in_folder, pictures_in

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    clip_in_folder(folder / "model")
    pictures_in(folder / "pictures", 3)
    return folder


def asked(folder: Path) -> Any:
    """What theirs says of all lines and pictures."""
    model = transformers.CLIPModel.from_pretrained(folder / "model").eval()
    processor: Any = transformers.CLIPProcessor.from_pretrained(folder / "model")
    pictures = [Image.open(file) for file in sorted((folder / "pictures").iterdir())]
    with torch.no_grad():
        return model(**processor(text=LINES, images=pictures, return_tensors="pt", padding=True))


def read(loaded: Loaded, folder: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, their lengths, and pixels, as ours reads them."""
    assert loaded.images is not None
    ids, lengths = pad([loaded.tokenizer.read(line).ids for line in LINES], loaded.tokenizer.pad_id)
    return ids, lengths, loaded.images.pixels(*sorted((folder / "pictures").iterdir()))


@torch.no_grad()
def test_from_words_and_files_to_vectors_and_scores_all_is_theirs(folder: Path) -> None:
    loaded, theirs = polyhead.load(folder / "model"), asked(folder)
    ids, lengths, pixels = read(loaded, folder)
    model: Any = loaded.model
    for made, wanted in ((model.text(ids, lengths), theirs.text_embeds), (model.image(pixels), theirs.image_embeds)):
        assert torch.allclose(made / made.norm(dim=-1, keepdim=True), wanted, atol=1e-5)
    scores = model(ids, pixels, lengths)
    assert scores.shape == (len(LINES), 3)
    assert torch.allclose(scores, theirs.logits_per_text, atol=1e-4)
    assert torch.allclose(scores.T, theirs.logits_per_image, atol=1e-4)
    assert float(scores.std()) > 0.1  # they differ, so that an order could be wrong


@torch.no_grad()
def test_a_tower_is_the_same_model_by_itself(folder: Path, tmp_path: Path) -> None:
    loaded = polyhead.load(folder / "model")
    ids, lengths, pixels = read(loaded, folder)
    text, image = loaded.tower("text"), loaded.tower("image")
    assert (text.family.reads, image.family.reads, loaded.tower("audio")) == ("text", "image", loaded)
    assert (text.under, image.under, loaded.under) == ("text.", "image.", "")
    model: Any = loaded.model
    for tower, kind, given in (
        (text, transformers.CLIPTextModelWithProjection, (ids, lengths)),
        (image, transformers.CLIPVisionModelWithProjection, (pixels,)),
    ):
        place = tmp_path / tower.family.reads
        raw = loaded.raw[{"text": "text_config", "image": "vision_config"}[tower.family.reads]]
        polyhead.save(Loaded(tower.model, tower.tokenizer, tower.family, raw, images=tower.images), place)
        answer = kind.from_pretrained(place).eval()(given[0])
        ours: Any = load(place).model
        again = ours(*given)
        assert torch.equal(again, tower.model(*given))
        assert torch.allclose(again, answer.text_embeds if tower is text else answer.image_embeds, atol=1e-5)
    assert torch.equal(text.model(ids, lengths), model.text(ids, lengths))


@torch.no_grad()
def test_what_is_saved_here_is_read_by_their_processor_and_model(folder: Path, tmp_path: Path) -> None:
    polyhead.save(polyhead.load(folder / "model"), tmp_path / "model")
    (tmp_path / "pictures").symlink_to(folder / "pictures")
    theirs, again = asked(folder), asked(tmp_path)
    assert torch.equal(again.logits_per_text, theirs.logits_per_text)


def test_one_number_of_each_tower_may_differ_from_the_shared_one(tmp_path: Path) -> None:
    """projection_dim inside text_config and vision_config says nothing of the whole model, and is kept as it was."""
    clip_in_folder(tmp_path, projection_dim=12)
    loaded = polyhead.load(tmp_path)
    model: Any = loaded.model
    assert loaded.config.d_shared == model.text.config.d_shared == model.image.head.project.out_features == 12
    save(loaded, tmp_path / "again")
    told = json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))
    assert (told["projection_dim"], told["text_config"]["projection_dim"]) == (12, 10)


@torch.no_grad()
def test_released_files_of_several_years_are_read(folder: Path, tmp_path: Path) -> None:
    """The end sign under another number, towers told a second time in ..._config_dict, and places kept as a buffer."""
    polyhead.save(polyhead.load(folder / "model"), tmp_path)
    (tmp_path / "pictures").symlink_to(folder / "pictures")
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text("utf-8"))
    text = raw["text_config"] | {"eos_token_id": 2, "dropout": 0.0, "add_cross_attention": False, "is_decoder": False}
    raw |= {"text_config_dict": text, "text_config": {"hidden_size": 99}, "vision_config_dict": None}
    path.write_text(json.dumps(raw), "utf-8")
    tensors = load_file(tmp_path / "model.safetensors")
    for tower, n in (("text", 20), ("vision", 17)):
        tensors[f"{tower}_model.embeddings.position_ids"] = torch.arange(n)[None]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "model").symlink_to(tmp_path)
    loaded, theirs = polyhead.load(tmp_path), asked(tmp_path)
    ids, lengths, pixels = read(loaded, folder)
    model: Any = loaded.model
    assert loaded.config.text.eos_id == 2 and model.text.head.end_id is None
    assert torch.allclose(model(ids, pixels, lengths), theirs.logits_per_text, atol=1e-4)
    save(loaded, tmp_path / "again")
    told = json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))
    assert told["text_config_dict"]["hidden_size"] == told["text_config"]["hidden_size"] == 24
    assert load(tmp_path / "again").config == loaded.config


def test_what_is_not_built_is_named_with_the_tower_that_asks_for_it(folder: Path, tmp_path: Path) -> None:
    polyhead.save(polyhead.load(folder / "model"), tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text("utf-8"))
    raw["text_config"] |= {"rope_theta": 3, "hidden_size": "wide"}
    raw["vision_config"] |= {"patch_size": 0}
    path.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(ConfigError) as told:
        load(tmp_path)
    for part in (
        "in text_config, hidden_size must be", "rope_theta=3 is not a known setting",
        "in vision_config, patch_size must be a whole number above 0 or two of them, found 0",
    ):  # fmt: skip
        assert part in str(told.value)
    path.write_text(json.dumps(raw | {"text_config": [1]}), "utf-8")
    with pytest.raises(ConfigError, match=r"text_config must be a dict of settings, found \[1\]"):
        load(tmp_path)


def test_images_of_another_size_than_the_tower_reads_are_refused(folder: Path, tmp_path: Path) -> None:
    polyhead.save(polyhead.load(folder / "model"), tmp_path)
    path = tmp_path / "preprocessor_config.json"
    raw = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(raw | {"crop_size": {"height": 8, "width": 8}}), "utf-8")
    with pytest.raises(CheckpointError, match=r"makes images of 8 x 8 pixels .* but the model reads 16 x 16"):
        load(tmp_path)


def test_a_file_without_towers_has_those_of_the_reference() -> None:
    theirs: Any = transformers.CLIPConfig()
    ours = Config()
    assert (ours.text.d_model, ours.text.max_len) == (theirs.text_config.hidden_size, 77)
    assert ours.image.patch_size == (theirs.vision_config.patch_size,) * 2
    assert ours.scale == theirs.logit_scale_init_value
