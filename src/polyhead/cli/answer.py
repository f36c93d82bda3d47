"""`polyhead answer`: a question and a passage go in, the part of the passage that answers it comes out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, output
from polyhead.cli.screen import one_line, shower, to_json
from polyhead.errors import ArgumentError


def answer(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is asked.")],
    passage: Annotated[str | None, typer.Argument(metavar="[PASSAGE]", help="The text to look in.")] = None,
    model: options.NeededModel = "",
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Look in this UTF-8 file instead.")
    ] = None,
    nbest: Annotated[int, typer.Option("--nbest", min=1, max=100, help="So many answers.")] = 1,
    must: Annotated[bool, typer.Option("--must", help="Answer even where the passage seems to hold none.")] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Answer a question from a passage, with the place of the answer, or say that it holds none.

    A passage that is longer than the model reads is read whole, in parts that overlap.

    **Examples**

        polyhead answer -m my-reader "Where is the cat?" "The dog ran. The cat sat in the house."
        polyhead answer -m my-reader "Who wrote it?" -i article.txt --nbest 3 --json
    """
    options.needed(model)
    if (passage is None) == (input_file is None):
        raise ArgumentError("Give a passage or --input FILE, one of the two.")
    text = passage if passage is not None else "\n".join(lines(input_file))

    from polyhead.tasks.answer import answer as look

    found = look(question, text, model=model, n_best=nbest, may_fail=not must, device=device)
    with output(output_file) as out:
        show = shower(out)
        if as_json:
            out.write(to_json({**asdict(found), "text": found.text}) + "\n")
        elif not found.found:
            print(f"The passage holds no answer ({100 * found.none:.0f}%).", file=sys.stderr)
            out.write("\n")
        else:
            for span in found.spans:
                place = f"\t{span.start}-{span.end}\t{100 * span.probability:.1f}%" if nbest > 1 else ""
                out.write(show(one_line(span.text)) + place + "\n")
