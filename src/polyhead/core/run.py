"""What one forward pass carries besides x: masks, memory, cache, and whoever is watching."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from polyhead.operator import Bias, Cache, Pages, Rule, ScoreMod, attention


class Observer(Protocol):
    """Someone who looks on. Both methods return what the pass goes on with, so watching and editing are one call."""

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor: ...

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor: ...


watching: ContextVar[Observer | None] = ContextVar("watching", default=None)


@dataclass(frozen=True)
class Run:
    """The state of one pass, handed from the door down to the kernel unchanged.

    mask, memory_mask: a rule, a boolean tensor broadcastable to [B, H, T, S] (True = may look), or None.
    memory [B, S, D]: what a decoder reads. bias: Alibi, Buckets or a float tensor [B, H, T, S].
    positions [B, T]: given when padding is on the left or rows stand at unlike places, as rows of `Pages` do; otherwise
    counted from the cache's length.
    added, memory_added: position embeddings for stacks that add them in every layer.
    observer: read from `watching` once, when the Run is made, and never inside a layer.
    turns: cosines and sines of rotary positions, which `Stack` makes once for all its layers.
    layer: the place in the stack, set by `Stack` for each block; a layer keeps its keys under it.
    """

    mask: Rule | Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Rule | Tensor | None = None
    bias: Bias | ScoreMod | Tensor | None = None
    positions: Tensor | None = None
    added: Tensor | None = None
    memory_added: Tensor | None = None
    cache: Cache | Pages | None = None
    observer: Observer | None = field(default_factory=watching.get)
    turns: tuple[Tensor, Tensor] | None = None
    layer: int = 0

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return x if self.observer is None else self.observer.see(at, place, x)

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        if self.observer is None:
            return attention(query, key, value, **how)
        if self.cache is not None:  # what a cache lends it may overwrite later, and an observer may keep what it sees
            key, value = key.clone(), value.clone()
        return self.observer.attend(at, query, key, value, **how)

    def places(self, n: int, device: torch.device) -> Tensor:
        """The positions [B or 1, n] of the next n rows."""
        places = self.span(n)
        return torch.arange(places.start, places.stop, device=device)[None] if isinstance(places, slice) else places

    def span(self, n: int) -> Tensor | slice:
        """The same; a slice where they are counted from the cache's length."""
        if self.positions is not None:
            return self.positions
        start = 0 if self.cache is None else self.cache.length
        return slice(start, start + n)

    def at(self, layer: int, mask: Rule | None) -> Run:
        """The run as a block of the stack gets it; `replace` would take ten times as long, every layer."""
        run = object.__new__(Run)
        run.__dict__.update(self.__dict__, layer=layer, mask=mask)
        return run
