"""What is known of pieces of memory: tensors come and go as views of them, and a mark is seen through every view."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

T = TypeVar("T")


def memory(x: Tensor) -> int:
    """Which piece of memory a tensor lies in; it is another's once nobody has it any more."""
    return cast(int, x.untyped_storage()._cdata)


class Marks(Generic[T]):
    """Marks on pieces of memory, as long as these live."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[StorageWeakRef, T]] = {}

    def put(self, x: Tensor, what: T) -> None:
        self.sweep()
        self.known[memory(x)] = StorageWeakRef(x.untyped_storage()), what

    def get(self, x: object) -> T | None:
        if not self.known or not isinstance(x, Tensor) or x.layout != torch.strided:
            return None
        found = self.known.get(memory(x))
        return None if found is None or found[0].expired() else found[1]

    def pass_on(self, x: object, made: Tensor) -> None:
        """What was made of a tensor has its mark."""
        what = self.get(x)
        if what is not None:
            self.put(made, what)

    def sweep(self) -> None:
        """Forget what was known of memory that is gone."""
        for at in [at for at, (ref, _) in self.known.items() if ref.expired()]:
            del self.known[at]

    def items(self) -> list[tuple[int, T]]:
        """The marks on memory that lives."""
        return [(at, what) for at, (ref, what) in self.known.items() if not ref.expired()]

    def change(self, at: int, what: T) -> None:
        """Another mark on memory that has one."""
        self.known[at] = self.known[at][0], what

    def drop(self, at: int) -> None:
        """Forget what was known of this memory."""
        self.known.pop(at, None)

    def clear(self) -> None:
        self.known.clear()
