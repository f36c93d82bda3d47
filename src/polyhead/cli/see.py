"""`polyhead see`: sentences go in; the model translates them, and what each of its heads looked at is drawn."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from polyhead.cli import options
from polyhead.errors import ArgumentError


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
    beam: options.Beam = None,
    device: options.Device = "auto",
) -> None:
    """See what every head looked at: which words of the source, for each word of the translation.

    The weights are exact, rebuilt from what the model's own kernel computed. They say where a head looked; they do not
    say why the model chose a word.

    **Examples**

        polyhead see 我爱吃苹果。
        polyhead see 我爱吃苹果。 --layer 1 --head 3 --values
        polyhead see 虽然下雨，但我很开心。 --links
    """
    if translation is not None and len(texts) > 1:
        raise ArgumentError(f"--translation belongs to one sentence, but there are {len(texts)}.")

    from rich.console import Console
    from rich.text import Text

    from polyhead.lens.draw.canvas import Canvas
    from polyhead.lens.draw.labels import shown
    from polyhead.lens.see import see as look
    from polyhead.tasks.load import load

    loaded = load(model, device=device)
    console = Console(file=sys.stdout)
    canvas = Canvas.of(console)
    for text in texts:
        seen = look(text, model=loaded, translation=translation, beam=beam, by_words=not pieces)
        picture = seen.draw(part, layer=layer, head=head, links=links, values=values, canvas=canvas)
        for side in (seen.source, seen.target):
            console.print(Text(shown(side, canvas.encoding), "bold"), soft_wrap=True)
        console.print(Text("\n"), picture, Text("\n"), sep="")
