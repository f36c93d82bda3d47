"""Pairs of a source and a reference, and a model, become scores with the signatures that make them comparable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyhead.errors import ArgumentError, DataError, extra
from polyhead.generation import Search
from polyhead.inputs.readers import Example
from polyhead.tasks.asking import asking
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, able, ready
from polyhead.tasks.translator import DOES, Translator


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


def evaluate(
    pairs: Iterable[tuple[str, str] | Example],
    *,
    model: str | Path | Loaded = "zh-en",
    beam: int | None = None,
    search: Search | None = None,
    task: str | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    file: str = "",
    progress: Callable[[int], None] | None = None,
) -> tuple[Scores, list[str]]:
    """Translate the source of every pair and score the translations; they come back beside the scores.

    pairs: (source, reference); those that `inputs.readers.read` gives carry their line numbers, which
    messages cite, beside the name of their `file`.
    model, beam, search, task, prefix, device: as `translate` takes them. `progress` hears how many more are done. Needs
    the extra `train`. Raises DataError for no pairs and for a source beyond the model's positions, ArgumentError for
    what are no pairs of texts.
    """
    pairs = list(pairs) if isinstance(pairs, Iterable) else [pairs]
    for place, pair in enumerate(pairs, 1):
        if not (isinstance(pair, tuple | list) and len(pair) >= 2 and all(isinstance(side, str) for side in pair[:2])):
            raise ArgumentError(f"Pair {place} must be (source, reference), two texts, found {pair!r:.80}.")
    extra("sacrebleu.metrics", "train")  # or its absence is noticed when everything is translated
    loaded = ready(model, device)
    able(loaded, DOES, "evaluate")
    said = asking(loaded, "translation", task=task, prefix=prefix)
    translator = Translator(loaded, search=chosen_search(loaded, search, beam, task=said.settings), said=said)
    numbers = [getattr(pair, "line", place) for place, pair in enumerate(pairs, 1)]
    found = translator([pair[0] for pair in pairs], numbers=numbers, file=file, progress=progress)
    texts = [translation.text for translation in found]
    return score(texts, [pair[1] for pair in pairs]), texts
