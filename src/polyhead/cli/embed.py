"""`polyhead embed`: texts or lines go in, a vector for each comes out."""

from __future__ import annotations

import io
from typing import Annotated, Literal

import typer

from polyhead.cli import options
from polyhead.cli.door import field_of, in_windows, output
from polyhead.cli.screen import to_json
from polyhead.errors import ArgumentError


def embed(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts.")] = None,
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
    the model reads is read whole, in parts.

    **Examples**

        polyhead embed -m all-MiniLM-L6-v2 "a happy person" "a happy dog"
        polyhead embed -m all-MiniLM-L6-v2 -i sentences.txt -o vectors.npy
    """
    options.needed(model)
    field = field_of(input_file, field)
    import numpy as np

    from polyhead.files import write_bytes
    from polyhead.tasks.embed import Embedder
    from polyhead.tasks.load import load

    embedder = Embedder(load(model, device=device, precision=precision), pooling=pooling, unit=unit)
    parts = in_windows(texts, input_file, output_file, "reading", embedder, field=field)
    if output_file is not None and output_file.suffix == ".npy":
        found = [vectors for _, vectors in parts]
        if not found:
            raise ArgumentError("There is no text to turn into a vector; give texts, or --input FILE.")
        held = io.BytesIO()
        np.save(held, np.concatenate(found), allow_pickle=False)
        write_bytes(output_file, held.getvalue())
        return
    with output(output_file) as out:
        for some, vectors in parts:
            for text, vector in zip(some, vectors, strict=True):
                out.write(to_json({"text": text, "vector": [round(float(x), 7) for x in vector]}) + "\n")
            out.flush()
