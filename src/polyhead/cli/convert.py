"""`polyhead convert`: a model goes in, a folder that another engine reads, or safe weights for ours, comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polyhead.cli.screen import safe
from polyhead.errors import ArgumentError


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model folder (of old .bin weights, for safetensors), a shipped model, hf:owner/name.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    to: Annotated[
        Literal["safetensors", "ct2", "onnx"], typer.Option("--to", help="For polyhead, CTranslate2 or ONNX runtimes.")
    ] = "safetensors",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="TYPE",
            show_default="float32",
            help="Of ct2: float32, float16, bfloat16, int8, int8_float16 or int8_bfloat16.",
        ),
    ] = None,
) -> None:
    """Write a model as another engine reads it, or turn old .bin weights into safetensors.

    A .bin file is a pickle, which may hold any program. It is read here only, and only tensors are let through.
    CTranslate2 runs translation, texts from texts, decoders, encoders without a head and speech; ONNX takes all
    but mixtures of experts, and needs the extra onnx. Neither engine is needed to write for it.

    **Examples**

        polyhead convert opus-mt-zh-en opus-mt-zh-en-safe
        polyhead convert zh-en zh-en-ct2 --to ct2 --dtype int8
        polyhead convert zh-en zh-en-onnx --to onnx
    """
    if dtype is not None and to != "ct2":
        raise ArgumentError(f"--dtype is for --to ct2, found {dtype} with --to {to}; leave it out.")

    from polyhead.tasks.export.convert import convert as run

    run(model, out, to=to, dtype=dtype)
    print(safe(f"Wrote {out}"))
