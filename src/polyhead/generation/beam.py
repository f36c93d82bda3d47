"""Beam search: of all continuations of a source's W rows the best W go on, and complete ones wait in its pool."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.search import Choice, Hypothesis, State, Task, nothing_to_choose


@dataclass(frozen=True)
class Beam:
    """The `n_best` best answers among those that a beam of `width` rows meets, as `transformers` finds them.

    An answer's score is its log-probability divided by length ** length_penalty; the length counts the end token, not
    the prompt. `early_stopping` says when a source is done: True, as soon as `width` answers are complete; False, when
    the best open row, were it complete now, would not enter the pool; "never", when it would not even if it lost
    nothing up to the length limit (the one choice that never stops too soon). Logit rules work on log-probabilities.
    A beam of one row is greedy search. Fewer than `n_best` answers come back only where the rules leave no more.
    """

    width: int = 4
    length_penalty: float = 1.0
    n_best: int = 1
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ArgumentError(f"width is {self.width}, but must be at least 1.")
        if not 1 <= self.n_best <= self.width:
            raise ArgumentError(f"n_best is {self.n_best}, but must be from 1 to width ({self.width}).")
        if self.early_stopping not in (True, False, "never"):
            raise ArgumentError(f'early_stopping is {self.early_stopping!r}, but must be True, False or "never".')
        if not math.isfinite(self.length_penalty):
            raise ArgumentError(f"length_penalty is {self.length_penalty}, but must be a finite number.")

    def begin(self, task: Task) -> State:
        return BeamState(self, task)


class BeamState:
    """The open sources' beams: `total` [B, R], the log-probability of each open row; `pools`, complete answers, best
    first, at most W a source; `worst` [B], what an answer must beat to enter (-inf while the pool has room)."""

    def __init__(self, beam: Beam, task: Task) -> None:
        B, device = len(task.limit), task.limit.device
        self.beam, self.task = beam, task
        self.reserve = max(1, len(task.stop.ids)) + 1 if beam.width > 1 else 1
        self.limit = task.limit
        self.total = torch.zeros(B, 1, device=device)
        self.worst = torch.full((B,), -math.inf, device=device)
        self.pools: list[list[tuple[float, Hypothesis]]] = [[] for _ in range(B)]

    def scores(self, logits: Tensor) -> Tensor:
        return logits.float().log_softmax(-1)

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        (B, R), W = self.total.shape, self.beam.width
        K = W * self.reserve  # so many that W open ones remain if every row could end

        # the K best of each row hold the K best of the source
        value, token = scores.topk(min(K, scores.shape[1]))  # [N, K]
        complete = self.task.stop(tokens, token).view(B, -1)
        value = (value + self.total.view(-1, 1)).view(B, -1)  # [B, R * K]
        value, place = value.topk(min(K, value.shape[1]))  # [B, K], best first
        self.refuse_nothing(value[:, 0])
        row = place // token.shape[1] + R * torch.arange(B, device=place.device)[:, None]
        token, complete = token.view(B, -1).gather(1, place), complete.gather(1, place)

        # what is complete leaves the beam; only the W best candidates may enter the pool
        added = tokens.shape[1] - self.task.start + 1
        cut = self.limit == added  # [B]
        closing = complete | cut[:, None]
        if bool(closing[:, :W].any()):
            self.collect(value[:, :W] / added**self.beam.length_penalty, row, token, complete, closing, tokens)

        self.total, place = value.masked_fill(closing, -math.inf).topk(min(W, value.shape[1]))  # [B, W]
        done = cut | ~self.may_improve(added)
        return Choice(row.gather(1, place), token.gather(1, place), done)

    def may_improve(self, added: int) -> Tensor:
        """Whether the best open row of each source could still enter its pool, bool [B]."""
        hopeful = self.beam.early_stopping == "never" and self.beam.length_penalty > 0
        length = self.limit if hopeful else torch.full_like(self.limit, added)
        hope = self.total[:, 0] / length**self.beam.length_penalty > self.worst
        return hope & self.worst.isinf() if self.beam.early_stopping is True else hope

    def collect(
        self, score: Tensor, row: Tensor, token: Tensor, complete: Tensor, closing: Tensor, tokens: Tensor
    ) -> None:
        W = self.beam.width
        for source, place in (closing[:, :W] & (score > -math.inf)).nonzero().tolist():
            whole = [*tokens[row[source, place]].tolist(), int(token[source, place])]
            answer = self.task.answer(whole, float(score[source, place]), bool(complete[source, place]))
            insort(self.pools[source], (float(score[source, place]), answer), key=lambda entry: -entry[0])
            del self.pools[source][W:]
        worst = [pool[-1][0] if len(pool) == W else -math.inf for pool in self.pools]
        self.worst = torch.tensor(worst, device=score.device)

    def refuse_nothing(self, top: Tensor) -> None:
        """Best candidates `top` [B]: a source without any ends with the answers it has; without those it is an error."""
        if not bool(top.isfinite().all()):
            ended = torch.tensor([bool(pool) for pool in self.pools], device=top.device) & top.isneginf()
            if not bool((ended | top.isfinite()).all()):
                raise nothing_to_choose(top.masked_fill(ended, 0.0))

    def answers(self, source: int) -> list[Hypothesis]:
        return [answer for _, answer in self.pools[source][: self.beam.n_best]]

    def keep(self, sources: Tensor) -> None:
        self.limit, self.total, self.worst = self.limit[sources], self.total[sources], self.worst[sources]
        self.pools = [self.pools[source] for source in sources.tolist()]
