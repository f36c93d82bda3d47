"""The task of learning to translate: pairs of lines -> ids -> batches -> loss, and scores on held-out lines."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from polyhead.inputs.readers import Example, read
from polyhead.inputs.splitting import merge_table, split_pieces
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.operator import Lengths
from polyhead.readout.words import shifted
from polyhead.tasks.evaluate import evaluate, score
from polyhead.tasks.load import Loaded, load, save
from polyhead.tasks.recipe import Data, DataSource, Vocabulary, read_recipe
from polyhead.tasks.translator import Translator
from polyhead.training.card import Card, Cost, DataSet, Score, hardware, render
from polyhead.training.loop import Result
from polyhead.training.loop import train as run
from polyhead.training.loss import label_smoothed
from polyhead.training.plan import describe, plan
from polyhead.training.recipe_file import flat
from polyhead.training.task import Loss
from polyhead.weights.config_keys import read_json
from polyhead.weights.file import write_text

TOKENIZER = Path("training/tokenizer")  # in a training's folder

#  keys of [model] that the tokenizer decides
GIVEN = ("vocab_size", "target_vocab_size", "joint", "pad_id", "eos_id", "start_id", "forced_end_id")


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
        taken = [key for key in GIVEN if getattr(recipe.model, key) != getattr(type(recipe.model)(), key)]
        if taken:
            raise ConfigError(
                f"[model] sets {', '.join(taken)}, which come from the tokenizer; leave them out (see [tokenizer])"
            )
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
        if self.data.split_pieces:
            self.merges = merge_table(source), merge_table(target)
        torch.manual_seed(self.seed)
        self.model: nn.Module = kind.build(self.config)
        self.corpus = self.tokenised(self.data.train, cache)
        self.valid = self.tokenised(self.data.valid, cache)
        self.lines = [pair for held in self.data.valid for pair in self.examples(held)]

    def tokenised(self, sources: Sequence[DataSource], cache: Path) -> Corpus:
        readable = [self.data.read(source) for source in sources]
        pair = self.tokenizer
        return Corpus.build(readable, pair.source, pair.target, cache=cache, on_error=self.data.on_error)

    def left_out(self) -> Iterator[str]:
        """What the data holds and training does not see, a sentence for each file."""
        for part in self.corpus.parts:
            if part.skipped.total:
                yield f"{part.source.name}: {part.skipped.total:,} lines left out: {part.skipped}"
        lengths = self.corpus.source_lengths, self.corpus.target_lengths
        if long := int((~short(*lengths, self.data.max_length)).sum()):
            limit = f"longer than data.max_length = {self.data.max_length}"
            yield f"{long:,} of {len(self.corpus):,} pairs left out ({limit})"

    def examples(self, source: DataSource) -> Iterator[Example]:
        return read(self.data.read(source), on_error=self.data.on_error)

    def plan(self, corpus: Corpus, indices: np.ndarray, epoch: int) -> list[np.ndarray]:
        lengths = corpus.source_lengths, corpus.target_lengths
        fitting = indices[short(lengths[0][indices], lengths[1][indices], self.data.max_length)]
        return plan_batches(*lengths, budget=self.data.batch_tokens, seed=self.seed, epoch=epoch, indices=fitting)

    def batches(self, epoch: int) -> Batches:
        return Batches(self, self.plan(self.corpus, self.corpus.epoch(self.seed, epoch), epoch), epoch)

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> Batch:
        source, target = zip(*(self.corpus[int(i)] for i in rows), strict=True)
        if p := self.data.split_pieces:
            source = split_pieces(source, self.merges[0], p=p, random=random)
            target = split_pieces(target, self.merges[1], p=p, random=random)
        return self.padded(source, target)

    def padded(self, source: Sequence[Any], target: Sequence[Any]) -> Batch:
        ids, lengths = pad(source, self.config.pad_id)
        return Batch(ids, lengths, pad(target, self.config.pad_id)[0])

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
            loss = self.loss_of(model, self.padded(*zip(*(self.valid[int(i)] for i in rows), strict=True)), 0.0)
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
            "bos_token_id": None, "eos_token_id": c.eos_id, "pad_token_id": c.pad_id, "max_length": c.max_len,
            "decoder_start_token_id": c.start_id, "forced_eos_token_id": c.eos_id, "bad_words_ids": [[c.pad_id]],
            "num_beams": 4,
        }  # fmt: skip
        return Loaded(model, self.tokenizer, self.kind, {}, generation)

    def card(self) -> Card:
        about, data = self.recipe.about, zip(self.data.train, self.corpus.parts, strict=True)
        return Card(
            name=self.recipe.name,
            summary=about.summary,
            languages=(self.recipe.source, self.recipe.target),
            license=about.licence,
            data=tuple(
                DataSet(
                    name=source.name or str(source.path), license=source.licence, attribution=source.credit,
                    examples=len(part), url=source.url,
                )
                for source, part in data
            ),
            limits=about.limits,
            pipeline="translation",
            usage=about.usage,
        )  # fmt: skip

    def card_with_test(self, result: Result) -> str:
        """The model card with the best model's scores on the test files, by beam search."""
        greedy = f"validation, the first {self.recipe.evaluate.rows} rows, greedy"
        scores = [
            Score(data="validation" if name == "loss" else greedy, metric=name, value=value)
            for name, value in result.best.items()
        ]
        best = load(result.folder)
        for source in self.data.test:
            found, _ = evaluate(self.examples(source), model=best)
            name = source.name or str(source.path)
            scores += [
                Score(data=name, metric="BLEU", value=found.bleu, signature=found.bleu_signature),
                Score(data=name, metric="chrF", value=found.chrf, signature=found.chrf_signature),
            ]
        cost = Cost(
            hours=result.seconds / 3600, steps=result.steps, epochs=result.epochs, tokens=result.tokens,
            hardware=hardware(),
        )  # fmt: skip
        return render(self.card(), settings=flat(self.recipe, fixed=True), scores=scores, cost=cost)

    def save(self, folder: Path, model: nn.Module, card: str) -> None:
        save(self.loaded(model), folder, dtype=getattr(torch, self.recipe.weights))
        write_text(folder / "README.md", card)


