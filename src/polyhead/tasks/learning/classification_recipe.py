"""The recipe of a classifier, from TOML: which texts or pictures, which labels, which model, how to train it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from polyhead.errors import ConfigError, did_you_mean
from polyhead.families import Family, family, sibling
from polyhead.inputs.label_names import LabelNames, read_names
from polyhead.inputs.pictures import Album
from polyhead.inputs.pictures import Format as AlbumFormat
from polyhead.inputs.readers import Source
from polyhead.tasks.label_scores import SCORES
from polyhead.tasks.learning.recipe import (
    SKIP,
    DataSource,
    Recipe,
    TableSource,
    Words,
    agreed,
    begun,
    chosen_from,
    described,
    unbuildable,
)
from polyhead.training.recipe_file import flat, written

DOES = {"text": "labels", "image": "image labels"}  # what a model reads -> what its head must give


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the labels are.

    names: a list, or a file below `data.folder` that holds one; empty: those of the training data, or of `start`.
    several: whether one thing may have several, or none; `separator` then stands between them in a file.
    balance: how much more rare labels weigh in the loss, 0: all alike, 1: as much in all. Of labels that exclude each
        other, (mean count / count)^balance; of several, (those without / those with)^balance where the label holds.
    """

    names: str | tuple[str, ...] = ()
    several: bool = False
    separator: str = ","
    balance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance must be from 0 to 1, found {self.balance}")
        if self.several and not self.separator:
            raise ConfigError("separator is empty, but several = true needs something between labels, such as ','")

    def between(self) -> str:
        return self.separator if self.several else ""

    def given(self, folder: Path) -> LabelNames | None:
        """The names that the recipe gives."""
        names = read_names(folder / self.names) if isinstance(self.names, str) else self.names
        return LabelNames(names, self.between()) if names else None


