"""A record becomes one safetensors file, and comes back: tensors by name, the rules of the call as a few words of JSON.

Nothing in the file is code: a rule is the name of its class and its fields, and only the classes below are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.files import write_tensors
from polyhead.operator import rules
from polyhead.operator.answers import Links, Statistics
from polyhead.operator.record import Record, checked
from polyhead.operator.request import Request, ask, no_values

FORMAT = "polyhead.record", "2"
KINDS = {
    kind.__name__: kind
    for kind in (
        rules.Every, rules.Causal, rules.Window, rules.Prefix, rules.Lengths, rules.Segments, rules.Dense, rules.Keys,
        rules.DenseBias, rules.Alibi, rules.Buckets,
    )
}  # fmt: skip
BROKEN = (  # what reading a damaged file ends in
    SafetensorError, OSError, ArgumentError, LookupError, TypeError, ValueError, AttributeError, RuntimeError,
    OverflowError,
)  # fmt: skip


def save(record: Record, path: Path) -> None:
    """Write the record, with its statistics, whole or not at all. Raises WriteError and ArgumentError."""
    tensors = {"lse": record.lse}
    facts = {
        "kernel": record.kernel,
        "reasons": dict(record.reasons),
        "call": folded_request(record.request, tensors),
        "statistics": folded_statistics(record.statistics, tensors),
    }
    held = {name: x.detach().cpu().clone() for name, x in tensors.items()}  # a safetensors file holds nothing twice
    facts["checksums"] = {name: checksum(x) for name, x in held.items()}
    write_tensors(path, held, {FORMAT[0]: FORMAT[1], **sealed("record", facts)})


def sealed(name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as JSON for the head of a file, and a checksum of that."""
    words = json.dumps(facts)
    return {name: words, "checksum": str(crc32(words.encode()))}


def opened(name: str, told: Mapping[str, str]) -> dict[str, Any]:
    """The facts behind `sealed`; raises ValueError where they are not what was written."""
    if str(crc32(told[name].encode())) != told["checksum"]:
        raise ValueError(f"the {name} in its head is not what was written")
    return json.loads(told[name])


def checksum(x: Tensor) -> int:
    """Of a tensor on the CPU: its numbers, their type and its shape (CRC-32, against damage and not against design)."""
    return crc32(numbers_of(x), crc32(f"{x.dtype} {list(x.shape)}".encode()))


def numbers_of(x: Tensor) -> memoryview | bytes:
    """The numbers of a tensor on the CPU as they lie in a file."""
    return x.detach().contiguous().flatten().view(torch.uint8).numpy().data if x.numel() else b""


def unchanged(tensors: Mapping[str, Tensor], checksums: Mapping[str, int]) -> None:
    """Raise ValueError unless these are the tensors that were written."""
    with ThreadPoolExecutor() as pool:  # a checksum of much leaves other threads their turn
        found = pool.map(checksum, tensors.values())
        changed = [name for name, told in zip(tensors, found, strict=True) if told != checksums.get(name)]
    changed += [name for name in checksums if name not in tensors]
    if changed:
        raise ValueError(f"{changed[0]} is not what was written")


