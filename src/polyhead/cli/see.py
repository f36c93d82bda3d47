"""`polyhead see`: sentences go in; the model translates them, and what each of its heads looked at is drawn."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyhead.cli import options
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.lens.draw.terminal import Weights

AXES = {
    "cross": "A row is the step that chose its word of the translation; columns are words of the source.",
    "encoder": "Rows and columns are words of the source.",
    "decoder": "A row is the step that chose its word; columns are the words it had read, from the start sign on.",
}
JOINED = " Pieces of one word are joined: what is looked at adds up, those who look are averaged (--pieces: not)."


def see(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Sentences to translate and to look into.")],
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
    if translation and len(texts) > 1:
        raise ArgumentError(f"--translation belongs to one sentence, but there are {len(texts)}.")

    from rich.console import Console
    from rich.text import Text

    from polyhead.cli.look import look
    from polyhead.lens.draw.terminal import Ink, head_grid, head_map, plain
    from polyhead.lens.draw.terminal import links as strongest
    from polyhead.tasks.load import load

    loaded = load(model)
    console = Console(file=sys.stdout)
    ink = Ink.of(console)
    for text in texts:
        seen = look(loaded, text, translation, beam=beam, by_words=not pieces)
        rows, columns = seen.axes(part)
        how = {"ink": ink, "width": console.width}
        drawn: list[Text] = []
        for number, call in seen.layers(part, layer):
            weights = seen.weights(call, part)  # [H, T, S]
            if head is not None:
                title = f"Layer {number} head {head}"
                drawn += head_map(chosen(weights, head), rows.labels, columns.labels, title=title, values=values, **how)
            else:
                draw = strongest if links else head_grid
                drawn += draw(weights, rows.labels, columns.labels, title=f"Layer {number}", quiet=columns.signs, **how)
        for side in (seen.source, seen.target):
            console.print(Text(plain(side, ink), "bold"), soft_wrap=True)
        note = AXES[part] + (JOINED if rows.joined or columns.joined else "")
        for line in [Text(), *drawn, Text(f"{note}\n", "dim")]:
            console.print(line)


def chosen(weights: Weights, head: int) -> Weights:
    """One head [T, S] of a layer [H, T, S]."""
    if head >= len(weights):
        raise ArgumentError(f"The layer has heads 0 to {len(weights) - 1}, but --head is {head}.")
    return weights[head]
