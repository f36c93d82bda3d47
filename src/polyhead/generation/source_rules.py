"""What may come next in view of the source: its tokens [B, S], the scores and the rows so far go in, scores come out.

rows of a source stand together          source 0: rows 0 ... R-1,  source 1: rows R ... 2 R - 1,  and so on
when finished sources leave, `keep` gives the rule of those that stay; a rule itself never changes
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from polyhead.errors import ArgumentError


@runtime_checkable
class SourceRule(Protocol):
    """A logit rule that knows the open sources of its call, in the order in which they go on."""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor: ...

    def keep(self, sources: Tensor) -> Self:
        """The rule of these of the sources, LongTensor [B'], in this order."""
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """The sources' tokens: `ids` LongTensor [B, S], of which the places `real` bool [B, S] are no padding."""

    ids: Tensor
    real: Tensor

    def keep(self, sources: Tensor) -> Source:
        return Source(self.ids[sources], self.real[sources])


@dataclass(frozen=True, eq=False)
class SourceNoRepeatNgram:
    """No run of `n` tokens that the row's source holds."""

    n: int
    source: Source

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArgumentError(f"SourceNoRepeatNgram of {self.n} forbids nothing; n must be at least 1.")

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        (B, S), t, n = self.source.ids.shape, tokens.shape[1], self.n
        if S < n or t < n - 1:
            return scores
        runs = self.source.ids.unfold(1, n, 1)[:, None]  # [B, 1, S - n + 1, n]
        real = self.source.real.unfold(1, n, 1).all(-1)[:, None]  # [B, 1, S - n + 1]
        here = tokens[:, t - n + 1 :].reshape(B, len(tokens) // B, n - 1)  # [B, R, n - 1], how the new run begins
        source, row, place = ((runs[..., :-1] == here[:, :, None]).all(-1) & real).nonzero(as_tuple=True)
        rows = source * here.shape[1] + row
        return scores.index_put((rows, runs[source, 0, place, -1]), scores.new_tensor(-math.inf))

    def keep(self, sources: Tensor) -> SourceNoRepeatNgram:
        return replace(self, source=self.source.keep(sources))


@dataclass(frozen=True, eq=False)
class SourceReward:
    """Tokens of the row's source win: scores above 0 are multiplied by `reward`, others divided; below 1 they lose."""

    reward: float
    source: Source

    def __post_init__(self) -> None:
        if not 0 < self.reward < math.inf:
            raise ArgumentError(f"reward is {self.reward}, but must be above 0; 1 changes nothing.")

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        held = torch.zeros(len(self.source.ids), scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
        held = held.scatter(1, self.source.ids.where(self.source.real, scores.shape[1]), True)[:, :-1]  # [B, V]
        held = held.repeat_interleave(len(scores) // len(held), 0)  # [N, V]
        return torch.where(held, torch.where(scores < 0, scores / self.reward, scores * self.reward), scores)

    def keep(self, sources: Tensor) -> SourceReward:
        return replace(self, source=self.source.keep(sources))
