"""What was recorded of one run: every attention call by name, with all that its exact weights can be rebuilt from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.operator import Record


@dataclass(frozen=True)
class Call:
    """One attention call by the name of the module that made it, and its record."""

    name: str
    record: Record

    def weights(
        self, rows: Sequence[int] | Tensor | None = None, columns: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """The exact softmax weights [B, H, rows, columns] of the chosen rows and columns (all, where None)."""
        return self.record.weights(rows, columns)


@dataclass(repr=False)
class Recording:
    """The calls of a run, in the order they were made."""

    calls: list[Call] = field(default_factory=list)

    def __getitem__(self, name: str) -> Call:
        """The last call of the attention with this name, such as `decoder.blocks.2.cross`."""
        for call in reversed(self.calls):
            if call.name == name:
                return call
        raise ArgumentError(
            f"'{name}' was not recorded; recorded are {', '.join(self.names()) or 'no calls at all'}."
            + did_you_mean(name, self.names())
        )

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    def __repr__(self) -> str:
        return f"Recording of {len(self)} calls: {', '.join(self.names())}"

    def names(self) -> list[str]:
        return list(dict.fromkeys(call.name for call in self.calls))
