"""A recording becomes one safetensors file, call by call; opened again, a call is read when it is asked for.

The tensors of call 12 are named "12/query", "12/lse"; all else is JSON in the head of the file. Nothing in it is code.
"""

from __future__ import annotations

import json
import shutil
import struct
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, cast, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from polyhead.errors import DataError, WriteError
from polyhead.files import whole, writable
from polyhead.lens import rulers
from polyhead.lens.backward import Backward, Target
from polyhead.lens.inputs import Inputs
from polyhead.lens.recording import LEVELS, Call, Facts, Level, Missed, Norms, Recording, Route
from polyhead.operator.record_file import (
    BROKEN,
    checksum,
    fitting_lse,
    folded_request,
    folded_statistics,
    numbers_of,
    opened,
    packed,
    sealed,
    unchanged,
    unfolded_request,
    unfolded_statistics,
    unpacked,
)
from polyhead.operator.request import Request

FORMAT = "polyhead.recording", "5"
OLDER = ("4",)  # formats that are read too: 4 knew no gradients
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
HEAD = 100_000_000  # bytes that readers of safetensors accept as a head
RULERS = "rulers"  # where the pictures and sounds of rulers lie, as calls lie under their numbers
VALUE, GRADIENT = "backward.value", "backward.output"
FILL = "fill"  # a few bytes after a call, so that the next begins at a multiple of 8: the format allows no holes


class Writer:
    """A safetensors file whose tensors are written as they come.

    The format wants a head that knows all sizes, so the bytes go to a nameless file beside it, which the system takes
    away however the process ends. `finish` writes the head, copies the bytes behind it and lets the file appear.
    """

    def __init__(self, path: Path):
        self.path = path
        self.head: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.bytes = TemporaryFile(dir=path.parent)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bytes.close()

    def add(self, call: Call) -> None:
        """Write a call's tensors; raises WriteError."""
        facts, tensors = folded(call)
        tensors = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
        facts["checksums"] = {name: checksum(x) for name, x in tensors.items()}
        place = len(self.calls)
        with writable(self.path):
            for name, x in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
                self.put(f"{place}/{name}", x)
            self.put(f"{place}/{FILL}", torch.zeros(-self.bytes.tell() % 8, dtype=torch.uint8))
        self.calls.append(facts)

    def put(self, name: str, x: Tensor) -> None:
        start = self.bytes.tell()
        self.bytes.write(numbers_of(x))
        self.head[name] = {
            "dtype": TYPES[x.dtype],
            "shape": list(x.shape),
            "data_offsets": [start, self.bytes.tell()],
        }

    def finish(self, recording: Recording) -> None:
        """Let the file appear, with what else the recording knows. Raises WriteError."""
        media: dict[str, Tensor] = {}
        told = rulers.folded(rulers.rulers_of(recording.rulers), media)
        with writable(self.path):
            for name, x in media.items():
                self.put(f"{RULERS}/{name}", x)
        run = {
            "level": recording.level,
            "torch": recording.version,
            "rulers": told,
            "checksums": {name: checksum(x) for name, x in media.items()},
            "missed": [[one.name, one.reason] for one in recording.missed],
            "target": None if recording.target is None else asdict(recording.target),
            "calls": self.calls,
        }
        words = {"format": "pt", FORMAT[0]: FORMAT[1], **sealed("run", run)}
        head = json.dumps({"__metadata__": words} | self.head).encode()
        head += b" " * (-len(head) % 8)
        if len(head) > HEAD:
            raise WriteError(self.path, f"{len(self.calls)} calls are too many for one file")
        with whole(self.path) as part, part.open("wb") as file:
            file.write(struct.pack("<Q", len(head)) + head)
            self.bytes.seek(0)
            shutil.copyfileobj(self.bytes, file, 1 << 20)


def save(recording: Recording, path: Path) -> None:
    """Write the recording, a call at a time, whole or not at all. Raises WriteError."""
    with Writer(path) as writer:
        for call in recording:
            writer.add(call)
        writer.finish(recording)


def load(path: Path) -> Recording:
    """The recording that was saved; nothing but its head is read yet. Raises DataError."""
    with reading(path):
        file = cast(Any, safe_open)(path, framework="pt")
        told: dict[str, str] = file.metadata() or {}
        if told.get(FORMAT[0]) not in (FORMAT[1], *OLDER):
            raise DataError(f"{path} is not a recording that this version of polyhead wrote; save the recording again")
        run = opened("run", told)
        held: dict[str, list[str]] = {}
        for name in file.keys():
            place, _, of = name.partition("/")
            held.setdefault(place, []).extend([] if of == FILL else [name])
        if run["level"] not in LEVELS:
            raise ValueError(f"no level is called {run['level']!r}")
        entries: list[tuple[str, Callable[[], Call]]] = [
            (facts["name"], InFile(path, file, facts, held.get(str(n), []))) for n, facts in enumerate(run["calls"])
        ]
        missed = [Missed(str(name), str(reason)) for name, reason in run["missed"]]
        media = {name.partition("/")[2]: file.get_tensor(name) for name in held.get(RULERS, [])}
        unchanged(media, run["checksums"])
        found = cast(dict[str, Any], rulers.unfolded(run["rulers"], media))
        target = run.get("target")
        aim = None if target is None else Target(str(target["en"]), str(target["zh"]), bool(target["there"]))
        return Recording(run["level"], found, missed, run["torch"], entries=entries, target=aim)


