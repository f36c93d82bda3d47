"""SigLIP beside `transformers`, from a folder: texts that are filled up, each pair by itself, a probe that is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import polyhead
from polyhead.errors import ConfigError
from polyhead.tasks.load import Loaded, load
from polyhead.tasks.space import Space
from tests.tasks.clip import FILLED, pictures_in, siglip_in_folder

pytestmark = pytest.mark.parity
LINES = ["the cat sat on the mat", "a dog", "not good", "Was it good?"]
LONG = "the cat sat on the mat and the dog ran in the garden of the house, was it good? it was not bad!"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    siglip_in_folder(folder / "model")
    pictures_in(folder / "pictures", 3)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(folder / "model")


def files(folder: Path) -> list[Path]:
    return sorted((folder / "pictures").iterdir())


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """What theirs says of all lines and pictures, texts filled up as its page asks for."""
    model = transformers.SiglipModel.from_pretrained(folder / "model").eval()
    words = transformers.PreTrainedTokenizerFast.from_pretrained(folder / "model")
    ids = words(LINES, padding="max_length", return_tensors="pt")["input_ids"]
    pictures = transformers.AutoImageProcessor.from_pretrained(folder / "model")
    with torch.no_grad():
        pixels = pictures([Image.open(file) for file in files(folder)], return_tensors="pt")["pixel_values"]
        return model(input_ids=ids, pixel_values=pixels)


def test_from_words_and_files_to_vectors_all_is_theirs(folder: Path, loaded: Loaded, theirs: Any) -> None:
    space = Space(loaded)
    assert space.by_itself and space.width == 36
    assert np.allclose(space.texts(LINES), theirs.text_embeds.numpy(), atol=1e-5)
    assert np.allclose(space.images(files(folder)), theirs.image_embeds.numpy(), atol=1e-5)
    alone = np.concatenate([space.texts([line]) for line in LINES])
    assert np.allclose(alone, theirs.text_embeds.numpy(), atol=1e-5)


def test_a_text_is_filled_up_with_padding_and_not_beyond(loaded: Loaded) -> None:
    reading = loaded.tokenizer.read(LINES[1])
    pad = loaded.tokenizer.pad_id
    n = reading.ids.index(pad)
    assert len(reading.ids) == len(reading.pieces) == len(reading.texts) == len(reading.kinds) == FILLED
    assert set(reading.ids[n:]) == {pad} and reading.texts[n - 1 :] == [None] * (FILLED - n + 1)
    assert len(loaded.tokenizer.read(LONG).ids) > FILLED


def test_the_last_window_of_a_long_text_is_filled_up_too(folder: Path, loaded: Loaded) -> None:
    ids = loaded.tokenizer.read(LONG).ids
    body, room = ids[:-1], FILLED - 1
    parts = [[*body[start : start + room], ids[-1]] for start in range(0, len(body), room)]
    rows = torch.tensor([[*part, *[loaded.tokenizer.pad_id] * (FILLED - len(part))] for part in parts])
    assert len(parts) > 1
    model: Any = transformers.SiglipModel.from_pretrained(folder / "model").eval()
    with torch.no_grad():
        each = torch.nn.functional.normalize(model.get_text_features(input_ids=rows).pooler_output, dim=-1)
    mean = torch.nn.functional.normalize(each.mean(0), dim=-1)
    assert np.allclose(Space(loaded).texts([LONG])[0], mean.numpy(), atol=1e-5)


def test_a_share_is_the_probability_of_a_pair_by_itself(folder: Path, loaded: Loaded, theirs: Any) -> None:
    wanted = theirs.logits_per_text.double().sigmoid()
    for i, line in enumerate(LINES):
        found = polyhead.search(line, files(folder), model=loaded, shares=True)
        shares = {hit.item: hit.share for hit in found.hits}
        assert [shares[str(file)] for file in files(folder)] == pytest.approx(wanted[i].tolist(), abs=1e-5)
    assert abs(float(wanted.sum(1)[0]) - 1) > 0.05  # and no share of a whole


def test_of_labels_that_are_asked_for_several_may_hold(folder: Path, loaded: Loaded, theirs: Any) -> None:
    wanted = theirs.logits_per_image[0].double().sigmoid().tolist()
    names = [line.rstrip("?") for line in LINES]
    how: dict[str, Any] = {"model": loaded, "labels": names, "template": ["{}"]}
    wanted[-1] = polyhead.search(names[-1], files(folder)[:1], model=loaded, shares=True).hits[0].share
    one = polyhead.classify(files(folder)[0], **how)
    assert one.scores == pytest.approx(dict(zip(names, wanted, strict=True)), abs=1e-5)
    assert one.labels == (max(one.scores, key=lambda name: one.scores[name]),)
    middle = sorted(wanted)[1] + 1e-6
    several = polyhead.classify(files(folder)[0], several=True, threshold=middle, **how)
    assert set(several.labels) == {name for name, p in zip(names, wanted, strict=True) if p >= middle}
    assert 0 < len(several.labels) < len(names)


@torch.no_grad()
def test_the_probe_is_seen_with_the_weights_of_the_reference(folder: Path, loaded: Loaded) -> None:
    """One probe looks at all places: the weights of their nn.MultiheadAttention over what their blocks made."""
    model: Any = transformers.SiglipModel.from_pretrained(folder / "model").eval()
    assert loaded.images is not None
    pixels = loaded.images.pixels(files(folder)[0])
    tower, ours = model.vision_model, loaded.tower("image")
    places = tower(pixels).last_hidden_state
    _, wanted = tower.head.attention(tower.head.probe, places, places, average_attn_weights=False)
    blind = ours.model(pixels)
    with polyhead.watch(loaded.model, layers="image.head.attn") as recording:
        assert torch.equal(ours.model(pixels), blind)
    [call] = recording
    assert call.name == "image.head.attn" and call.part == "cross"
    assert torch.allclose(call.weights(), wanted, atol=1e-5) and wanted.shape == (1, 3, 1, 16)


def test_what_is_read_is_seen_padding_too(folder: Path, loaded: Loaded) -> None:
    seen = polyhead.see(LINES[1], model=loaded, by_words=False)
    assert seen.weights(layer=0).shape[1:] == (FILLED, FILLED) and seen.parts == ["encoder"]
    image = polyhead.see(image=files(folder)[0], model=loaded)
    assert image.weights(layer=0).shape[1:] == (16, 16)  # no vector before the patches


def test_saved_here_it_is_read_there(folder: Path, loaded: Loaded, theirs: Any, tmp_path: Path) -> None:
    polyhead.save(loaded, tmp_path)
    again = transformers.SiglipModel.from_pretrained(tmp_path).eval()
    first = transformers.SiglipModel.from_pretrained(folder / "model")
    assert all(torch.equal(x, y) for x, y in zip(again.parameters(), first.parameters(), strict=True))
    assert load(tmp_path).config == loaded.config


def test_towers_of_unlike_widths_and_images_without_a_head_are_refused(folder: Path, tmp_path: Path) -> None:
    polyhead.save(load(folder / "model"), tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text("utf-8"))
    for side, key, value, told in (
        ("text_config", "projection_size", 24, r"projection_size of text_config \(24\) must be hidden_size"),
        ("vision_config", "vision_use_head", False, "vision_use_head=False is not supported"),
    ):
        path.write_text(json.dumps({**raw, side: {**raw[side], key: value}}), "utf-8")
        with pytest.raises(ConfigError, match=told):
            load(tmp_path)
