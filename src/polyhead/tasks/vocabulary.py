"""A recipe's tokenizers: trained once, kept in the training's folder, found again by the recipe they were made for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyhead.errors import CheckpointError, ConfigError
from polyhead.files import whole, write_text
from polyhead.inputs.pair import Pair, load_pair, save_pair
from polyhead.inputs.readers import read
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.recipe import Vocabulary
from polyhead.training.checkpoint import states
from polyhead.training.recipe_file import flat
from polyhead.weights.config_keys import read_json

FOLDER = Path("training/tokenizer")  # in a training's folder
MADE_FOR = "recipe.json"
PARTS = {
    "tokenizer": "[tokenizer] settings or start",
    "train": "data.train",
    "files": "content of its training files",
    "read": "data.columns, data.on_error or model.max_len",
}


def tokenizers(recipe: Any, out: Path, *, given: Pair | None = None, keep: bool = True) -> Pair:
    """Those that `out` keeps, or else new ones, which it then keeps: `given`, or trained on the recipe's data.

    keep: whether new ones are written down. Raises ConfigError if a training in `out` depends on others.
    """
    folder = out / FOLDER
    prints = given and [given.source.fingerprint(), given.target.fingerprint()]
    wanted = {
        "tokenizer": prints or flat(recipe.tokenizer),
        "train": flat(recipe.data, fixed=True)["train"],
        "files": [digest(path) for source in recipe.data.train for path in recipe.data.read(source).paths],
        "read": {
            "columns": list(recipe.data.columns), "on_error": recipe.data.on_error, "max_len": recipe.model.max_len,
        },
    }  # fmt: skip
    kept, made_for = _kept(folder)
    if kept and made_for == wanted:
        return kept
    if states(folder.parent):
        if not kept:
            raise ConfigError(f"{folder} is damaged, and the training in {out} depends on it; choose another folder")
        #  what an older file does not tell, the state of the training does
        other = ", ".join(what for key, what in PARTS.items() if made_for.get(key, wanted[key]) != wanted[key])
        if not other:
            return kept
        raise ConfigError(
            f"The training in {out} was begun with other {other}; put that back to go on, or choose another folder"
        )
    pair = given or trained(recipe)
    if keep:
        shutil.rmtree(folder, ignore_errors=True)
        with whole(folder) as building:
            save_pair(pair, building)
            write_text(building / MADE_FOR, json.dumps(wanted, indent=2, ensure_ascii=False))
    return pair


def trained(recipe: Any) -> Pair:
    """New tokenizers, learned from the recipe's training data."""
    words: Vocabulary = recipe.tokenizer

    def lines(*which: int) -> Iterator[str]:
        for source in recipe.data.train:
            for example in read(recipe.data.read(source), on_error=recipe.data.on_error):
                yield from ((example.source, example.target)[i] for i in which)

    def learned(lines: Iterator[str], size: int) -> Tokenizer:
        return Tokenizer.train(
            lines, kind=words.kind, size=size, simplify=words.simplify, coverage=words.coverage,
            max_length=recipe.model.max_len,
        )  # fmt: skip

    if words.joint:
        both = learned(lines(0, 1), words.size)
        return Pair(both, both)
    return Pair(learned(lines(0), words.size), learned(lines(1), words.target_size))


def digest(path: Path) -> str:
    """The SHA-256 of a file; empty for one that cannot be read, which its reader will say in words."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _kept(folder: Path) -> tuple[Pair | None, dict[str, Any]]:
    """The tokenizers in a folder, if they are whole, and what they were made for."""
    try:
        return load_pair(folder), read_json(folder / MADE_FOR)
    except CheckpointError:
        return None, {}
