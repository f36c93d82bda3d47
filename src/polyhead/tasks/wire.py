"""Searches, what is asked, and answers as JSON, and back as they were: what passes between processes of one task.

Beam(4)  ->  {"is": "Beam", "width": 4, "length_penalty": 1.0, ...}  ->  Beam(4)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from polyhead.errors import ArgumentError
from polyhead.generation import (
    Beam,
    ConstrainedBeam,
    Contrastive,
    DiverseBeam,
    Greedy,
    Hypothesis,
    Sample,
    SampledBeam,
)
from polyhead.tasks.asking import Asking

# What may pass besides plain values: frozen settings and answers, which nothing but their fields makes.
PASSING: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Asking, Beam, ConstrainedBeam, Contrastive, DiverseBeam, Greedy, Hypothesis, Sample, SampledBeam)
}


def to_wire(value: Any) -> Any:
    """The value as JSON knows it; floats keep every bit. Raises ArgumentError for what only its own process knows."""
    if PASSING.get(type(value).__name__) is type(value):
        named = {each.name: to_wire(getattr(value, each.name)) for each in fields(value) if each.init}
        return {"is": type(value).__name__, **named}
    if isinstance(value, tuple):
        return {"is": "tuple", "of": [to_wire(each) for each in cast(tuple[Any, ...], value)]}
    if isinstance(value, list):
        return [to_wire(each) for each in cast(list[Any], value)]
    if isinstance(value, Mapping):
        pairs = cast(Mapping[Any, Any], value).items()
        return {"is": "dict", "of": [[to_wire(key), to_wire(each)] for key, each in pairs]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArgumentError(
        f"{type(value).__name__} is known to this process only; with several workers, search by one of"
        f" {', '.join(name for name, kind in PASSING.items() if hasattr(kind, 'begin'))}."
    )


def from_wire(value: Any) -> Any:
    """What `to_wire` was given."""
    match value:
        case list():
            return [from_wire(each) for each in cast(list[Any], value)]
        case {"is": "tuple", "of": some}:
            return tuple(from_wire(each) for each in some)
        case {"is": "dict", "of": pairs}:
            return {from_wire(key): from_wire(each) for key, each in pairs}
        case {"is": name, **named}:
            return PASSING[name](**{key: from_wire(each) for key, each in named.items()})
        case _:
            return value
