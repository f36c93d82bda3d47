"""`polyhead convert`: a folder with old pickled weights goes in, the same model with safe weights comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyhead.cli.screen import safe


def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model folder with pytorch_model.bin.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
) -> None:
    """Turn old .bin weights into safetensors, so that the model can be loaded.

    A .bin file is a pickle, which may hold any program. It is read here only, and only tensors are let through.

    **Example**

        polyhead convert opus-mt-zh-en opus-mt-zh-en-safe
    """
    from polyhead.weights.convert import convert as run

    run(folder, out)
    print(safe(f"Wrote {out}"))