def folded_request(request: Request, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A call without its values, as words and numbers; its tensors go to `tensors`. Raises ArgumentError."""
    tensors |= {"query": request.query, "key": request.key}
    if request.sinks is not None:
        tensors["sinks"] = request.sinks
    return {
        "scale": request.scale,
        "softcap": request.softcap,
        "rule": packed(request.rule, "rule", tensors),
        "bias": packed(request.bias or request.score_mod, "bias", tensors),
    }


def folded_statistics(told: Statistics, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Answers as words and numbers; their tensors go to `tensors`."""
    tensors |= {f"statistics.{name}": x for name in PLAIN if (x := getattr(told, name)) is not None}
    tensors |= {f"statistics.mass.{n}": x for n, x in enumerate(told.mass.values())}
    tensors |= {f"statistics.rectangles.{n}": x for n, x in enumerate(told.rectangles)}
    if told.links is not None:
        tensors |= {"statistics.links.weights": told.links.weights, "statistics.links.keys": told.links.keys}
    return {
        "mass": list(told.mass),
        "rectangles": len(told.rectangles),
        "row_error": told.row_error,
        "way": told.way,
        "reasons": dict(told.reasons),
    }


PLAIN = [f.name for f in fields(Statistics) if f.name in (
    "entropy", "squares", "distance", "offset", "spread", "received", "mean_map", "max_map", "rows", "columns"
)]  # fmt: skip


def packed(rule: object, name: str, tensors: dict[str, Tensor]) -> Any:
    """A rule as words and numbers; its tensors go to `tensors`. Raises ArgumentError for one that is code."""
    if rule is None:
        return None
    kind = type(rule).__name__
    if KINDS.get(kind) is not type(rule):  # a class of the caller's may bear the name of one of ours
        raise ArgumentError(
            f"A file cannot hold a {kind}, which is code; hand in a tensor, or one of {', '.join(KINDS)}"
        )
    held: dict[str, Any] = {}
    for field in fields(cast(Any, rule)):
        value = getattr(rule, field.name)
        place = f"{name}.{field.name}"
        if isinstance(value, Tensor):
            tensors[place] = value
            value = {"tensor": place}
        elif isinstance(value, tuple):
            value = [packed(each, f"{place}.{n}", tensors) for n, each in enumerate(cast(tuple[object, ...], value))]
        elif not isinstance(value, bool) and isinstance(value, Integral):
            value = int(value)
        held[field.name] = value
    return {"kind": kind, "fields": held}


def load(path: Path) -> Record:
    """The record that was saved, checked: its rows must sum to what they must. Raises DataError."""
    try:
        with cast(Any, safe_open)(path, framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
            if told.get(FORMAT[0]) != FORMAT[1]:
                raise DataError(f"{path} is not a record that this version of polyhead wrote; save the record again")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
        facts = opened("record", told)
        unchanged(tensors, facts["checksums"])
        request, statistics = (
            unfolded_request(facts["call"], tensors),
            unfolded_statistics(facts["statistics"], tensors),
        )
        record = Record(fitting_lse(tensors, request), facts["kernel"], facts["reasons"], request, statistics)
        checked(record)
        return record
    except FileNotFoundError:
        raise DataError(f"There is no record {path}; check the path") from None
    except BROKEN as broken:
        raise DataError(f"{path} is damaged or no record ({broken}); save the record again") from broken


def unfolded_request(facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> Request:
    """The call behind these words and tensors; its values were not kept, and have no width."""
    key = tensors["key"]
    return ask(
        tensors["query"], key, no_values(key), scale=facts["scale"], softcap=facts["softcap"],
        mask=unpacked(facts["rule"], tensors), bias=unpacked(facts["bias"], tensors), sinks=tensors.get("sinks"),
    )  # fmt: skip


def unfolded_statistics(facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> Statistics:
    """The answers behind these words and tensors."""

    def of(name: str) -> Tensor | None:
        return tensors.get(f"statistics.{name}")

    weights, keys = of("links.weights"), of("links.keys")
    return Statistics(
        **{name: of(name) for name in PLAIN},
        links=None if weights is None or keys is None else Links(weights, keys),
        mass={name: tensors[f"statistics.mass.{n}"] for n, name in enumerate(facts["mass"])},
        rectangles=tuple(tensors[f"statistics.rectangles.{n}"] for n in range(facts["rectangles"])),
        row_error=facts["row_error"],
        way=facts["way"],
        reasons=facts["reasons"],
    )


def fitting_lse(tensors: Mapping[str, Tensor], request: Request) -> Tensor:
    """The rows' log-sum-exp, which has one number for each query."""
    lse, query = tensors["lse"], request.query
    if tuple(lse.shape) != tuple(query.shape[:3]):
        raise ValueError(f"lse has shape {list(lse.shape)} for queries {list(query.shape)}")
    return lse


def unpacked(words: Any, tensors: Mapping[str, Tensor]) -> Any:
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
