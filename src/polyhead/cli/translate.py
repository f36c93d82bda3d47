"""`polyhead translate`: lines from arguments, a file or the standard input go in, as many translations come out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, output
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.tasks.translator import Translation

WINDOW = 2000  # lines read, sorted by length and translated together
LINE_ENDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # what would break one translation into two lines


def translate(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Sentences to translate.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Translate every line of this UTF-8 file.")
    ] = None,
    model: options.Model = "zh-en",
    beam: options.Beam = 4,
    nbest: Annotated[
        int, typer.Option("--nbest", min=1, help="Translations for each line, as: line number, score, text.")
    ] = 1,
    max_new: Annotated[
        int | None, typer.Option("--max-new", min=1, help="The most tokens a translation may have.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="Above 0: draw translations instead of searching.")
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[float, typer.Option("--top-p", help="Draw from tokens that make up this probability.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same translations.")] = 0,
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Translate sentences, files or what another program writes.

    One line in, one line out; an empty line stays empty.

    **Examples**

        polyhead translate 我爱吃苹果。
        polyhead translate -i book.zh.txt -o book.en.txt
        cat book.zh.txt | polyhead translate --beam 1 > book.en.txt
        polyhead translate --nbest 3 --json 虽然下雨，但我很开心。
    """
    if texts and input_file:
        raise ArgumentError("Give sentences or --input FILE, not both.")
    live = not texts and input_file is None and sys.stdin.isatty()
    incoming = iter(texts) if texts else lines(input_file)

    from polyhead.generation import Beam, Sample
    from polyhead.tasks.load import load
    from polyhead.tasks.translator import Translator

    if temperature:
        search = Sample(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, n_best=nbest, scored=True)
    else:
        search = Beam(max(beam, nbest), n_best=nbest)
    translator = Translator(load(model), search=search, max_new=max_new)
    if live:
        print("Type a sentence and press Enter; Ctrl-D ends.", file=sys.stderr)
    with output(output_file) as out, progress(input_file, output_file) as tell:
        first = 1
        for window in windows(incoming, 1 if live else WINDOW):
            numbers = range(first, first + len(window))
            for number, found in zip(numbers, translator(window, numbers=numbers, progress=tell), strict=True):
                out.writelines(written(found, number, nbest, as_json))
            out.flush()
            first += len(window)


def written(found: Translation, number: int, nbest: int, as_json: bool) -> Iterator[str]:
    """One translation as the lines that are printed."""
    if as_json:
        candidates = [{"text": candidate.text, "score": candidate.score} for candidate in found.candidates]
        row = {"source": found.source, "translation": found.text, "candidates": candidates}
        yield json.dumps(row, ensure_ascii=False) + "\n"
    elif nbest == 1:
        yield one_line(found.text) + "\n"
    else:
        for candidate in found.candidates:
            yield f"{number}\t{candidate.score:.4f}\t{one_line(candidate.text)}\n"


def one_line(text: str) -> str:
    return LINE_ENDS.sub(" ", text)


def windows(incoming: Iterable[str], size: int) -> Iterator[list[str]]:
    incoming = iter(incoming)
    while window := list(islice(incoming, size)):
        yield window


@contextmanager
def progress(input_file: Path | None, output_file: Path | None) -> Iterator[Callable[[int], None] | None]:
    """A bar on the terminal while a file is translated, unless the translations appear there themselves."""
    if (
        input_file is None
        or not input_file.is_file()
        or not sys.stderr.isatty()
        or (output_file is None and sys.stdout.isatty())
    ):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with input_file.open("rb") as file:
        total = sum(1 for _ in file)
    columns = TextColumn("translating"), BarColumn(), MofNCompleteColumn(), TextColumn("lines,"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
