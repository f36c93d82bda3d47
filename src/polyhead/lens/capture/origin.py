"""Self-attention or cross-attention: it is self-attention where keys were made from what the queries were made from.

Every tensor has a line: what it was made from, place by place. A lookup of embeddings begins one, and so does a tensor
from outside the model, and a parameter where there is nothing else. What is made of several has the lines of all. The
output of an attention is its queries' again, one step on:

    words ─► x1 ─┬─ query ─┐
                 └─ key ───┴► x1 x2 ...   self: the newest step of one is in the line of the other
    other ─► y1 ─► y1 y2 ─ key            cross: it is not
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from polyhead.lens.capture.marks import memory
from polyhead.lens.capture.running import Running

Line = frozenset[int]
NONE: Line = frozenset()  # of numbers that come from nowhere, such as zeros
PARAMETER, OUTSIDE = -1 << 40, -1 << 20  # where their numbers begin; steps are numbered from 1 on, as time goes
LONGEST = 64  # steps of a line that are remembered, the newest: a cache has some of every word
NAMES = ("cross", "encoder_attn", "encdec", "multihead_attn", "encoder_attention", "attn2")  # where there are no lines

BEGIN = ("embedding", "randn", "rand", "normal", "uniform")
EMPTY = ("zeros", "empty", "ones", "full", "new_zeros", "new_empty", "new_ones", "new_full")
ROWS = {"mm": 0, "addmm": 1, "linear": 0, "convolution": 0}  # of products with a weight, where the rows stand
BATCHES = {"bmm": 0, "baddbmm": 1}  # of products of batches, where the first one stands
ATTENTION = ("_scaled_dot_product", "flex_attention", "_native_multi_head", "_transformer_encoder_layer", "flash_attn")


class Origin:
    """The lines of all tensors that live, by their memory."""

    def __init__(self, model: nn.Module) -> None:
        self.lines: dict[int, tuple[StorageWeakRef, Line]] = {}
        self.swept = 1000  # lines at which those of tensors that are gone are forgotten
        own = (x for x in (*model.parameters(), *model.buffers()) if x.layout == torch.strided)
        self.own = {memory(x): own_line(x, n) for n, x in enumerate(own)}
        self.steps = self.outside = 0

    def line(self, x: object) -> Line:
        """That of a tensor; one that nobody has seen yet comes from outside."""
        if not isinstance(x, Tensor) or not carries(x):
            return NONE
        place = memory(x)
        found = self.lines.get(place)
        if found is not None:
            return found[1]
        line = self.own.get(place)
        if line is None:
            self.outside += 1
            line = frozenset((OUTSIDE - self.outside,))
        self.put(x, line)
        return line

    def put(self, x: Tensor, line: Line) -> None:
        if len(self.lines) > self.swept:
            self.lines = {at: held for at, held in self.lines.items() if not held[0].expired()}
            self.swept = 2 * len(self.lines) + 1000
        self.lines[memory(x)] = StorageWeakRef(x.untyped_storage()), line

    def is_data(self, x: Tensor) -> bool:
        """Whether a tensor was made of more than parameters."""
        line = self.line(x)
        return bool(line) and not is_weight(line)

    def of(self, query: Tensor, key: Tensor) -> tuple[Line, Line]:
        """The lines of queries and of keys."""
        return self.line(query), self.line(key)

    def attends(self, output: Tensor, query: Line) -> None:
        """An attention of queries with this line gave its output."""
        self.put(output, self.step(query))

    def step(self, line: Line = NONE) -> Line:
        """A line, one step on."""
        self.steps += 1
        return line | {self.steps}

    def note(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], gave: Any, *, writes: bool) -> None:
        """An operation made or changed tensors."""
        made = [x for x in tensors((gave,)) if carries(x)]
        if made:
            line = self.made(name, args, kwargs, made[0], writes)
            for x in made:
                self.put(x, line)

    def made(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], gave: Tensor, writes: bool) -> Line:
        """The line of what an operation gave."""
        if name in ROWS:
            return self.line(args[ROWS[name]])
        if name in BATCHES:
            left, right = (self.line(x) for x in args[BATCHES[name] :][:2])
            return right if right and (not left or is_weight(left)) else left
        if name.startswith(BEGIN):
            return self.step()
        if name.startswith(EMPTY) or name.endswith("_like"):
            return NONE
        if name.startswith(ATTENTION):
            return self.step(self.line(next(tensors(args), None)))
        read = [x for x in tensors((*args, *kwargs.values())) if carries(x)]
        if not writes and len(read) > 1:  # what is spread over places says nothing of them, such as that of a time
            read = [x for x in read if x.numel() == gave.numel()] or read
        lines = [self.line(x) for x in read]
        if len(lines) > 1:
            lines = [line for line in lines if not is_weight(line)] or lines
        return reduce(joined, lines, NONE)

    def kind(self, running: Running, query: Line, key: Line, *, known: bool = True) -> Literal["self", "cross"]:
        """Of attention with queries and keys of these lines; where they are not known, by the name of its module."""
        if known:
            return "self" if newest(key) in query or newest(query) in key or query == key else "cross"
        module = running.now
        tail = "" if module is None else f"{running.names[module]}.{type(module).__name__}".lower()
        return "cross" if any(part in each for each in tail.split(".")[-4:] for part in NAMES) else "self"


def own_line(x: Tensor, n: int) -> Line:
    """That of a parameter; a single row, such as a norm's, begins none."""
    return frozenset((PARAMETER - n,)) if x.dim() > 1 and x.numel() > x.shape[-1] else NONE


def carries(x: Tensor) -> bool:
    """Whether a tensor can have a line: whole numbers are places and names of words."""
    return (x.is_floating_point() or x.is_complex()) and x.layout == torch.strided


def tensors(args: Iterable[Any]) -> Iterator[Tensor]:
    """Those among the arguments of an operation."""
    for x in args:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from (each for each in cast(Sequence[Any], x) if isinstance(each, Tensor))


def is_weight(line: Line) -> bool:
    """Whether there is nothing but parameters in a line."""
    return bool(line) and max(line) <= PARAMETER


def newest(line: Line) -> int | None:
    return max(line, default=None)


def joined(one: Line, other: Line) -> Line:
    if one is other or other <= one:
        return one
    if one <= other:
        return other
    both = one | other
    return both if len(both) <= LONGEST else frozenset(sorted(both)[-LONGEST:])
