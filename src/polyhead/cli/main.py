"""The `polyhead` command: words typed in a shell become one call of a verb, and errors become one sentence."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import polyhead
from polyhead.cli.door import guarded, stop, unfit
from polyhead.errors import PolyheadError

VERBS = (
    "translate",
    "summarize",
    "complete",
    "chat",
    "classify",
    "answer",
    "embed",
    "search",
    "transcribe",
    "see",
    "learn",
    "heads",
    "evaluate",
    "info",
    "bench",
    "train",
    "convert",
    "shortlist",
)

MISTYPED: Any = typer.BadParameter.__base__  # UsageError, which typer took from click or has itself, by its version

app = typer.Typer(
    help="Multi-head attention you can see through: train, run and watch Transformers.",
    epilog="Each verb explains itself: polyhead translate --help",
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


class Verb(TyperCommand):
    """A command whose usage line is the usual one: TEXT is needed, [TEXT] may be left out; typer writes {TEXT}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


DOES: dict[str, Callable[..., None]] = {}
for _verb in VERBS:  # these files import only typer; what is heavy is imported when a verb runs
    _module = import_module(f"polyhead.cli.{_verb}")
    DOES[_verb] = getattr(_module, _verb)
    app.command(_verb, cls=Verb, context_settings=getattr(_module, "CONTEXT", None))(guarded(DOES[_verb]))


def main(words: Sequence[str] | None = None) -> None:
    """One command, typed in a shell unless its words are given. What is mistyped is one sentence and exit code 2."""
    if words is None:
        words = sys.argv[1:]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was half-written is taken away
    for place, word in enumerate(words, 1):
        if any("\ud800" <= c <= "\udfff" for c in word):  # how Python keeps bytes that it cannot read
            stop(f"Word {place} of the command, '{word}', is not UTF-8; set the terminal to UTF-8, or rename the file.")
    try:
        code = app(list(words) or ["--help"], prog_name="polyhead", standalone_mode=False)
    except PolyheadError as wrong:  # of an option that is looked at before its verb
        stop(str(wrong))
    except MISTYPED as wrong:
        verb = f" {words[0]}" if words and words[0] in VERBS else ""
        told = (verb and unfit(DOES[words[0]], words, getattr(wrong, "param", None))) or wrong.format_message()
        stop(f"{told}{'' if told.endswith(('.', '?')) else '.'} See polyhead{verb} --help.")
    raise SystemExit(code)
