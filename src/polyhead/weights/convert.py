"""A folder with pickled weights goes in; the same model with safe weights comes out. Nothing else opens a pickle."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from polyhead.errors import CheckpointError
from polyhead.weights.file import TensorFiles, write

PICKLES = "pytorch_model*.bin"


def convert(folder: str | Path, out: str | Path) -> None:
    """Write `folder` anew as `out`, with model.safetensors in place of its .bin files.

    Only tensors are let through the pickle (`weights_only`). Tensors that share memory are written once, which is how
    tied weights are stored. `out` appears whole or not at all. Raises CheckpointError.
    """
    folder, out = Path(folder), Path(out)
    pickles = sorted(folder.glob(PICKLES))
    if not pickles:
        if (folder / "model.safetensors").is_file():
            raise CheckpointError(f"{folder} holds model.safetensors already; there is nothing to convert")
        raise CheckpointError(f"{folder} holds no {PICKLES}; give the folder of a model with pickled weights")
    if out.exists():
        raise CheckpointError(f"{out} exists; name a folder that does not exist yet")
    tensors: dict[str, Tensor] = {}
    for path in pickles:
        tensors |= _tensors_of(path)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as failed:
        raise CheckpointError(f"{out} cannot be made ({failed.strerror})") from failed
    try:
        for path in folder.iterdir():
            if path.is_file() and path not in pickles and not path.name.startswith("pytorch_model.bin"):
                shutil.copyfile(path, work / path.name)
        write(work, _once(tensors))
        TensorFiles(work)  # what was written can be read
        work.chmod(0o755)
        os.replace(work, out)
    except OSError as failed:
        raise CheckpointError(f"{out} could not be written ({failed.strerror}); nothing was changed") from failed
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _tensors_of(path: Path) -> dict[str, Tensor]:
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds something other than tensors, which may be a program, and was not opened"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as broken:
        raise CheckpointError(f"{path} cannot be read; it is damaged or cut short ({broken})") from None
    kind = type(held).__name__
    named = cast("dict[Any, Any]", held) if isinstance(held, dict) else {"": held}
    if not all(isinstance(tensor, Tensor) and name for name, tensor in named.items()):
        raise CheckpointError(f"{path} must hold named tensors and nothing else, but holds {kind}")
    return {str(name): tensor for name, tensor in named.items()}


def _once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each piece of memory under the first of its names; views of a larger tensor as tensors of their own."""
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if place not in seen or not tensor.numel():
            seen.add(place)
            kept[name] = tensor.detach().clone().contiguous()
    return kept
