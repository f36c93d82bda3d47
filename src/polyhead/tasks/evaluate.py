"""Source lines, a model and reference lines become scores with the signatures that make them comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyhead.errors import DataError, extra
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


def evaluate(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[Scores, list[str]]:
    """Translate every source and score the translations; the translations come back beside the scores."""
    texts = [translation.text for translation in translator(sources, progress=progress)]
    return score(texts, references), texts
