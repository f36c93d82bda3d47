"""Options that several verbs take, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="A model folder or a shipped model.")]
Beam = Annotated[
    int | None,
    typer.Option(
        "--beam", min=1, max=1000, show_default="the model's, or 4", help="Translations kept open at once; 1 is greedy."
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:N or mps; auto is cuda where there is one.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write here instead of the screen; appears when it is whole."),
]
