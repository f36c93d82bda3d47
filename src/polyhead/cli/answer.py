"""`polyhead answer`: a question and a passage go in, the part of the passage that answers it comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, output, working
from polyhead.cli.screen import one_line, say, shower, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.tasks.answer import Answer, Answerer

WINDOW = 200  # pairs that are worked on together


def answer(
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="What is asked.")] = None,
    passage: Annotated[str | None, typer.Argument(metavar="PASSAGE", help="The text to look in.")] = None,
    model: options.NeededModel = "",
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Look in this UTF-8 file instead (gz too).")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="Lines of question and passage: .jsonl with these keys, or TSV."),
    ] = None,
    nbest: Annotated[int, typer.Option("--nbest", min=1, max=100, help="So many answers.")] = 1,
    longest: Annotated[int, typer.Option("--longest", min=1, help="The most tokens of an answer.")] = 30,
    must: Annotated[bool, typer.Option("--must", help="Answer even where the passage seems to hold none.")] = False,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Answer a question from a passage, with the place of the answer, or say that it holds none.

    One line for each question: the answer, empty where there is none; with --nbest each answer, its place in the
    passage and its probability. The passage is a word of the command, a file, or what comes on the standard input. One
    that is longer than the model reads is read whole, in parts that overlap.

    **Examples**

        polyhead answer -m my-reader "Where is the cat?" "The dog ran. The cat sat in the house."
        polyhead answer -m my-reader "Who wrote it?" -i article.txt --nbest 3
        polyhead answer -m my-reader --pairs questions.jsonl --json -o answers.jsonl
    """
    options.needed(model)
    if pairs is not None and (question is not None or input_file is not None):
        raise ArgumentError("--pairs brings its own questions and passages; give it alone.")
    if pairs is None and question is None:
        raise ArgumentError("Give a question and a passage, or --pairs FILE.")
    if passage is not None and input_file is not None:
        raise ArgumentError("Give a passage or --input FILE, not both.")

    from polyhead.tasks.answer import Answerer
    from polyhead.tasks.load import load

    answerer = Answerer(
        load(model, device=device, precision=precision), n_best=nbest, longest=longest, may_fail=not must
    )
    how = {"nbest": nbest, "as_json": as_json}
    if pairs is not None:
        answer_file(answerer, pairs, output_file, how)
        return
    if passage is None and input_file is None and sys.stdin.isatty():
        print("Type or paste the passage; Ctrl-D ends it.", file=sys.stderr)
    text = passage if passage is not None else "\n".join(lines(input_file))
    [found] = answerer([(question or "", text)])
    with output(output_file) as out:
        out.writelines(row + "\n" for row in written(found, show=shower(out), **how))
    if not (found.found or as_json):
        say(f"The passage holds no answer ({100 * found.none:.0f}%).")


def answer_file(answerer: Answerer, file: Path, output_file: Path | None, how: dict[str, Any]) -> None:
    """Answer every question of a file."""
    from polyhead.inputs.readers import read_records

    def rows() -> Iterator[tuple[int, tuple[str, ...]]]:
        return read_records(file, ("question", "passage"))

    again = rows if file.is_file() else list(rows()).copy  # a pipe can be read once
    for number, pair in again():  # what cannot be used is found before the work, not after
        answerer.check(*pair, place=f"{file} line {number}")
    empty = 0
    with output(output_file) as out, working("answering", file, output_file) as tell:
        show, incoming = shower(out), iter(again())
        while some := list(islice(incoming, WINDOW)):
            for (number, _), found in zip(some, answerer([pair for _, pair in some], progress=tell), strict=True):
                empty += not found.found
                out.writelines(row + "\n" for row in written(found, number, show=show, **how))
            out.flush()
    if empty and not how["as_json"]:
        say(f"{empty:,} of the passages hold no answer.")


def written(
    found: Answer, number: int | None = None, *, nbest: int, as_json: bool, show: Callable[[str], str]
) -> Iterator[str]:
    """One answer as the lines that are printed; of several questions, with the number of the line."""
    line = {} if number is None else {"line": number}
    if as_json:
        yield to_json({**line, **asdict(found), "text": found.text})
    elif nbest == 1:
        yield show(one_line(found.text))
    else:
        before = "" if number is None else f"{number}\t"
        for span in found.spans if found.found else ():
            yield f"{before}{show(one_line(span.text))}\t{span.start}-{span.end}\t{100 * span.probability:.1f}%"