@dataclass(frozen=True, kw_only=True)
class PictureSource(DataSource):
    """A table of files, a folder of a folder for each label, or two IDX files. rows: [first, behind the last)."""

    columns: tuple[int | str, int | str] | None = None  # of a table
    format: AlbumFormat | None = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where everything is, whatever it is."""

    FREE: ClassVar = ("folder", "cache", "test")

    folder: Path = Path(".")
    cache: Path = Path("runs/cache")
    columns: tuple[int | str, int | str] = (1, 2)
    on_error: Literal["stop", "skip"] = "stop"


@dataclass(frozen=True, kw_only=True)
class Texts(Data):
    """Texts, how they are cut into batches, and how they are varied while training.

    max_length: of a longer text a window is read, anew each time. hide: the share of the tokens, drawn anew each time,
    that are read as unknown (word dropout, Iyyer et al. 2015, section 3).
    """

    train: tuple[TableSource, ...]
    valid: tuple[TableSource, ...]
    test: tuple[TableSource, ...] = ()
    batch_tokens: int = 4096  # padding included
    max_length: int = 128
    hide: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("batch_tokens", 1), ("max_length", 4)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if not 0 <= self.hide < 1:
            raise ConfigError(f"hide must be at least 0 and below 1, a share of the tokens, found {self.hide}")

    @property
    def budget(self) -> int:
        return self.batch_tokens

    def read(self, source: TableSource) -> Source:
        return source.below(self.folder, self.columns, lone=True)


@dataclass(frozen=True, kw_only=True)
class Pictures(Data):
    """Pictures, and how they are varied while training: moved by up to `shift` of a side, mirrored half of the time."""

    train: tuple[PictureSource, ...]
    valid: tuple[PictureSource, ...]
    test: tuple[PictureSource, ...] = ()
    batch: int = 256
    shift: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1, found {self.batch}")
        if not 0 <= self.shift < 1:
            raise ConfigError(f"shift must be at least 0 and below 1, a share of a side, found {self.shift}")

    @property
    def budget(self) -> int:
        return self.batch

    def read(self, source: PictureSource) -> Album:
        paths = tuple(self.folder / name for name in source.names)
        return Album(
            path=paths[0] if len(paths) == 1 else paths,
            format=source.format,
            columns=source.columns or self.columns,
            rows=source.rows,
            skip=SKIP,
        )


@dataclass(frozen=True, kw_only=True)
class TextWords(Words):
    """The tokenizer that is trained on the texts. lower: read capitals as small letters."""

    lower: bool = False


@dataclass(frozen=True, kw_only=True)
class Header(Recipe):
    """What a recipe of a classifier says before its [model] is known. languages: codes, for the card."""

    FREE: ClassVar = (*Recipe.FREE, "languages")

    languages: tuple[str, ...] = ()
    labels: Labels = Labels()


@dataclass(frozen=True, kw_only=True)
class OfTexts(Header):
    data: Texts
    tokenizer: TextWords = TextWords()


@dataclass(frozen=True, kw_only=True)
class OfPictures(Header):
    data: Pictures


HEADERS = {"text": OfTexts, "image": OfPictures}
GIVEN = {  # keys of [model] that something else decides
    "labels": "[labels]", "vocab_size": "the tokenizer (see [tokenizer])", "pad_id": "the tokenizer (see [tokenizer])",
}  # fmt: skip


def read_recipe(path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Any:
    """A recipe; its [model] table has the keys of the family, but for words and labels.

    With `start`, an encoder or another classifier, [model] is that of the model it starts from, dropout apart, and the
    tokenizer is its own; a key that says otherwise is refused. Raises ConfigError, and CheckpointError if there is
    nothing to start from.
    """
    kind = _kind(path, written(path, Recipe, overrides))
    recipe, said = described(path, HEADERS[kind.reads], overrides, kind=lambda _: kind, given=GIVEN)
    recipe = replace(recipe, architecture=kind.architecture)
    if recipe.labels.several and "train.label_smoothing" not in said:
        recipe = replace(recipe, train=replace(recipe.train, label_smoothing=0.0))
    if recipe.start:
        _, config = begun(recipe.start)
        there = {**flat(config, prefix="model."), "architecture": kind.architecture}
        if told := [key for key in said if key.startswith("tokenizer.")]:
            raise ConfigError(f"start = '{recipe.start}' brings its own tokenizer; leave out {', '.join(told)}")
        recipe = replace(recipe, model=chosen_from(recipe, config, agreed(recipe, said, there)))
    if wrong := list(_wrong(recipe)):
        raise ConfigError(f"{path} cannot be used: {'; '.join(wrong)}")
    return recipe


def _kind(path: str | Path, said: Mapping[str, Any]) -> Family:
    """The family of the model that a recipe trains."""
    start, architecture = str(said.get("start", "")), str(said.get("architecture", ""))
    if not (start or architecture):
        raise ConfigError(f"{path} says neither what to build (architecture) nor where to start from (start)")
    kind = family(architecture) if architecture else begun(start)[0]
    if kind.reads not in HEADERS:
        raise ConfigError(
            f"{kind.architecture} reads {kind.reads}, but a classifier reads {' or '.join(HEADERS)}; choose another"
        )
    does = DOES[kind.reads]
    twin = kind if kind.does == does else sibling(kind, does)
    if twin is None or (architecture and twin is not kind):
        raise ConfigError(f"{kind.architecture} gives {kind.does}, but a classifier gives {does}; choose another")
    return twin


def _wrong(recipe: Any) -> Iterator[str]:
    """What each table may say by itself, but not beside the others."""
    if why := unbuildable(recipe.architecture, recipe.model):
        yield why
    if isinstance(recipe.data, Texts) and recipe.data.max_length > recipe.model.max_len:
        yield (
            f"data.max_length ({recipe.data.max_length}) is above model.max_len ({recipe.model.max_len}), the most "
            "tokens that the model reads: lower the one or raise the other"
        )
    if recipe.labels.several and recipe.train.label_smoothing:
        yield "train.label_smoothing is of labels that exclude each other; with labels.several leave it out"
    if recipe.train.watch not in SCORES:
        near = did_you_mean(recipe.train.watch, SCORES)
        yield f"train.watch = '{recipe.train.watch}' is no score of a classifier, which has {', '.join(SCORES)}.{near}"
