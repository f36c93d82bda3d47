"""Texts become labels with probabilities: of all labels the likeliest, or every one that is likely enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from polyhead.core.packed import packed
from polyhead.errors import ArgumentError
from polyhead.inputs.text import clean
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, able, ready, texts_of
from polyhead.tasks.windows import through, windows_of

SEVERAL = "multi_label_classification"  # as config.json's problem_type says that labels do not exclude each other
OVERLAP = 32  # tokens that windows of a long text have in common, a quarter of the window at most


@dataclass(frozen=True)
class Classification:
    """What a text is.

    labels: the likeliest label; of labels that do not exclude each other, all above the threshold, the likeliest first.
    scores: the probability of every label, by name, the likeliest first. windows: in how many parts the text was read;
    with several, probabilities are their mean.
    """

    text: str
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    windows: int = 1


class Classifier:
    """A loaded model made ready to label texts.

    several: whether labels do not exclude each other; None: as the model's problem_type says, else they do. threshold:
    the least probability of a label that is given, of several.
    """

    def __init__(self, loaded: Loaded, *, several: bool | None = None, threshold: float | Mapping[str, float] = 0.5):
        able(loaded, ("labels",), "classify", reads=("text",))
        self.names: tuple[str, ...] = loaded.config.labels
        self.several = loaded.raw.get("problem_type") == SEVERAL if several is None else several
        self.thresholds = thresholds(threshold, self.names)
        self.tokenizer, self.most = loaded.tokenizer, loaded.config.max_len
        self.model: Any = packed(loaded.model)

    def __call__(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> list[Classification]:
        """As many answers as texts, in their order. `progress` hears how many windows more are done."""
        readings = [self.tokenizer.read(clean(text)) for text in texts]
        how = {"overlap": min(OVERLAP, self.most // 4)}
        windows = [part for i, each in enumerate(readings) for part in windows_of(each, self.most, of=i, **how)]
        found = through(self.model, windows, self.tokenizer.pad_id, self.probabilities, progress)
        parts: list[list[Tensor]] = [[] for _ in texts]
        for window, p in zip(windows, found, strict=True):
            parts[window.of].append(p)
        return [self.told(text, torch.stack(some)) for text, some in zip(texts, parts, strict=True)]

    def probabilities(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """Of each window [B, T, D] the probability of every label, [L]."""
        scores = self.model.head(x).double()
        return list((scores.sigmoid() if self.several else scores.softmax(-1)).cpu())

    def told(self, text: str, parts: Tensor) -> Classification:
        """A text's answer from the probabilities [windows, L] of its parts."""
        p = parts.mean(0).tolist()
        order = sorted(range(len(p)), key=lambda i: -p[i])
        scores = {self.names[i]: float(p[i]) for i in order}
        labels = tuple(name for name, x in scores.items() if x >= self.thresholds[name])
        return Classification(text, labels if self.several else (self.names[order[0]],), scores, len(parts))


def thresholds(threshold: float | Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """One for each label, of one number for all or some by name (0.5 for the others)."""
    given = dict(threshold) if isinstance(threshold, Mapping) else dict.fromkeys(names, threshold)
    if unknown := [name for name in given if name not in names]:
        raise ArgumentError(f"threshold names {unknown[0]!r}, but the model's labels are {', '.join(names)}")
    if wrong := [x for x in given.values() if isinstance(x, bool) or not 0 <= x <= 1]:
        raise ArgumentError(f"threshold must be from 0 to 1, a probability; found {wrong[0]!r}")
    return {name: float(given.get(name, 0.5)) for name in names}


@overload
def classify(
    texts: str,
    *,
    model: str | Path | Loaded,
    several: bool | None = ...,
    threshold: float | Mapping[str, float] = ...,
    device: Device = ...,
) -> Classification: ...
@overload
def classify(
    texts: Iterable[str],
    *,
    model: str | Path | Loaded,
    several: bool | None = ...,
    threshold: float | Mapping[str, float] = ...,
    device: Device = ...,
) -> list[Classification]: ...
def classify(
    texts: str | Iterable[str],
    *,
    model: str | Path | Loaded,
    several: bool | None = None,
    threshold: float | Mapping[str, float] = 0.5,
    device: Device = "auto",
) -> Classification | list[Classification]:
    """Label one text, or many.

    model: a folder of a text classifier, or what `load` returned. several: whether a text may have several labels or
    none; None: as the folder's problem_type says. threshold: the least probability of a label that is given, for all or
    by name; only where there may be several. A text that is longer than the model reads is read in windows that
    overlap, and their probabilities are averaged; `windows` says how many. Raises ArgumentError and CheckpointError.
    """
    lines = texts_of(texts)
    found = Classifier(ready(model, device), several=several, threshold=threshold)(lines)
    return found[0] if isinstance(texts, str) else found
