"""Labels that a model never learned: the shares of `transformers` for the texts that say them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

import polyhead
from polyhead import ArgumentError
from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.tasks.clip import clip_in_folder, pictures_in
from tests.tasks.words import in_folder

pytestmark = pytest.mark.parity
polyhead_typed = conftest.polyhead  # the fixture that types commands
NAMES = ["cat", "dog", "red bicycle"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero")
    clip_in_folder(folder / "model")
    pictures_in(folder / "p", 3)
    return folder


def shares(world: Path, template: str) -> list[list[float]]:
    """What theirs gives each picture's labels."""
    model = transformers.CLIPModel.from_pretrained(world / "model").eval()
    processor: Any = transformers.CLIPProcessor.from_pretrained(world / "model")
    texts = [template.replace("{}", name) for name in NAMES]
    pictures = [Image.open(world / "p" / f"{i}.png") for i in range(3)]
    with torch.no_grad():
        answer = model(**processor(text=texts, images=pictures, return_tensors="pt", padding=True))
    return answer.logits_per_image.double().softmax(-1).tolist()


@pytest.mark.parametrize("template", [None, "the {} in the garden, a {}"])
def test_the_shares_are_those_of_the_reference(world: Path, template: str | None) -> None:
    files = [world / "p" / f"{i}.png" for i in range(3)]
    found = polyhead.classify(files, model=world / "model", labels=NAMES, template=template)
    for file, each, row in zip(files, found, shares(world, template or "a photo of a {}."), strict=True):
        wanted = dict(zip(NAMES, row, strict=True))
        assert each.item == str(file) and each.scores == pytest.approx(wanted, rel=1e-3)
        assert list(each.scores) == sorted(wanted, key=lambda name: -wanted[name]) and each.labels == (
            max(wanted, key=lambda name: wanted[name]),
        )
    one = polyhead.classify(files[0], model=world / "model", labels=NAMES, template=template)
    assert one.scores == pytest.approx(found[0].scores, rel=1e-4)


def test_of_several_templates_the_vectors_are_averaged(world: Path) -> None:
    templates = ["a photo of a {}.", "two {}"]
    loaded: Any = polyhead.load(world / "model")
    with torch.no_grad():
        ids = [[loaded.tokenizer.read(t.replace("{}", name)).ids for t in templates] for name in NAMES]
        each = torch.stack([torch.stack([loaded.model.text(torch.tensor([x]))[0] for x in row]) for row in ids])
        means = torch.nn.functional.normalize(torch.nn.functional.normalize(each, dim=-1).mean(1), dim=-1)
        image = torch.nn.functional.normalize(loaded.model.image(loaded.images.pixels(world / "p" / "1.png")), dim=-1)
        row = (image @ means.T * loaded.model.head.scale.exp())[0].softmax(-1).tolist()
    found = polyhead.classify(world / "p" / "1.png", model=loaded, labels=NAMES, template=templates)
    assert found.scores == pytest.approx(dict(zip(NAMES, row, strict=True)), rel=1e-3)


def test_the_command_says_the_same(polyhead_typed: Polyhead, world: Path) -> None:
    file = world / "p" / "2.png"
    found = polyhead.classify(file, model=world / "model", labels=NAMES)
    told = polyhead_typed("classify", "-m", world / "model", file, "--labels", ",".join(NAMES), "--json")
    assert told.code == 0 and json.loads(told.out)["scores"] == pytest.approx(found.scores)
    plain = polyhead_typed("classify", "-m", world / "model", file, "--labels", "cat, dog", "--template", "the {}")
    assert plain.code == 0 and plain.out.strip() in ("cat", "dog")


def test_what_cannot_be_is_one_sentence(world: Path, tmp_path: Path) -> None:
    file, model = world / "p" / "0.png", polyhead.load(world / "model")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "has no labels of its own; say which there are"),
        ({"labels": ["cat"]}, "labels must be two or more names, each another one; found cat"),
        ({"labels": ["cat", "cat"]}, "labels must be two or more names"),
        ({"labels": ["cat", " "]}, "labels must be two or more names"),
        ({"labels": NAMES, "template": "a photo"}, "A template must hold {}, where the label stands; found 'a photo'"),
        ({"labels": NAMES, "template": []}, "A template must hold {}"),
        ({"labels": NAMES, "several": True}, "share one probability"),
        ({"labels": NAMES, "threshold": 0.2}, "threshold is of labels that may hold together"),
    ]
    for given, told in cases:
        with pytest.raises(ArgumentError, match=told):
            polyhead.classify(file, model=model, **given)
    in_folder(tmp_path, "BertForSequenceClassification", id2label={0: "sad", 1: "glad"}, label2id={"sad": 0, "glad": 1})
    with pytest.raises(ArgumentError, match=r"has labels of its own: sad, glad"):
        polyhead.classify("a cat", model=tmp_path, labels=NAMES)
