"""The task of learning labels: texts or pictures -> batches -> loss, and scores of what `classify` says of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polyhead.core import Run
from polyhead.errors import ConfigError, DataError
from polyhead.families import Family, family
from polyhead.files import write_text
from polyhead.inputs.batch import plan_batches
from polyhead.inputs.image import standard
from polyhead.inputs.label_names import LabelNames
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.operator import Lengths
from polyhead.tasks.classify import LABELS, SEVERAL, Classifier, labels_table
from polyhead.tasks.label_scores import SCORES, LabelScores, best_thresholds, label_scores, truth_of
from polyhead.tasks.learning.classification_recipe import read_recipe
from polyhead.tasks.learning.labelled import Examples, Judged, PictureExamples, TextExamples, judged, names_in
from polyhead.tasks.learning.recipe import origin
from polyhead.tasks.learning.train import Kind
from polyhead.tasks.learning.vocabulary import kept_or_made, lines_of
from polyhead.tasks.load import Loaded, load, save
from polyhead.training.card import Card, DataSet, Score
from polyhead.training.recipe_file import flat
from polyhead.training.task import Loss

TOLD = 30  # labels, before the others are only counted
FIRST = "<cls>"  # opens every text that a new tokenizer reads; labels are read from its vector
UNITS = {"text": "tokens (padding not counted)", "image": "patches, those of the first vector included"}
PIPELINES = {"text": "text-classification", "image": "image-classification"}


class Criterion(Protocol):
    """How labels are learned: what a batch's targets are, and what they cost."""

    @property
    def problem(self) -> str:
        """What config.json calls it."""
        ...

    def targets(self, labels: Sequence[Sequence[int]]) -> Tensor: ...

    def cost(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Scores [B, L] -> the sum over the batch, a scalar."""
        ...

    def thresholds(self, p: NDArray[np.float32], truth: NDArray[np.bool_]) -> list[float] | None:
        """The least probability at which each label is given, from what is held out; None: the likeliest is."""
        ...


@dataclass(frozen=True)
class OneOf:
    """Labels exclude each other: cross entropy, smoothed (Szegedy et al. 2016, section 7).

    An example weighs what its own label does, `weights` [L]. (PyTorch's weights would weigh the smoothing too, and rare
    labels would be learned from all examples.)
    """

    weights: Tensor
    smoothing: float
    problem: str = "single_label_classification"

    def targets(self, labels: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([row[0] for row in labels])

    def cost(self, scores: Tensor, targets: Tensor) -> Tensor:
        each = F.cross_entropy(scores.float(), targets, label_smoothing=self.smoothing, reduction="none")  # [B]
        return (self.weights[targets] * each).sum()

    def thresholds(self, p: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        return None


@dataclass(frozen=True)
class Several:
    """Each label holds or not, by itself: binary cross entropy, its mean over labels, where it holds by weights [L]."""

    weights: Tensor
    problem: str = SEVERAL

    def targets(self, labels: Sequence[Sequence[int]]) -> Tensor:
        return torch.from_numpy(truth_of(labels, len(self.weights))).float()

    def cost(self, scores: Tensor, targets: Tensor) -> Tensor:
        total = F.binary_cross_entropy_with_logits(scores.float(), targets, pos_weight=self.weights, reduction="sum")
        return total / len(self.weights)

    def thresholds(self, p: NDArray[np.float32], truth: NDArray[np.bool_]) -> list[float]:
        return best_thresholds(p, truth)


def criterion(recipe: Any, counts: NDArray[np.int64], n: int) -> Criterion:
    """What a recipe asks for, its rare labels weighing as much more as it says; n examples have `counts` of labels."""
    balance, seen = recipe.labels.balance, np.maximum(counts, 1)
    if recipe.labels.several:
        return Several(torch.tensor(((n - counts + 1) / seen) ** balance, dtype=torch.float32))
    rare = (seen.mean() / seen) ** balance
    weights = rare * counts.sum() / (rare * counts).sum()  # an example weighs 1 on average
    return OneOf(torch.tensor(weights, dtype=torch.float32), recipe.train.label_smoothing)


@dataclass(frozen=True)
class Batch:
    """What the model reads [B, ...], of the lengths [B] where these differ, and the targets [B] or [B, L]."""

    inputs: Tensor
    lengths: Tensor | None
    targets: Tensor


class Batches(Sequence[Batch]):
    """The batches of one epoch, each made when it is asked for and always the same."""

    def __init__(self, task: ClassificationTask, plan: list[NDArray[np.int64]], epoch: int):
        self.task, self.plan, self.epoch = task, plan, epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: Any) -> Any:
        examples, rows = self.task.examples, self.plan[i]
        random = np.random.default_rng((self.task.seed, self.epoch, i))
        return Batch(*examples.inputs(rows, random), self.task.criterion.targets(examples.labels(rows)))


class ClassificationTask:
    """Learning to label, as the training loop sees it, whatever the model reads."""

    scores = SCORES

    def __init__(
        self,
        recipe: Any,
        inputs: Inputs,
        names: LabelNames,
        valid: Judged,
        tests: Sequence[Judged],
        start: Loaded | None,
    ):
        self.recipe, self.kind, self.inputs, self.start = recipe, family(recipe.architecture), inputs, start
        self.examples, self.names, self.valid, self.tests = inputs.examples, names, valid, tests
        self.seed: int = recipe.train.seed
        self.criterion = criterion(recipe, self.examples.counts, len(self.examples))
        self.config = replace(recipe.model, labels=names.names, **inputs.settings)
        torch.manual_seed(self.seed)
        try:
            self.model: nn.Module = self.kind.build(self.config)
        except (MemoryError, RuntimeError) as refused:
            raise ConfigError(f"[model] describes a model that does not fit into memory ({refused})") from refused
        self.new = [] if start is None else carried(self.model, start, self.kind, names)
        self.report: LabelScores | None = None

    def batches(self, epoch: int) -> Batches:
        lengths, visited = self.examples.lengths, self.examples.epoch(self.seed, epoch)
        plan = plan_batches(
            lengths,
            np.zeros_like(lengths),
            budget=self.recipe.data.budget,
            seed=self.seed,
            epoch=epoch,
            indices=visited,
        )
        return Batches(self, plan, epoch)

    def loss(self, batch: Batch) -> Loss:
        model: Any = self.model
        x = model.encode(batch.inputs, Run(mask=None if batch.lengths is None else Lengths(batch.lengths)))
        read = x.shape[0] * x.shape[1] if batch.lengths is None else int(batch.lengths.sum())
        total = self.criterion.cost(model.head(x), batch.targets)
        return Loss(total=total, targets=len(batch.targets), tokens=read)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The scores of the valid data, each label at the threshold that serves it best there."""
        p = Classifier(self.loaded(model)).scores(self.valid.items)
        truth = truth_of(self.valid.labels, len(self.names))
        self.report = label_scores(p, truth, self.names.names, thresholds=self.criterion.thresholds(p, truth))
        return self.report.values()

    def loaded(self, model: nn.Module) -> Loaded:
        return Loaded(model, family=self.kind, raw={"problem_type": self.criterion.problem}, **self.inputs.parts)

    def save(self, folder: Path, model: nn.Module, card: str) -> None:
        assert self.report is not None  # a model is saved because of what it scored
        save(self.loaded(model), folder, dtype=getattr(torch, self.recipe.weights))
        write_text(folder / LABELS, labels_table(self.report))
        write_text(folder / "README.md", card)

    def card(self) -> Card:
        about, (start, exactly) = self.recipe.about, origin(self.recipe, self.start)
        data = zip(self.recipe.data.train, self.examples.parts, strict=True)
        what = '"some text"' if self.kind.reads == "text" else "picture.png"
        several = "each label at the threshold that is best on it (labels.tsv)"
        return Card(
            name=self.recipe.name,
            summary=about.summary,
            languages=self.recipe.languages,
            license=about.licence,
            data=tuple(
                DataSet(
                    name=source.name or " + ".join(source.names), license=source.licence, attribution=source.credit,
                    examples=n, url=source.url,
                )
                for source, n in data
            ),
            limits=about.limits,
            pipeline=PIPELINES[self.kind.reads],
            usage=about.usage or f"polyhead classify --model runs/{self.recipe.name} {what}",
            start=start,
            unit=UNITS[self.kind.reads],
            settings={"start": exactly, "architecture": self.kind.architecture, **flat(self.config, prefix="model.")},
            judged=dict.fromkeys(SCORES[1:], f"validation, {several}") if self.recipe.labels.several else {},
        )  # fmt: skip

    def tested(self, best: Loaded) -> list[Score]:
        """Scores on the test data at the thresholds that the valid data gave, and at 0.5."""
        classifier = Classifier(best)
        chosen = [classifier.thresholds[name] for name in self.names.names] if classifier.several else None
        ways = {"thresholds of the validation data": chosen, "threshold 0.5": [0.5] * len(self.names)}
        scores: list[Score] = []
        for source, test in zip(self.recipe.data.test, self.tests, strict=True):
            p, truth = classifier.scores(test.items), truth_of(test.labels, len(self.names))
            name = source.name or " + ".join(source.names)
            for how, thresholds in ways.items() if chosen else [("", None)]:
                found = label_scores(p, truth, self.names.names, thresholds=thresholds)
                scores += [Score(data=name, metric=m, value=x, signature=how) for m, x in found.values().items()]
        return scores


def carried(model: nn.Module, start: Loaded, kind: Family, names: LabelNames) -> list[str]:
    """Fill a model with the weights it has in common with another; the names of those that stay as chance made them.

    A head is taken over whole if the labels are the same, and its layer over the first vector from a bare encoder.
    """
    own, there = model.state_dict(), start.model.state_dict()
    same = start.family.architecture == kind.architecture and start.config.labels == names.names
    bare = start.family.does in ("vectors", "image vectors")

    def fits(name: str) -> bool:
        taken = not name.startswith("head.") or same or bare
        return taken and name in there and there[name].shape == own[name].shape

    model.load_state_dict({name: there[name] if fits(name) else own[name] for name in own})
    return [name for name in own if not fits(name)]


# --- what a model reads ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """What the data of a recipe comes to.

    parts: the fields of `Loaded` that say how inputs are made. settings: of the model's config, that follow from it.
    """

    examples: Examples
    parts: dict[str, Any]
    settings: dict[str, Any]


def texts(recipe: Any, names: LabelNames, start: Loaded | None, out: Path, scratch: Path | None) -> Inputs:
    """Texts: the tokenizer is that of the start, or trained once and kept; the data is tokenised once."""
    words = recipe.tokenizer

    def make() -> Tokenizer:
        return start.tokenizer if start else Tokenizer.train(
            lines_of(recipe.data, 0), kind=words.kind, size=words.size, simplify=words.simplify, lower=words.lower,
            coverage=words.coverage, first=FIRST, max_length=recipe.model.max_len,
        )  # fmt: skip

    given = [start.tokenizer.fingerprint()] if start else ()
    tokenizer = kept_or_made(
        recipe, out, make=make, load=Tokenizer.load, save=Tokenizer.save, given=given, keep=scratch is None
    )
    examples = TextExamples(recipe.data, tokenizer, names, scratch=scratch)
    settings = {} if start else {"vocab_size": tokenizer.size, "pad_id": tokenizer.pad_id}
    return Inputs(examples, {"tokenizer": tokenizer}, settings)


def pictures(recipe: Any, names: LabelNames, start: Loaded | None, out: Path, scratch: Path | None) -> Inputs:
    """Pictures: shown as the start is shown them, or in the model's own size."""
    model = recipe.model
    images = (start and start.images) or standard(size=model.image_size, channels=model.channels)
    return Inputs(PictureExamples(recipe.data, images, names), {"tokenizer": None, "images": images}, {})


INPUTS: dict[str, Callable[..., Inputs]] = {"text": texts, "image": pictures}


def prepare(recipe: Any, out: Path, *, scratch: Path | None = None) -> ClassificationTask:
    """A recipe becomes a task. What is left out, and which weights are new, is told on the error stream.

    With `scratch`, nothing is written anywhere else. Raises ConfigError, DataError, CheckpointError and WriteError.
    """
    data, labels = recipe.data, recipe.labels
    start = load(recipe.start) if recipe.start else None
    known = labels.given(data.folder)
    if known is None and start is not None and start.family.architecture == recipe.architecture:
        known = LabelNames(start.config.labels, labels.between())
    names = known or names_in(data, labels.between())
    if len(names) < 2:
        raise ConfigError(f"A classifier tells labels apart, but there is only {', '.join(names.names) or 'none'}.")
    try:
        valid, tests = judged(data, data.valid, names), [judged(data, [source], names) for source in data.test]
        inputs = INPUTS[family(recipe.architecture).reads](recipe, names, start, out, scratch)
    except DataError as wrong:
        if known is None or labels.names:
            raise
        raise DataError(f"{wrong} These are the labels of {recipe.start}; labels.names gives it a new head.") from None
    task = ClassificationTask(recipe, inputs, names, valid, tests, start)
    for sentence in (*told(task, inputs), *inputs.examples.told()):
        print(sentence, file=sys.stderr)
    return task


def told(task: ClassificationTask, inputs: Inputs) -> Iterator[str]:
    """What a person should see before hours of work: the labels and how often they occur, what is left out or new."""
    counts = sorted(zip(task.names.names, inputs.examples.counts.tolist(), strict=True), key=lambda pair: -pair[1])
    rest = f", and {len(counts) - TOLD} more, down to {counts[-1][0]} {counts[-1][1]:,}" if len(counts) > TOLD else ""
    yield f"{len(counts)} labels: {', '.join(f'{name} {n:,}' for name, n in counts[:TOLD])}{rest}"
    if never := [name for name, n in counts if n == 0]:
        yield f"No example has {', '.join(never[:TOLD])}; such a label cannot be learned"
    for what, held in (("valid", task.valid), *(("test", test) for test in task.tests)):
        if held.skipped.total:
            yield f"{held.skipped.total:,} lines of the {what} data left out: {held.skipped}"
    if task.new:
        yield f"New, from chance: {', '.join(task.new)}"


KIND = Kind(read_recipe, prepare)
