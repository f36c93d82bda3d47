"""Self-attention or cross-attention: it is self-attention where keys were made from what the queries were made from.

Every tensor has a line: what it was made from, place by place. A lookup of embeddings begins one, and so does a tensor
from outside the model, of whole numbers too, and a parameter where there is nothing else. What is made of several has
the lines of all but of those that are the same for all places. The output of an attention is its queries' again, one
step on:

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
PARAMETER, WHOLE, OUTSIDE = -1 << 40, -1 << 30, -1 << 20  # where their numbers begin; steps are numbered from 1 on
SAME: Line = frozenset((-1 << 50,))  # in the line of what is the same for all places
LONGEST = 64  # steps of a line that are remembered, the newest: a cache has some of every word
NAMES = ("cross", "encoder_attn", "encdec", "multihead_attn", "encoder_attention", "attn2")  # where there are no lines

BEGIN = ("embedding", "randn", "rand", "normal", "uniform")
EMPTY = ("zeros", "empty", "ones", "full", "new_zeros", "new_empty", "new_ones", "new_full", "arange")
ROWS = {"mm": 0, "addmm": 1, "linear": 0, "convolution": 0}  # of products with a weight, where the rows stand
BATCHES = {"bmm": 0, "baddbmm": 1}  # of products of batches, where the first one stands
ATTENTION = ("_scaled_dot_product", "flex_attention", "_native_multi_head", "_transformer_encoder_layer", "flash_attn")


class Origin:
    """The lines of all tensors that live, by their memory; a parameter's is its own, whatever is written to it."""

    def __init__(self, model: nn.Module, running: Running) -> None:
        self.running = running
        self.lines: dict[int, tuple[StorageWeakRef, Line]] = {}
        self.own: dict[int, tuple[StorageWeakRef, Line]] = {}
        self.numbers: dict[str, int] = {}  # of parameters, by name
        for name, x in model.named_parameters():
            if x.layout == torch.strided:
                self.own[memory(x)] = lying(x, self.parameter(x, name))
        for name, x in model.named_buffers():
            if x.layout == torch.strided:
                self.lines[memory(x)] = lying(x, self.parameter(x, name))
        self.swept = 1000 + len(self.own) + len(self.lines)  # at so many, those of tensors that are gone are forgotten
        self.steps = self.outside = 0

    def line(self, x: object) -> Line:
        """That of a tensor; one that nobody has seen yet comes from outside."""
        if not isinstance(x, Tensor) or x.layout != torch.strided:
            return NONE
        place = memory(x)
        found = self.own.get(place)
        if found is None and type(x) is not Tensor and isinstance(x, nn.Parameter):
            found = self.moved(x)
        if found is None:
            found = self.lines.get(place)
        if found is not None:
            return found[1]
        line = self.begun(x)
        self.put(x, line)
        return line

    def begun(self, x: Tensor) -> Line:
        """The line of a tensor from outside."""
        self.outside += 1
        return frozenset(((OUTSIDE if carries(x) else WHOLE) - self.outside,))

    def parameter(self, x: Tensor, name: str) -> Line:
        """The line of a parameter; a single row, such as a norm's, begins none."""
        number = self.numbers.setdefault(name, len(self.numbers))
        return frozenset((PARAMETER - number,)) if x.dim() > 1 and x.numel() > x.shape[-1] else NONE

    def moved(self, x: nn.Parameter) -> tuple[StorageWeakRef, Line] | None:
        """The line of a parameter that lies elsewhere than at first, as those that are fetched when their module runs.

        One that is of no module that runs comes from outside.
        """
        if not self.running.stack:
            return None
        name = self.running.parameter(x)
        found = self.own[memory(x)] = lying(x, self.begun(x) if name is None else self.parameter(x, name))
        self.sweep()
        return found

    def put(self, x: Tensor, line: Line) -> None:
        self.sweep()
        self.lines[memory(x)] = lying(x, line)

    def sweep(self) -> None:
        """Forget, now and then, the lines of tensors that are gone."""
        if len(self.lines) + len(self.own) > self.swept:
            self.lines, self.own = (
                {at: held for at, held in each.items() if not held[0].expired()} for each in (self.lines, self.own)
            )
            self.swept = 2 * (len(self.lines) + len(self.own)) + 1000

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
        """An operation made or changed tensors. Whole numbers that were made of others are places and choices."""
        made = [x for x in ((gave,) if isinstance(gave, Tensor) else tensors((gave,))) if x.layout == torch.strided]
        if made:
            first = made[0] if carries(made[0]) else next(filter(carries, made), None)
            line = self.made(name, args, kwargs, first, writes) if first is not None else self.whole(name, args, kwargs)
            for x in made:
                self.put(x, line if first is None or carries(x) else NONE)

    def whole(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Line:
        """The line of whole numbers that an operation gave: that of the whole numbers they were made of."""
        if name.startswith(EMPTY) or name.endswith("_like"):
            return NONE
        read = list(tensors((*args, *kwargs.values())))
        return NONE if any(map(carries, read)) else self.all_of(read)

    def made(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], gave: Tensor, writes: bool) -> Line:
        """The line of what an operation gave."""
        if name in ROWS:
            return self.read(args[ROWS[name]])
        if name in BATCHES:
            left, right = (self.read(x) for x in args[BATCHES[name] :][:2])
            return right if right and (not left or is_weight(left)) else left
        if name.startswith(BEGIN):
            return self.step()
        if name.startswith(EMPTY) or name.endswith("_like"):
            return NONE
        if name.startswith(ATTENTION):
            return self.step(self.line(next(tensors(args), None)))
        given = list(tensors((*args, *kwargs.values())))
        read = list(filter(carries, given))
        if not read:
            return self.all_of(given)
        if not writes and len(read) > 1:  # what is spread over places says nothing of them, such as that of a time
            read = [x for x in read if x.numel() == gave.numel()] or read
        line = self.all_of(read)
        return line | SAME if name == "repeat" and line and is_repeated(read[0], gave) else line

    def read(self, x: object) -> Line:
        """The line of a tensor as an operation reads it."""
        line = self.line(x)
        return line | SAME if line and isinstance(x, Tensor) and is_spread(x) else line

    def all_of(self, read: Iterable[Tensor]) -> Line:
        """The lines of several tensors in one: of data rather than of weights, and not of what all places have."""
        lines = [self.read(x) for x in read]
        if len(lines) == 1:
            return lines[0]
        lines = [line for line in lines if line and not SAME <= line] or lines
        lines = [line for line in lines if not is_weight(line)] or lines
        return reduce(joined, lines, NONE)

    def kind(self, query: Line, key: Line, *, known: bool = True) -> Literal["self", "cross"]:
        """Of attention with queries and keys of these lines; where they are not known, by the name of its module."""
        if known and (query or key):
            told = newest(key) in query or newest(query) in key or query == key
            return "self" if told and not (SAME <= query and not SAME <= key) else "cross"
        module = self.running.now
        tail = "" if module is None else f"{self.running.names[module]}.{type(module).__name__}".lower()
        return "cross" if any(part in each for each in tail.split(".")[-4:] for part in NAMES) else "self"


def lying(x: Tensor, line: Line) -> tuple[StorageWeakRef, Line]:
    """A line with the memory that has it."""
    return StorageWeakRef(x.untyped_storage()), line


def is_spread(x: Tensor) -> bool:
    """Whether a view [B, ..., D] or [B, D, ..., ...] has the same numbers at all of its places, by its strides."""
    steps = () if x.is_nested else x.stride()
    if 0 not in steps or len(steps) < 2:
        return False
    axes = list(zip(x.shape, steps, strict=True))
    return any(
        all(n == 1 or step == 0 for n, step in places) and any(n > 1 for n, _ in places)
        for places in (axes[len(axes) > 2 : -1], axes[2:] if len(axes) > 3 else [])
    )


def is_repeated(x: Tensor, gave: Tensor) -> bool:
    """Whether one row of each sequence became several of it, [B, 1, D] to [B, T, D]."""
    return x.dim() == gave.dim() > 2 and x.shape[1:-1].numel() == 1 < gave.shape[1:-1].numel()


def carries(x: Tensor) -> bool:
    """Whether a tensor holds more than whole numbers, which beside others are places and names of words."""
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
