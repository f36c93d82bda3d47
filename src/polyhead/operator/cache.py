"""Keys and values already computed: new ones go in, all of them come out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polyhead.operator.request import finite

FIRST = 32  # places in a new room


class Room:
    """One layer's keys, or values, row by row [N, room, G, K]: a step writes one place of each row.

    Room doubles when it is full, so that decoding allocates nothing step by step.
    """

    def __init__(self, like: Tensor):
        rows, groups, _, width = like.shape
        self.made = rows
        self.hold(like.new_empty((rows, 0, groups, width)))

    def hold(self, held: Tensor) -> None:
        self.held, self.heads = held, held.transpose(1, 2)  # [N, room, G, K], and the same as [N, G, room, K]

    def extend(self, start: int, new: Tensor) -> Tensor:
        """Write [N, G, T, K] from place `start` on; everything so far comes back as a view [N, G, S, K]."""
        end = start + new.shape[2]
        if end > self.held.shape[1]:
            self.resize(self.held[:, :start], max(FIRST, 2 * end))
        # a view that was made without gradients may not be written where there are some
        heads = self.held.transpose(1, 2) if torch.is_grad_enabled() else self.heads
        heads.narrow(2, start, end - start).copy_(new)
        return heads.narrow(2, 0, end)

    def holds(self, count: int) -> bool:
        """Whether so many rows may go on in its memory: it has them, and more than half of its rows stay in use."""
        return count <= len(self.held) and 2 * count > self.made

    def move(self, length: int, moved: Tensor, origins: Tensor, count: int) -> None:
        """The first `length` places of the rows `moved` [m] become those of the rows `origins` [m]; the others stay,
        and the first `count` of all go on."""
        if len(moved):
            held = self.held[:, :length]
            held.index_copy_(0, moved, held.index_select(0, origins))
        self.hold(self.held[:count])

    def select(self, length: int, rows: Tensor) -> None:
        """Go on with these rows [N'], in a memory of their own."""
        self.resize(self.held[:, :length].index_select(0, rows), self.held.shape[1])

    def resize(self, held: Tensor, room: int) -> None:
        """Go on with what is held, in a memory of so many places."""
        rows, length, *rest = held.shape
        self.made = rows
        self.hold(held.new_empty((rows, room, *rest)))
        self.held[:, :length] = held


class Cache:
    """The growing kind. Made by the loop that needs it and handed in; `length` tells how many positions it holds.

    Keys are kept after rotation and before any repeat for grouped heads. vouches: each key and value is searched for
    NaN and Inf once, when it enters, so that no step need search all of them; it pays where something is hidden.
    """

    def __init__(self, *, vouches: bool = False) -> None:
        self.length = 0
        self.finite = vouches  # whether it vouches that what it gives back holds no NaN and no Inf
        self._rooms: dict[int, tuple[Room, Room]] = {}
        self._memory: dict[int, tuple[Tensor, Tensor, bool]] = {}

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add [B, G, T, K] for one layer; all S = length + T positions come back as views [B, G, S, K].

        The views show what the cache holds: they are good until rows are kept.
        """
        if layer not in self._rooms:
            self._rooms[layer] = Room(key), Room(value)
        keys, values = self._rooms[layer]
        self.finite = self.finite and finite(key) and finite(value)
        return keys.extend(self.length, key), values.extend(self.length, value)

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool]:
        """Keys and values of a memory that does not change, and whether all of them are finite (tested once)."""
        if layer not in self._memory:
            key, value = make()
            self._memory[layer] = (key, value, finite(key) and finite(value))
        return self._memory[layer]

    def advance(self, n: int) -> None:
        """Called by the stack, once a pass, after its last block."""
        self.length += n

    def cut(self, length: int) -> None:
        """Forget all positions from `length` on; the next ones are written over them."""
        self.length = min(self.length, length)

    def keep(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Reorder, repeat or drop rows [N]; `sources` [M] drops rows of the memory as well.

        Where more than half of the rows go on, only those that change places are copied.
        """
        rooms = [room for pair in self._rooms.values() for room in pair]
        if rooms and rooms[0].holds(len(rows)):
            moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().flatten()
            origins = rows[moved]
            for room in rooms:
                room.move(self.length, moved, origins, len(rows))
        else:
            for room in rooms:
                room.select(self.length, rows)
        if sources is not None:
            for layer, (key, value, known) in self._memory.items():
                self._memory[layer] = (key.index_select(0, sources), value.index_select(0, sources), known)
