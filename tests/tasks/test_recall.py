"""How images and texts find each other: the ranks of a plain loop, from the vectors of `transformers`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import polyhead
from polyhead import ArgumentError, DataError
from polyhead.tasks import recall
from polyhead.tasks.recall import Recall, ranks
from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.tasks.clip import LINES, clip_in_folder, pictures_in

polyhead_typed = conftest.polyhead  # the fixture that types commands
CAPTIONS = [*LINES, "blue cats", "the mat", "two dogs in a photo", "the red garden", "a bicycle of a cat"]


def plain(cosines: Any, own: Sequence[int]) -> tuple[list[int], list[int]]:
    """Both sides' ranks by looking at one after the other."""
    of_texts: list[int] = []
    for i, row in enumerate(cosines):
        of_texts.append(1 + sum(1 for j, x in enumerate(row) if x > row[own[i]] and j != own[i]))
    of_images: list[int] = []
    for j in range(len(cosines[0])):
        best = max(cosines[i][j] for i in range(len(cosines)) if own[i] == j)
        of_images.append(1 + sum(1 for i in range(len(cosines)) if own[i] != j and cosines[i][j] > best))
    return of_texts, of_images


@pytest.mark.parametrize("block", [1, 3, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_a_plain_loop(block: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(seed)
    own = [*range(7), *chance.integers(0, 7, 12).tolist()]
    chance.shuffle(own)
    texts, images = chance.normal(size=(19, 4)).astype(np.float32), chance.normal(size=(7, 4)).astype(np.float32)
    monkeypatch.setattr(recall, "BLOCK", block)
    found = [x.tolist() for x in ranks(texts, images, own)]
    assert found == [*plain((texts.astype(np.float64) @ images.T.astype(np.float64)).tolist(), own)]
    assert max(found[0]) > 2 and max(found[1]) > 1  # not all are first


def test_recall_counts_the_first_1_5_and_10_and_the_middle_rank() -> None:
    assert Recall.of(np.array([1, 5, 6, 11])) == Recall(4, 0.25, 0.5, 0.75, 5.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures with two captions each, in a table."""
    folder = tmp_path_factory.mktemp("recall")
    clip_in_folder(folder / "model")
    pictures_in(folder / "p", 5)
    rows = [f"p/{i % 5}.png\t{line}" for i, line in enumerate(CAPTIONS)]
    (folder / "captions.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def wanted(world: Path) -> tuple[Any, tuple[list[int], list[int]]]:
    model = transformers.CLIPModel.from_pretrained(world / "model").eval()
    processor: Any = transformers.CLIPProcessor.from_pretrained(world / "model")
    pictures = [Image.open(world / "p" / f"{i}.png") for i in range(5)]
    with torch.no_grad():
        given = processor(text=CAPTIONS, images=pictures, return_tensors="pt", padding=True)
        answer = model(**given).logits_per_text
    return answer, plain(answer.tolist(), [i % 5 for i in range(10)])


@pytest.mark.parity
def test_scores_are_those_of_the_reference_s_vectors(world: Path, wanted: Any) -> None:
    pairs = [(world / "p" / f"{i % 5}.png", line) for i, line in enumerate(CAPTIONS)]
    heard: list[int] = []
    scores, said = polyhead.evaluate(pairs, model=world / "model", progress=heard.append)
    answer, (of_texts, of_images) = wanted
    assert scores.n == 10 == sum(heard)
    assert scores.text_to_image == Recall.of(np.array(of_texts)) and scores.text_to_image.n == 10
    assert scores.image_to_text == Recall.of(np.array(of_images)) and scores.image_to_text.n == 5
    assert said == [str(world / "p" / f"{i}.png") for i in answer.argmax(1).tolist()]
    opened = {i: Image.open(world / "p" / f"{i}.png") for i in range(5)}
    again, numbers = polyhead.evaluate(
        [(opened[i % 5], line) for i, line in enumerate(CAPTIONS)], model=world / "model"
    )
    assert again == scores and numbers == [str(i + 1) for i in answer.argmax(1).tolist()]


@pytest.mark.parity
def test_the_command_says_the_same(polyhead_typed: Polyhead, world: Path, wanted: Any, tmp_path: Path) -> None:
    _, (of_texts, of_images) = wanted
    asked = ("evaluate", world / "captions.tsv", "-m", world / "model")
    told = json.loads(polyhead_typed(*asked, "--json").out)
    for name, each in (("text_to_image", of_texts), ("image_to_text", of_images)):
        assert told[name]["r1"] == pytest.approx(np.mean(np.array(each) <= 1))
        assert told[name]["median_rank"] == np.median(each)
    table = polyhead_typed(*asked, "-o", tmp_path / "found.txt")
    assert table.code == 0 and "10 pairs of" in table.out and "R@10" in table.out
    assert len((tmp_path / "found.txt").read_text("utf-8").splitlines()) == 10


@pytest.mark.parity
def test_what_cannot_be_is_one_sentence(polyhead_typed: Polyhead, world: Path) -> None:
    model = polyhead.load(world / "model")
    with pytest.raises(ArgumentError, match=r"Pair 1 must be \(image, text\)"):
        polyhead.evaluate([("p/0.png", 3)], model=model)
    with pytest.raises(ArgumentError, match=r"beam cannot be given for a CLIPModel, .*: it takes none of these"):
        polyhead.evaluate([("p/0.png", "a")], model=model, beam=2)
    with pytest.raises(DataError, match="There is nothing to score"):
        polyhead.evaluate([], model=model)
    with pytest.raises(DataError, match=r"no\.png cannot be read"):
        polyhead.evaluate([("no.png", "a")], model=model)
    folder = polyhead_typed("evaluate", world / "p", "-m", world / "model")
    assert folder.code == 2 and "give a table of images and their texts" in folder.err
