"""What is said of a window: the search's answer, or, where that is not believed, one that is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from polyhead.generation import Beam, Contrastive, EndToken, Greedy, Hypothesis, LogitRule, Sample, Search, generate
from polyhead.tasks.decoder import DecoderStep


class Answer(NamedTuple):
    """What was said of a window. sure: the mean log-probability of its tokens. temperature: 0 for the search's own."""

    tokens: list[int]
    sure: float
    finished: bool
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """When a window's answer is not believed, and what is done then (Radford et al. 2022, section 4.5).

    least: the mean log-probability below which an answer is read again. repeats: how many times smaller a text may get
    when it is compressed; one that says the same again and again gets smaller still. temperatures: at which it is then
    drawn, one after the other, until an answer is believed; the last one is taken. silence: the probability of the sign
    for no speech above which an answer below `least` is left out instead.
    """

    least: float = -1.0
    repeats: float = 2.4
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    silence: float = 0.6

    def silent(self, answer: Answer, silence: float) -> bool:
        """Whether nobody speaks: the sign for it is likely, and the answer is not."""
        return silence > self.silence and answer.sure < self.least

    def believed(self, answer: Answer, text: str, silence: float) -> bool:
        """Whether a window need not be read again."""
        return self.silent(answer, silence) or (answer.sure >= self.least and repeats(text) <= self.repeats)


USUAL = Doubt()


def said(
    step: DecoderStep,
    prompt: Tensor,
    *,
    real: Tensor | None,
    search: Search,
    doubt: Doubt | None,
    spelled: Callable[[Sequence[int]], str],
    silences: Sequence[float],
    room: int,
    rules: Sequence[LogitRule],
    end: int,
    numbers: Sequence[int],
) -> list[Answer]:
    """An answer for each window: prompt [B, t], a step that has read no more than that.

    real: as in `DecoderStep`. spelled: the text of tokens. silences: the probability, of each window, that nobody
    speaks. room: the most tokens. numbers: of the windows, by which is drawn.
    """
    model, memory = step.model, step.memory
    assert memory is not None
    found: dict[int, Answer] = {}
    rows = list(range(len(prompt)))
    for temperature in (0.0, *(doubt.temperatures if doubt else ())):
        if temperature:
            step = DecoderStep(model, None if real is None else real[rows], memory=memory[rows])
            search = Sample(temperature, scored=True)
        answers = generate(
            step, prompt[rows], search=search, max_new=room, rules=rules, stop=EndToken([end]),
            numbers=[numbers[row] for row in rows],
        )  # fmt: skip
        for row, (best, *_) in zip(rows, answers, strict=True):
            found[row] = Answer(best.tokens, sureness(best, search), best.finished, temperature)
        if doubt is not None:
            rows = [row for row in rows if not doubt.believed(found[row], spelled(found[row].tokens), silences[row])]
        if doubt is None or not rows:
            break
    return [found[row] for row in range(len(prompt))]


def scored(search: Search) -> Search:
    """The search, telling how likely its answers are."""
    return replace(search, scored=True) if isinstance(search, Greedy | Sample | Contrastive) else search


def sureness(answer: Hypothesis, search: Search) -> float:
    """The mean log-probability of the tokens of an answer, its end among them; 0 where a search does not tell."""
    if answer.score is None:
        return 0.0
    n = max(1, len(answer.tokens) + answer.finished)
    total = answer.score * n**search.length_penalty if isinstance(search, Beam) else answer.score
    return total / n


def repeats(text: str) -> float:
    """How many times smaller a text gets when it is compressed."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))
