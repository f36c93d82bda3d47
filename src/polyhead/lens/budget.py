"""How many bytes the calls of a run take, told at the first of them, before the run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.lens.inputs import Inputs
from polyhead.lens.recording import Call
from polyhead.operator import Statistics
from polyhead.operator.request import Request


@dataclass(eq=False)
class Purse:
    """What a run may spend on its calls, of which there will be at least `expected`. None: anything."""

    budget: int | None
    expected: int
    calls: int = 0
    spent: int = 0

    def pay(self, call: Call) -> None:
        """Raise ArgumentError where the calls so far, and as many more like them as are expected, are too much."""
        if self.budget is None:
            return
        self.calls += 1
        self.spent += bytes_of(call)
        calls = max(self.calls, self.expected)
        will = self.spent * calls // self.calls
        if will > self.budget:
            raise ArgumentError(
                f"{calls} calls like {call.name} take {in_words(will)}, more than budget = {in_words(self.budget)}; "
                "keep fewer layers (layers=) or less of each (level='summary'), or write them to a file (into=)"
            )


def bytes_of(call: Call) -> int:
    """The memory that a call keeps alive."""
    pieces = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors_of(call)}
    return sum(pieces.values()) + coming(call)


def coming(call: Call) -> int:
    """What the gradient of its output will take, where one can come."""
    heard = call.backward
    if heard is None or not heard.coming:
        return 0
    return call.lse.numel() * heard.value.shape[3] * heard.value.element_size()


def tensors_of(call: Call) -> Iterator[Tensor]:
    yield from (call.lse, call.norms.values)
    yield from told(call.statistics)
    yield from () if call.backward is None else (call.backward.value,)
    if isinstance(call.kept, Request):
        yield from call.kept.held
    elif isinstance(call.kept, Inputs):
        yield from call.kept.tensors.values()


def told(statistics: Statistics) -> Iterator[Tensor]:
    links = statistics.links
    yield from () if links is None else (links.weights, links.keys)
    yield from statistics.mass.values()
    yield from statistics.rectangles
    found: Iterable[object] = (getattr(statistics, f.name) for f in fields(statistics))
    yield from (x for x in found if isinstance(x, Tensor))


def in_words(n: int) -> str:
    """Bytes as people read them."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} bytes"
