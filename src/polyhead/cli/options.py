"""Options that several verbs take, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="A model folder or a shipped model.")]
Beam = Annotated[int, typer.Option("--beam", min=1, help="Translations kept open at once; 1 is greedy.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write here instead of the screen; appears when it is whole."),
]
