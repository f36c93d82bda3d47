"""Keys and values of many sequences in blocks of one pool: sequences grow, share what they have in common, and leave.

block          0          1          2          3          4
holds     [the cat s][at on     ][he ran to ][at on it.  ][          ]      (16 tokens each, in truth)

first     table 0 1     the cat sat on         there is room for more in block 1
second    table 0 2     the cat she ran to     block 0 is kept once, and has three holders
third     table 0 3     the cat sat on it.     forked from the first: it copied block 1 before it wrote there

A block that nobody holds keeps what it held until it is needed again: who comes with the same beginning finds it there
(Kwon et al. 2023, arXiv 2309.06180).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator.request import finite
from polyhead.operator.rules import Dense

SIZE = 16  # places in a block
FIRST = 64  # blocks for which there is room at first

Name = tuple[int, tuple[int, ...]]  # of a full block: the serial number of the one before it, and its own tokens


@dataclass
class Table:
    """One sequence: the blocks that hold its `length` places, in order. `named`: so many of its blocks are known to the
    pool by what they hold, the last of them as number `serial`."""

    blocks: list[int] = field(default_factory=list[int])
    length: int = 0
    named: int = 0
    serial: int = 0


class Pool:
    """`blocks` blocks of `size` places each, for the keys and values of every layer.

    Memory is taken as it is first needed, and then kept. Raises ArgumentError for sizes that make no pool.
    """

    def __init__(self, blocks: int, size: int = SIZE):
        for name, value in {"blocks": blocks, "size": size}.items():
            if value < 1:
                raise ArgumentError(f"{name} of a pool is {value}, but must be at least 1.")
        self.blocks, self.size = blocks, size
        self.rooms: dict[int, tuple[Tensor, Tensor]] = {}  # layer -> keys, values [blocks so far, size, G, K]
        self.holders = [0] * blocks  # how many tables hold each block
        self.idle = dict.fromkeys(range(blocks))  # blocks that nobody holds, the one to take first in front
        self.known: dict[Name, int] = {}  # what a full block holds, and everything before it -> the block
        self.names: dict[int, tuple[Name, int]] = {}  # the other way, with its serial number
        self.serials = 0
        self.finite = True  # whether all that was ever written holds no NaN and no Inf
        self.reach = 0  # blocks that were ever taken are below this number

    @property
    def open(self) -> int:
        """How many blocks can be taken."""
        return len(self.idle)

    def needed(self, tables: Sequence[Table], n: int) -> int:
        """How many blocks n places more of each table take: new ones, and copies of half full ones that are shared."""
        new = sum(-(-(table.length + n) // self.size) - len(table.blocks) for table in tables)
        half = Counter(table.blocks[-1] for table in tables if table.length % self.size)
        return new + sum(min(writers, self.holders[block] - 1) for block, writers in half.items())

    def grow(self, table: Table, n: int) -> None:
        """Give a table room for n places more; the caller has seen that there are blocks for it."""
        if table.length % self.size and self.holders[table.blocks[-1]] > 1:
            own, shared = self.take(), table.blocks[-1]
            for layer in self.rooms:
                for room in self.stretched(layer):
                    room[own] = room[shared]
            self.release(shared)
            table.blocks[-1] = own
        while len(table.blocks) * self.size < table.length + n:
            table.blocks.append(self.take())

    def fork(self, table: Table) -> Table:
        """A second sequence that begins with the same places, none of which is copied."""
        for block in table.blocks:
            self.holders[block] += 1
        return Table([*table.blocks], table.length, table.named, table.serial)

    def free(self, table: Table) -> None:
        """Let a sequence go. Its end is forgotten before its beginning, which others may share."""
        for block in reversed(table.blocks):
            self.release(block)
        table.blocks, table.length, table.named, table.serial = [], 0, 0, 0

    def begun(self, tokens: Tensor) -> Table:
        """A table that holds as many whole blocks of a row [t] as are known, all but its last token at most."""
        table = Table()
        while (table.named + 1) * self.size < len(tokens):
            name = self.name(table, tokens)
            if name not in self.known:
                break
            self.adopt(table, name)
            table.blocks.append(self.known[name])
            table.length += self.size
        return table

    def learn(self, table: Table, tokens: Tensor) -> None:
        """Know a table's full blocks by the tokens [t] that they hold; one that is known already is then kept once."""
        while (table.named + 1) * self.size <= table.length:
            name, own = self.name(table, tokens), table.blocks[table.named]
            if name not in self.known:
                self.serials += 1
                self.known[name], self.names[own] = own, (name, self.serials)
                table.named, table.serial = table.named + 1, self.serials
                continue
            table.blocks[table.named] = self.known[name]
            self.adopt(table, name)
            self.release(own)

    def name(self, table: Table, tokens: Tensor) -> Name:
        """The name of a table's first block that is not named yet."""
        start = table.named * self.size
        return table.serial, tuple(tokens[start : start + self.size].tolist())  # pyright: ignore

    def adopt(self, table: Table, name: Name) -> None:
        """Hold a known block as the table's next named one."""
        block = self.known[name]
        self.idle.pop(block, None)
        self.holders[block] += 1
        table.named, table.serial = table.named + 1, self.names[block][1]

    def take(self) -> int:
        """A block that nobody holds, the longest idle one; what it held is forgotten."""
        block = next(iter(self.idle))
        del self.idle[block]
        self.holders[block], self.reach = 1, max(self.reach, block + 1)
        if block in self.names:
            del self.known[self.names.pop(block)[0]]
        return block

    def release(self, block: int) -> None:
        """One holder less."""
        self.holders[block] -= 1
        if self.holders[block] == 0:
            self.idle[block] = None

    def room(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The blocks [n, size, G, K] that hold keys like these [N, G, T, K] and values like those, of one layer."""
        if layer not in self.rooms:
            key, value = (x.new_zeros(0, self.size, x.shape[1], x.shape[3]) for x in (key, value))
            self.rooms[layer] = key, value
        return self.stretched(layer)

    def stretched(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, with room for every block that was ever taken."""
        keys, values = self.rooms[layer]
        if len(keys) < self.reach:
            self.rooms[layer] = self.wider(keys), self.wider(values)
        return self.rooms[layer]

    def wider(self, room: Tensor) -> Tensor:
        """The same with twice the room that is needed, as far as the pool goes; zeros, for what a mask hides must still
        be a number."""
        larger = room.new_zeros(min(self.blocks, max(FIRST, 2 * self.reach)), *room.shape[1:])
        larger[: len(room)] = room
        return larger


class Pages:
    """What one pass reads and writes: N sequences, of which each adds some places, T at most.

    To a layer it is a cache: `extend` takes keys and values [N, G, T, K] and gives those of all S places so far, a row
    for each sequence. Rows end together, and shorter ones are padded on the left: so the last query of each stands on
    its last key, and rules and biases measure their distances as they always do. `mask` hides the padding, `positions`
    [N, T] are where queries stand. `Pool.grow` must have made room before.
    """

    def __init__(self, pool: Pool, tables: Sequence[Table], new: Sequence[int], device: torch.device):
        self.pool, self.tables, self.new = pool, tables, new
        T, ends = max(new), [table.length + n for table, n in zip(tables, new, strict=True)]
        S = max(ends)
        blocks = torch.tensor(padded([table.blocks for table in tables]), device=device)  # [N, s]
        at = torch.arange(S, device=device) - (
            S - torch.tensor(ends, device=device)[:, None]
        )  # [N, S], padding below 0
        self.mask = None if min(ends) == S else Dense((at >= 0)[:, None, None])
        at = at.clamp(min=0)  # in the place of padding stands a row's own first key
        self.positions = at[:, S - T :]
        places = blocks.gather(1, at // pool.size) * pool.size + at % pool.size  # in the pool
        self.held = places.flatten()  # what all rows hold
        self.real = torch.arange(T, device=device) >= T - torch.tensor(new, device=device)[:, None]  # [N, T]
        self.added = places[:, S - T :][self.real]  # what is new
        self.lent: dict[str, Tensor] = {}  # where keys and values are gathered, one layer after the other
        self.length = 0  # places that all rows have behind them: here `positions` say where each stands

    @property
    def finite(self) -> bool:
        """Whether keys and values that are given back are known to hold no NaN and no Inf."""
        return self.pool.finite

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep [N, G, T, K] of one layer; all places so far come back, [N, G, S, K], good until the next layer asks."""
        keys, values = self.pool.room(layer, key, value)
        return self.through("keys", keys, key), self.through("values", values, value)

    def through(self, what: str, room: Tensor, new: Tensor) -> Tensor:
        """Write what is new into the pool, and gather all that the rows hold."""
        new, room = new.transpose(1, 2)[self.real], room.flatten(0, 1)  # [places, G, K]
        self.pool.finite = self.pool.finite and finite(new)
        room[self.added] = new
        lent = self.lent.get(what)
        if lent is None or lent.shape[1:] != room.shape[1:]:
            lent = self.lent[what] = room.new_empty(len(self.held), *room.shape[1:])
        torch.index_select(room, 0, self.held, out=lent)
        return torch.unflatten(lent, 0, (len(self.tables), -1)).transpose(1, 2)

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool]:
        """Keys and values of a memory; pages keep none."""
        return *make(), False

    def advance(self, n: int) -> None:
        """Called by the stack, once a pass, after its last block."""
        for table, added in zip(self.tables, self.new, strict=True):
            table.length += added


def padded(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows of one length, zeros behind the shorter ones."""
    longest = max(map(len, rows))
    return [[*row, *[0] * (longest - len(row))] for row in rows]