def prepare(recipe: Any, out: Path) -> TranslationTask:
    """A recipe becomes a task: the tokenizer is trained once and kept in `out`, the data is tokenised once.

    Raises ConfigError if the tokenizer in `out` was trained for another recipe and a training there depends on it.
    """
    folder, made_for = out / TOKENIZER, out / TOKENIZER / "recipe.json"
    wanted = {
        "tokenizer": flat(recipe.tokenizer),
        "train": flat(recipe.data, fixed=True)["train"],
        "files": [digest(path) for source in recipe.data.train for path in recipe.data.read(source).paths],
    }
    found = read_json(made_for) if made_for.is_file() else None
    if found == wanted:
        tokenizer = load_pair(folder)
    elif found and any(folder.parent.glob("step-*")):
        raise ConfigError(
            f"The tokenizer in {folder} was trained with other [tokenizer] settings or files than this recipe's; "
            "put them back to go on, or choose another folder to start anew"
        )
    else:
        tokenizer = _train_tokenizer(recipe)
        building = folder.with_name(".tokenizer-being-written")
        shutil.rmtree(building, ignore_errors=True)
        save_pair(tokenizer, building)
        write_text(building / made_for.name, json.dumps(wanted, indent=2, ensure_ascii=False))
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)  # whole or not at all
    return TranslationTask(recipe, family(recipe.architecture), tokenizer, recipe.data.cache)


def digest(path: Path) -> str:
    """The SHA-256 of a file; empty for one that cannot be read, which its reader will say in words."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def train(
    recipe: str | Path,
    *,
    overrides: Sequence[tuple[str, str]] = (),
    out: str | Path | None = None,
    plan_only: bool = False,
    resume: bool = True,
) -> Result | None:
    """Train what a recipe describes; `out` (default runs/<name>) gets a standard Hugging Face folder.

    overrides: dotted keys and their values, ("train.lr", "3e-4"). plan_only: print what it will take, and do nothing.
    resume: go on with a training found in `out`. Raises ConfigError, DataError, CheckpointError, NonFiniteLoss.
    """
    settings = read_recipe(recipe, overrides)
    folder = Path(out) if out else Path("runs") / settings.name
    if plan_only:
        with tempfile.TemporaryDirectory() as aside:
            known = (folder / TOKENIZER).is_dir()
            print(describe(plan(prepare(settings, folder if known else Path(aside)), settings.train)))
        return None
    task = prepare(settings, folder)
    for sentence in task.left_out():
        print(sentence, file=sys.stderr)
    result = run(task, settings.train, folder, resume=resume, recipe=settings, card=task.card())
    if settings.data.test and result.best and result.why != "interrupted":
        write_text(folder / "README.md", task.card_with_test(result))
    return result


def _train_tokenizer(recipe: Any) -> Pair:
    words: Vocabulary = recipe.tokenizer

    def lines(*which: int) -> Iterator[str]:
        for source in recipe.data.train:
            for example in read(recipe.data.read(source), on_error=recipe.data.on_error):
                yield from ((example.source, example.target)[i] for i in which)

    def trained(lines: Iterator[str], size: int) -> Tokenizer:
        return Tokenizer.train(
            lines, kind=words.kind, size=size, simplify=words.simplify, coverage=words.coverage,
            max_length=recipe.model.max_len,
        )  # fmt: skip

    if words.joint:
        both = trained(lines(0, 1), words.size)
        return Pair(both, both)
    return Pair(trained(lines(0), words.size), trained(lines(1), words.target_size))
