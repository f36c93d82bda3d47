"""The task of learning to translate: pairs of lines -> ids -> batches -> loss, and scores on held-out lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.errors import ConfigError, extra
from polyhead.families import family
from polyhead.files import write_text
from polyhead.generation import Greedy
from polyhead.inputs.batch import pad, plan_batches
from polyhead.inputs.corpus import Corpus
from polyhead.inputs.pair import Pair, load_pair, save_pair
from polyhead.inputs.splitting import merge_table, split_pieces
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.operator import Lengths
from polyhead.readout.words import shifted
from polyhead.tasks.evaluate import evaluate, score
from polyhead.tasks.learning.pairs import Pairs
from polyhead.tasks.learning.recipe import origin
from polyhead.tasks.learning.train import Kind
from polyhead.tasks.learning.translation_recipe import TRANSLATED, Data, Vocabulary, read_recipe
from polyhead.tasks.learning.vocabulary import kept_or_made, lines_of
from polyhead.tasks.load import Loaded, load, save
from polyhead.tasks.translator import Translator
from polyhead.training.card import Card, DataSet, Score
from polyhead.training.loss import label_smoothed
from polyhead.training.recipe_file import flat
from polyhead.training.task import Loss

TWO_VOCABULARIES = (
    "Its two languages have a vocabulary each. AutoTokenizer of transformers reads the source's, tokenizer.json, and "
    "would decode translations with it, wrongly; decode them with "
    'PreTrainedTokenizerFast(tokenizer_file="target_tokenizer.json").'
)


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

    def __init__(self, recipe: Any, tokenizer: Pair, *, start: Loaded | None = None, scratch: Path | None = None):
        self.recipe, self.kind, self.tokenizer, self.start = recipe, family(recipe.architecture), tokenizer, start
        self.seed: int = recipe.train.seed
        self.data: Data = recipe.data
        if self.data.test or recipe.evaluate.rows:
            extra("sacrebleu.metrics", "train")  # or its absence is noticed when an epoch is over
        source, target = tokenizer.source, tokenizer.target
        made_for = {
            "vocab_size": source.size, "target_vocab_size": target.size, "joint": recipe.tokenizer.joint,
            "pad_id": source.pad_id, "eos_id": target.eos_id, "start_id": target.pad_id, "forced_end_id": target.eos_id,
        }  # fmt: skip
        self.config = recipe.model if start else replace(recipe.model, **made_for)
        if self.data.split_pieces:
            self.merges = merge_table(source), merge_table(target)
        torch.manual_seed(self.seed)
        try:
            self.model: nn.Module = self.kind.build(self.config)
        except (MemoryError, RuntimeError) as refused:
            raise ConfigError(f"[model] describes a model that does not fit into memory ({refused})") from refused
        if start:
            self.model.load_state_dict(start.model.state_dict())
        self.pairs = Pairs(self.data, tokenizer, max_len=self.config.max_len, scratch=scratch)
        lines = self.pairs.valid_lines
        rows = min(recipe.evaluate.rows, len(lines))
        self.lines = [lines[i * len(lines) // rows] for i in range(rows)]  # files are often sorted, by length or age

    @property
    def scores(self) -> tuple[str, ...]:
        return self.recipe.evaluate.scores

    def plan(self, corpus: Corpus, indices: np.ndarray, epoch: int) -> list[np.ndarray]:
        lengths = corpus.source_lengths, corpus.target_lengths
        fitting = indices[self.pairs.learned(corpus)[indices]]
        return plan_batches(*lengths, budget=self.data.batch_tokens, seed=self.seed, epoch=epoch, indices=fitting)

    def batches(self, epoch: int) -> Batches:
        return Batches(self, self.plan(self.pairs.train, self.pairs.train.epoch(self.seed, epoch), epoch), epoch)

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> Batch:
        source, target = zip(*(self.pairs.train[int(i)] for i in rows), strict=True)
        if p := self.data.split_pieces:
            source = self.that_fit(split_pieces(source, self.merges[0], p=p, random=random), source)
            target = self.that_fit(split_pieces(target, self.merges[1], p=p, random=random), target)
        return self.padded(source, target)

    def that_fit(self, rows: Sequence[Any], whole: Sequence[Any]) -> list[Any]:
        """The rows that are not too long for the model in their pieces, the others whole."""
        return [row if len(row) <= self.config.max_len else other for row, other in zip(rows, whole, strict=True)]

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
        """Cross entropy (nats a token, no smoothing) on the valid pairs; BLEU and chrF of greedy translations."""
        total = targets = 0.0
        valid = self.pairs.valid
        for rows in self.plan(valid, np.arange(len(valid)), 0):
            loss = self.loss_of(model, self.padded(*zip(*(valid[int(i)] for i in rows), strict=True)), 0.0)
            total, targets = total + float(loss.total), targets + loss.targets
        scores = {"loss": total / targets}
        if lines := self.lines:
            translate = Translator(self.loaded(model), search=Greedy())
            found = score([t.text for t in translate([pair.source for pair in lines])], [pair.target for pair in lines])
            scores |= {"bleu": found.bleu, "chrf": found.chrf}
        return scores

    def loaded(self, model: nn.Module) -> Loaded:
        c = self.config
        generation = {
            "bos_token_id": None, "eos_token_id": c.eos_id, "pad_token_id": c.pad_id, "max_length": c.max_len,
            "decoder_start_token_id": c.start_id, "forced_eos_token_id": c.forced_end_id, "bad_words_ids": [[c.pad_id]],
            "num_beams": 4,
        }  # fmt: skip
        return Loaded(model, self.tokenizer, self.kind, {}, generation)

    def card(self) -> Card:
        about, data = self.recipe.about, zip(self.data.train, self.pairs.train.parts, strict=True)
        pair, (start, exactly) = self.tokenizer, origin(self.recipe, self.start)
        rows = f"{len(self.lines):,} rows spread over it"
        greedy = f"validation, {rows if len(self.lines) < len(self.pairs.valid) else 'all rows'}, greedy"
        two = isinstance(pair.target, Tokenizer) and pair.target is not pair.source
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
            limits=(*about.limits, TWO_VOCABULARIES) if two else about.limits,
            pipeline="translation",
            usage=about.usage or f"polyhead translate --model runs/{self.recipe.name} -i lines.txt",
            start=start,
            settings={
                "start": exactly,
                **flat(self.config, prefix="model."),
                **({"tokenizer.target_size": None} if self.config.joint else {}),  # one vocabulary has one size
            },
            judged=dict.fromkeys(TRANSLATED, greedy),
        )  # fmt: skip

    def tested(self, best: Loaded) -> list[Score]:
        """BLEU and chrF on each test file, by beam search."""
        scores: list[Score] = []
        for source, corpus, lines in zip(self.data.test, self.pairs.tests, self.pairs.test_lines, strict=True):
            found, _ = evaluate(lines, model=best)
            name = source.name or str(source.path)
            if len(lines) < len(corpus):
                name += f", the {len(lines):,} of {len(corpus):,} rows of at most {self.config.max_len} tokens"
            scores += [
                Score(data=name, metric="BLEU", value=found.bleu, signature=found.bleu_signature),
                Score(data=name, metric="chrF", value=found.chrf, signature=found.chrf_signature),
            ]
        return scores

    def save(self, folder: Path, model: nn.Module, card: str) -> None:
        save(self.loaded(model), folder, dtype=getattr(torch, self.recipe.weights))
        write_text(folder / "README.md", card)


def prepare(recipe: Any, out: Path, *, scratch: Path | None = None) -> TranslationTask:
    """A recipe becomes a task: the tokenizer is trained once and kept in `out`, the data is tokenised once.

    What the data holds and the task leaves out is told on the error stream. With `scratch`, nothing is written
    anywhere else. Raises ConfigError, DataError, CheckpointError and WriteError.
    """
    start = load(recipe.start) if recipe.start else None
    tokenizer = kept_or_made(
        recipe, out,
        make=lambda: start.tokenizer if start else trained(recipe), load=load_pair, save=save_pair,
        given=[side.fingerprint() for side in (start.tokenizer.source, start.tokenizer.target)] if start else (),
        keep=scratch is None,
    )  # fmt: skip
    task = TranslationTask(recipe, tokenizer, start=start, scratch=scratch)
    for sentence in task.pairs.left_out():
        print(sentence, file=sys.stderr)
    return task


def trained(recipe: Any) -> Pair:
    """New tokenizers, learned from the recipe's training data."""
    words: Vocabulary = recipe.tokenizer

    def learned(size: int, *sides: int) -> Tokenizer:
        return Tokenizer.train(
            lines_of(recipe.data, *sides), kind=words.kind, size=size, simplify=words.simplify,
            coverage=words.coverage, max_length=recipe.model.max_len,
        )  # fmt: skip

    if words.joint:
        both = learned(words.size, 0, 1)
        return Pair(both, both)
    return Pair(learned(words.size, 0), learned(words.target_size, 1))


KIND = Kind(read_recipe, prepare)
