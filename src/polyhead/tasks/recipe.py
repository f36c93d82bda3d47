"""The recipe of a translator, from TOML: which data, which vocabulary, which model, how to train it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from polyhead.families import TRANSLATOR, family
from polyhead.inputs.readers import Source
from polyhead.training.recipe_file import from_toml
from polyhead.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One file of pairs in a recipe: where it is, how it is read, how often, and whose it is.

    path: below `data.folder`; two names for parallel files. where: rows whose column (counted from 1) holds one of the
    values. weight: visits of each pair in an epoch. name, licence, credit, url: for the model card.
    """

    FREE: ClassVar = ("name", "licence", "credit", "url")

    path: str | tuple[str, str]
    columns: tuple[int | str, int | str] | None = None
    format: Literal["tsv", "jsonl", "parallel"] | None = None
    where: dict[str, tuple[str | int | bool, ...]] = field(default_factory=dict)
    weight: float = 1.0
    name: str = ""
    licence: str = ""
    credit: str = ""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which files, and how they are cut into batches."""

    FREE: ClassVar = ("folder", "cache", "test")

    train: tuple[DataSource, ...]
    valid: tuple[DataSource, ...]
    test: tuple[DataSource, ...] = ()  # scored once, at the end, for the model card
    folder: Path = Path(".")
    cache: Path = Path("runs/cache")
    columns: tuple[int | str, int | str] = (1, 2)  # source, target
    on_error: Literal["stop", "skip"] = "stop"
    batch_tokens: int = 4096  # source and target, padding included
    max_length: int = 128  # tokens of either side; longer pairs are left out
    split_pieces: float = 0.0  # undo each merge of the vocabulary with this probability (as BPE-dropout does)

    def read(self, source: DataSource) -> Source:
        names = source.path if isinstance(source.path, tuple) else (source.path,)
        paths = tuple(self.folder / name for name in names)
        return Source(
            path=paths[0] if len(paths) == 1 else (paths[0], paths[1]),
            columns=source.columns or self.columns,
            format=source.format,
            where={int(column) if column.isdecimal() else column: values for column, values in source.where.items()},
            weight=source.weight,
        )


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokenizer that is trained on the data. simplify: read traditional Chinese as simplified."""

    kind: Literal["bpe", "unigram"] = "bpe"
    size: int = 8000
    joint: bool = True
    target_size: int = 8000
    simplify: bool = False
    coverage: float = 0.9995


@dataclass(frozen=True, kw_only=True)
class Held:
    """How translations are scored while training: greedily, on the first `rows` valid pairs; 0 for none."""

    rows: int = 300


@dataclass(frozen=True, kw_only=True)
class About:
    """What the model card says beyond the recipe's own facts."""

    summary: str = ""
    licence: str = ""
    usage: str = ""
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a recipe says before its tables are known in full."""

    FREE: ClassVar = ("name", "source", "target", "evaluate", "about", "weights")  # may change when a training goes on

    name: str
    source: str  # language codes, for the card
    target: str
    data: Data
    train: Training
    architecture: str = TRANSLATOR
    tokenizer: Vocabulary = Vocabulary()
    evaluate: Held = Held()
    about: About = About()
    weights: Literal["float32", "float16", "bfloat16"] = "float32"  # as saved


def read_recipe(path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Any:
    """A recipe; its [model] table has the keys of the family it names, but for the vocabularies, which are trained."""
    architecture = dict(overrides).get("architecture") or _architecture(path)
    config = family(architecture).config
    schema = make_dataclass(
        "Recipe", [("model", config, field(default_factory=config))], bases=(Header,), frozen=True, kw_only=True
    )
    schema.__module__ = __name__
    return from_toml(path, schema, overrides)


def _architecture(path: str | Path) -> str:
    try:
        return tomllib.loads(Path(path).read_text("utf-8")).get("architecture", Header.architecture)
    except (OSError, ValueError):
        return Header.architecture  # the reader of the whole recipe says what is wrong with the file
