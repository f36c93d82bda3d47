"""A folder with pickled weights goes in; the same model with safe weights comes out. Nothing else opens a pickle."""

from __future__ import annotations

import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from polyhead.errors import CheckpointError
from polyhead.files import whole
from polyhead.weights.file import INDEX, SINGLE, TensorFiles, write

PICKLES = "pytorch_model*.bin"


def convert(folder: str | Path, out: str | Path) -> None:
    """Write `folder` anew as `out`, with model.safetensors in place of its .bin files.

    Only tensors are let through the pickle (`weights_only`). Tensors that share memory are written once, which is how
    tied weights are stored. `out` appears whole or not at all. Raises CheckpointError and WriteError.
    """
    folder, out = Path(folder), Path(out)
    pickles = sorted(folder.glob(PICKLES))
    if not pickles:
        if any((folder / name).is_file() for name in (SINGLE, INDEX)):
            raise nothing_to_do(folder)
        raise CheckpointError(f"{folder} holds no {PICKLES}; give the folder of a model with pickled weights")
    if out.exists():
        raise CheckpointError(f"{out} exists; name a folder that does not exist yet")
    tensors: dict[str, Tensor] = {}
    for path in pickles:
        tensors |= _tensors_of(path)
    with whole(out) as work:
        work.mkdir()
        for path in folder.iterdir():
            if path.is_file() and path not in pickles and not path.name.startswith("pytorch_model.bin"):
                shutil.copyfile(path, work / path.name)
        write(work, _once(tensors))
        TensorFiles(work)  # what was written can be read


def nothing_to_do(model: str | Path) -> CheckpointError:
    """Of a model whose weights are safe."""
    return CheckpointError(
        f"{model} is in safetensors already; there is nothing to convert, unless for another engine: --to ct2 or"
        " --to onnx"
    )


def _tensors_of(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles that are refused below, in one sentence
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
    if odd := [f"{name} ({what})" for name, tensor in named.items() if (what := _unheld(tensor))]:
        raise CheckpointError(
            f"{path} holds {', '.join(odd)}, which safetensors cannot hold; save the model with plain dense tensors"
        )
    return {str(name): tensor for name, tensor in named.items()}


def _unheld(tensor: Tensor) -> str:
    """What a tensor is that a safetensors file cannot hold; empty for one that it can."""
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_meta:
        return "without numbers"
    return str(tensor.dtype).removeprefix("torch.") if tensor.dtype in (torch.complex32, torch.complex128) else ""


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
