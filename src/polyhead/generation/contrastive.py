"""Contrastive search: of the k likeliest tokens the one goes on whose vector is least like those of the row so far.

rows of one source, alike up to their last tokens     what the model makes of each      the best goes on, and fans out
the cat sat | on    0.5                                like the row: 0.9                 the cat sat by | the
            | by    0.3                                              0.4   <-                           | a
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.search import WIDEST, Call, Choice, Hypothesis, State, as_list, nothing_to_choose, true_places


@dataclass(frozen=True)
class Contrastive:
    """Of the `top_k` likeliest tokens the one with the best (1 - alpha) * probability - alpha * likeness, which is the
    largest cosine between the vector that the model makes of the token and those of the row before it, the prompt
    included (Su et al., 2022). An alpha of 0 is greedy search.

    The step must tell its vectors, `hidden`. All k tokens are tried, so a step costs as much as one of a beam of k.
    `scored` gives every answer its log-probability.
    """

    alpha: float = 0.6
    top_k: int = 4
    scored: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ArgumentError(f"alpha is {self.alpha}, but must be from 0 to 1; 0 takes the likeliest token.")
        if not 1 <= self.top_k <= WIDEST:
            raise ArgumentError(f"top_k is {self.top_k}, but must be from 1 to {WIDEST}, for all of them are tried.")

    def begin(self, call: Call) -> State:
        return ContrastiveState(self, call)


class ContrastiveState:
    """The rows of a source end in the tokens that are tried, `share` [B, R]; `seen` [B, t, D] are the directions of the
    vectors before them, of which `real` [B, t] are no padding."""

    def __init__(self, search: Contrastive, call: Call) -> None:
        if call.hidden is None:
            raise ArgumentError("Contrastive needs a step that tells its vectors, by a method `hidden`; see Step.")
        B, device = len(call.limit), call.limit.device
        self.search, self.call, self.hidden = search, call, call.hidden
        self.sources = torch.arange(B, device=device)
        self.total = torch.zeros(B, dtype=torch.float32, device=device)
        self.share = self.seen = self.real = self.total.new_empty(B, 0)
        self.found: list[Hypothesis | None] = [None] * B

    def scores(self, logits: Tensor) -> Tensor:
        return logits

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        B = len(self.sources)
        rows = self.decided(B, scores.device)  # [B]
        scores, tokens = scores[rows], tokens[rows]
        done = self.ended(tokens)

        likely = scores.float().softmax(-1)
        self.share, token = likely.topk(min(self.search.top_k, scores.shape[1]))  # [B, k]
        for source in as_list((~done & ~self.share[:, 0].isfinite()).nonzero().flatten()):
            raise nothing_to_choose(self.call.numbers[int(self.sources[source])], float(scores[source].amax()))
        return Choice(rows[:, None].expand(token.shape), token, done)

    def decided(self, B: int, device: torch.device) -> Tensor:
        """Which row of each source holds the token that goes on [B]; its vector joins those before it."""
        made = torch.nn.functional.normalize(self.hidden().float(), dim=-1)  # [N, n, D]
        real = made.any(-1)  # [N, n]
        rows = torch.arange(B, device=device)
        if self.share.shape[1] == 0:  # the prompt
            self.seen, self.real = made, real
            return rows
        made = made[:, -1].view(B, -1, made.shape[-1])  # [B, k, D]
        like = (made @ self.seen.mT).masked_fill(~self.real[:, None], -math.inf).amax(-1)  # [B, k]
        value = (1 - self.search.alpha) * self.share - self.search.alpha * like
        pick = value.masked_fill(self.share == 0, -math.inf).argmax(-1)  # [B]; what rules forbid is not tried
        self.seen = torch.cat((self.seen, made[rows, pick, None]), 1)
        self.real = torch.nn.functional.pad(self.real, (0, 1), value=True)
        if self.search.scored:
            self.total = self.total + self.share[rows, pick].log()
        return rows * self.share.shape[1] + pick

    def ended(self, tokens: Tensor) -> Tensor:
        """Which sources end with the last of their tokens [B, t], bool [B]; their answers are kept."""
        added = tokens.shape[1] - self.call.start
        if added == 0:
            return torch.zeros_like(self.sources, dtype=torch.bool)
        complete = self.call.stop(tokens[:, :-1], tokens[:, -1:])[:, 0]
        done = complete | (self.call.limit[self.sources] == added)
        for source, _ in true_places(done[:, None]):
            score = float(self.total[source]) if self.search.scored else None
            self.found[source] = self.call.answer(as_list(tokens[source]), score, bool(complete[source]))
        return done

    def answers(self, source: int) -> list[Hypothesis]:
        answer = self.found[source]
        return [] if answer is None else [answer]

    def keep(self, sources: Tensor) -> None:
        self.sources, self.total, self.share = self.sources[sources], self.total[sources], self.share[sources]
        self.seen, self.real = self.seen[sources], self.real[sources]
        self.found = [self.found[source] for source in as_list(sources)]
