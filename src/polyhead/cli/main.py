"""The `polyhead` command: words typed in a shell become one call of a verb, and errors become one sentence."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

import polyhead
from polyhead.cli.door import guarded

VERBS = ("translate", "see", "evaluate", "info", "train", "convert")

app = typer.Typer(
    help="Multi-head attention you can see through: train, run and watch Transformers.",
    epilog="Each verb explains itself: polyhead translate --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(polyhead.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _verb in VERBS:  # these files import only typer; what is heavy is imported when a verb runs
    _module = import_module(f"polyhead.cli.{_verb}")
    app.command(_verb, context_settings=getattr(_module, "CONTEXT", None))(guarded(getattr(_module, _verb)))


def main() -> None:
    app(prog_name="polyhead")
