"""Held-out pairs and a model become scores: of translations by their references, of labels by those that hold, of
images and texts by how they find each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyhead.errors import ArgumentError, DataError, extra
from polyhead.generation import Search
from polyhead.inputs.label_names import LabelNames
from polyhead.inputs.readers import Example
from polyhead.tasks.asking import asking
from polyhead.tasks.classify import Classification, Classifier
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.device import Device
from polyhead.tasks.label_scores import LabelScores, label_scores, truth_of
from polyhead.tasks.load import Loaded, Precision, ready
from polyhead.tasks.needs import able
from polyhead.tasks.recall import recall
from polyhead.tasks.shortlist import Shortlist
from polyhead.tasks.translator import Translator


@dataclass(frozen=True)
class Scores:
    """BLEU and chrF of n lines (0 to 100, higher is better), each with sacreBLEU's signature (Post 2018)."""

    n: int
    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Corpus BLEU (13a, cased) and chrF2 of hypotheses against one reference each. Needs the extra `train`."""
    if len(hypotheses) != len(references) or not references:
        raise DataError(
            f"There are {len(hypotheses)} translations and {len(references)} references; they must be equally many, "
            "and at least one"
        )
    metrics = extra("sacrebleu.metrics", "train")
    bleu, chrf = metrics.BLEU(), metrics.CHRF()
    return Scores(
        n=len(references),
        bleu=bleu.corpus_score(list(hypotheses), [list(references)]).score,
        chrf=chrf.corpus_score(list(hypotheses), [list(references)]).score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def translations(
    loaded: Loaded,
    pairs: Sequence[Any],
    *,
    file: str,
    progress: Callable[[int], None] | None,
    beam: int | None = None,
    search: Search | None = None,
    task: str | None = None,
    prefix: str | None = None,
    shortlist: Shortlist | str | Path | None = None,
) -> tuple[Scores, list[str]]:
    """Translate the source of every pair and score the translations; they come back beside the scores."""
    for place, pair in enumerate(pairs, 1):
        if not (isinstance(pair, tuple | list) and len(pair) >= 2 and all(isinstance(side, str) for side in pair[:2])):
            raise ArgumentError(f"Pair {place} must be (source, reference), two texts, found {pair!r:.80}.")
    extra("sacrebleu.metrics", "train")  # or its absence is noticed when everything is translated
    said = asking(loaded, "translation", task=task, prefix=prefix)
    search = chosen_search(loaded, search, beam, task=said.settings)
    translator = Translator(loaded, search=search, said=said, shortlist=shortlist)
    numbers = [getattr(pair, "line", place) for place, pair in enumerate(pairs, 1)]
    found = translator([pair[0] for pair in pairs], numbers=numbers, file=file, progress=progress)
    texts = [translation.text for translation in found]
    return score(texts, [pair[1] for pair in pairs]), texts


def labels(
    loaded: Loaded,
    pairs: Sequence[Any],
    *,
    file: str,
    progress: Callable[[int], None] | None,
    several: bool | None = None,
    threshold: float | Mapping[str, float] | None = None,
    separator: str | None = None,
) -> tuple[LabelScores, list[Classification]]:
    """Label the first of every pair and score the labels by the second; what was found comes back beside the scores."""
    classifier = Classifier(loaded, several=several, threshold=threshold)
    if separator is not None and not classifier.several:
        raise ArgumentError("separator stands between several labels, but this model gives one each; leave it out")
    alone = LabelNames(classifier.names)
    several_in_one = any(isinstance(pair[1], str) for pair in pairs if isinstance(pair, tuple | list) and len(pair) > 1)
    names = LabelNames(classifier.names, separator or ",") if classifier.several and several_in_one else alone
    numbers: list[list[int]] = []
    for place, pair in enumerate(pairs, 1):
        if not (isinstance(pair, tuple | list) and len(pair) >= 2 and isinstance(pair[1], str | tuple | list)):
            raise ArgumentError(f"Pair {place} must be (text or image, labels), found {pair!r:.80}.")
        if loaded.family.reads == "text" and not isinstance(pair[0], str):
            raise ArgumentError(
                f"Pair {place} holds a {type(pair[0]).__name__}, but this model reads texts; give (text, labels), or "
                "take a model of images."
            )
        try:
            held = names.encode(pair[1]) if isinstance(pair[1], str) else [alone.encode(name)[0] for name in pair[1]]
            numbers.append(one_if_one(sorted(set(held)), classifier.several))
        except DataError as wrong:
            where = f"{file} line {getattr(pair, 'line', place)}" if file else f"Pair {place}"
            raise DataError(f"{where}: {wrong} Mend it, or leave such pairs out.") from None
    if not pairs:
        raise DataError("There is nothing to label; expected at least one pair of a text or an image and its labels.")
    found, p = classifier.both([pair[0] for pair in pairs], progress=progress)
    thresholds = [classifier.thresholds[name] for name in names.names] if classifier.several else None
    return label_scores(p, truth_of(numbers, len(names)), names.names, thresholds=thresholds), found


def one_if_one(held: list[int], several: bool) -> list[int]:
    """The labels of a thing, which are one where they exclude each other."""
    if not several and len(held) != 1:
        raise DataError(f"There are {len(held)} labels where one was expected.")
    return held


@dataclass(frozen=True)
class Way:
    """How models of a kind are scored: by which function, and which arguments it takes."""

    run: Callable[..., Any]
    takes: tuple[str, ...]


TRANSLATIONS = Way(translations, ("beam", "search", "task", "prefix", "shortlist"))
LABELS = Way(labels, ("several", "threshold", "separator"))
RECALL = Way(recall, ())
#  what a model gives -> how that is scored
WAYS = {
    "translation": TRANSLATIONS, "text to text": TRANSLATIONS, "labels": LABELS, "image labels": LABELS,
    "similarity": RECALL,
}  # fmt: skip


def evaluate(
    pairs: Iterable[tuple[Any, Any] | Example],
    *,
    model: str | Path | Loaded = "zh-en",
    beam: int | None = None,
    search: Search | None = None,
    task: str | None = None,
    prefix: str | None = None,
    shortlist: Shortlist | str | Path | None = None,
    several: bool | None = None,
    threshold: float | Mapping[str, float] | None = None,
    separator: str | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    file: str = "",
    progress: Callable[[int], None] | None = None,
) -> Any:
    """Score a model on held-out pairs: (scores, what it said).

    Of a translator, pairs are (source, reference), and `Scores` come with the translations; beam, search, task, prefix
    and shortlist are as `translate` takes them, and the extra `train` is needed. Of a classifier, pairs are (text or
    image, labels), the labels' names as a list or as a text with `separator` (",") between several, and `LabelScores`
    come with the `Classification` of each; several and threshold are as `classify` takes them. Of a model that reads
    texts and images, pairs are (image, text), and `RecallScores` come with the image nearest to each text.
    model, device: as everywhere. Pairs that `inputs.readers.read` gives carry their line numbers, which messages cite
    beside the name of their `file`. `progress` hears how many more are done.
    Raises DataError for no pairs, for a source beyond the model's positions and for a label that the model does not
    have, ArgumentError for what are no pairs and for an argument that such a model does not take.
    """
    if isinstance(pairs, str | os.PathLike):
        raise ArgumentError(
            f"pairs must be a list of pairs, found {str(pairs)!r:.80}; read those of a file first, with "
            "read(Source(path=...)) of polyhead.inputs.readers, or use the command: polyhead evaluate FILE."
        )
    pairs = list(pairs) if isinstance(pairs, Iterable) else [pairs]
    loaded = ready(model, device, precision)
    able(loaded, "evaluate")
    how = {
        "beam": beam, "search": search, "task": task, "prefix": prefix, "shortlist": shortlist, "several": several,
        "threshold": threshold, "separator": separator,
    }  # fmt: skip
    given, way = {name: value for name, value in how.items() if value is not None}, WAYS[loaded.family.does]
    if wrong := [name for name in given if name not in way.takes]:
        raise ArgumentError(
            f"{', '.join(wrong)} cannot be given for a {loaded.family.architecture}, which gives "
            f"{loaded.family.does}: it takes {', '.join(way.takes) or 'none of these'}"
        )
    return way.run(loaded, pairs, file=file, progress=progress, **given)
