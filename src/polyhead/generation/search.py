"""How the next token is chosen: the scores of all tokens go in, the rows that go on and the finished answers come out.

A search (`Greedy`, `Sample`, `Beam`) is a frozen setting. `begin` makes the state of one call, and the loop asks that
state once a step. Letters: B sources, R rows for each source, N = B * R rows, V tokens, t tokens so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.stop import StopRule


@dataclass(frozen=True)
class Hypothesis:
    """One answer.

    `tokens` holds what follows the prompt, without the token that ended it. `score` is the log-probability, natural
    logarithm, of `tokens` and the end token (a beam's is divided by length ** length_penalty); None where the search
    was not asked for it. `finished` is False where the length limit cut the answer short.
    """

    tokens: list[int]
    score: float | None
    finished: bool


@dataclass(frozen=True)
class Choice:
    """One step's outcome: `rows` [B, R], the row each next row continues; `tokens` [B, R], what it adds; `done` [B]."""

    rows: Tensor
    tokens: Tensor
    done: Tensor


@dataclass(frozen=True)
class Task:
    """What a search must know of the call: `numbers`, the B sources' numbers in the caller's whole input; `start`, the
    length of the prompt; `limit` [B], the most tokens to add to each source; `stop`, what completes a row."""

    numbers: Sequence[int]
    start: int
    limit: Tensor
    stop: StopRule

    def answer(self, row: list[int], score: float | None, finished: bool) -> Hypothesis:
        """A whole row, prompt and end token included, as a hypothesis."""
        last = len(row) - 1 if finished and row[-1] in self.stop.ids else len(row)
        return Hypothesis(row[self.start : last], score, finished)


class State(Protocol):
    """A search at work on the open sources of one call."""

    def scores(self, logits: Tensor) -> Tensor:
        """Logits [N, V] -> what the logit rules work on [N, V]."""
        ...

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        """Scores after the rules [N, V] and the rows so far [N, t] -> how the rows go on."""
        ...

    def answers(self, source: int) -> list[Hypothesis]:
        """What was found for one open source, best first."""
        ...

    def keep(self, sources: Tensor) -> None:
        """Go on with these open sources only."""
        ...


class Search(Protocol):
    """A way to choose tokens: a frozen setting that makes the state of one call."""

    def begin(self, task: Task) -> State: ...


Pick = Callable[[Tensor, Tensor, int], Tensor]
"""Scores [N, V], the number of each row's source in the call [B] and the count of tokens added so far -> tokens [N]."""


@dataclass(frozen=True)
class Greedy:
    """The best token at every step. With `scored` each answer carries its log-probability, at the price of a softmax."""

    scored: bool = False

    def begin(self, task: Task) -> State:
        return Walk(task, lambda scores, sources, added: best(scores), rows=1, scored=self.scored)


@dataclass(frozen=True)
class Sample:
    """A token drawn from softmax(logits / temperature), cut to the `top_k` best tokens and then to the fewest tokens
    that hold a share `top_p` of the probability (Holtzman et al., 2020, section 3.1).

    `n_best` answers are drawn for each source, in the order drawn. Draws depend on (seed, number of the source, number
    of the answer, position) alone, so neither the batch nor its order changes them. `scored` gives the log-probability
    before temperature, top_k and top_p.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    n_best: int = 1
    scored: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ArgumentError(f"temperature is {self.temperature}, but must be above 0; for the best token use Greedy().")
        if self.top_k is not None and self.top_k < 1:
            raise ArgumentError(f"top_k is {self.top_k}, but must be at least 1; None keeps every token.")
        if not 0 < self.top_p <= 1:
            raise ArgumentError(f"top_p is {self.top_p}, but must be above 0 and at most 1; 1 keeps every token.")
        if self.n_best < 1:
            raise ArgumentError(f"n_best is {self.n_best}, but must be at least 1.")
        if self.seed < 0:
            raise ArgumentError(f"seed is {self.seed}, but must not be negative.")

    def begin(self, task: Task) -> State:
        chances = [
            [np.random.default_rng([self.seed, number, answer]).random(int(limit)) for answer in range(self.n_best)]
            for number, limit in zip(task.numbers, task.limit.tolist(), strict=True)
        ]
        table = torch.zeros(len(chances), self.n_best, int(task.limit.max()), dtype=torch.float64)  # [B, R, T]
        for source, answers in enumerate(chances):
            for answer, chance in enumerate(answers):
                table[source, answer, : len(chance)] = torch.from_numpy(chance)
        table = table.to(task.limit.device)

        def pick(scores: Tensor, sources: Tensor, added: int) -> Tensor:
            return self.draw(scores, table[sources, :, added].flatten())

        return Walk(task, pick, rows=self.n_best, scored=self.scored)

    def draw(self, scores: Tensor, chance: Tensor) -> Tensor:
        """Scores [N, V] and uniform numbers in [0, 1) [N] -> tokens [N], by inverting the cumulative distribution."""
        best(scores)
        scores = scores.double() / self.temperature
        names = None
        if self.top_k is not None or self.top_p < 1:
            scores, names = scores.topk(min(self.top_k or scores.shape[1], scores.shape[1]))  # best first
        share = scores.softmax(-1)
        below = share.cumsum(-1)  # [N, V]
        kept = (below - share < self.top_p).sum(-1, keepdim=True)  # the rows are sorted wherever top_p cuts
        whole = below.gather(1, kept - 1)
        place = torch.searchsorted(below, chance[:, None] * whole, right=True)
        return (place if names is None else names.gather(1, place)).squeeze(1)


class Walk:
    """Rows that never meet: each adds the token that `pick` gives it until it is complete. A source is done when all
    its rows are; until then its complete rows idle, so that every source keeps the same number of rows."""

    def __init__(self, task: Task, pick: Pick, *, rows: int, scored: bool) -> None:
        B, device = len(task.limit), task.limit.device
        self.task, self.pick = task, pick
        self.sources = torch.arange(B, device=device)
        self.walking = torch.ones(B, rows, dtype=torch.bool, device=device)
        self.total = torch.zeros(B, rows, device=device) if scored else None
        self.found: list[list[Hypothesis | None]] = [[None] * rows for _ in range(B)]

    def scores(self, logits: Tensor) -> Tensor:
        return logits

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        shape = self.walking.shape  # [B, R]
        rows = torch.arange(len(scores), device=scores.device).view(shape[0], -1).expand(shape)  # the first step fans out
        if len(scores) != rows.numel():
            scores, tokens = scores[rows.flatten()], tokens[rows.flatten()]
        added = tokens.shape[1] - self.task.start
        chosen = self.pick(scores, self.sources, added)
        if self.total is not None:
            self.total += scores.float().log_softmax(-1).gather(1, chosen[:, None]).view(shape) * self.walking
        complete = self.task.stop(tokens, chosen[:, None]).view(shape)
        closing = self.walking & (complete | (self.task.limit[self.sources, None] == added + 1))
        chosen = chosen.view(shape)
        if closing.any():
            self.walking = self.walking & ~closing
            self.collect(tokens.view(*shape, -1), chosen, complete, closing)
        return Choice(rows, chosen, ~self.walking.any(1))

    def collect(self, tokens: Tensor, chosen: Tensor, complete: Tensor, closing: Tensor) -> None:
        for source, row in closing.nonzero().tolist():
            whole = [*tokens[source, row].tolist(), int(chosen[source, row])]
            score = None if self.total is None else float(self.total[source, row])
            self.found[source][row] = self.task.answer(whole, score, bool(complete[source, row]))

    def answers(self, source: int) -> list[Hypothesis]:
        return [hypothesis for hypothesis in self.found[source] if hypothesis is not None]

    def keep(self, sources: Tensor) -> None:
        self.sources, self.walking = self.sources[sources], self.walking[sources]
        self.total = None if self.total is None else self.total[sources]
        self.found = [self.found[source] for source in sources.tolist()]


def best(scores: Tensor) -> Tensor:
    """The best token of each row, [N, V] -> [N]; refuses rows that leave nothing to choose from."""
    top, token = scores.max(-1)
    if not bool(top.isfinite().all()):
        raise nothing_to_choose(top)
    return token


def nothing_to_choose(top: Tensor) -> ArgumentError:
    """The error for rows whose best score `top` [N] is -inf or not a number."""
    row = int((~top.isfinite()).nonzero()[0])
    return ArgumentError(
        f"No token can be chosen for row {row} of {len(top)}, whose best score is {float(top[row])}; -inf means that the "
        "logit rules forbid every token, nan that the model computes no numbers."
    )
