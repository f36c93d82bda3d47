"""Self-attention or cross-attention: whether the products of a module read one thing or two.

Queries and keys of self-attention are made from the same x; of cross-attention from x and from a memory. What a module
made itself while it ran, such as a narrower x, does not count.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from polyhead.lens.capture.marks import memory
from polyhead.lens.capture.running import Running

NAMES = ("cross", "encoder_attn", "encdec", "multihead_attn", "encoder_attention", "attn2")  # of those that are


class Origin:
    """What the products of each running module have read."""

    def __init__(self) -> None:
        self.made: dict[int, int] = {}  # memory -> the operation that made it, by the clock
        self.copied: dict[int, int] = {}  # memory -> that of which it is a copy
        self.read: dict[nn.Module, dict[int, int]] = {}  # memory -> how many rows
        self.crossed: set[nn.Module] = set()

    def note(self, made: Tensor, clock: int, copy_of: Tensor | None) -> None:
        """An operation made a tensor, perhaps as a copy of another."""
        place = memory(made)
        self.made[place] = clock
        if copy_of is None:
            self.copied.pop(place, None)
        elif memory(copy_of) != place:
            self.copied[place] = self.copied.get(memory(copy_of), memory(copy_of))

    def product(self, rows: Tensor, running: Running) -> None:
        """A product with a weight read some rows."""
        place = memory(rows)
        place = self.copied.get(place, place)
        for entered in running.stack[-2:]:
            if self.made.get(place, 0) <= entered.since:
                self.read.setdefault(entered.module, {})[place] = rows.shape[0]

    def kind(self, running: Running, queries: int, keys: int) -> Literal["self", "cross"]:
        """Of the attention that the running module computes now; a module that crossed once is one that does.

        Rows that are neither queries nor keys, such as those of a table of distances, do not count.
        """
        module = running.now
        if module is None:
            return "self"
        counts = self.read.pop(module, {}).values()
        if sum(0 in (n % max(queries, 1), n % max(keys, 1)) for n in counts) > 1:
            self.crossed.add(module)
        tail = f"{running.names[module]}.{type(module).__name__}".lower().split(".")[-4:]
        named = any(part in each for each in tail for part in NAMES)
        return "cross" if named or module in self.crossed else "self"
