"""Texts and images become labels with probabilities: of all the likeliest, or every one that is likely enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import ArgumentError, CheckpointError
from polyhead.inputs.text import clean
from polyhead.tasks.device import Device
from polyhead.tasks.label_scores import LabelScores
from polyhead.tasks.load import Loaded, Precision, ready, texts_of
from polyhead.tasks.needs import able
from polyhead.tasks.space import Space, called
from polyhead.tasks.windows import numbers, through, windows_of

LABELS = "labels.tsv"  # beside a model: how well it finds each label, and at which threshold best
SEVERAL = "multi_label_classification"  # as config.json's problem_type says that labels do not exclude each other
IMAGES = 32  # in one batch
TEMPLATES = ("a photo of a {}.",)  # what is said of a label that is asked for (Radford et al. 2021, section 3.1.4)
OVERLAP = 32  # tokens that windows of a long text have in common, a quarter of the window at most


@dataclass(frozen=True)
class Classification:
    """What a text or an image is.

    item: the text, or the image's file or number. labels: the likeliest label; of labels that do not exclude each
    other, all above the threshold, the likeliest first. scores: the probability of every label, by name, the likeliest
    first. windows: in how many parts a text was read; with several, probabilities are their mean.
    """

    item: str
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    windows: int = 1


class Classifier:
    """A loaded model made ready to label what it reads, texts or images.

    several: whether labels do not exclude each other; None: as the model's problem_type says, else they do. threshold:
    the least probability of a label that is given, of several; None: the folder's labels.tsv, or 0.5.
    """

    def __init__(
        self, loaded: Loaded, *, several: bool | None = None, threshold: float | Mapping[str, float] | None = None
    ):
        able(loaded, "classify")
        self.names: tuple[str, ...] = loaded.config.labels
        self.several = loaded.raw.get("problem_type") == SEVERAL if several is None else several
        self.thresholds = agreed(threshold, chosen_for(loaded), self.names, several=self.several)
        self.loaded, self.model = loaded, loaded.packed

    def __call__(self, items: Sequence[Any], *, progress: Callable[[int], None] | None = None) -> list[Classification]:
        """As many answers as items, in their order. `progress` hears how many more are done."""
        return self.both(items, progress=progress)[0]

    def scores(self, items: Sequence[Any], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """The probability of every label for every item, [n, L]."""
        return self.both(items, progress=progress)[1]

    def both(
        self, items: Sequence[Any], *, progress: Callable[[int], None] | None = None
    ) -> tuple[list[Classification], NDArray[np.float32]]:
        """The answers, and the probabilities [n, L] that they are made from."""
        found = self.parts(items, progress)
        told = [self.told(name, parts) for name, parts in found]
        return told, np.array([parts.mean(0).numpy() for _, parts in found], np.float32)

    def parts(self, items: Sequence[Any], progress: Callable[[int], None] | None) -> list[tuple[str, Tensor]]:
        """Each item's name and the probabilities of its parts, [parts, L]."""
        return (self.texts if self.loaded.family.reads == "text" else self.images)(items, progress)

    def texts(self, texts: Sequence[str], progress: Callable[[int], None] | None) -> list[tuple[str, Tensor]]:
        """Each text and the probabilities of its windows, [windows, L]."""
        tokenizer, most = self.loaded.tokenizer, self.loaded.config.max_len
        readings = [tokenizer.read(clean(text)) for text in texts]
        how = {"overlap": min(OVERLAP, most // 4)}
        windows = [part for i, each in enumerate(readings) for part in windows_of(each, most, of=i, **how)]
        found = through(self.model, windows, tokenizer.pad_id, lambda x, _: self.probabilities(x), progress)
        parts: list[list[Tensor]] = [[] for _ in texts]
        for window, p in zip(windows, found, strict=True):
            parts[window.of].append(p)
        return [(text, torch.stack(some)) for text, some in zip(texts, parts, strict=True)]

    @torch.inference_mode()
    def images(self, images: Sequence[Any], progress: Callable[[int], None] | None) -> list[tuple[str, Tensor]]:
        """Each image's name and its probabilities, [1, L]."""
        assert self.loaded.images is not None
        found: list[tuple[str, Tensor]] = []
        for start in range(0, len(images), IMAGES):
            some = images[start : start + IMAGES]
            pixels = self.loaded.images.pixels(*some).to(self.loaded.device)
            p = self.probabilities(self.model.encode(pixels))
            names = (str(x) if isinstance(x, str | Path) else str(i) for i, x in enumerate(some, start + 1))
            found += [(name, row[None]) for name, row in zip(names, p, strict=True)]
            if progress:
                progress(len(some))
        return found

    def probabilities(self, x: Tensor) -> list[Tensor]:
        """Of vectors [B, T, D] the probability of every label, [L] each."""
        scores = numbers(self.model.head(x)).double()
        return list((scores.sigmoid() if self.several else scores.softmax(-1)).cpu())

    def told(self, item: str, parts: Tensor) -> Classification:
        """An answer from the probabilities [windows, L] of the parts."""
        p = parts.mean(0).tolist()
        order = sorted(range(len(p)), key=lambda i: -p[i])
        scores = {self.names[i]: float(p[i]) for i in order}
        labels = tuple(name for name, x in scores.items() if x >= self.thresholds[name])
        return Classification(item, labels if self.several else (self.names[order[0]],), scores, len(parts))


class Asked(Classifier):
    """A loaded model that reads texts and images, made ready to label images by labels that it is asked for, though it
    learned none: by what share it gives the text that says each (Radford et al. 2021, section 3.1).

    labels: their names. templates: the texts, in which {} is the name; of several, the vectors are averaged (3.1.4).
    several, threshold: as of other classifiers, where the model judges each pair by itself (SigLIP).
    """

    def __init__(
        self,
        loaded: Loaded,
        labels: Sequence[str],
        *,
        templates: Sequence[str] = TEMPLATES,
        several: bool | None = None,
        threshold: float | Mapping[str, float] | None = None,
    ):
        self.space = Space(loaded, "classify")
        self.names = tuple(label.strip() for label in labels)
        if "" in self.names or len(set(self.names)) < max(len(self.names), 2):
            raise ArgumentError(f"labels must be two or more names, each another one; found {', '.join(labels)}")
        if wrong := [template for template in templates if "{}" not in template] or ([""] if not templates else []):
            raise ArgumentError(f"A template must hold {{}}, where the label stands; found '{wrong[0]}'")
        self.several, self.loaded = bool(several), loaded
        if self.several and not self.space.by_itself:
            raise ArgumentError(
                "Labels that this model is asked for share one probability among them, so that several cannot hold;"
                " leave several out"
            )
        self.thresholds = agreed(threshold, 0.5, self.names, several=self.several)
        said = [template.replace("{}", name) for name in self.names for template in templates]
        means = self.space.texts(said).reshape(len(self.names), len(templates), -1).mean(1)
        self.asked = means / np.linalg.norm(means, axis=1, keepdims=True)  # [L, E]

    def parts(self, items: Sequence[Any], progress: Callable[[int], None] | None) -> list[tuple[str, Tensor]]:
        """Each image's name and its labels' shares, [1, L]."""
        shares = torch.from_numpy(self.space.shares(self.space.images(items, progress) @ self.asked.T))
        return [(called(item, i), row[None]) for i, (item, row) in enumerate(zip(items, shares, strict=True))]


def classifier(
    loaded: Loaded,
    *,
    several: bool | None = None,
    threshold: float | Mapping[str, float] | None = None,
    labels: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> Classifier:
    """What labels things by the labels that a model has, or, where it has none, by those that it is asked for. Raises
    ArgumentError for what such a model cannot be asked."""
    if not loaded.family.towers:
        made = Classifier(loaded, several=several, threshold=threshold)
        if labels is not None or templates is not None:
            names = f"{', '.join(made.names[:10])}{' ...' if len(made.names) > 10 else ''}"
            raise ArgumentError(
                "labels and templates are for a model that reads texts and images;"
                f" {loaded.folder or 'this one'} has labels of its own: {names}"
            )
        return made
    if labels is None:
        raise ArgumentError(
            f"{loaded.folder or 'This model'} has no labels of its own; say which there are, as in"
            " labels=('cat', 'dog') or --labels cat,dog"
        )
    how = TEMPLATES if templates is None else templates
    return Asked(loaded, labels, templates=how, several=several, threshold=threshold)


def labels_table(found: LabelScores) -> str:
    """What labels.tsv holds: how well each label is found on held-out data, and the threshold that serves it best."""
    head = "label\tn\tprecision\trecall\tf1\tthreshold\n"
    rows = (
        f"{one.label}\t{one.n}\t{one.precision:.4f}\t{one.recall:.4f}\t{one.f1:.4f}\t"
        f"{'' if one.threshold is None else f'{one.threshold:.6f}'}\n"
        for one in found.labels
    )
    return head + "".join(rows)


def chosen_for(loaded: Loaded) -> float | dict[str, float]:
    """The thresholds in a folder's labels.tsv; 0.5 where it has none. Raises CheckpointError for a damaged file."""
    path = loaded.folder and loaded.folder / LABELS
    if not path or not path.is_file():
        return 0.5
    try:
        head, *rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
        at = head.index("threshold")
        found = {row[0]: float(row[at]) for row in rows if row[at]}
        thresholds(found, loaded.config.labels)
    except (OSError, ValueError, IndexError) as wrong:
        raise CheckpointError(
            f"{path} is no table of this model's labels and thresholds ({wrong}); delete it."
        ) from None
    return found


def agreed(
    threshold: float | Mapping[str, float] | None,
    otherwise: float | Mapping[str, float],
    names: Sequence[str],
    *,
    several: bool,
) -> dict[str, float]:
    """The threshold of each label: those that were given, which only several labels have, or the others."""
    found = thresholds(otherwise if threshold is None else threshold, names)
    if threshold is not None and not several:
        raise ArgumentError(
            "threshold is of labels that may hold together, but this model gives the likeliest one; leave it out, "
            "or say that several may hold"
        )
    return found


def thresholds(threshold: float | Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """One for each label, of one number for all or some by name (0.5 for the others)."""
    given = dict(threshold) if isinstance(threshold, Mapping) else dict.fromkeys(names, threshold)
    if unknown := [name for name in given if name not in names]:
        raise ArgumentError(f"threshold names {unknown[0]!r}, but the model's labels are {', '.join(names)}")
    if wrong := [x for x in given.values() if type(x) not in (int, float) or not 0 <= x <= 1]:
        raise ArgumentError(f"threshold must be from 0 to 1, a probability; found {wrong[0]!r}")
    return {name: float(given.get(name, 0.5)) for name in names}


def classify(
    items: Any,
    *,
    model: str | Path | Loaded,
    several: bool | None = None,
    threshold: float | Mapping[str, float] | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    labels: Sequence[str] | None = None,
    template: str | Sequence[str] | None = None,
) -> Any:
    """Label one text or image (a `Classification`), or many (a list of them).

    items: a text or texts; for a model of images, a file, a PIL image or an array [height, width, 3], or a list of
    such. model: a folder of a classifier, or what `load` returned. device, precision: as `load` takes them. several:
    whether something may have several labels or none; None: as the folder's problem_type says. threshold: the least
    probability of a label that is given, for all or by name, only where there may be several; None: what its training
    found best (labels.tsv), or 0.5. A text that is longer than the model reads is read in windows that overlap, and
    their probabilities are averaged; `windows` says how many. labels: those of images to choose from, by a model that
    reads texts and images and has none of its own. template: the text that says such a label, {} being its name, or
    several, whose vectors are averaged; None: "a photo of a {}." Raises ArgumentError, DataError and CheckpointError.
    """
    loaded = ready(model, device, precision)
    templates = [template] if isinstance(template, str) else template
    label = classifier(loaded, several=several, threshold=threshold, labels=labels, templates=templates)
    if loaded.family.reads == "text":
        found = label(texts_of(items))
        return found[0] if isinstance(items, str) else found
    return label(list(items)) if isinstance(items, list | tuple) else label([items])[0]
