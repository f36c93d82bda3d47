"""When a row of tokens is complete: the row and its next token go in, yes or no comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class StopRule(Protocol):
    """Says which next tokens complete a row. A rule has no memory: rows may be reordered and dropped between calls."""

    @property
    def ids(self) -> Sequence[int]:
        """Tokens that complete any row by themselves; they are left out of the answer. May be empty."""
        ...

    def __call__(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """Rows so far `tokens` [N, t] and K candidates for each row `chosen` [N, K] -> bool [N, K], True = complete."""
        ...


@dataclass(frozen=True)
class EndToken:
    """Complete at any of these tokens."""

    ids: Sequence[int]

    def __call__(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        return torch.isin(chosen, torch.tensor(self.ids, device=chosen.device))


@dataclass(frozen=True)
class AnyOf:
    """Complete as soon as one of the rules says so; of no rules, never."""

    rules: Sequence[StopRule]

    @property
    def ids(self) -> Sequence[int]:
        return sorted({token for rule in self.rules for token in rule.ids})

    def __call__(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        complete = torch.zeros_like(chosen, dtype=torch.bool)
        for rule in self.rules:
            complete = complete | rule(tokens, chosen)
        return complete
