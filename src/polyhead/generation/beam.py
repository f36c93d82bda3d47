"""Beam search: of all continuations of a source's W rows the best W go on, and complete ones wait in the source's pool.

rows of one source          2 W candidates, best first        W rows go on        pool, best first
[the cat]   -1.0     ->     the cat sat      -1.4       ->    the cat sat
[a cat]     -1.2            a cat .   (end)  -1.5             a cat sat           a cat .  -1.5 / 3
                            a cat sat        -2.0
                            the cat . (end)  -2.2   (not among the best W: dropped)
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.search import (
    GROUP,
    WIDEST,
    Call,
    Choice,
    Hypothesis,
    State,
    as_list,
    nothing_to_choose,
    true_places,
    widest,
)


@dataclass(frozen=True)
class Beam:
    """The `n_best` best answers that a beam of `width` rows meets: the same as those of `transformers`, in its order.

    An answer's score is its log-probability divided by length ** length_penalty; the length counts the end token, not
    the prompt. `early_stopping` says when a source is done: True, as soon as `width` answers are complete; False, when
    its best open row, were it complete now, would not enter the full pool; "never", when it would not even if it lost
    nothing more up to the limit. Logit rules see log-probabilities. A beam of one row is greedy search, whose rules see
    logits. Fewer than `n_best` answers come back only where the rules leave no more.
    """

    width: int = 4
    length_penalty: float = 1.0
    n_best: int = 1
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        if not 1 <= self.width <= WIDEST:
            raise ArgumentError(f"width is {self.width}, but must be from 1 to {WIDEST}.")
        if not 1 <= self.n_best <= self.width:
            raise ArgumentError(f"n_best is {self.n_best}, but must be from 1 to the beam's width, {self.width}.")
        if not math.isfinite(self.length_penalty):
            raise ArgumentError(f"length_penalty is {self.length_penalty}, but must be a finite number.")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ArgumentError(f'early_stopping is {self.early_stopping!r}, but must be True, False or "never".')

    def begin(self, call: Call) -> State:
        return BeamState(self, call) if self.width > 1 else OneRowState(self, call)


class BeamState:
    """The open sources' beams: `total` [B, R], the log-probability of each open row; `pools`, up to W scored answers a
    source, best first; `worst` [B], what an answer must beat to enter the pool (-inf while it has room)."""

    own = True

    def __init__(self, beam: Beam, call: Call) -> None:
        B, device = len(call.limit), call.limit.device
        self.beam, self.call = beam, call
        # each row may end in as many ways as there are end tokens, and W rows must remain
        self.most = beam.width * (1 + max(1, len(call.stop.ids))) if beam.width > 1 else 1
        self.sources = torch.arange(B, device=device)
        self.total = torch.zeros(B, 1, dtype=torch.float32, device=device)
        self.worst = torch.full((B,), -math.inf, dtype=torch.float32, device=device)
        self.pools: list[list[tuple[float, Hypothesis]]] = [[] for _ in range(B)]
        self.room = torch.empty(0, 0, device=device)  # where log-probabilities are written, step after step

    def scores(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if self.room.shape[1] != logits.shape[1] or len(self.room) < len(logits):
            self.room = torch.empty_like(logits)
        return torch.log_softmax(logits, -1, out=self.room[: len(logits)])

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        (B, R), W = self.total.shape, self.beam.width

        value, row, token = self.candidates(scores, tokens)  # [B, K'], best first
        self.refuse_nothing(value[:, 0])
        complete = self.call.stop(tokens[row.flatten()], token.view(-1, 1)).view(B, -1)

        added = tokens.shape[1] - self.call.start + 1
        cut = self.call.limit[self.sources] == added  # [B]
        closing = complete | cut[:, None]
        answers = closing[:, :W] & (value[:, :W] > -math.inf)  # only the W best candidates may enter the pool
        if bool(answers.any()):
            score = value[:, :W] / added**self.beam.length_penalty
            for source, k in true_places(answers):
                whole = [*as_list(tokens[row[source, k]]), int(token[source, k])]
                self.pool(source, float(score[source, k]), whole, bool(complete[source, k]))
            self.worst = self.worst.new_tensor([pool[W - 1][0] if len(pool) == W else -math.inf for pool in self.pools])

        self.total, place = value.masked_fill(complete, -math.inf).topk(min(W, value.shape[1]))  # [B, R'], best first
        done = cut | ~self.may_improve(added)
        if self.total.shape[1] == R:
            order = settled(row.gather(1, place) % R)
            self.total, place = self.total.gather(1, order), place.gather(1, order)
        return Choice(row.gather(1, place), token.gather(1, place), done)

    def candidates(self, scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best continuations of each source, best first: their log-probabilities, the rows that they continue and
        the tokens that they add, each [B, K']. `scores` [N, V]."""
        B, R = self.total.shape
        # the best candidates of a source are among the best of each of its rows
        value, token = best(scores, min(self.most, scores.shape[1]))  # [N, K]
        value = (value + self.total.view(-1, 1)).view(B, -1)  # [B, R * K]
        value, place = value.topk(min(self.most, value.shape[1]))
        row = place // token.shape[1] + R * torch.arange(B, device=place.device)[:, None]
        return value, row, token.view(B, -1).gather(1, place)

    def pool(self, source: int, score: float, row: list[int], finished: bool) -> None:
        """Let an answer enter its source's pool, behind those of equal score, and the worst of too many leave it."""
        answers = self.pools[source]
        insort(answers, (score, self.call.answer(row, score, finished)), key=lambda answer: -answer[0])
        del answers[self.beam.width :]

    def may_improve(self, added: int) -> Tensor:
        """Whether the best open row of each source may still enter its pool, bool [B]."""
        if self.beam.early_stopping == "never" and self.beam.length_penalty > 0:
            length = self.call.limit[self.sources].to(widest(self.worst.device))
        else:
            length = self.worst.new_full((), added, dtype=widest(self.worst.device))
        hope = self.total[:, 0] / (length**self.beam.length_penalty).float() > self.worst
        return hope & self.worst.isneginf() if self.beam.early_stopping is True else hope

    def refuse_nothing(self, top: Tensor) -> None:
        """A source without a candidate (`top` [B] is -inf) ends with the answers it has; having none is an error."""
        for source in as_list((~top.isfinite()).nonzero().flatten()):
            if top[source].isnan() or not self.pools[source]:
                raise nothing_to_choose(self.call.numbers[int(self.sources[source])], float(top[source]))

    def answers(self, source: int) -> list[Hypothesis]:
        return [answer for _, answer in self.pools[source][: self.beam.n_best]]

    def keep(self, sources: Tensor) -> None:
        self.sources, self.total, self.worst = self.sources[sources], self.total[sources], self.worst[sources]
        self.pools = [self.pools[source] for source in as_list(sources)]


