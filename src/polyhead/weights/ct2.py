"""Variables and settings enter, the files that CTranslate2 reads leave: model.bin, config.json and vocabularies.

model.bin of version 6 is little-endian and has no padding. A text is its length with the closing zero (2 bytes), its
bytes, and the zero.

    version (4), name of the specification, its revision (4)
    how many variables (4), then for each: name, number of axes (1), their sizes (4 each), type (1), bytes (4), numbers
    how many aliases (4), then for each: the alias, and the name of the variable that it stands for
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.files import write_text

VERSION = 6
NUMBERS = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)  # in the file: its place
#  how a model is written -> the type of matrices, and that of all other tensors
TYPES: dict[str, tuple[torch.dtype, torch.dtype]] = {
    "float32": (torch.float32, torch.float32),
    "float16": (torch.float16, torch.float16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "int8": (torch.int8, torch.float32),
    "int8_float32": (torch.int8, torch.float32),
    "int8_float16": (torch.int8, torch.float16),
    "int8_bfloat16": (torch.int8, torch.bfloat16),
}
LARGEST = (1 << 32) - 1  # bytes of a variable


@dataclass(frozen=True)
class Model:
    """What CTranslate2 loads.

    name, revision: of its specification, such as "TransformerSpec". variables: by name; those without axes are
    settings and keep their type, and one tensor under two names is written once. config: config.json. vocabularies:
    the name of a file without its ending -> its tokens in the order of their ids.
    """

    name: str
    revision: int
    variables: Mapping[str, Tensor]
    config: Mapping[str, Any]
    vocabularies: Mapping[str, Sequence[str]]


def write(folder: Path, model: Model, dtype: str = "float32") -> None:
    """Write the model's files into a folder that is there. dtype: one of `TYPES`. Raises ArgumentError, WriteError."""
    check_type(dtype)
    for name, tokens in model.vocabularies.items():
        write_text(folder / f"{name}.json", json.dumps(list(tokens), indent=2) + "\n")
    write_text(folder / "config.json", json.dumps(dict(model.config), indent=2, sort_keys=True) + "\n")
    with (folder / "model.bin").open("wb") as file:
        write_model(file, model, dtype)


def check_type(dtype: str) -> None:
    if dtype not in TYPES:
        raise ArgumentError(f"dtype '{dtype}' is not one of {', '.join(TYPES)}.{did_you_mean(dtype, TYPES)}")


def write_model(file: BinaryIO, model: Model, dtype: str) -> None:
    first: dict[tuple[int, torch.Size], str] = {}  # where a tensor lies -> the first name that it has
    aliases: dict[str, str] = {}
    for name, tensor in sorted(model.variables.items()):
        owner = first.setdefault((tensor.data_ptr(), tensor.shape), name) if tensor.dim() else name
        if owner != name:
            aliases[name] = owner
    own = {name: tensor for name, tensor in sorted(model.variables.items()) if name not in aliases}
    scales = sum(is_matrix(name, tensor) for name, tensor in own.items()) if TYPES[dtype][0] == torch.int8 else 0
    file.write(struct.pack("<I", VERSION) + text(model.name))
    file.write(struct.pack("<II", model.revision, len(own) + scales))
    for name, tensor in own.items():
        for part, numbers in stored(name, tensor, dtype).items():
            write_variable(file, part, numbers)
    if scales:
        aliases |= {f"{name}_scale": f"{own}_scale" for name, own in aliases.items() if name.endswith("/weight")}
    file.write(struct.pack("<I", len(aliases)))
    for name, owner in sorted(aliases.items()):
        file.write(text(name) + text(owner))


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether CTranslate2 knows this variable in whole numbers too: of linear layers, convolutions and embeddings."""
    return tensor.dim() > 1 and name.endswith("/weight")


def stored(name: str, tensor: Tensor, dtype: str) -> dict[str, Tensor]:
    """A variable as the file holds it: cast, or as whole numbers and the scale of each row, by which they are to be
    divided."""
    if not tensor.dim() or not tensor.is_floating_point():
        return {name: tensor}
    matrices, others = TYPES[dtype]
    if not is_matrix(name, tensor):
        return {name: tensor.to(others)}
    if matrices != torch.int8:
        return {name: tensor.to(matrices)}
    rows = tensor.float().flatten(1)
    most = rows.abs().amax(1)
    most = most.where(most > 0, 127).clamp(min=127 / torch.finfo(torch.float32).max)
    scale = torch.full_like(most, 127) / most  # a division: 127 / most would multiply by what is rounded before
    whole = (rows * scale[:, None]).round().to(torch.int8)
    return {name: whole.reshape(tensor.shape), f"{name}_scale": scale}


def write_variable(file: BinaryIO, name: str, tensor: Tensor) -> None:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.nbytes > LARGEST:
        raise ArgumentError(f"{name} has {tensor.nbytes:,} bytes, but CTranslate2's files hold at most {LARGEST:,}")
    shape = tuple(tensor.shape)
    file.write(text(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape))
    file.write(struct.pack("<BI", NUMBERS.index(tensor.dtype), tensor.nbytes))
    file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)  # pyright: ignore[reportUnknownMemberType]


def text(words: str) -> bytes:
    encoded = words.encode()
    return struct.pack("<H", len(encoded) + 1) + encoded + b"\0"
