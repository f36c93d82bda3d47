"""A model of two towers is seen: the tower that reads what is given, under its own name, with the weights of
`transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import polyhead
from polyhead import ArgumentError
from polyhead.lens.passes import Pass
from polyhead.lens.rulers import Patches, Words
from polyhead.tasks.load import Loaded
from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.tasks.clip import LINES, clip_in_folder, pictures_in

pytestmark = pytest.mark.parity
polyhead_typed = conftest.polyhead  # the fixture that types commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    clip_in_folder(folder / "clip")
    pictures_in(folder / "pictures", 2)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return polyhead.load(folder / "clip")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """What theirs looks at: a line and a picture."""
    model = transformers.CLIPModel.from_pretrained(folder / "clip", attn_implementation="eager").eval()
    processor: Any = transformers.CLIPProcessor.from_pretrained(folder / "clip")
    given = processor(text=LINES[0], images=Image.open(folder / "pictures" / "0.png"), return_tensors="pt")
    with torch.no_grad():
        return model(**given, output_attentions=True)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_tower_that_reads_it_is_seen_with_their_weights(
    folder: Path, loaded: Loaded, theirs: Any, kind: str
) -> None:
    given: Any = LINES[0] if kind == "text" else folder / "pictures" / "0.png"
    seen = polyhead.see(**{kind: given}, model=loaded, by_words=False)
    assert seen.parts == ["encoder"] and seen.model == f"clip, {kind} tower"
    assert seen.recording.names() == [f"{kind}.encoder.blocks.{i}.attn" for i in range(2)]
    wanted = (theirs.text_model_output if kind == "text" else theirs.vision_model_output).attentions
    for layer, weights in enumerate(wanted):
        assert np.allclose(seen.weights(layer=layer), weights[0].numpy(), atol=1e-5)
    ruler = seen.recording.rulers["encoder"]
    assert isinstance(ruler, Words if kind == "text" else Patches)
    assert ruler.count == wanted[0].shape[-1]
    assert "Rows and columns are the" in str(seen)


def test_the_words_of_a_text_are_named_with_their_signs(loaded: Loaded) -> None:
    seen = polyhead.see("two cats", model=loaded)
    words = seen.source_words.labels
    assert [word for word in words if word in ("two", "cats")] == ["two", "cats"] and len(words) == 4


@torch.no_grad()
def test_watching_changes_no_bit_and_both_towers_are_told_apart(folder: Path, loaded: Loaded) -> None:
    assert loaded.images is not None
    ids = torch.tensor([loaded.tokenizer.read(LINES[0]).ids])
    pixels = loaded.images.pixels(folder / "pictures" / "0.png")
    blind = loaded.model(ids, pixels)
    with polyhead.watch(loaded.model) as recording:
        assert torch.equal(loaded.model(ids, pixels), blind)
    assert recording.names() == [f"{tower}.encoder.blocks.{i}.attn" for tower in ("text", "image") for i in range(2)]
    assert [call.part for call in recording] == ["encoder"] * 4
    alone = polyhead.see(LINES[0], model=loaded, by_words=False).recording
    assert all(torch.equal(call.weights(), recording[call.name].weights()) for call in alone)


def test_a_recording_keeps_the_tower_s_name(loaded: Loaded, tmp_path: Path) -> None:
    polyhead.see(LINES[0], model=loaded).recording.save(tmp_path / "kept.safetensors")
    again = polyhead.see(recording=tmp_path / "kept.safetensors")
    assert again.parts == ["encoder"] and again.recording.names()[0] == "text.encoder.blocks.0.attn"


def test_a_cell_of_the_text_tower_is_followed_and_one_of_an_image_has_no_lesson(folder: Path, loaded: Loaded) -> None:
    seen = polyhead.see(LINES[0], model=loaded)
    assert isinstance(seen.run, Pass) and seen.scene.lessons is not None
    shown = seen.scene.calls[1]
    assert seen.scene.lessons.of(shown) == "whole"
    assert seen.scene.lessons.told(shown, seen.scene.call(shown.id), (0, 2, 1))
    image = polyhead.see(image=folder / "pictures" / "0.png", model=loaded)
    assert image.scene.lessons is not None and image.scene.lessons.of(image.scene.calls[0]) is None


def test_heads_are_measured_of_the_tower_that_reads_the_inputs(folder: Path, loaded: Loaded) -> None:
    texts = polyhead.heads(loaded, LINES, resamples=0)
    images = polyhead.heads(loaded, [*(folder / "pictures").iterdir()], resamples=0)
    for found in (texts, images):
        assert [call.name for call in found.calls] == [f"encoder.blocks.{i}.attn" for i in range(2)]
        told = found.values[..., [metric.key == "ablation" for metric in found.metrics]]
        assert np.isfinite(told).all() and told.any()
    assert {metric.key for metric in images.metrics} != {metric.key for metric in texts.metrics}


def test_what_cannot_be_seen_is_one_sentence(folder: Path, loaded: Loaded) -> None:
    with pytest.raises(ArgumentError, match=r"is a CLIPModel, which is given a text or an image; found audio"):
        polyhead.see(audio="speech.wav", model=loaded)
    with pytest.raises(ArgumentError, match="gives shared vector, and no label or word"):
        polyhead.see(LINES[0], model=loaded, target="answer")


def test_the_command_draws_either_tower(polyhead_typed: Polyhead, folder: Path, tmp_path: Path) -> None:
    text = polyhead_typed("see", folder / "clip", "--text", "two cats", "--layer", "0")
    assert text.code == 0 and "cats" in text.out
    page = tmp_path / "page.html"
    image = polyhead_typed("see", folder / "clip", "--image", folder / "pictures" / "1.png", "--html", page)
    assert image.code == 0 and page.stat().st_size > 100_000
    table = polyhead_typed("heads", folder / "clip", folder / "pictures", "--tsv")
    assert table.code == 0 and table.out.count("\n") > 4
