"""Vectors of texts are those of `transformers` gathered by the formula; long texts are read whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import polyhead
from polyhead import ArgumentError, ConfigError
from polyhead.tasks.embed import Embedder
from polyhead.tasks.load import load
from polyhead.tasks.space import Space
from tests.tasks.clip import clip_in_folder, pictures_in, siglip_in_folder
from tests.tasks.words import decoder_in_folder, in_folder, vocabulary

pytestmark = pytest.mark.parity
TEXTS = ["the cat sat on the mat.", "Where is the dog?", "it ran", "a big red house and a small blue garden"]
LONG = " ".join(["the cat sat on the mat and the dogs ran to the garden."] * 5)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("bert")
    return in_folder(folder, "BertModel"), folder


@torch.no_grad()
def vectors_of(model: Any, text: str) -> torch.Tensor:
    """Theirs, of one text alone [T, D]."""
    return model(**vocabulary()(text, return_tensors="pt")).last_hidden_state[0]


def near(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_each_vector_is_the_mean_of_its_words(both: tuple[Any, Path]) -> None:
    model, folder = both
    found = polyhead.embed(TEXTS, model=folder)
    assert found.shape == (4, 24) and found.dtype == np.float32
    near(found, [vectors_of(model, text).mean(0) for text in TEXTS])
    near(polyhead.embed(TEXTS[1], model=folder), found[1])


def test_a_model_that_finds_replaced_words_gives_the_vectors_of_its_stack(tmp_path: Path) -> None:
    model = in_folder(tmp_path, "ElectraForPreTraining", embedding_size=16)
    near(polyhead.embed(TEXTS, model=tmp_path), [vectors_of(model.electra, text).mean(0) for text in TEXTS])


@pytest.mark.parametrize("pooling", ["first", "max", "mean"])
def test_a_folder_says_how_words_are_gathered(both: tuple[Any, Path], pooling: Any, tmp_path: Path) -> None:
    model, folder = both
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    modes = {"first": "cls_token", "max": "max_tokens", "mean": "mean_tokens"}
    asked = {f"pooling_mode_{mode}": name == pooling for name, mode in modes.items()}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24, **asked}))
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "2_Normalize", "type": "x.models.Normalize"}]))
    gather = {"first": lambda x: x[0], "max": lambda x: x.amax(0), "mean": lambda x: x.mean(0)}[pooling]
    wanted = [gather(vectors_of(model, text)) for text in TEXTS]
    near(polyhead.embed(TEXTS, model=tmp_path), [x / x.norm() for x in wanted])
    near(polyhead.embed(TEXTS, model=folder, pooling=pooling), wanted)

    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(dict.fromkeys(asked, True)))
    with pytest.raises(ConfigError, match=r"1_Pooling asks for .*, but must ask for one of"):
        polyhead.embed(TEXTS, model=tmp_path)


def test_a_long_text_is_read_whole_in_windows(both: tuple[Any, Path]) -> None:
    model, folder = both
    ids = vocabulary()(LONG, add_special_tokens=False)["input_ids"]
    assert len(ids) > 60
    parts = [torch.tensor([[2, *ids[start : start + 22], 3]]) for start in range(0, len(ids), 22)]
    with torch.no_grad():
        words = torch.cat([model(part).last_hidden_state[0] for part in parts])
    near(polyhead.embed(LONG, model=folder), words.mean(0))


def test_progress_hears_of_a_text_when_all_its_windows_are_read(
    both: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyhead.tasks.windows.ROWS", 2)
    heard: list[int] = []
    Embedder(load(both[1]))([LONG, *TEXTS, LONG], progress=heard.append)
    assert sum(heard) == 6 and all(heard)


def test_batch_mates_change_nothing_beyond_rounding(both: tuple[Any, Path]) -> None:
    folder = both[1]
    near(polyhead.embed([*TEXTS, LONG], model=folder)[:4], polyhead.embed(TEXTS, model=folder))


def test_what_cannot_be_is_one_sentence(both: tuple[Any, Path], tmp_path: Path) -> None:
    decoder_in_folder(tmp_path, "GPT2Model")
    with pytest.raises(ArgumentError, match=r"embed needs a model whose words see .* both sides; .* is a GPT2Model"):
        polyhead.embed("a", model=tmp_path)
    with pytest.raises(ArgumentError, match="pooling must be one of mean, first, max; found 'sum'"):
        polyhead.embed("a", model=both[1], pooling="sum")  # pyright: ignore
    with pytest.raises(ArgumentError, match="texts must be a text or an iterable of texts, found int"):
        polyhead.embed(["a", 3], model=both[1])  # pyright: ignore
    with pytest.raises(ArgumentError, match=r"embed needs a model that gives vectors, .* is a MarianMTModel"):
        polyhead.embed("a", model="zh-en")


MINILM = os.environ.get("POLYHEAD_MINILM", "")


@pytest.mark.minilm
@pytest.mark.skipif(not MINILM, reason="POLYHEAD_MINILM names no folder of all-MiniLM-L6-v2 (docs/verbs/embed.md)")
def test_a_real_model_gives_the_vectors_of_the_reference() -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = [
        "That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day",
        "我爱吃苹果。", "", "a " * 250,
    ]  # fmt: skip
    words, model = AutoTokenizer.from_pretrained(MINILM), AutoModel.from_pretrained(MINILM).eval()
    batch = words(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        x = model(**batch).last_hidden_state
    real = batch["attention_mask"][..., None]
    mean = (x * real).sum(1) / real.sum(1)
    np.testing.assert_allclose(polyhead.embed(texts, model=MINILM, unit=False), mean, atol=1e-5)
    found = polyhead.embed(texts, model=MINILM)  # its folder asks for length 1
    np.testing.assert_allclose(found, torch.nn.functional.normalize(mean), atol=1e-6)
    [asked] = polyhead.search(texts[:1], texts[1:5], model=MINILM)
    wanted = torch.nn.functional.cosine_similarity(mean[:1], mean[1:5])
    assert [hit.item for hit in asked.hits] == [texts[1:5][i] for i in wanted.argsort(descending=True)]
    assert [hit.score for hit in asked.hits] == pytest.approx(wanted.sort(descending=True).values.tolist(), abs=1e-5)
    near = found[0] @ found[1:4].T
    assert near[1] > near[0] > near[2]  # a very happy person, a happy dog, a sunny day


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_texts_and_images_get_vectors_in_one_space(tmp_path: Path, family: str) -> None:
    """Each by its own tower, of length 1, in the order that they came in; test_search.py asks the reference."""
    (clip_in_folder if family == "clip" else siglip_in_folder)(tmp_path / "model")
    file, other = pictures_in(tmp_path / "p", 2)
    items: list[Any] = ["a cat", file, "the dog ran in the garden", Image.open(other), ""]
    found = polyhead.embed(items, model=tmp_path / "model")
    space = Space(polyhead.load(tmp_path / "model"))
    assert found[[0, 2, 4]] == pytest.approx(space.texts([items[0], items[2], items[4]]), abs=1e-6)
    assert found[[1, 3]] == pytest.approx(space.images([file, other]), abs=1e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert polyhead.embed(file, model=tmp_path / "model") == pytest.approx(found[1], abs=1e-5)
    with pytest.raises(ArgumentError, match="gives one vector for each text or image by itself, of length 1"):
        polyhead.embed("a cat", model=tmp_path / "model", pooling="mean")
