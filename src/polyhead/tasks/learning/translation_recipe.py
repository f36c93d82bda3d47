"""The recipe of a translator, from TOML: which pairs, which vocabulary, which model, how to train it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from polyhead.errors import ConfigError, did_you_mean
from polyhead.families import TRANSLATOR, Family, family
from polyhead.inputs.pair import load_pair
from polyhead.inputs.readers import Source
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.learning.recipe import (
    Recipe,
    TableSource,
    Words,
    agreed,
    begun,
    chosen_from,
    described,
    unbuildable,
)
from polyhead.tasks.load import find
from polyhead.training.recipe_file import flat

#  keys of [model] that the tokenizer decides
GIVEN = ("vocab_size", "target_vocab_size", "joint", "pad_id", "eos_id", "start_id", "forced_end_id")
TRANSLATED = ("bleu", "chrf")  # scores of translations


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which files, and how they are cut into batches."""

    FREE: ClassVar = ("folder", "cache", "test")

    train: tuple[TableSource, ...]
    valid: tuple[TableSource, ...]
    test: tuple[TableSource, ...] = ()  # scored once, at the end, for the model card
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

    def read(self, source: TableSource) -> Source:
        return source.below(self.folder, self.columns)


@dataclass(frozen=True, kw_only=True)
class Vocabulary(Words):
    """The tokenizer, or the two, that are trained on the data. joint: one serves both sides."""

    SIZES: ClassVar = ("size", "target_size")

    joint: bool = True
    target_size: int = 8000


@dataclass(frozen=True, kw_only=True)
class Held:
    """How translations are scored while training: greedily, on `rows` pairs spread over the valid data; 0 for none."""

    rows: int = 300

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of what an evaluation gives."""
        return ("loss", *TRANSLATED) if self.rows else ("loss",)


@dataclass(frozen=True, kw_only=True)
class Header(Recipe):
    """What a recipe of a translator says before its [model] is known."""

    FREE: ClassVar = (*Recipe.FREE, "source", "target")

    source: str  # language codes, for the card
    target: str
    data: Data
    architecture: str = TRANSLATOR
    tokenizer: Vocabulary = Vocabulary()
    evaluate: Held = Held()


def read_recipe(path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Any:
    """A recipe; its [model] table has the keys of the family it names, but for the vocabularies, which are trained.

    With `start`, [model] is that of the model it starts from, dropout apart, and so is [tokenizer]; a key that says
    otherwise is refused. Raises ConfigError, and CheckpointError if there is nothing to start from.
    """

    def kind(said: Mapping[str, Any]) -> Family:
        start = str(said.get("start", ""))
        return begun(start)[0] if start else family(str(said.get("architecture", TRANSLATOR)))

    def more(said: Mapping[str, Any]) -> list[tuple[str, str]]:  # else a model may be tied only
        return [("model.joint", "false")] if said.get("tokenizer.joint") is False else []

    recipe, said = described(
        path, Header, overrides, kind=kind, given=dict.fromkeys(GIVEN, "the tokenizer (see [tokenizer])"), more=more
    )
    if recipe.start:
        recipe = _started(recipe, said)
    if wrong := list(_wrong(recipe, said)):
        raise ConfigError(f"{path} cannot be used: {'; '.join(wrong)}")
    return recipe


def _started(recipe: Any, said: Mapping[str, Any]) -> Any:
    """The recipe with the model that it starts from; `said` are the keys that must not say otherwise."""
    kind, config = begun(recipe.start)
    pair = load_pair(find(recipe.start))
    there = {"architecture": kind.architecture, **flat(config, prefix="model.")}
    there |= {"tokenizer.size": pair.source.size, "tokenizer.joint": config.joint}
    if not config.joint:
        there["tokenizer.target_size"] = pair.target.size
    if isinstance(pair.source, Tokenizer):
        there |= {"tokenizer.kind": pair.source.kind, "tokenizer.simplify": pair.source.simplifies}
    model = chosen_from(recipe, config, agreed(recipe, said, there))
    words = {key.removeprefix("tokenizer."): value for key, value in there.items() if key.startswith("tokenizer.")}
    tokenizer = replace(recipe.tokenizer, **words)
    return replace(recipe, architecture=kind.architecture, model=model, tokenizer=tokenizer)


def _wrong(recipe: Any, said: Mapping[str, Any]) -> Iterator[str]:
    """What each table may say by itself, but not beside the others; `said` are the keys that the recipe sets."""
    data, longest, watch, held = recipe.data, recipe.model.max_len, recipe.train.watch, recipe.evaluate
    if why := unbuildable(recipe.architecture, recipe.model):
        yield why
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
