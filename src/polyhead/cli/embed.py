"""`polyhead embed`: texts or lines go in, a vector for each comes out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from polyhead.cli import options
from polyhead.cli.door import field_of, in_windows, output
from polyhead.cli.screen import to_json
from polyhead.errors import DataError
from polyhead.inputs.listing import ends_like


def embed(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; for a model of both, files of images too.")
    ] = None,
    model: options.NeededModel = "",
    input_file: options.Input = None,
    field: options.Field = None,
    pooling: Annotated[
        Literal["mean", "first", "max"] | None,
        typer.Option("--pooling", show_default="the model's, or mean", help="How words become one vector."),
    ] = None,
    unit: Annotated[
        bool | None, typer.Option("--unit/--as-is", show_default="the model's", help="Whether vectors get length 1.")
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    output_file: options.Output = None,
) -> None:
    """Turn texts into vectors: texts that mean alike get vectors that lie close.

    One line of JSON for each text; with --output FILE.npy all vectors as one NumPy array. A text that is longer than
    the model reads is read whole, in parts. A model that reads texts and images puts both into one space.

    **Examples**

        polyhead embed -m all-MiniLM-L6-v2 "a happy person" "a happy dog"
        polyhead embed -m all-MiniLM-L6-v2 -i sentences.txt -o vectors.npy
        polyhead embed -m my-clip photo.jpg "a red bicycle"
    """
    options.needed(model)
    field = field_of(input_file, field)
    import numpy as np

    from polyhead.files import write_bytes
    from polyhead.tasks.embed import embedder
    from polyhead.tasks.load import load

    loaded = load(model, device=device, precision=precision)
    read: Any = embedder(loaded, pooling=pooling, unit=unit)
    for text in (texts or ()) if loaded.family.towers else ():
        if ends_like(text, "image") and not Path(text).is_file():
            raise DataError(
                f"There is no image '{text}'; check the path, or put a text that ends so into a file, for --input."
            )

    def vectors_of(some: Sequence[str], progress: Callable[[int], None] | None) -> Any:
        return read([item(each) for each in some] if loaded.family.towers else some, progress=progress)

    parts = in_windows(texts, input_file, output_file, "reading", vectors_of, field=field)
    if output_file is not None and output_file.suffix == ".npy":
        found = [vectors for _, vectors in parts] or [read([])]
        held = io.BytesIO()
        np.save(held, np.concatenate(found), allow_pickle=False)
        write_bytes(output_file, held.getvalue())
        return
    with output(output_file) as out:
        for some, vectors in parts:
            for text, vector in zip(some, vectors, strict=True):
                kind = "image" if loaded.family.towers and isinstance(item(text), Path) else "text"
                out.write(to_json({kind: text, "vector": [round(float(x), 7) for x in vector]}) + "\n")
            out.flush()


def item(text: str) -> str | Path:
    """The file of an image, where a text names one that is there; else the text."""
    path = Path(text)
    return path if ends_like(path, "image") and path.is_file() else text
