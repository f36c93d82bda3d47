"""A tiny translator, trained on a toy language: every word has one translation, and the order is turned round."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

ENGLISH = "sky earth man you I he good big small hill water fire wood gold soil sun moon star"
WORDS = dict(zip("天地人你我他好大小山水火木金土日月星", ENGLISH.split(), strict=True))
RECIPE = """
name = "toy"
source = "zh"
target = "en"

[model]
d_model = 32
n_layers = 1
n_decoder_layers = 1
n_heads = 4
n_decoder_heads = 4
d_ff = 64
decoder_d_ff = 64
max_len = 24
dropout = 0.0

[tokenizer]
size = 340

[data]
folder = "{folder}"
cache = "{folder}/cache"
batch_tokens = 400
max_length = 24
train = [{{ path = "train.tsv", name = "toy pairs", licence = "CC0", credit = "nobody" }}]
valid = [{{ path = "valid.tsv" }}]
test = [{{ path = "valid.tsv", name = "toy test" }}]

[evaluate]
rows = 8

[train]
steps = 30
lr = 3e-3
warmup = 5
evaluate_every = "15 steps"
log_every = 10
"""


def pairs(n: int, seed: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    rows = [random.choice(list(WORDS), random.integers(1, 6)) for _ in range(n)]
    return [("".join(row) + "。", " ".join(WORDS[word] for word in reversed(row)) + ".") for row in rows]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its data."""
    folder = tmp_path_factory.mktemp("toy")
    for name, n, seed in (("train", 400, 1), ("valid", 30, 2)):
        (folder / f"{name}.tsv").write_text("".join(f"{zh}\t{en}\n" for zh, en in pairs(n, seed)), "utf-8")
    (folder / "toy.toml").write_text(RECIPE.format(folder=folder), "utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(toy: Path) -> Path:
    """The folder of a translator trained for a moment."""
    from polyhead.tasks.learning.train import train

    train(toy / "toy.toml", out=toy / "model")
    return toy / "model"


def in_the_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model folder as the hub's cache holds it, where no request is allowed; the name it has on the hub."""
    from huggingface_hub import constants

    commit, place = "a" * 40, cache / "models--someone--small"
    shutil.copytree(folder, place / "snapshots" / commit, ignore=shutil.ignore_patterns("training"))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return "hf:someone/small"
