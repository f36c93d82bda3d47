"""`polyhead see`: a sentence goes in; the model translates it, and what each of its heads looked at is drawn."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from polyhead.cli import options
from polyhead.errors import ArgumentError, DataError

AXES = {
    "cross": "A row is the step that chose its word of the translation; columns are words of the source.",
    "encoder": "Rows and columns are words of the source.",
    "decoder": "A row is the step that chose its word; columns are the words it had read, from the start sign on.",
}


def see(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A sentence to translate and to look into.")],
    model: options.Model = "zh-en",
    part: Annotated[
        Literal["cross", "encoder", "decoder"],
        typer.Option("--part", help="Translation looking at source, source at source, or translation at itself."),
    ] = "cross",
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="One layer, counted from 0; all unless given.")
    ] = None,
    head: Annotated[int | None, typer.Option("--head", min=0, help="One head, counted from 0, as a large map.")] = None,
    links: Annotated[bool, typer.Option("--links", help="A table of the word each head looks at most.")] = False,
    values: Annotated[bool, typer.Option("--values", help="Write the weights of --head in per cent.")] = False,
    pieces: Annotated[bool, typer.Option("--pieces", help="Show the tokenizer's pieces instead of words.")] = False,
    translation: Annotated[
        str | None, typer.Option("--translation", metavar="TEXT", help="Look at this translation, not the model's own.")
    ] = None,
    beam: options.Beam = 4,
) -> None:
    """See what every head looked at: which words of the source, for each word of the translation.

    The weights are exact, rebuilt from what the model's own kernel computed. They say where a head looked; they do not
    say why the model chose a word.

    **Examples**

        polyhead see 我爱吃苹果。
        polyhead see 我爱吃苹果。 --layer 1 --head 3 --values
        polyhead see 虽然下雨，但我很开心。 --links
    """
    if not text.strip():
        raise DataError("There is nothing to see in an empty text; give a sentence.")

    from rich.console import Console
    from rich.text import Text

    from polyhead.cli.look import END, START, look
    from polyhead.lens.draw import terminal
    from polyhead.tasks.load import load

    seen = look(load(model), text, translation, beam=beam, by_words=not pieces)
    console = Console(file=sys.stdout)
    ink = terminal.Ink.of(console)
    rows, columns = seen.axes(part)
    quiet = [j for j, label in enumerate(columns.labels) if label in (START, END)]
    lines = [Text(terminal.plain(side, ink)) for side in (seen.source, seen.target)]
    for number, call in seen.layers(part, layer):
        weights = seen.weights(call, part)  # [H, T, S]
        if head is not None and head >= len(weights):
            raise ArgumentError(f"Layer {number} has heads 0 to {len(weights) - 1}, but --head is {head}.")
        how = {"title": f"Layer {number}", "ink": ink, "width": console.width}
        if head is not None:
            how |= {"title": f"Layer {number} head {head}", "values": values}
            drawn = terminal.head_map(weights[head], rows.labels, columns.labels, **how)
        else:
            draw = terminal.links if links else terminal.head_grid
            drawn = draw(weights, rows.labels, columns.labels, quiet=quiet, **how)
        lines += [Text(), *drawn]
    for line in [*lines, Text(AXES[part], "dim")]:
        console.print(line, soft_wrap=True)
