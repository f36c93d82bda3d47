"""A model that is a table of logits, for tests of the loop alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor


class Toy:
    """Logits depend on the source, the last two tokens and the length, on nothing else. Its cache is what it has seen:
    every call checks that the rows handed in continue it, that each begins with its own source's prompt, and that
    `keep` was called only where it changes something. `calls` lists the number of rows of every call."""

    def __init__(self, sources: Sequence[int], *, seed: int = 0, vocabulary: int = 11, ending: float = 1.0) -> None:
        dice = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(50, 97, vocabulary, generator=dice)  # [source, context, V]
        self.table[..., 0] += ending
        self.sources = torch.tensor(sources)
        self.prompt = (self.sources % vocabulary)[:, None]
        self.seen: Tensor | None = None
        self.calls: list[int] = []

    def __call__(self, tokens: Tensor) -> Tensor:
        rows = len(tokens) // len(self.sources)
        owner = self.sources.repeat_interleave(rows)
        assert len(owner) == len(tokens)
        assert torch.equal(tokens[:, 0], owner % self.table.shape[-1])
        if self.seen is not None:
            assert torch.equal(tokens[:, :-1], self.seen)
        self.seen = tokens.clone()
        self.calls.append(len(tokens))
        return self.logits(owner, tokens)

    def logits(self, owner: Tensor, tokens: Tensor) -> Tensor:
        """The source of each row [N] and the rows [N, t] -> [N, V]."""
        before = tokens[:, -2] if tokens.shape[1] > 1 else torch.zeros_like(owner)
        return self.table[owner, (31 * tokens[:, -1] + 7 * before + 13 * tokens.shape[1]) % 97]

    def keep(self, rows: Tensor, sources: Tensor | None) -> None:
        assert self.seen is not None
        assert sources is not None or not torch.equal(rows, torch.arange(len(self.seen)))
        self.seen = self.seen[rows]
        if sources is not None:
            assert len(sources) < len(self.sources)
            self.sources = self.sources[sources]


@pytest.fixture
def toy() -> Callable[..., Toy]:
    return Toy
