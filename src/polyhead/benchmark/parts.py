"""Work is done once under PyTorch's profiler; its seconds in products and in attention leave.

Products: x W^T + b in any layout and precision, with the sums and ReLU that are links of a chain of them; convolutions;
and the gradients of both. Attention: whatever polyhead's operator does, and elsewhere scores, softmax and weighted sum,
in one operation or in several. The rest: norms, activations, embeddings, caches, rounding to 8 bits, the loss, the
search and Python.

The profiler takes about a microsecond for each of a thousand small operations a step, which would all be put on the
rest. So the whole is timed without it, and the rest is what the other two leave of it (`result.Parts`).
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, cast

import torch

from polyhead.operator import kernels, loops

LEAST, MOST = 0.5, 9  # seconds that a short piece of work is looked at, and how often at most
Kind = Literal["products", "attention"]
NAMES: dict[Kind, re.Pattern[str]] = {
    "products": re.compile(
        r"aten::(linear|mkldnn_linear|addmm|mm|addmv|mv|_grouped_mm|conv[123]d|convolution|convolution_backward)"
        r"|(mkldnn|mkl|onednn|quantized)::\w*linear\w*|Product"  # Product: the function of core/linear.py
        r"|polyhead::product"
    ),
    "attention": re.compile(
        r"polyhead::attention|aten::_?scaled_dot_product_\w+|aten::(bmm|baddbmm|softmax|_softmax|_softmax_backward_data)"
    ),
}
BACKWARD = "autograd::engine::evaluate_function"


class Event(Protocol):
    """What the profiler tells of one operation. sequence_nr: that of the node it made, or of the node that runs, whose
    forward thread is then not 0; below 0 if neither."""

    def name(self) -> str: ...
    def start_ns(self) -> int: ...
    def duration_ns(self) -> int: ...
    def start_thread_id(self) -> int: ...
    def fwd_thread_id(self) -> int: ...
    def sequence_nr(self) -> int: ...


def looked_at(work: Callable[[], Any]) -> dict[str, float]:
    """Do the work, again while it is short; the median seconds that it spends in products and in attention."""
    found: list[dict[Kind, float]] = []
    end = time.perf_counter() + LEAST
    with marked():
        once(lambda: torch.zeros(1) + 1)  # the profiler's own first steps are slow
        while not found or (len(found) < MOST and time.perf_counter() < end):
            found.append(once(work))
    return {kind: statistics.median(each[kind] for each in found) for kind in NAMES}


def once(work: Callable[[], Any]) -> dict[Kind, float]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    return tally(cast(Any, profiler).profiler.kineto_results.events())  # its own `events` takes a minute for a million


@contextmanager
def marked() -> Iterator[None]:
    """The operator's calls by one name and our own products by another, so that loops of ours, which PyTorch does not
    see, count too."""
    given = kernels.run, loops.chain
    kernels.run = named("polyhead::attention", kernels.run)
    loops.chain = named("polyhead::product", loops.chain)
    try:
        yield
    finally:
        kernels.run, loops.chain = given


def named(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, by this name for the profiler."""

    def told(*given: Any, **how: Any) -> Any:
        with torch.profiler.record_function(name):
            return call(*given, **how)

    return told


def tally(events: Sequence[Event]) -> dict[Kind, float]:
    """The seconds of each kind. What is inside an operation that counts belongs to it, and so does the node of the
    backward pass that it made."""
    found: dict[Kind, float] = {"products": 0.0, "attention": 0.0}
    ends: dict[int, int] = {}  # of each thread: when the operation that counts ends
    kinds: dict[int, Kind | None] = {}  # and its kind
    made: dict[tuple[int, int], Kind | None] = {}  # the kind of each node of the backward pass
    for event in sorted(events, key=lambda each: (each.start_ns(), -each.duration_ns())):
        name, thread, start = event.name(), event.start_thread_id(), event.start_ns()
        node, origin = event.sequence_nr(), event.fwd_thread_id()
        if start >= ends.get(thread, 0):
            kind = made.get((origin, node)) if name.startswith(BACKWARD) and node >= 0 else None
            kinds[thread] = kind = kind or kind_of(name)
            if kind is not None:
                found[kind] += event.duration_ns() / 1e9
                ends[thread] = start + event.duration_ns()
        if origin == 0 and node >= 0:
            made[thread, node] = kinds[thread]  # the last to bear a number is the one that made the node
    return found


def kind_of(name: str) -> Kind | None:
    return next((kind for kind, pattern in NAMES.items() if pattern.fullmatch(name)), None)
