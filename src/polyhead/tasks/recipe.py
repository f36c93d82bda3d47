"""The recipe of a translator, from TOML: which data, which vocabulary, which model, how to train it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from polyhead.errors import ArgumentError, ConfigError, did_you_mean
from polyhead.families import TRANSLATOR, family, family_of
from polyhead.inputs.pair import load_pair
from polyhead.inputs.readers import Source
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.load import find
from polyhead.training.recipe_file import flat, from_toml, written
from polyhead.training.settings import Training
from polyhead.weights.config_keys import read_json

#  keys of [model] that the tokenizer decides
GIVEN = ("vocab_size", "target_vocab_size", "joint", "pad_id", "eos_id", "start_id", "forced_end_id")

MOST_WORDS = 10_000_000  # in a vocabulary; the largest that are used have some hundred thousand
TRANSLATED = ("bleu", "chrf")  # scores of translations

#  keys of [model] that a training chooses, whatever it starts from: weights of any other value are of the same shape
CHOSEN = ("dropout", "attention_dropout", "activation_dropout")


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

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.split_pieces <= 1:
            raise ConfigError(f"split_pieces must be from 0 to 1, a probability, found {self.split_pieces}")

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

    def __post_init__(self) -> None:
        for name in ("size", "target_size"):
            if not 0 < getattr(self, name) <= MOST_WORDS:
                raise ConfigError(f"{name} must be from 1 to {MOST_WORDS:,}, found {getattr(self, name)}")
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage must be above 0 and at most 1, a share of the text, found {self.coverage}")


@dataclass(frozen=True, kw_only=True)
class Held:
    """How translations are scored while training: greedily, on `rows` pairs spread over the valid data; 0 for none."""

    rows: int = 300

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of what an evaluation gives."""
        return ("loss", *TRANSLATED) if self.rows else ("loss",)


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

    FREE: ClassVar = ("name", "source", "target", "about", "weights")  # may change when a training goes on

    name: str
    source: str  # language codes, for the card
    target: str
    data: Data
    train: Training
    start: str = ""  # a model folder or a shipped model: go on from its weights and vocabularies, not from chance
    architecture: str = TRANSLATOR
    tokenizer: Vocabulary = Vocabulary()
    evaluate: Held = Held()
    about: About = About()
    weights: Literal["float32", "float16", "bfloat16"] = "float32"  # as saved


def read_recipe(path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Any:
    """A recipe; its [model] table has the keys of the family it names, but for the vocabularies, which are trained.

    With `start`, [model] is that of the model it starts from, dropout apart, and so is [tokenizer]; a key that says
    otherwise is refused. Raises ConfigError, and CheckpointError if there is nothing to start from.
    """
    said = written(path, Header, overrides)
    if taken := [key for key in GIVEN if f"model.{key}" in said]:
        raise ConfigError(
            f"[model] sets {', '.join(taken)}, which come from the tokenizer; leave them out (see [tokenizer])"
        )
    start = str(said.get("start", ""))
    kind = (
        family_of(read_json(find(start) / "config.json"))
        if start
        else family(str(said.get("architecture", TRANSLATOR)))
    )
    schema = make_dataclass(
        "Recipe",
        [("model", kind.config, field(default_factory=kind.config))],
        bases=(Header,),
        frozen=True,
        kw_only=True,
    )
    schema.__module__ = __name__
    two = [("model.joint", "false")] if said.get("tokenizer.joint") is False else []  # else a model may be tied only
    recipe: Any = from_toml(path, schema, [*overrides, *two])
    if start:
        recipe = _started(recipe, said)
    if wrong := list(_wrong(recipe, said)):
        raise ConfigError(f"{path} cannot be used: {'; '.join(wrong)}")
    return recipe


def _started(recipe: Any, said: Mapping[str, Any]) -> Any:
    """The recipe with the model that it starts from; `said` are the keys that must not say otherwise."""
    folder = find(recipe.start)
    raw = read_json(folder / "config.json")
    kind = family_of(raw)
    config = kind.keys.read(raw, kind.config())
    pair = load_pair(folder)
    there = {"architecture": kind.architecture, **flat(config, prefix="model.")}
    there |= {"tokenizer.size": pair.source.size, "tokenizer.joint": config.joint}
    if not config.joint:
        there["tokenizer.target_size"] = pair.target.size
    if isinstance(pair.source, Tokenizer):
        there |= {"tokenizer.kind": pair.source.kind, "tokenizer.simplify": pair.source.simplifies}
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
    model = replace(config, **{key: getattr(recipe.model, key) for key in chosen})
    words = {key.removeprefix("tokenizer."): value for key, value in there.items() if key.startswith("tokenizer.")}
    tokenizer = replace(recipe.tokenizer, **words)
    return replace(recipe, architecture=kind.architecture, model=model, tokenizer=tokenizer)


def _wrong(recipe: Any, said: Mapping[str, Any]) -> Iterator[str]:
    """What each table may say by itself, but not beside the others; `said` are the keys that the recipe sets."""
    data, longest, watch, held = recipe.data, recipe.model.max_len, recipe.train.watch, recipe.evaluate
    try:
        with torch.device("meta"):  # sizes without numbers
            family(recipe.architecture).build(recipe.model)
    except (ArgumentError, ConfigError, RuntimeError, OverflowError) as refused:
        yield f"[model] describes no model that can be built ({refused})"
    if data.split_pieces and recipe.tokenizer.kind != "bpe":
        yield f"data.split_pieces = {data.split_pieces} undoes merges; a {recipe.tokenizer.kind} has none: use bpe"
    if recipe.tokenizer.joint and "tokenizer.target_size" in said:
        yield "tokenizer.target_size is of the target's own vocabulary, but tokenizer.joint = true makes one for both"
    if held.rows < 0:
        yield f"evaluate.rows must be at least 0, found {held.rows}"
    if data.max_length > longest:
        yield (
            f"data.max_length ({data.max_length}) is above model.max_len ({longest}), the most tokens that the model "
            "reads: lower the one or raise the other"
        )
    if watch in TRANSLATED and not held.rows:
        yield f"train.watch = '{watch}' is of translations, but evaluate.rows = 0 makes none: set rows, or watch 'loss'"
    elif watch not in held.scores:
        near = did_you_mean(watch, held.scores)
        yield f"train.watch = '{watch}' is no score of a translator, which has {', '.join(held.scores)}.{near}"
