"""Diverse beam search: the rows of a source are in groups, and a group avoids the tokens that groups before it took.

group 0   the cat | sat       its tokens cost the groups behind it `penalty` for each row that took them
group 1   the cat | lay       sat: -penalty
group 2   a cat   | slept     sat, lay: -penalty
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.beam import Beam, BeamState
from polyhead.generation.search import Call, Choice, Hypothesis, State


@dataclass(frozen=True)
class DiverseBeam(Beam):
    """Beam search in `groups` of width / groups rows each, one after the other at every step (Vijayakumar et al.,
    2016, with Hamming diversity): a token costs a group `penalty` for each row of the groups
    before it that goes on with it at the same place.

    Each group is a beam of its own, with its own pool. The `n_best` answers are the best of all pools, and their scores
    count the penalties, so those of the first group are the plain beam's. Penalties are taken after the rules.
    """

    groups: int = field(default=2, kw_only=True)
    penalty: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1 or self.width % self.groups:
            raise ArgumentError(f"groups is {self.groups}, but must divide the beam's width, {self.width}.")
        if not 0 <= self.penalty < math.inf:
            raise ArgumentError(f"penalty is {self.penalty}, but must be at least 0; 0 lets groups agree.")

    def begin(self, call: Call) -> State:
        return DiverseBeamState(self, call)


class DiverseBeamState:
    """A beam for each group. Of a group that is done with a source while others are not, the rows idle at -inf."""

    own = True

    def __init__(self, search: DiverseBeam, call: Call) -> None:
        width = search.width // search.groups
        beam = Beam(width, search.length_penalty, width, search.early_stopping)
        self.search, self.groups = search, [BeamState(beam, call) for _ in range(search.groups)]
        for group in self.groups:
            group.most = width * (1 + max(1, len(call.stop.ids)))  # one row too goes on where it might have ended

    def scores(self, logits: Tensor) -> Tensor:
        return self.groups[0].scores(logits)

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        B, R = self.groups[0].total.shape  # R rows of each group
        rows = torch.arange(len(scores), device=scores.device).view(B, -1, R)
        rows = rows.expand(B, len(self.groups), R)  # the first step: one row for all groups
        taken = torch.zeros(B, scores.shape[1], dtype=torch.float32, device=scores.device)
        choices: list[Choice] = []
        for group, mine in zip(self.groups, rows.unbind(1), strict=True):
            mine = mine.flatten()
            choice = group.choose(
                scores[mine] - self.search.penalty * taken.repeat_interleave(R, 0),
                tokens[mine],
            )
            choices.append(Choice(mine[choice.rows], choice.tokens, choice.done))
            taken.scatter_add_(1, choice.tokens, (group.total > -math.inf).float())
            group.total = group.total.masked_fill(choice.done[:, None], -math.inf)
        return Choice(
            torch.cat([choice.rows for choice in choices], 1),
            torch.cat([choice.tokens for choice in choices], 1),
            torch.stack([choice.done for choice in choices]).all(0),
        )

    def answers(self, source: int) -> list[Hypothesis]:
        pools = heapq.merge(*(group.pools[source] for group in self.groups), key=lambda answer: -answer[0])
        return [answer for _, answer in pools][: self.search.n_best]

    def keep(self, sources: Tensor) -> None:
        for group in self.groups:
            group.keep(sources)
