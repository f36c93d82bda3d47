"""What every recipe says, from TOML: which task, which files, which model, how to train it, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from polyhead.errors import ArgumentError, ConfigError
from polyhead.families import Family, family, family_of
from polyhead.inputs.readers import Source
from polyhead.tasks.load import Loaded, find
from polyhead.training.recipe_file import flat, from_toml, written
from polyhead.training.settings import Training
from polyhead.weights.config_keys import read_json
from polyhead.weights.fetch import HUB

MOST_WORDS = 10_000_000  # in a vocabulary; the largest that are used have some hundred thousand
SKIP = '--data.on_error skip, or on_error = "skip" in [data]'  # how broken lines are left out
USUAL = "translate"  # the task of a recipe that names none

#  keys of [model] that a training chooses, whatever it starts from: weights of any other value are of the same shape
CHOSEN = ("dropout", "attention_dropout", "activation_dropout", "head_dropout")


@dataclass(frozen=True, kw_only=True)
class About:
    """What the model card says beyond the recipe's own facts."""

    summary: str = ""
    licence: str = ""
    usage: str = ""
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One source of examples in a recipe: where it is, how often it is visited, and whose it is.

    path: below `data.folder`; two names for two files that belong together. weight: visits of each example in an epoch.
    name, licence, credit, url: for the model card.
    """

    FREE: ClassVar = ("name", "licence", "credit", "url")

    path: str | tuple[str, str]
    weight: float = 1.0
    name: str = ""
    licence: str = ""
    credit: str = ""
    url: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return self.path if isinstance(self.path, tuple) else (self.path,)


@dataclass(frozen=True, kw_only=True)
class TableSource(DataSource):
    """A table of two columns, or two parallel files.

    columns: numbers from 1, or names; those of [data] unless given. where: rows whose column holds one of the values.
    """

    columns: tuple[int | str, int | str] | None = None
    format: Literal["tsv", "jsonl", "parallel"] | None = None
    where: dict[str, tuple[str | int | bool, ...]] = field(default_factory=dict)

    def below(self, folder: Path, columns: tuple[int | str, int | str], *, lone: bool = False) -> Source:
        """Where a reader finds it. lone: whether the second column may be empty."""
        paths = tuple(folder / name for name in self.names)
        return Source(
            path=paths[0] if len(paths) == 1 else (paths[0], paths[1]),
            columns=self.columns or columns,
            format=self.format,
            where={int(column) if column.isdecimal() else column: values for column, values in self.where.items()},
            weight=self.weight,
            lone=lone,
            skip=SKIP,
        )


@dataclass(frozen=True, kw_only=True)
class Words:
    """The tokenizer that is trained on the data. simplify: read traditional Chinese as simplified."""

    SIZES: ClassVar = ("size",)

    kind: Literal["bpe", "unigram"] = "bpe"
    size: int = 8000
    simplify: bool = False
    coverage: float = 0.9995

    def __post_init__(self) -> None:
        for name in self.SIZES:
            if not 0 < getattr(self, name) <= MOST_WORDS:
                raise ConfigError(f"{name} must be from 1 to {MOST_WORDS:,}, found {getattr(self, name)}")
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage must be above 0 and at most 1, a share of the text, found {self.coverage}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe of any task says before its tables are known in full."""

    FREE: ClassVar = ("task", "name", "about", "weights")  # may change when a training goes on

    name: str
    train: Training
    task: str = USUAL
    start: str = ""  # a model folder or a shipped model: go on from its weights and its words, not from chance
    architecture: str = ""  # empty: as the task has it, or as `start` is
    about: About = About()
    weights: Literal["float32", "float16", "bfloat16"] = "float32"  # as saved


def described(
    path: str | Path,
    header: type[Recipe],
    overrides: Sequence[tuple[str, str]],
    *,
    kind: Callable[[Mapping[str, Any]], Family],
    given: Mapping[str, str],
    more: Callable[[Mapping[str, Any]], Sequence[tuple[str, str]]] = lambda said: [],
) -> tuple[Any, dict[str, Any]]:
    """A recipe, its [model] table with the keys of its family; and what it says itself, by dotted key.

    kind: the family, from what is said. given: keys of [model] that may not be said, and who decides them. more:
    settings that follow from what is said. Raises ConfigError.
    """
    said = written(path, header, overrides)
    for decides in dict.fromkeys(given.values()):
        if taken := [key for key, by in given.items() if by == decides and f"model.{key}" in said]:
            raise ConfigError(f"[model] sets {', '.join(taken)}, which come from {decides}; leave them out")
    config = kind(said).config
    fields = [("model", config, field(default_factory=config))]
    schema = make_dataclass("Described", fields, bases=(header,), frozen=True, kw_only=True)
    schema.__module__ = header.__module__
    return from_toml(path, schema, [*overrides, *more(said)]), said


def begun(folder: str) -> tuple[Family, Any]:
    """The family and the config of a model that a training starts from."""
    raw = read_json(find(folder) / "config.json")
    kind = family_of(raw)
    return kind, kind.keys.read(raw, kind.config())


def origin(recipe: Recipe, start: Loaded | None) -> tuple[str, str | None]:
    """What a card calls the model that a training started from, and the value of `start` that means just that one."""
    if start is None or start.folder is None:
        return "", None
    folder = start.folder.resolve().name
    if not recipe.start.startswith(HUB):
        return folder, folder
    repository = recipe.start.removeprefix(HUB).partition("@")[0]
    return repository, f"{HUB}{repository}@{folder}"  # a folder of the hub's cache has the name of its commit


def agreed(recipe: Any, said: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The chosen keys of [model], once all else that is said of model and tokenizer is what is `there` already.

    Raises ConfigError naming every key that says otherwise.
    """
    here, chosen = flat(recipe), [key for key in CHOSEN if f"model.{key}" in said]
    bound = [key for key in said if key == "architecture" or key.startswith(("model.", "tokenizer."))]
    wrong = [
        f"{key} = {here[key]} (there: {there.get(key, 'not known')})"
        for key in bound
        if key.removeprefix("model.") not in chosen and here[key] != there.get(key)
    ]
    if wrong:
        raise ConfigError(
            f"start = '{recipe.start}' brings its own model and tokenizer, but the recipe says {', '.join(wrong)}; "
            "leave these keys out, or start from another model"
        )
    return chosen


def chosen_from(recipe: Any, config: Any, chosen: Sequence[str]) -> Any:
    """The config of the model that is there, with the keys that the recipe chooses."""
    return replace(config, **{key: getattr(recipe.model, key) for key in chosen})


def unbuildable(architecture: str, config: Any) -> str:
    """Why no model can be built from a config; empty where one can."""
    try:
        with torch.device("meta"):  # sizes without numbers
            family(architecture).build(config)
    except (ArgumentError, ConfigError, RuntimeError, OverflowError) as refused:
        return f"[model] describes no model that can be built ({refused})"
    return ""