class OneRowState(BeamState):
    """A beam of one row, which takes what `Greedy` takes: rules see logits, and what they leave makes the score."""

    own = False  # they may be the step's

    def scores(self, logits: Tensor) -> Tensor:
        return logits.float()

    def candidates(self, scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value, row, token = super().candidates(scores.log_softmax(-1), tokens)
        own = scores.gather(1, token)
        return value.where(own.isfinite(), own), row, token  # where rules leave nothing, there is no share of it


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k)` of rows [N, V], sooner: the k best of a row lie in the k groups with the highest maxima."""
    N, V = scores.shape
    if V < k * GROUP:
        value, token = scores.topk(k)
        return value, token
    whole = V // GROUP * GROUP
    groups = scores[:, :whole].view(N, -1, GROUP)
    place = groups.amax(-1).topk(min(k, groups.shape[1])).indices  # [N, k]
    near = groups[torch.arange(N, device=place.device)[:, None], place].flatten(1)  # [N, k * GROUP]
    value, found = torch.cat((near, scores[:, whole:]), 1).topk(k)
    rest = found - near.shape[1]  # below 0 for those in a group
    group = place.gather(1, (found // GROUP).clamp(max=place.shape[1] - 1))
    return value, torch.where(rest < 0, group * GROUP + found % GROUP, whole + rest)


def settled(parents: Tensor) -> Tensor:
    """Where the next rows go so that few move: the first child of row r takes place r, the others what is left.

    parents [B, R], of R rows each -> the child that takes each place [B, R]. A cache then copies fewer rows.
    """
    R = parents.shape[1]
    among = torch.arange(R, device=parents.device)
    earlier = (parents[:, :, None] == parents[:, None, :]) & (among < among[:, None])  # [B, child, an earlier sibling]
    first = ~earlier.any(-1)
    children = parents.where(first, -1).sort(stable=True).indices  # those without a place of their own, then by place
    taken = torch.zeros_like(first).scatter(1, parents, True)
    places = taken.sort(stable=True).indices  # free places, then taken ones
    return torch.empty_like(parents).scatter_(1, places, children)
