"""The task of learning to translate: pairs of lines -> ids -> batches -> loss, and scores on held-out lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.errors import ConfigError
from polyhead.families import Family, family
from polyhead.generation import Greedy
from polyhead.inputs.batch import pad, plan_batches, short
from polyhead.inputs.corpus import Corpus
from polyhead.inputs.pair import Pair, load_pair, save_pair
from polyhead.inputs.readers import Source, read
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.operator import Lengths
from polyhead.readout.words import shifted
from polyhead.tasks.evaluate import score
from polyhead.tasks.load import Loaded, save
from polyhead.tasks.translate import Translator
from polyhead.training.loss import label_smoothed
from polyhead.training.recipe_file import from_toml
from polyhead.training.settings import Training
from polyhead.training.task import Loss
from polyhead.weights.file import write_text


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One file of pairs in a recipe: where it is, how it is read, how often, and whose it is.

    path: below `data.folder`; two names for parallel files. where: rows whose column (counted from 1) holds one of the
    values. weight: visits of each pair in an epoch. name, licence, credit: for the model card.
    """

    path: str | tuple[str, str]
    columns: tuple[int | str, int | str] | None = None
    format: Literal["tsv", "jsonl", "parallel"] | None = None
    where: dict = field(default_factory=dict)  # pyright: ignore[reportMissingTypeArgument]
    weight: float = 1.0
    name: str = ""
    licence: str = ""
    credit: str = ""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which files, and how they are cut into batches."""

    train: tuple[DataSource, ...]
    valid: tuple[DataSource, ...]
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
class Header:
    """What a recipe says before its tables are known in full."""

    name: str
    source: str  # language codes, for the card
    target: str
    data: Data
    train: Training
    architecture: str = "MarianMTModel"
    tokenizer: Vocabulary = Vocabulary()
    evaluate: Held = Held()
    weights: Literal["float32", "float16", "bfloat16"] = "float32"  # as saved


def read_recipe(path: str | Path, overrides: Sequence[tuple[str, str]] = ()) -> Any:
    """A recipe whose [model] table has the keys of the family it names; sizes of vocabularies come from the tokenizer."""
    architecture = dict(overrides).get("architecture") or _architecture(path)
    config = family(architecture).config
    schema = make_dataclass(
        "Recipe", [("model", config, field(default_factory=config))], bases=(Header,), frozen=True, kw_only=True
    )
    schema.__module__ = __name__
    return from_toml(path, schema, overrides)


def _architecture(path: str | Path) -> str:
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text("utf-8")).get("architecture", Header.architecture)
    except (OSError, ValueError):
        return Header.architecture  # the reader of the whole recipe says what is wrong with the file


@dataclass(frozen=True)
class Batch:
    """Source ids [B, S] of the given lengths [B], and the target ids [B, T] to be learned, padded."""

    source: Tensor
    lengths: Tensor
    target: Tensor


class Batches(Sequence[Batch]):
    """The batches of one epoch, each made when it is asked for and always the same."""

    def __init__(self, task: TranslationTask, plan: list[np.ndarray], epoch: int):
        self.task, self.plan, self.epoch = task, plan, epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: Any) -> Any:
        return self.task.batch(self.plan[i], np.random.default_rng((self.task.seed, self.epoch, i)))


class TranslationTask:
    """Learning to translate, as the training loop sees it."""

    def __init__(self, recipe: Any, kind: Family, tokenizer: Pair, cache: Path):
        self.recipe, self.kind, self.tokenizer = recipe, kind, tokenizer
        self.seed: int = recipe.train.seed
        self.data: Data = recipe.data
        source, target = tokenizer.source, tokenizer.target
        self.config = replace(
            recipe.model,
            vocab_size=source.size,
            target_vocab_size=target.size,
            joint=recipe.tokenizer.joint,
            pad_id=source.pad_id,
            eos_id=target.eos_id,
            start_id=target.pad_id,
            forced_end_id=target.eos_id,
        )
        torch.manual_seed(self.seed)
        self.model: nn.Module = kind.build(self.config)
        self.corpus = self.tokenised(self.data.train, cache)
        self.valid = self.tokenised(self.data.valid, cache)
        self.lines = [pair for held in self.data.valid for pair in read(self.data.read(held), on_error=self.data.on_error)]

    def tokenised(self, sources: Sequence[DataSource], cache: Path) -> Corpus:
        readable = [self.data.read(source) for source in sources]
        pair = self.tokenizer
        return Corpus.build(readable, pair.source, pair.target, cache=cache, on_error=self.data.on_error)

    def plan(self, corpus: Corpus, indices: np.ndarray, epoch: int) -> list[np.ndarray]:
        lengths = corpus.source_lengths, corpus.target_lengths
        fitting = indices[short(lengths[0][indices], lengths[1][indices], self.data.max_length)]
        return plan_batches(*lengths, budget=self.data.batch_tokens, seed=self.seed, epoch=epoch, indices=fitting)

    def batches(self, epoch: int) -> Batches:
        return Batches(self, self.plan(self.corpus, self.corpus.epoch(self.seed, epoch), epoch), epoch)

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> Batch:
        pairs = [self.corpus[int(i)] for i in rows]
        return self.padded(pairs)

    def padded(self, pairs: Sequence[tuple[Any, Any]]) -> Batch:
        source, lengths = pad([pair[0] for pair in pairs], self.config.pad_id)
        target, _ = pad([pair[1] for pair in pairs], self.config.pad_id)
        return Batch(source, lengths, target)

    def loss(self, batch: Batch) -> Loss:
        smoothing = self.recipe.train.label_smoothing if self.model.training else 0.0
        return self.loss_of(self.model, batch, smoothing)

    def loss_of(self, model: Any, batch: Batch, smoothing: float) -> Loss:
        mask = Lengths(batch.lengths)
        memory = model.encode(batch.source, Run(mask=mask))
        x = model.decode(shifted(batch.target, self.config.start_id), Run(memory=memory, memory_mask=mask))  # [B, T, D]
        real = batch.target != self.config.pad_id  # [B, T]
        targets = batch.target[real]  # [N]; scores of V words are made for these only
        total = label_smoothed(model.head(x[real]), targets, padding=-1, smoothing=smoothing)
        return Loss(total=total, targets=len(targets), tokens=int(batch.lengths.sum()) + len(targets))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross entropy (nats a token, no smoothing) on all valid pairs; BLEU and chrF of greedy translations."""
        total = targets = 0.0
        for rows in self.plan(self.valid, np.arange(len(self.valid)), 0):
            loss = self.loss_of(model, self.padded([self.valid[int(i)] for i in rows]), 0.0)
            total, targets = total + float(loss.total), targets + loss.targets
        scores = {"loss": total / targets}
        lines = self.lines[: self.recipe.evaluate.rows]
        if lines:
            translate = Translator(self.loaded(model), search=Greedy())
            found = score([t.text for t in translate([pair.source for pair in lines])], [pair.target for pair in lines])
            scores |= {"bleu": found.bleu, "chrf": found.chrf}
        return scores

    def loaded(self, model: nn.Module) -> Loaded:
        c = self.config
        generation = {
            "bos_token_id": None, "eos_token_id": c.eos_id, "pad_token_id": c.pad_id, "decoder_start_token_id": c.start_id,
            "forced_eos_token_id": c.eos_id, "bad_words_ids": [[c.pad_id]], "num_beams": 4, "max_length": c.max_len,
        }  # fmt: skip
        return Loaded(model, self.tokenizer, self.kind, {}, generation)

    def save(self, folder: Path, model: nn.Module, card: str) -> None:
        save(self.loaded(model), folder, dtype=getattr(torch, self.recipe.weights))
        write_text(folder / "README.md", card)


def prepare(recipe: Any, out: Path) -> TranslationTask:
    """A recipe becomes a task: the tokenizer is trained once and kept in `out`, the data is tokenised once."""
    folder = out / "training" / "tokenizer"
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = load_pair(folder)
    else:
        tokenizer = _train_tokenizer(recipe)
        save_pair(tokenizer, folder)
    return TranslationTask(recipe, family(recipe.architecture), tokenizer, recipe.data.cache)


def _train_tokenizer(recipe: Any) -> Pair:
    words: Vocabulary = recipe.tokenizer
    how = {"kind": words.kind, "simplify": words.simplify, "coverage": words.coverage, "max_length": recipe.model.max_len}

    def side(*which: int) -> Iterator[str]:
        for source in recipe.data.train:
            for example in read(recipe.data.read(source), on_error=recipe.data.on_error):
                yield from (example[i] for i in which)

    if words.joint:
        both = Tokenizer.train(side(0, 1), size=words.size, **how)
        return Pair(both, both)
    return Pair(Tokenizer.train(side(0), size=words.size, **how), Tokenizer.train(side(1), size=words.target_size, **how))
