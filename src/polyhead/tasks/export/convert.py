"""A model goes in, a folder that another engine reads comes out, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from polyhead.errors import ArgumentError, CheckpointError, did_you_mean
from polyhead.files import whole
from polyhead.tasks.load import HUB, Loaded, find, load, shipped, write_config, write_generation, write_readers

Format = Literal["safetensors", "ct2", "onnx"]


def convert(
    model: str | Path | Loaded, out: str | Path, *, to: Format = "safetensors", dtype: str | None = None
) -> None:
    """Write a model anew, as another engine reads it, in the folder `out`, which must not exist yet.

    to: "safetensors" takes a folder with pickled .bin weights, lets only tensors through, and makes it one that can be
    loaded. "ct2" is for CTranslate2 and "onnx" for ONNX runtimes (extra `onnx`); both take what `load` takes. The files
    of the tokenizer, of images and of sounds go along.
    dtype: of "ct2", how numbers are written: "float32" unless given, "float16", "bfloat16", or "int8" with a scale for
    each row of a matrix, "int8_float16" and "int8_bfloat16" with the other tensors in that type.

    Raises ArgumentError for what the engine does not run, and what `load` raises; MissingExtra; WriteError.
    """
    if to not in get_args(Format):
        raise ArgumentError(
            f"to is {to!r}, but must be one of {', '.join(get_args(Format))}.{did_you_mean(str(to), get_args(Format))}"
        )
    if dtype is not None and to != "ct2":
        raise ArgumentError(f"dtype is for to='ct2', found {dtype!r} with to='{to}'; leave it out.")
    if to == "safetensors":
        from polyhead.weights.convert import convert as from_pickles
        from polyhead.weights.convert import nothing_to_do

        if isinstance(model, Loaded):
            raise ArgumentError("to='safetensors' takes a folder with pickled weights; save() writes a loaded model.")
        if not Path(model).is_dir():
            if str(model).startswith(HUB) or str(model) in shipped():
                raise nothing_to_do(model)
            find(model)  # says what there is
        from_pickles(model, out)
        return
    out = Path(out)
    if out.exists():
        raise CheckpointError(f"{out} exists; name a folder that does not exist yet")
    if to == "ct2":
        to_ct2(model, out, dtype or "float32")
    else:
        to_onnx(model, out)


def to_ct2(model: str | Path | Loaded, out: Path, dtype: str) -> None:
    from polyhead.tasks.export.ct2 import ct2_model
    from polyhead.weights.ct2 import check_type, write

    check_type(dtype)
    loaded = model if isinstance(model, Loaded) else load(model)
    made = ct2_model(loaded)
    with whole(out) as work:
        work.mkdir()
        write_readers(work, loaded)
        write(work, made, dtype)


def to_onnx(model: str | Path | Loaded, out: Path) -> None:
    from polyhead.tasks.export.onnx import graphs, write

    loaded = model.at("fp32") if isinstance(model, Loaded) else load(model)
    made = graphs(loaded)
    with whole(out) as work:
        work.mkdir()
        write_readers(work, loaded)
        write_generation(work, loaded)
        write_config(work, loaded.model, loaded.family, loaded.raw)
        write(work, made)
