"""How the next token is chosen: the scores of all tokens go in, the rows that go on and the finished answers come out.

A search (`Greedy` and `Sample` here, `Beam` in beam.py) is a frozen setting. `begin` makes the state of one call, and
the loop asks that state once a step. Letters: B open sources, R rows for each, N = B * R rows, V tokens in the
vocabulary, t tokens so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation import cuts
from polyhead.generation.stop import StopRule

GROUP = 128  # scores whose maximum is looked at first
SMALL = 1 << 16  # scores among which the best is found as soon without
WIDEST = 1000  # rows of one source; a beam of more asks for memory and finds nothing


@dataclass(frozen=True)
class Hypothesis:
    """One answer.

    `tokens` is what follows the prompt, without the token that ended it. `score` is the log-probability (natural
    logarithm) of these tokens and of the end token, divided by length ** length_penalty under `Beam`, and None where
    the search was not asked for it. `finished` is False where the limit on new tokens cut the answer short.
    """

    tokens: list[int]
    score: float | None
    finished: bool


@dataclass(frozen=True)
class Call:
    """What a search must know of one call of `generate`.

    `numbers`: the B sources' numbers in the caller's whole input; `start`: the length of the prompt; `limit` [B]: the
    most tokens to add to each source; `stop`: what completes a row; `hidden`: the step's method of that name, if any.
    """

    numbers: Sequence[int]
    start: int
    limit: Tensor
    stop: StopRule
    hidden: Callable[[], Tensor] | None = None

    def __post_init__(self) -> None:
        if any(number < 0 for number in self.numbers):
            raise ArgumentError(f"The number of a source counts from 0, and here is {min(self.numbers)}.")

    def answer(self, row: Sequence[int], score: float | None, finished: bool) -> Hypothesis:
        """A whole row, prompt and end token included, as a hypothesis."""
        ended = finished and row[-1] in self.stop.ids
        return Hypothesis(list(row[self.start : len(row) - ended]), score, finished)


@dataclass(frozen=True)
class Choice:
    """One step's outcome: `rows` [B, R'], which row of the N each next row continues; `tokens` [B, R'], what it adds;
    `done` bool [B], which sources have all their answers."""

    rows: Tensor
    tokens: Tensor
    done: Tensor


class State(Protocol):
    """A search at work on the open sources of one call. One whose scores are made anew in every step, and read by it in
    `choose` alone, may say `own = True`: a rule is then free to write into them."""

    def scores(self, logits: Tensor) -> Tensor:
        """Logits [N, V] -> what the logit rules work on [N, V]."""
        ...

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        """Scores after the rules [N, V] and the rows so far [N, t] -> how the rows go on."""
        ...

    def answers(self, source: int) -> list[Hypothesis]:
        """What was found for one of the open sources, best first."""
        ...

    def keep(self, sources: Tensor) -> None:
        """Go on with these of the open sources, LongTensor [B'], in this order."""
        ...


class Search(Protocol):
    """A way to choose tokens: a frozen setting that makes the state of one call."""

    def begin(self, call: Call) -> State: ...


@dataclass(frozen=True)
class Greedy:
    """The best token at every step. `scored` gives every answer its log-probability, at the price of a softmax."""

    scored: bool = False

    def begin(self, call: Call) -> State:
        return Walk(call, lambda scores, sources, added: first_best(scores), rows=1, scored=self.scored)


@dataclass(frozen=True)
class Sample:
    """A token drawn from softmax(logits / temperature) of the tokens that are left by cuts, which follow one another:

    - `top_h`: the best tokens whose share of the entropy stays below this (Potraghloo et al., 2025);
    - `top_k`: the k best;
    - `top_p`: the fewest that hold this share of the probability (Holtzman et al., 2020, section 3.1);
    - `min_p`: those at least this likely beside the likeliest (Nguyen et al., 2024);
    - `typical_p`: the fewest that hold this share and are nearest to the entropy in surprise (Meister et al., 2023);
    - `epsilon_cutoff`: those at least this likely (Hewitt et al., 2022);
    - `eta_cutoff`: the same, but less strict where many tokens are possible (the same).

    `n_best` answers are drawn for each source and come in the order drawn. The draws depend on (seed, number of the
    source, number of the answer, position) and on nothing else, so batch mates do not change them. `scored` gives every
    answer its log-probability before temperature and cuts.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    n_best: int = 1
    scored: bool = False
    min_p: float = field(default=0.0, kw_only=True)
    typical_p: float = field(default=1.0, kw_only=True)
    epsilon_cutoff: float = field(default=0.0, kw_only=True)
    eta_cutoff: float = field(default=0.0, kw_only=True)
    top_h: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ArgumentError(
                f"temperature is {self.temperature}, but must be above 0; Greedy() takes the best token."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ArgumentError(f"top_k is {self.top_k}, but must be at least 1; None keeps every token.")
        if not 0 < self.top_p <= 1:
            raise ArgumentError(f"top_p is {self.top_p}, but must be above 0 and at most 1; 1 keeps every token.")
        if not 0 < self.typical_p <= 1:
            raise ArgumentError(
                f"typical_p is {self.typical_p}, but must be above 0 and at most 1; 1 keeps every token."
            )
        if not 0 <= self.min_p <= 1:
            raise ArgumentError(f"min_p is {self.min_p}, but must be from 0 to 1; 0 keeps every token.")
        for name, value in {"epsilon_cutoff": self.epsilon_cutoff, "eta_cutoff": self.eta_cutoff}.items():
            if not 0 <= value < 1:
                raise ArgumentError(f"{name} is {value}, but must be at least 0 and below 1; 0 keeps every token.")
        if self.top_h is not None and not 0 < self.top_h <= 1:
            raise ArgumentError(f"top_h is {self.top_h}, but must be above 0 and at most 1; None keeps every token.")
        if self.seed < 0:
            raise ArgumentError(f"seed is {self.seed}, but must not be negative.")
        if self.n_best < 1:
            raise ArgumentError(f"n_best is {self.n_best}, but must be at least 1.")

    def begin(self, call: Call) -> State:
        longest = int(call.limit.max())
        chances = [
            [np.random.default_rng([self.seed, number, answer]).random(longest) for answer in range(self.n_best)]
            for number in call.numbers
        ]
        device = call.limit.device
        table = torch.tensor(np.array(chances)).to(device, widest(device))  # [sources of the call, n_best, longest]
        return Walk(
            call,
            lambda scores, sources, added: self.draw(scores, table[sources, :, added].flatten()),
            rows=self.n_best,
            scored=self.scored,
        )

    def draw(self, scores: Tensor, chance: Tensor) -> Tensor:
        """Scores [N, V] and uniform numbers in [0, 1) [N] -> tokens [N], by inverting the cumulative distribution."""
        scores = scores.to(widest(scores.device))
        scores, names = self.shaped(scores - scores.amax(-1, keepdim=True))  # at most 0: no temperature is too low
        reached = scores.softmax(-1).cumsum(-1)  # [N, K]
        place = torch.searchsorted(reached, chance[:, None] * reached[:, -1:], right=True)
        return (place if names is None else names.gather(1, place)).squeeze(1)

    def shaped(self, scores: Tensor, *, least: int = 1) -> tuple[Tensor, Tensor | None]:
        """Scores [N, V] -> scores [N, K] over the temperature, -inf where they are cut, and the tokens they are of,
        best first; None for the tokens where all stay. `least` tokens are never cut."""
        scores, V = scores / self.temperature, scores.shape[1]
        if self == Sample(self.temperature, seed=self.seed, n_best=self.n_best, scored=self.scored):
            return scores, None
        most = V if self.top_k is None else min(max(self.top_k, least), V)
        scores, names = scores.topk(most if self.top_h is None else min(V, cuts.MOST_H))
        if self.top_h is not None:
            scores = cuts.top_h(scores, self.top_h)[:, :most]
        if self.top_p < 1:
            scores = cuts.top_p(scores, self.top_p, least)
        if self.min_p > 0:
            scores = cuts.min_p(scores, self.min_p, least)
        if self.typical_p < 1:
            scores = cuts.typical_p(scores, self.typical_p, least)
        if self.epsilon_cutoff > 0:
            scores = cuts.epsilon(scores, self.epsilon_cutoff, least)
        if self.eta_cutoff > 0:
            scores = cuts.eta(scores, self.eta_cutoff, least)
        return scores, names[:, : scores.shape[1]]


Pick = Callable[[Tensor, Tensor, int], Tensor]
"""Scores [N, V], the places of the open sources in the call [B], the count of tokens added so far -> tokens [N]."""


class Walk:
    """Rows that never meet: each adds the token that `pick` gives it until it is complete. A source is done when all
    its rows are; until then its complete rows idle, so that every source keeps the same number of rows."""

    def __init__(self, call: Call, pick: Pick, *, rows: int, scored: bool) -> None:
        B, device = len(call.limit), call.limit.device
        self.call, self.pick, self.scored = call, pick, scored
        self.sources = torch.arange(B, device=device)
        self.walking = torch.ones(B, rows, dtype=torch.bool, device=device)
        self.total = torch.zeros(
            B, rows, dtype=torch.float32, device=device
        )  # log-probability so far, where it is asked for
        self.found: list[dict[int, Hypothesis]] = [{} for _ in range(B)]

    def scores(self, logits: Tensor) -> Tensor:
        return logits

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        B, R = self.walking.shape
        rows = torch.arange(len(scores), device=scores.device).view(B, -1).expand(B, R)
        if len(scores) < B * R:  # the first step: one row for each source fans out
            scores, tokens = scores[rows.flatten()], tokens[rows.flatten()]
        scores = self.usable(scores)

        added = tokens.shape[1] - self.call.start
        chosen = self.pick(scores, self.sources, added)  # [N]
        if self.scored:
            gain = scores.float().log_softmax(-1).gather(1, chosen[:, None]).view(B, R)
            self.total = self.total + gain.where(self.walking, 0.0)
        complete = self.call.stop(tokens, chosen[:, None]).view(B, R)
        closing = self.walking & (complete | (self.call.limit[self.sources, None] == added + 1))
        if bool(closing.any()):
            self.walking = self.walking & ~closing
            whole = torch.cat((tokens, chosen[:, None]), 1).view(B, R, -1)
            for source, row in true_places(closing):
                score = float(self.total[source, row]) if self.scored else None
                answer = self.call.answer(as_list(whole[source, row]), score, bool(complete[source, row]))
                self.found[source][row] = answer
        return Choice(rows, chosen.view(B, R), ~self.walking.any(1))

    def usable(self, scores: Tensor) -> Tensor:
        """Scores that leave every row something to choose: walking rows must have it, idle rows are given it."""
        finite = scores.amax(-1).isfinite()
        if bool(finite.all()):
            return scores
        for source, row in true_places(self.walking & ~finite.view(self.walking.shape)):
            top = scores.view(*self.walking.shape, -1)[source, row].amax()
            raise nothing_to_choose(self.call.numbers[int(self.sources[source])], float(top))
        return scores.where(finite[:, None], 0.0)

    def answers(self, source: int) -> list[Hypothesis]:
        return [self.found[source][row] for row in sorted(self.found[source])]

    def keep(self, sources: Tensor) -> None:
        self.sources, self.walking, self.total = self.sources[sources], self.walking[sources], self.total[sources]
        self.found = [self.found[source] for source in as_list(sources)]


def first_best(scores: Tensor) -> Tensor:
    """`scores.argmax(-1)` of rows [N, V] without NaN, sooner: by the group with the highest maximum."""
    N, V = scores.shape
    if V < GROUP or N * V < SMALL:
        return scores.argmax(-1)
    whole = V // GROUP * GROUP
    groups = scores[:, :whole].view(N, -1, GROUP)
    tops, rest = groups.amax(-1), scores[:, whole:]
    group = tops.argmax(-1)  # [N]
    near = groups[torch.arange(N, device=scores.device), group]  # [N, GROUP]
    token = group * GROUP + near.argmax(-1)
    if whole < V:
        token = torch.where(rest.amax(-1) > tops.amax(-1), whole + rest.argmax(-1), token)
    return token


def nothing_to_choose(number: int, top: float) -> ArgumentError:
    """The error for a source whose best score `top` is -inf or not a number."""
    if top != -math.inf:
        return ArgumentError(
            f"The model's scores are not numbers (its best is {top}): its weights are damaged, or too large for its"
            " number type; fetch or train it again."
        )
    return ArgumentError(
        f"No token can follow in source {number}: its best score is {top}, for the logit rules forbid every token;"
        " relax them."
    )


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 where the device has no wider type."""
    return torch.float32 if device.type == "mps" else torch.float64


def as_list(numbers: Tensor) -> list[int]:
    """A LongTensor [n] as a list."""
    return numbers.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def true_places(flags: Tensor) -> list[tuple[int, int]]:
    """The rows and columns at which a bool tensor [B, R] is true."""
    rows, columns = flags.nonzero(as_tuple=True)
    return list(zip(as_list(rows), as_list(columns), strict=True))
