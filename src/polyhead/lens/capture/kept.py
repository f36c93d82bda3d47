"""Calls that are kept stay what they were: a tensor that is about to be written over is copied first.

Caches of a fixed size hand out the same memory in every step; a model may also reuse what it has read. Every operation
that writes passes by before it does, and so a copy is only made where one is needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polyhead.lens.capture.fused import named
from polyhead.lens.capture.marks import memory
from polyhead.lens.recording import Call
from polyhead.operator.request import Request
from polyhead.operator.rules import Dense, DenseBias, Rule


@dataclass(eq=False)
class Held:
    """A call that is kept; which one changes when its tensors have to be copied."""

    call: Call


class Keeping:
    """Which calls lie in which memory, as long as somebody keeps them."""

    def __init__(self) -> None:
        self.lying: dict[int, list[weakref.ref[Held]]] = {}

    def hold(self, call: Call) -> Held:
        held = Held(call)
        if isinstance(call.kept, Request):
            for x in call.kept.held:
                self.lying.setdefault(memory(x), []).append(weakref.ref(held))
        return held

    def before_write(self, place: int) -> None:
        """Keep the calls that lie in this memory apart from it."""
        for held in filter(None, (ref() for ref in self.lying.pop(place, []))):
            assert isinstance(held.call.kept, Request)
            held.call = replace(held.call, kept=apart(held.call.kept, place))


def written(schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[int]:
    """The memory that an operation writes to."""
    given = named(schema, args, kwargs)
    for one in schema.arguments:
        x = given[one.name]
        writes = one.alias_info is not None and one.alias_info.is_write
        if writes and isinstance(x, Tensor) and x.layout == torch.strided:
            yield memory(x)


def lies_in(request: Request, place: int) -> bool:
    return any(memory(x) == place for x in request.held)


def apart(request: Request, place: int) -> Request:
    """The call with copies of what lies in this memory."""

    def own(x: Tensor) -> Tensor:
        return x.clone() if memory(x) == place else x

    rule, bias = request.rule, request.bias
    if rule is not None:
        rule = every(Dense(own(part.mask)) if isinstance(part, Dense) else part for part in rule.parts())
    if isinstance(bias, DenseBias):
        bias = DenseBias(own(bias.tensor))
    sinks = None if request.sinks is None else own(request.sinks)
    return replace(request, query=own(request.query), key=own(request.key), sinks=sinks, rule=rule, bias=bias)


def every(parts: Iterator[Rule]) -> Rule:
    whole = next(parts)
    for part in parts:
        whole = whole & part
    return whole
