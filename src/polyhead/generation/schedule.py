"""Which sources share a batch: their lengths go in, batches of like length come out, and answers return in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from polyhead.errors import ArgumentError

T = TypeVar("T")


def sorted_batches(lengths: Sequence[int], *, budget: int, rows: int | None = None) -> list[list[int]]:
    """Places in the input, the longest sources first, equal ones in the input's order.

    A batch holds at most `budget` tokens, padding included (its rows times its longest source), and at most `rows`
    sources. A source longer than the budget is a batch of its own.
    """
    for name, value in {"budget": budget, "rows": rows}.items():
        if value is not None and value < 1:
            raise ArgumentError(f"{name} is {value}, but must be at least 1.")
    batches: list[list[int]] = []
    fit = 0  # how many sources as long as the batch's first one it may hold
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not batches or len(batches[-1]) == fit:
            batches.append([])
            fit = max(1, budget // max(1, lengths[place]))
            fit = fit if rows is None else min(fit, rows)
        batches[-1].append(place)
    return batches


def restore(batches: Iterable[Sequence[int]], outputs: Iterable[Sequence[T]]) -> list[T]:
    """Outputs, one sequence for each batch of `sorted_batches`, in the input's order."""
    found: dict[int, T] = {}
    for batch, output in zip(batches, outputs, strict=True):
        found.update(zip(batch, output, strict=True))
    return [found[place] for place in range(len(found))]
