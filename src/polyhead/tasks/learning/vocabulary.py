"""A recipe's tokenizers: trained once, kept in the training's folder, found again by the recipe they were made for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from polyhead.errors import CheckpointError, ConfigError
from polyhead.files import whole, write_text
from polyhead.inputs.readers import read
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
T = TypeVar("T")


def kept_or_made(
    recipe: Any,
    out: Path,
    *,
    make: Callable[[], T],
    load: Callable[[Path], T],
    save: Callable[[T, Path], None],
    given: Sequence[str] = (),
    keep: bool = True,
) -> T:
    """What `out` keeps of tokenizers, or else what `make` gives, which it then keeps.

    given: the fingerprints of tokenizers that come from elsewhere, where they are not trained on the recipe's data.
    keep: whether new ones are written down. Raises ConfigError if a training in `out` depends on others.
    """
    folder = out / FOLDER
    wanted = {
        "tokenizer": list(given) or flat(recipe.tokenizer),
        "train": flat(recipe.data, fixed=True)["train"],
        "files": [digest(path) for source in recipe.data.train for path in recipe.data.read(source).paths],
        "read": {
            "columns": list(recipe.data.columns), "on_error": recipe.data.on_error, "max_len": recipe.model.max_len,
        },
    }  # fmt: skip
    kept, made_for = _kept(folder, load)
    if kept is not None and made_for == wanted:
        return kept
    if states(folder.parent):
        if kept is None:
            raise ConfigError(f"{folder} is damaged, and the training in {out} depends on it; choose another folder")
        #  what an older file does not tell, the state of the training does
        other = ", ".join(what for key, what in PARTS.items() if made_for.get(key, wanted[key]) != wanted[key])
        if not other:
            return kept
        raise ConfigError(
            f"The training in {out} was begun with other {other}; put that back to go on, or choose another folder"
        )
    made = make()
    if keep:
        shutil.rmtree(folder, ignore_errors=True)
        with whole(folder) as building:
            save(made, building)
            write_text(building / MADE_FOR, json.dumps(wanted, indent=2, ensure_ascii=False))
    return made


def lines_of(data: Any, *sides: int) -> Iterator[str]:
    """The lines that a vocabulary is learned from: of the training files, source (0), target (1) or both in turn."""
    for source in data.train:
        for example in read(data.read(source), on_error=data.on_error):
            yield from ((example.source, example.target)[side] for side in sides)


def digest(path: Path) -> str:
    """The SHA-256 of a file; empty for one that cannot be read, which its reader will say in words."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _kept(folder: Path, load: Callable[[Path], T]) -> tuple[T | None, dict[str, Any]]:
    """The tokenizers in a folder, if they are whole, and what they were made for."""
    try:
        return load(folder), read_json(folder / MADE_FOR)
    except CheckpointError:
        return None, {}