class InFile:
    """A way to one call of a file, whose tensors stay in the mapped file until they are read."""

    def __init__(self, path: Path, file: Any, told: dict[str, Any], held: list[str]):
        self.path, self.file, self.told, self.held = path, file, told, held
        self.last: list[weakref.ref[Call]] = []  # as long as somebody has it, it is the same

    def __call__(self) -> Call:
        found = self.last[0]() if self.last else None
        if found is None:
            found = self.fresh()
            self.last[:] = [weakref.ref(found)]
        return found

    def fresh(self) -> Call:
        with reading(self.path):
            tensors = {name.partition("/")[2]: self.file.get_tensor(name) for name in self.held}
            try:
                unchanged(tensors, self.told["checksums"])
            except ValueError as changed:
                raise ValueError(f"{self.told['name']}: {changed}") from None
            return unfolded(self.told, tensors)

    @cached_property
    def facts(self) -> Facts:
        with reading(self.path):
            told, place = self.told, self.held[0].partition("/")[0]
            B, H, T = self.file.get_slice(f"{place}/lse").get_shape()
            S = self.file.get_slice(f"{place}/norms").get_shape()[2]
            kept = told.get("rows") or told.get("inputs")
            level: Level = "rows" if "rows" in told else "inputs" if "inputs" in told else "summary"
            return Facts(
                told["name"], told["kind"], told["kernel"], route_of(told["route"]), level, told["exactness"],
                told["norms_after"], kept is not None and is_causal(kept["rule"]), (B, H, T, S),
                f"{place}/{GRADIENT}" in self.held,
            )  # fmt: skip


def is_causal(told: Any) -> bool:
    """Whether a packed rule hides later keys."""
    if told is None:
        return False
    return told["kind"] == "Causal" or any(map(is_causal, told["fields"].get("rules", [])))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file ends in into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"There is no recording {path}; check the path, and that the run which wrote it ended"
        ) from None
    except BROKEN as broken:
        raise DataError(f"{path} is damaged or no recording ({broken}); save the recording again") from broken


def folded(call: Call) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A call as words and numbers, and its tensors by name."""
    tensors = {"lse": call.lse, "norms": call.norms.values}
    kept = call.kept
    facts: dict[str, Any] = {
        "name": call.name,
        "kind": call.kind,
        "kernel": call.kernel,
        "reasons": dict(call.reasons),
        "norms_after": call.norms.after,
        "replayed": call.replayed,
        "route": call.route,
        "exactness": call.exactness,  # for those who read the file without polyhead
        "statistics": folded_statistics(call.statistics, tensors),
    }
    if isinstance(kept, Request):
        facts["rows"] = folded_request(kept, tensors)
    heard = call.backward
    if heard is not None and heard.output is not None:
        tensors |= {VALUE: heard.value, GRADIENT: heard.output}
    if isinstance(kept, Inputs):
        tensors |= {f"inputs.{name}": x for name, x in kept.tensors.items()} | {"sums": kept.sums}
        facts["inputs"] = {
            "tensors": list(kept.tensors),
            "rule": packed(kept.rule, "rule", tensors),
            "bias": packed(kept.bias, "bias", tensors),
            "dropout": kept.dropout,
            "earlier": kept.earlier,
            "autocast": next((name for name, dtype in DTYPES.items() if dtype == kept.autocast), None),
        }
    return facts, tensors


def unfolded(facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> Call:
    """The call behind these words and tensors."""
    lse, norms = tensors["lse"], tensors["norms"]
    kept: Request | Inputs | None = None
    if "rows" in facts:
        kept = unfolded_request(facts["rows"], tensors)
        lse = fitting_lse(tensors, kept)
    elif "inputs" in facts:
        told = facts["inputs"]
        kept = Inputs(
            {name: tensors[f"inputs.{name}"] for name in told["tensors"]},
            rule=unpacked(told["rule"], tensors),
            bias=unpacked(told["bias"], tensors),
            dropout=told["dropout"],
            earlier=told["earlier"],
            autocast=None if told["autocast"] is None else DTYPES[told["autocast"]],
            sums=tensors["sums"],
        )
    if lse.dim() != 3 or norms.dim() != 3 or lse.shape[:2] != norms.shape[:2]:
        raise ValueError(f"lse has shape {list(lse.shape)}, norms {list(norms.shape)}")
    return Call(
        facts["name"],
        facts["kind"],
        facts["kernel"],
        facts["reasons"],
        lse,
        Norms(norms, facts["norms_after"]),
        unfolded_statistics(facts["statistics"], tensors),
        kept,
        facts["replayed"],
        route_of(facts["route"]),
        heard_of(tensors, kept),
    )


def heard_of(tensors: Mapping[str, Tensor], kept: Request | Inputs | None) -> Backward | None:
    """What a backward pass said of a call, if one came by; raises ValueError where it does not fit the call."""
    if GRADIENT not in tensors:
        return None
    value, output = tensors[VALUE], tensors[GRADIENT]
    if not (
        isinstance(kept, Request)
        and value.dim() == output.dim() == 4
        and value.shape[:3] == kept.key.shape[:3]
        and output.shape[:3] == kept.query.shape[:3]
        and value.shape[3] == output.shape[3]
    ):
        raise ValueError(f"a gradient of {list(output.shape)} and values of {list(value.shape)} do not fit the call")
    return Backward(value, output)


def route_of(told: object) -> Route:
    if told not in get_args(Route):
        raise ValueError(f"no route is called {told!r}")
    return cast(Route, told)
