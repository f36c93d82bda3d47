"""A batch's own words as a vocabulary by itself: whole tokens go in, what a search and its rules see are small numbers.

whole vocabulary           0  1  2  3  4  5  6  7  8  9
the candidates, `ids`         1        4  5        8          their numbers: 0  1  2  3
source 0 may say              1           5        8          scores [-1.2, -inf, -0.7, -2.0]
source 1 may say              1        4           8          scores [-0.9, -1.1, -inf, -3.1]

So nothing that chooses words knows of this, and nothing is as wide as the whole vocabulary. What one source may say is
not widened by those beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.constrained_beam import ConstrainedBeam
from polyhead.generation.loop import Step
from polyhead.generation.sampled_beam import SampledBeam
from polyhead.generation.search import Hypothesis, Search, as_list
from polyhead.generation.source_rules import Source
from polyhead.generation.stop import StopRule


@dataclass(frozen=True, eq=False)
class Candidates:
    """`ids` LongTensor [C], ascending, so that what is equally good stands in the same order as in the whole;
    `allowed` bool [B, C], which of them may be said of each source, None: all of all."""

    ids: Tensor
    allowed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def numbers(self, tokens: Tensor) -> Tensor:
        """The numbers of whole tokens, of any shape; -1 for what is no candidate."""
        near = torch.searchsorted(self.ids, tokens).clamp(max=len(self.ids) - 1)
        return near.where(self.ids[near] == tokens, -1)

    def those(self, tokens: Iterable[int]) -> tuple[int, ...]:
        """The numbers of those of the tokens that are candidates."""
        wanted = torch.tensor(list(tokens), dtype=torch.long, device=self.ids.device)
        return tuple(number for number in as_list(self.numbers(wanted)) if number >= 0)

    def run(self, tokens: Sequence[int]) -> tuple[int, ...] | None:
        """The numbers of a run of tokens; None where it can never be said."""
        found = self.those(tokens)
        return found if len(found) == len(tokens) else None

    def whole(self, phrase: Sequence[int]) -> tuple[int, ...]:
        """The numbers of a phrase that must be said."""
        if (found := self.run(phrase)) is None:
            lacking = next(token for token in phrase if not self.those([token]))
            raise ArgumentError(
                f"forced holds the token {lacking}, which is none of the {len(self)} that may be said; leave it out."
            )
        return found

    def source(self, source: Source) -> Source:
        """The sources' tokens in numbers; what is no candidate counts as padding."""
        ids = self.numbers(source.ids)
        return Source(ids.clamp(min=0), source.real & (ids >= 0))

    def search(self, search: Search) -> Search:
        """The same search, the phrases that it forces in numbers. Noise of drawn beams goes by how likely a token is,
        not by its number, which those of other sources move. Raises ArgumentError where a phrase cannot be said."""
        if isinstance(search, ConstrainedBeam):
            return replace(search, forced=[[self.whole(phrase) for phrase in phrases] for phrases in search.forced])
        if isinstance(search, SampledBeam) and search.draw.top_k is None:
            return replace(search, draw=replace(search.draw, top_k=len(self.ids)))
        return search

    def answers(self, found: Sequence[Sequence[Hypothesis]]) -> list[list[Hypothesis]]:
        """Answers in whole tokens."""
        ids = as_list(self.ids)
        return [[replace(one, tokens=[ids[number] for number in one.tokens]) for one in some] for some in found]


class Telling(Step, Protocol):
    """A step that tells its vectors."""

    def hidden(self) -> Tensor: ...


class CandidateStep:
    """A step that reads whole tokens and gives scores of the candidates [N, C], as one that reads their numbers."""

    def __init__(self, step: Telling, among: Candidates) -> None:
        self.step, self.ids, self.hidden = step, among.ids, step.hidden
        self.barred = None if among.allowed is None else ~among.allowed  # [B, C]

    def __call__(self, tokens: Tensor) -> Tensor:
        scores = self.step(self.ids[tokens])
        if self.barred is None:
            return scores
        B, C = self.barred.shape
        return scores.view(B, -1, C).masked_fill(self.barred[:, None], -math.inf).view(-1, C)

    def keep(self, rows: Tensor, sources: Tensor | None) -> None:
        self.step.keep(rows, sources)
        if sources is not None and self.barred is not None:
            self.barred = self.barred[sources]


class CandidateStop:
    """A stop rule of whole tokens, asked in the candidates' numbers."""

    def __init__(self, rule: StopRule, among: Candidates) -> None:
        self.rule, self.among = rule, among
        self.ids = among.those(rule.ids)

    def __call__(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        return self.rule(self.among.ids[tokens], self.among.ids[chosen])
