"""What may come next: scores [N, V] and the rows so far [N, t] go in, changed scores come out.

A rule is a function of its two arguments and remembers nothing, for rows are reordered and dropped between calls. It
returns a new tensor and leaves its input alone (`after` lets `Forbid` write where nobody can tell). Under Greedy and
Sample the scores are logits, under Beam they are log-probabilities, as in `transformers`. Lengths count the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from polyhead.errors import ArgumentError


class LogitRule(Protocol):
    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor: ...


def after(rules: Sequence[LogitRule], scores: Tensor, tokens: Tensor, *, own: bool) -> Tensor:
    """The scores after all rules, in their order. own: nobody else reads these scores, until a rule has seen them."""
    for rule in rules:
        own = own and type(rule) is Forbid
        scores = rule.within(scores) if own and isinstance(rule, Forbid) else rule(scores, tokens)
    return scores


@dataclass(frozen=True)
class Forbid:
    """These tokens never."""

    ids: Sequence[int]

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return self.within(scores.clone())

    def within(self, scores: Tensor) -> Tensor:
        """The same, written into scores that are nobody else's."""
        return scores.index_fill_(1, torch.tensor(self.ids, dtype=torch.long, device=scores.device), -math.inf)


@dataclass(frozen=True)
class ForbidFirst:
    """None of these tokens as the first that follows a prompt of `length` tokens."""

    length: int
    ids: Sequence[int]

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return Forbid(self.ids)(scores, tokens) if tokens.shape[1] == self.length else scores


@dataclass(frozen=True)
class MinLength:
    """None of the tokens `ends` before a row has `length` tokens."""

    length: int
    ends: Sequence[int]

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return Forbid(self.ends)(scores, tokens) if tokens.shape[1] < self.length else scores


@dataclass(frozen=True)
class ForcedAt:
    """One of the tokens `ids`, and nothing else, as the token that makes a row `length` long."""

    length: int
    ids: Sequence[int]

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        if tokens.shape[1] != self.length - 1:
            return scores
        return torch.full_like(scores, -math.inf).index_fill(1, torch.tensor(self.ids, device=scores.device), 0.0)


@dataclass(frozen=True)
class SequenceBias:
    """The last token of each of some sequences gains its bias wherever a row stands before it; -inf forbids it.

    `biases` are sequences of one token or more, each once, with what they gain; where several end in one token their
    biases add up. A row that is shorter than a sequence's beginning stands before none.
    """

    biases: Sequence[tuple[tuple[int, ...], float]]

    def __post_init__(self) -> None:
        if any(not ids for ids, _ in self.biases):
            raise ArgumentError("A sequence of SequenceBias is empty; give each at least one token.")
        if any(math.isnan(bias) or bias == math.inf for _, bias in self.biases):
            raise ArgumentError("A bias of SequenceBias is not a number below infinity; -inf forbids a sequence.")
        if len({ids for ids, _ in self.biases}) < len(self.biases):
            raise ArgumentError("A sequence of SequenceBias has two biases; give each sequence once.")

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        gain = torch.zeros_like(scores)
        for length in {len(ids) for ids, _ in self.biases if len(ids) <= tokens.shape[1] + 1}:
            some = [(ids, bias) for ids, bias in self.biases if len(ids) == length]
            runs = torch.tensor([ids for ids, _ in some], device=scores.device)  # [sequences, length]
            stands = (tokens[:, None, tokens.shape[1] - length + 1 :] == runs[:, :-1]).all(-1)  # [N, sequences]
            gain.index_add_(1, runs[:, -1], gain.new_tensor([bias for _, bias in some]).where(stands, 0.0))
        return scores + gain


@dataclass(frozen=True)
class EndsGrow:
    """The tokens `ends`, each once, gain |score| * (factor ** how many more - 1) once a row has more than `length`
    tokens; no more than leaves the sum a number."""

    length: int
    factor: float
    ends: Sequence[int]

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ArgumentError(f"factor is {self.factor}, but must be above 0; 1 changes nothing.")

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        more = tokens.shape[1] - self.length
        if more <= 0:
            return scores
        ends = torch.tensor(self.ends, dtype=torch.long, device=scores.device)
        now, most = scores[:, ends], torch.finfo(scores.dtype).max / 2
        growth = min(self.factor, most ** (1 / more)) ** more - 1
        gain = (now.abs() * growth).clamp(max=most).where(now.isfinite(), 0.0)
        return scores.index_add(1, ends, gain)


@dataclass(frozen=True)
class Normalize:
    """Scores become log-probabilities again, after rules that took tokens out: a beam then compares like with like."""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        made = scores.log_softmax(-1)
        return made.masked_fill(scores.isneginf(), -math.inf)  # also of a row where nothing is left, which has no share


@dataclass(frozen=True)
class NoRepeatNgram:
    """No run of `n` tokens twice in a row; the prompt counts."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArgumentError(f"NoRepeatNgram({self.n}) forbids nothing; n must be at least 1.")

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        t = tokens.shape[1]
        if t < self.n:
            return scores
        runs = tokens.unfold(1, self.n, 1)  # [N, t - n + 1, n]
        here = tokens[:, t - self.n + 1 :]  # [N, n - 1], how the new run begins
        row, place = (runs[..., :-1] == here[:, None]).all(-1).nonzero(as_tuple=True)
        return scores.index_put((row, runs[row, place, -1]), scores.new_tensor(-math.inf))


@dataclass(frozen=True)
class RepetitionPenalty:
    """Tokens that a row holds already lose: scores above 0 are divided by `penalty`, others multiplied (Keskar et al.,
    2019, section 4.1). Below 1 they win."""

    penalty: float

    def __post_init__(self) -> None:
        if not 0 < self.penalty < math.inf:
            raise ArgumentError(f"penalty is {self.penalty}, but must be above 0; 1 changes nothing.")

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        seen = scores.gather(1, tokens)  # [N, t]
        return scores.scatter(1, tokens, torch.where(seen < 0, seen * self.penalty, seen / self.penalty))
