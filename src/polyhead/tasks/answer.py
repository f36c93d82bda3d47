"""A question and a passage become the part of the passage that answers it, with its place, or that there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, Precision, ready
from polyhead.tasks.needs import able
from polyhead.tasks.windows import numbers, through, windows_of

OVERLAP = 128  # tokens that windows of a long passage have in common
KEPT = 20  # beginnings and ends of a window that are looked at


@dataclass(frozen=True)
class Span:
    """A part of the passage: passage[start:end] is `text`. score: its logits' sum; probability: among all that were
    found, "no answer" with them."""

    text: str
    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True)
class Answer:
    """What was found, best first. `text` is empty, and `found` False, where "no answer" is likelier than any part.

    none: the probability that the passage does not answer. windows: in how many parts the passage was read.
    """

    question: str
    spans: tuple[Span, ...]
    none: float
    found: bool
    windows: int

    @property
    def text(self) -> str:
        return self.spans[0].text if self.found and self.spans else ""


@dataclass(frozen=True)
class Scored:
    """A window's candidates: (score, first token, last token) of the reading, and the score of "no answer"."""

    candidates: list[tuple[float, int, int]]
    none: float


class Answerer:
    """A loaded model made ready to answer: encoders with a head for the beginning and the end of an answer.

    n_best: how many answers are given. longest: the most tokens of one. may_fail: whether "no answer" may win, as it
    must for models trained on SQuAD 2.0.
    """

    def __init__(self, loaded: Loaded, *, n_best: int = 1, longest: int = 30, may_fail: bool = True):
        able(loaded, "answer")
        for name, n in (("n_best", n_best), ("longest", longest)):
            if type(n) is not int or n < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1; found {n!r}")
        self.n_best, self.longest, self.may_fail = n_best, longest, may_fail
        self.tokenizer, self.most = loaded.tokenizer, loaded.config.max_len
        self.model: Any = loaded.packed

    def __call__(
        self, pairs: Sequence[tuple[str, ...]], *, progress: Callable[[int], None] | None = None
    ) -> list[Answer]:
        """An answer for each (question, passage), in their order. `progress` hears how many more are done."""
        for place, (question, passage) in enumerate(pairs, 1):
            self.check(question, passage, place=f"Pair {place}")
        readings = [self.tokenizer.read(question, passage) for question, passage in pairs]
        overlap = min(OVERLAP, self.most // 4)
        windows = [
            part
            for i, each in enumerate(readings)
            for part in windows_of(each, self.most, of=i, text=1, overlap=overlap)
        ]
        logits = through(self.model, windows, self.tokenizer.pad_id, self.logits, progress)
        parts: list[list[Scored]] = [[] for _ in pairs]
        for window, x in zip(windows, logits, strict=True):
            inside = torch.tensor([readings[window.of].texts[place] == 1 for place in window.places])
            parts[window.of].append(scored(x, inside, window.places, self.longest))
        return [
            self.told(question, passage, reading.pieces, some)
            for (question, passage), reading, some in zip(pairs, readings, parts, strict=True)
        ]

    def check(self, question: str, passage: str, *, place: str) -> None:
        """Refuse a pair without a question or without a passage."""
        if not question.strip() or not passage.strip():
            what = "passage" if question.strip() else "question"
            raise DataError(f"{place} has an empty {what}; give a question and the passage to look in")

    def logits(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """Of each window [B, T, D] how well its places begin and end an answer, [T, 2]."""
        scores = numbers(self.model.head(x)).double().cpu()
        return [row[: int(n)] for row, n in zip(scores, lengths, strict=True)]

    def told(self, question: str, passage: str, pieces: Sequence[Any], parts: list[Scored]) -> Answer:
        """The best of all windows; "no answer" counts as in the window that has least doubt that there is one."""
        best: dict[tuple[int, int], float] = {}
        for part in parts:
            for score, first, last in part.candidates:
                place = pieces[first].start, pieces[last].end
                best[place] = max(score, best.get(place, -torch.inf))
        none = min(part.none for part in parts)
        order = sorted(best, key=lambda place: (-best[place], place))
        shares = torch.tensor([none, *(best[place] for place in order)], dtype=torch.float64).softmax(0).tolist()
        spans = tuple(
            Span(passage[start:end], start, end, best[start, end], shares[i + 1])
            for i, (start, end) in enumerate(order[: self.n_best])
        )
        found = bool(spans) and (not self.may_fail or spans[0].score > none)
        return Answer(question, spans, shares[0], found, len(parts))


def scored(logits: Tensor, inside: Tensor, places: Sequence[int], longest: int) -> Scored:
    """Candidates of a window from its logits [T, 2]: good beginnings with good ends behind them, inside the text."""
    begins, ends = logits.masked_fill(~inside[:, None], -torch.inf).unbind(-1)
    k = min(KEPT, int(inside.sum()))
    found = [
        (float(begins[i] + ends[j]), places[i], places[j])
        for i in begins.topk(k).indices.tolist()
        for j in ends.topk(k).indices.tolist()
        if i <= j < i + longest
    ]
    return Scored(found, float(logits[0].sum()))


@overload
def answer(
    question: str,
    passage: str,
    *,
    model: str | Path | Loaded,
    n_best: int = ...,
    longest: int = ...,
    may_fail: bool = ...,
    device: Device = ...,
    precision: Precision | None = ...,
) -> Answer: ...
@overload
def answer(
    question: str | Sequence[str],
    passage: str | Sequence[str],
    *,
    model: str | Path | Loaded,
    n_best: int = ...,
    longest: int = ...,
    may_fail: bool = ...,
    device: Device = ...,
    precision: Precision | None = ...,
) -> Answer | list[Answer]: ...
def answer(
    question: str | Sequence[str],
    passage: str | Sequence[str],
    *,
    model: str | Path | Loaded,
    n_best: int = 1,
    longest: int = 30,
    may_fail: bool = True,
    device: Device = "auto",
    precision: Precision | None = None,
) -> Answer | list[Answer]:
    """The part of a passage that answers a question, with its place, or that there is none.

    Many questions may be asked of one passage, one question of many, or each of its own; as many answers come back.
    model: a folder of an extractive question answerer, or what `load` returned. device, precision: as `load` takes
    them. n_best: how many parts are given. longest: the most tokens of one. may_fail: whether "no answer" may win;
    False for models that were never taught it. A passage that is longer than the model reads is read in windows that
    overlap. Raises ArgumentError, DataError for an empty side or a question that leaves no room, and CheckpointError.
    """
    sides = {"question": question, "passage": passage}
    many = {name: side for name, side in sides.items() if not isinstance(side, str)}
    for name, side in many.items():
        if not isinstance(side, Sequence) or not all(isinstance(text, str) for text in side):
            raise ArgumentError(f"{name} must be a text or a list of texts, found {side!r:.80}")
    if len({len(side) for side in many.values()}) > 1:
        raise ArgumentError(f"There are {len(question)} questions and {len(passage)} passages; give one for each")
    n = len(next(iter(many.values()))) if many else 1
    questions, passages = ([side] * n if isinstance(side, str) else list(side) for side in sides.values())
    answerer = Answerer(ready(model, device, precision), n_best=n_best, longest=longest, may_fail=may_fail)
    found = answerer(list(zip(questions, passages, strict=True)))
    return found if many else found[0]
