"""Tensors in safetensors files, whole or in shards: read lazily by slice, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from polyhead.errors import CheckpointError
from polyhead.files import write_tensors, write_text
from polyhead.weights.names import Names, Part

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_SHARD = 4 << 30  # bytes
NAMED = 5  # tensors that do not fit, before the others are only counted


class TensorFiles:
    """The tensors of a model folder by name; nothing is read before it is asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._open = {name: self._safe_open(name) for name in self._files()}
        self._where = {key: handle for handle in self._open.values() for key in handle.keys()}

    def _files(self) -> list[str]:
        if (self.folder / SINGLE).is_file():
            return [SINGLE]
        if (self.folder / INDEX).is_file():
            try:
                shards = sorted(set(json.loads((self.folder / INDEX).read_text("utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError) as broken:
                raise CheckpointError(f"{self.folder / INDEX} is not a list of shards ({broken})") from broken
            for shard in shards:
                if not isinstance(shard, str) or Path(shard).name != shard:
                    raise CheckpointError(f"{self.folder / INDEX} names a shard outside its folder: {shard!r}")
                if not (self.folder / shard).is_file():
                    raise CheckpointError(f"{self.folder} lacks the shard {shard} that its {INDEX} names")
            return shards
        old = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in self.folder.glob(pattern))
        if old:
            raise CheckpointError(
                f"{self.folder} holds its weights as a pickle ({old[0]}), which is never opened here; "
                f"run: polyhead convert {self.folder} {self.folder}-safe"
            )
        raise CheckpointError(f"{self.folder} holds no {SINGLE}; a model folder has config.json and {SINGLE}")

    def _safe_open(self, name: str) -> Any:
        try:
            return safe_open(self.folder / name, framework="pt")
        except (SafetensorError, OSError) as broken:
            raise CheckpointError(
                f"{self.folder / name} is damaged, cut short or no safetensors file ({broken}); fetch or save it again"
            ) from broken

    def names(self) -> list[str]:
        return list(self._where)

    def get(self, name: str) -> Tensor | None:
        """A whole tensor, or None where there is none of this name."""
        return self.read(name, Part(name)) if name in self._where else None

    def shape(self, name: str) -> list[int]:
        """The shape of a whole tensor, as the file holds it."""
        return list(self._where[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The type of the tensor's numbers, as safetensors writes it: "F16", "BF16", "I64" ..."""
        return self._where[name].get_slice(name).get_dtype()

    def read(self, name: str, part: Part) -> Tensor:
        """One part of one tensor in our orientation; only its own bytes are read."""
        view = self._where[name].get_slice(name)
        axis = -1 if part.transposed else 0
        if part.count == 1:
            tensor = view[...] if view.get_shape() else self._where[name].get_tensor(name)
        else:
            step = view.get_shape()[axis] // (part.count * part.groups)
            firsts = [step * (part.index + part.count * group) for group in range(part.groups)]
            spans = [slice(first, first + step) for first in firsts]
            pieces = [view[:, span] if part.transposed else view[span] for span in spans]
            tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
        return tensor.T if part.transposed else tensor


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer once, under the first of its names."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


def whole_of(tensor: Tensor, part: Part) -> list[int]:
    """The shape that the file's tensor must have for this to be one of its parts."""
    shape = list(tensor.shape)
    shape[:1] = [n * part.count for n in shape[:1]]
    return shape[::-1] if part.transposed else shape


def load_into(model: nn.Module, files: TensorFiles, names: Names) -> None:
    """Fill a model from files, casting between floating-point types; all that does not fit is named in one error.

    Raises CheckpointError if the model wants a tensor that the file lacks, the file holds one that the model does not
    read, a shape differs, or the file holds whole numbers where the model wants floating-point ones or the reverse.
    """
    spelt = names.canonical(files.names())
    wanted = {ours: names.locate(ours) for ours in saved_tensors(model)}
    read = {part.name for part in wanted.values()}
    wrong = [f"the file lacks {part.name}" for part in wanted.values() if part.name not in spelt]
    wrong += [
        f"the file holds {name}, which the model does not read"
        for name in spelt
        if name not in read and not (name in names.copies and names.copies[name] in spelt)
    ]
    for ours, tensor in saved_tensors(model).items():
        part = wanted[ours]
        if part.name in spelt and (shape := files.shape(spelt[part.name])) != (fitting := whole_of(tensor, part)):
            wrong.append(f"{part.name} has shape {shape}, the model wants {fitting}")
        if part.name in spelt and (
            (dtype := files.dtype(spelt[part.name])).startswith(("F", "BF")) != tensor.is_floating_point()
        ):
            wanted_kind = "floating-point" if tensor.is_floating_point() else "whole"
            wrong.append(f"{part.name} holds numbers of type {dtype}, the model wants {wanted_kind} ones")
    if wrong:
        wrong = list(dict.fromkeys(wrong))  # several parts of one tensor say the same
        if len(wrong) > NAMED + 1:
            wrong = [*wrong[:NAMED], f"and {len(wrong) - NAMED} more"]
        raise CheckpointError(f"{files.folder} does not fit the model its config.json describes: {'; '.join(wrong)}")
    with torch.no_grad():
        for ours, tensor in saved_tensors(model).items():
            fill(tensor, files.read(spelt[wanted[ours].name], wanted[ours]))
    _check_copies(files, spelt, names)


def fill(tensor: Tensor, read: Tensor) -> None:
    """Give a tensor of the model the numbers of one that was read: by its memory where types agree, which is that of
    the file, mapped and not yet read, and becomes a copy where somebody changes it; else by its numbers.

    What lies transposed or side by side with others in the file then lies so in memory.
    """
    if isinstance(tensor, nn.Parameter) and (read.dtype, read.device) == (tensor.dtype, tensor.device):
        tensor.data = read
    else:
        tensor.copy_(read)


def _check_copies(files: TensorFiles, spelt: Mapping[str, str], names: Names) -> None:
    whole = Part("")
    for copy, original in names.copies.items():
        if copy in spelt and not torch.equal(files.read(spelt[copy], whole), files.read(spelt[original], whole)):
            raise CheckpointError(
                f"{files.folder} holds {copy} and {original} with different values, but its config.json ties them"
            )


def file_tensors(model: nn.Module, names: Names, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of a model under the file's names, parts assembled, ready to be written."""
    parts: dict[str, list[tuple[Part, Tensor]]] = {}
    for ours, tensor in saved_tensors(model).items():
        part = names.locate(ours)
        parts.setdefault(part.name, []).append((part, tensor.detach()))
    tensors: dict[str, Tensor] = {}
    for name, pieces in parts.items():
        in_order = sorted(pieces, key=lambda piece: piece[0].index)
        grouped = [tensor.reshape(part.groups, -1, *tensor.shape[1:]) for part, tensor in in_order if part.count > 1]
        rows = torch.cat(grouped, 1).flatten(0, 1) if grouped else in_order[0][1]
        whole = rows.T if pieces[0][0].transposed else rows
        tensors[name] = whole.to(dtype or whole.dtype).contiguous()
    return tensors


def write(folder: Path, tensors: Mapping[str, Tensor], *, largest_shard: int = LARGEST_SHARD) -> None:
    """Write `model.safetensors`, or shards and their index; each whole or not at all. Raises WriteError."""
    shards: list[dict[str, Tensor]] = [{}]
    for name, tensor in sorted(tensors.items()):
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > largest_shard:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        write_tensors(folder / SINGLE, shards[0])
        (folder / INDEX).unlink(missing_ok=True)  # of an older save, which would be another truth
        return
    files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        write_tensors(folder / file, shard)
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: file for file, shard in zip(files, shards, strict=True) for name in shard},
    }
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    (folder / SINGLE).unlink(missing_ok=True)
