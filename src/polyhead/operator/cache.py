"""Keys and values already computed: new ones go in, all of them come out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Cache:
    """The growing kind: room doubles when it is full, so that a step copies only its own keys.

    Made by the loop that needs it and handed in; `length` tells how many positions every layer holds. Keys are kept
    after rotation and before any repeat for grouped heads.
    """

    def __init__(self) -> None:
        self.length = 0
        self._room: dict[int, tuple[Tensor, Tensor]] = {}
        self._memory: dict[int, tuple[Tensor, Tensor, bool]] = {}

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add [B, G, T, K] for one layer; all S = length + T positions come back as [B, G, S, K] views."""
        end = self.length + key.shape[2]
        room = self._room.get(layer)
        if room is None or room[0].shape[2] < end:
            room = self._room[layer] = (
                _larger(key, end, None if room is None else room[0][:, :, : self.length]),
                _larger(value, end, None if room is None else room[1][:, :, : self.length]),
            )
        room[0][:, :, self.length : end] = key
        room[1][:, :, self.length : end] = value
        return room[0][:, :, :end], room[1][:, :, :end]

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool]:
        """Keys and values of a memory that does not change, and whether all of them are finite (tested once)."""
        if layer not in self._memory:
            key, value = make()
            self._memory[layer] = (key, value, bool(torch.isfinite(key.sum() + value.sum())))
        return self._memory[layer]

    def advance(self, n: int) -> None:
        """Called by the stack, once a pass, after its last block."""
        self.length += n

    def keep(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Reorder, repeat or drop rows [N]; `sources` [M] drops rows of the memory as well."""
        for layer, (key, value) in self._room.items():
            self._room[layer] = (
                key[:, :, : self.length].index_select(0, rows),
                value[:, :, : self.length].index_select(0, rows),
            )
        if sources is not None:
            for layer, (key, value, finite) in self._memory.items():
                self._memory[layer] = (key.index_select(0, sources), value.index_select(0, sources), finite)


def _larger(like: Tensor, end: int, kept: Tensor | None) -> Tensor:
    room = like.new_empty((*like.shape[:2], max(16, 2 * end), like.shape[3]))
    if kept is not None:
        room[:, :, : kept.shape[2]] = kept
    return room
