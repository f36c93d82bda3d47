"""A record becomes one safetensors file, and comes back: tensors by name, the rules of the call as a few words of JSON.

Nothing in the file is code: a rule is the name of its class and its fields, and only the classes below are known.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.files import write_tensors
from polyhead.operator import rules
from polyhead.operator.answers import Links, Statistics
from polyhead.operator.record import Record
from polyhead.operator.request import ask
from polyhead.operator.statistics import exact

FORMAT = "polyhead.record", "1"
KINDS = {
    kind.__name__: kind
    for kind in (
        rules.Every, rules.Causal, rules.Window, rules.Prefix, rules.Lengths, rules.Segments, rules.Dense, rules.Keys,
        rules.DenseBias, rules.Alibi, rules.Buckets,
    )
}  # fmt: skip
SAMPLE = 8  # rows whose sums are checked when a record is opened
NEAR = {
    torch.float64: 1e-9,
    torch.float32: 1e-3,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}  # of a row's sum to its due


def save(record: Record, path: Path) -> None:
    """Write the record, with its statistics, whole or not at all. Raises WriteError."""
    request, told = record.request, record.statistics
    tensors = {"query": request.query, "key": request.key, "lse": record.lse}
    if request.sinks is not None:
        tensors["sinks"] = request.sinks
    facts = {
        "kernel": record.kernel,
        "reasons": dict(record.reasons),
        "scale": request.scale,
        "softcap": request.softcap,
        "rule": packed(request.rule, "rule", tensors),
        "bias": packed(request.bias, "bias", tensors),
        "mass": list(told.mass),
        "rectangles": len(told.rectangles),
        "row_error": told.row_error,
        "way": told.way,
        "way_reasons": dict(told.reasons),
    }
    tensors |= {f"statistics.{name}": x for name in PLAIN if (x := getattr(told, name)) is not None}
    tensors |= {f"statistics.mass.{n}": x for n, x in enumerate(told.mass.values())}
    tensors |= {f"statistics.rectangles.{n}": x for n, x in enumerate(told.rectangles)}
    if told.links is not None:
        tensors |= {"statistics.links.weights": told.links.weights, "statistics.links.keys": told.links.keys}
    held = {name: x.detach().cpu().clone() for name, x in tensors.items()}  # a safetensors file holds nothing twice
    write_tensors(path, held, {FORMAT[0]: FORMAT[1], "call": json.dumps(facts)})


PLAIN = [f.name for f in fields(Statistics) if f.name in (
    "entropy", "squares", "distance", "offset", "spread", "received", "mean_map", "max_map", "rows", "columns"
)]  # fmt: skip


def packed(rule: object, name: str, tensors: dict[str, Tensor]) -> Any:
    """A rule as words and numbers; its tensors go to `tensors`."""
    if rule is None:
        return None
    held: dict[str, Any] = {}
    for field in fields(cast(Any, rule)):
        value = getattr(rule, field.name)
        place = f"{name}.{field.name}"
        if isinstance(value, Tensor):
            tensors[place] = value
            value = {"tensor": place}
        elif isinstance(value, tuple):
            value = [packed(each, f"{place}.{n}", tensors) for n, each in enumerate(cast(tuple[object, ...], value))]
        held[field.name] = value
    return {"kind": type(rule).__name__, "fields": held}


def load(path: Path) -> Record:
    """The record that was saved, checked: its rows must sum to what they must. Raises DataError."""
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
            if told.get(FORMAT[0]) != FORMAT[1]:
                raise DataError(f"{path} is not a record that this version of polyhead wrote; save the record again")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
        return checked(unfolded(json.loads(told["call"]), tensors))
    except FileNotFoundError:
        raise DataError(f"There is no record {path}; check the path") from None
    except (SafetensorError, OSError, ArgumentError, KeyError, TypeError, ValueError) as broken:
        raise DataError(f"{path} is damaged or no record ({broken}); save the record again") from broken


def unfolded(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Record:
    """The record behind these words and tensors."""
    query, key = tensors["query"], tensors["key"]
    request = ask(
        query, key, key, mask=unpacked(facts["rule"], tensors), bias=unpacked(facts["bias"], tensors),
        scale=facts["scale"], softcap=facts["softcap"], sinks=tensors.get("sinks"),
    )  # fmt: skip
    if tuple(tensors["lse"].shape) != tuple(query.shape[:3]):
        raise ValueError(f"lse has shape {list(tensors['lse'].shape)} for queries {list(query.shape)}")

    def of(name: str) -> Tensor | None:
        return tensors.get(f"statistics.{name}")

    weights, keys = of("links.weights"), of("links.keys")
    statistics = Statistics(
        **{name: of(name) for name in PLAIN},
        links=None if weights is None or keys is None else Links(weights, keys),
        mass={name: tensors[f"statistics.mass.{n}"] for n, name in enumerate(facts["mass"])},
        rectangles=tuple(tensors[f"statistics.rectangles.{n}"] for n in range(facts["rectangles"])),
        row_error=facts["row_error"],
        way=facts["way"],
        reasons=facts["way_reasons"],
    )
    return Record(tensors["lse"], facts["kernel"], facts["reasons"], request, statistics)


def unpacked(words: Any, tensors: dict[str, Tensor]) -> Any:
    """The rule behind what `packed` made of it."""
    if words is None:
        return None
    held: dict[str, Any] = {}
    for name, value in words["fields"].items():
        if isinstance(value, dict):
            value = tensors[cast(dict[str, str], value)["tensor"]]
        elif isinstance(value, list):
            value = tuple(unpacked(each, tensors) for each in cast(list[Any], value))
        held[name] = value
    return KINDS[words["kind"]](**held)


def checked(record: Record) -> Record:
    """The record, if some rows spread over it sum to 1, or to what a sink leaves."""
    request, lse = record.request, record.lse
    T = request.frame.n_queries
    if not lse.numel():
        return record
    some = torch.linspace(0, T - 1, min(T, SAMPLE)).round().long()
    due = torch.ones_like(lse[:, :, some], dtype=torch.float64)
    level = lse[:, :, some].double()
    if request.sinks is not None:
        due = due - (request.sinks.double()[:, None] - level).exp()
    due = due.masked_fill(level == -torch.inf, 0.0)
    off = float((exact(request, lse, some, range(request.frame.n_keys)).sum(-1) - due).abs().max())
    if not off <= NEAR[request.query.dtype]:
        raise ValueError(f"its weights sum to 1 only within {off:.2g}")
    return record
