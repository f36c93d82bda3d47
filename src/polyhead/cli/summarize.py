"""`polyhead summarize`: documents go in, a summary of each comes out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import choice, options
from polyhead.cli.door import field_of, fields, is_jsonl, lines, output
from polyhead.cli.screen import bar, one_line, shower, to_json
from polyhead.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from polyhead.tasks.summarize import Summary

WINDOW, FEW = 200, 10  # documents that are worked on together, where somebody watches few

Document = tuple[str | int, str]  # its file or the number of its line, and its text


@choice.searches
def summarize(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Documents, each a UTF-8 file (gz too).")
    ] = None,
    model: options.NeededModel = "",
    input_file: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="A document in every line, or in a field of a .jsonl file."),
    ] = None,
    field: options.Field = None,
    task: options.Task = None,
    prefix: options.Prefix = None,
    min_new: Annotated[
        int | None,
        typer.Option("--min-new", min=0, show_default="the model's, or 0", help="The fewest tokens of a summary."),
    ] = None,
    max_new: Annotated[
        int | None,
        typer.Option("--max-new", min=1, show_default="the model's, or 200", help="The most tokens of a summary."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            "--window", min=1, show_default="as the model was taught", help="Tokens of a document read at a time."
        ),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Read every document at once, however long it is.")] = False,
    by: choice.Wanted = choice.ANY,
    nbest: Annotated[
        int, typer.Option("--nbest", min=1, max=1000, help="Summaries of each document: its name, score, text.")
    ] = 1,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    workers: options.Workers = 1,
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Summarise documents.

    One line for each document: a file, a line of --input, or all that comes on the standard input. One that is longer
    than the model was taught to read is read in parts that end where sentences end, and the summaries of the parts are
    summarised again; --json says in how many parts. Nothing is left out.

    **Examples**

        polyhead summarize -m t5-base article.txt
        cat article.txt | polyhead summarize -m flan-t5-base --prefix "Summarize in one sentence: "
        polyhead summarize -m t5-base article.txt --force Berlin
        polyhead summarize -m t5-base -i news.jsonl --field body --json -o summaries.jsonl --workers 2
    """
    options.needed(model)
    if files and input_file:
        raise ArgumentError("Give files or --input FILE, not both.")
    field = field_of(input_file, field)
    for file in files or ():
        if not file.exists():
            raise DataError(
                f"There is no file '{file}'; a text itself is piped in: echo '...' | polyhead summarize -m {model}"
            )

    def documents() -> Iterator[Document]:
        if input_file:
            return fields(input_file, field) if is_jsonl(input_file) else iter(enumerate(lines(input_file), 1))
        return ((str(path or "-"), "\n".join(lines(path))) for path in files or (None,))

    from polyhead.tasks.workers import Workers

    with Workers(workers) as crew:  # which load while this process does
        options.crowded(crew.count)
        from polyhead.tasks.asking import asking
        from polyhead.tasks.decoding import decoding
        from polyhead.tasks.load import load
        from polyhead.tasks.needs import able
        from polyhead.tasks.summarize import Summarizer

        loaded = load(model, device=device, precision=precision)
        able(loaded, "summarize")
        said = asking(loaded, "summarization", task=task, prefix=prefix)
        search = by.search(n_best=nbest, like=decoding(loaded, said.settings).beam)
        width: dict[str, Any] = {"search": search} if search else {"beam": by.beam, "n_best": nbest}
        summarizer = Summarizer(
            loaded, task=task, prefix=prefix, min_new=min_new, max_new=max_new, window=window, whole=whole,
            workers=crew, **width,
        )  # fmt: skip
        live = not files and input_file is None and sys.stdin.isatty()
        if live:
            print("Type or paste a text; Ctrl-D ends it.", file=sys.stderr)
        again = documents if input_file and input_file.is_file() else list(documents()).copy  # a pipe can be read once
        total = sum(len(summarizer.parts(text, name)) for name, text in again())  # what cannot be read is found here
        shared = output_file is None and sys.stdout.isatty()
        with output(output_file) as out:
            show, done = shower(out), 0
            for numbers, some in numbered(again(), FEW if shared else WINDOW):
                with bar("summarising", total, of="parts", done=done) as tell:
                    found = summarizer([text for _, text in some], numbers=numbers, progress=tell)
                done += sum(summary.parts[0] for summary in found if summary.parts)
                for (name, _), summary in zip(some, found, strict=True):
                    out.writelines(
                        row + "\n" for row in written(name, summary, nbest=nbest, as_json=as_json, show=show)
                    )
                out.flush()


def written(name: str | int, found: Summary, *, nbest: int, as_json: bool, show: Callable[[str], str]) -> Iterator[str]:
    """One summary as the lines that are printed."""
    if as_json:
        yield to_json(
            {
                "document": name, "summary": found.text, "finished": found.finished,
                "parts": list(found.parts), "merged": found.merged, "prefix": found.prefix,
                "candidates": [{"text": each.text, "score": each.score} for each in found.candidates],
            }
        )  # fmt: skip
    elif nbest == 1:
        yield show(one_line(found.text))
    else:
        for each in found.candidates:
            score = "" if each.score is None else f"{each.score:.4f}"
            yield f"{show(one_line(str(name)))}\t{score}\t{show(one_line(each.text))}"


def numbered(documents: Iterable[Document], size: int) -> Iterator[tuple[range, list[Document]]]:
    """The documents, so many at a time, and their numbers."""
    incoming, first = iter(documents), 1
    while some := list(islice(incoming, size)):
        yield range(first, first + len(some)), some
        first += len(some)
