"""`polyhead translate`: lines from arguments, a file or the standard input go in, as many translations come out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import choice, options
from polyhead.cli.door import WINDOW, lines, output, working
from polyhead.cli.screen import one_line, say, shower, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.tasks.translator import Translation


@choice.searches
def translate(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Sentences to translate.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Translate every line of this UTF-8 file.")
    ] = None,
    model: options.Model = "zh-en",
    task: options.Task = None,
    prefix: options.Prefix = None,
    nbest: Annotated[
        int,
        typer.Option(
            "--nbest", min=1, max=1000, help="Translations for each line: line number, score, text; two may read alike."
        ),
    ] = 1,
    max_new: Annotated[
        int | None,
        typer.Option(
            "--max-new", min=1, help="The most tokens of a translation; twice its source's and 30 unless given."
        ),
    ] = None,
    by: choice.Wanted = choice.ANY,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    workers: options.Workers = 1,
    shortlist: options.Shortlist = None,
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Translate sentences, files or what another program writes.

    One line in, one line out; an empty line stays empty. Files and pipes get the text as it is; on a terminal, what
    would act on it or cannot be seen (marks of the writing direction and their like) is shown by its number.

    **Examples**

        polyhead translate 我爱吃苹果。
        polyhead translate -i book.zh.txt -o book.en.txt
        polyhead translate -i corpus.zh.txt -o corpus.en.txt --workers 2
        cat book.zh.txt | polyhead translate --beam 1 > book.en.txt
        polyhead translate --nbest 3 --json 虽然下雨，但我很开心。
        polyhead translate --force apples 我爱吃苹果。
        polyhead translate --nbest 4 --groups 4 虽然下雨，但我很开心。
        polyhead translate -m t5-base --task en-de "The house is wonderful."
        polyhead translate -m opus-mt-zh-en --shortlist opus.shortlist -i book.zh.txt
    """
    if texts and input_file:
        raise ArgumentError("Give sentences or --input FILE, not both.")
    live = not texts and input_file is None and sys.stdin.isatty()
    incoming = iter(texts) if texts else lines(input_file)
    begun = list(islice(incoming, workers)) if workers > 1 and not live else []  # no more of them than lines

    from polyhead.tasks.workers import Workers

    with Workers(workers, most=len(begun)) as crew:  # which load while this process does
        options.crowded(crew.count)
        from polyhead.tasks.asking import asking
        from polyhead.tasks.decoding import chosen_search, decoding
        from polyhead.tasks.load import load
        from polyhead.tasks.needs import able
        from polyhead.tasks.translator import Translator

        loaded = load(model, device=device, precision=precision)
        able(loaded, "translate")
        said = asking(loaded, "translation", task=task, prefix=prefix)
        like = decoding(loaded, said.settings).beam
        search = by.search(n_best=nbest, like=like) or chosen_search(loaded, None, by.beam, nbest, task=said.settings)
        translator = Translator(loaded, search=search, max_new=max_new, said=said, workers=crew, shortlist=shortlist)
        if live:
            print("Type a sentence and press Enter; Ctrl-D ends.", file=sys.stderr)
        silent: list[int] = []  # the lines whose translation is empty though they are not
        with output(output_file) as out, working("translating", input_file, output_file) as tell:
            show = shower(out)
            if input_file and input_file.is_file():  # what is too long is found before hours of work, not after
                for numbers, window in numbered(lines(input_file), WINDOW):
                    translator.read(window, numbers=numbers, file=str(input_file))
            for numbers, window in numbered(chain(begun, incoming), 1 if live else WINDOW):
                answers = translator(window, numbers=numbers, file=str(input_file or ""), progress=tell)
                silent += [n for n, each in zip(numbers, answers, strict=True) if each.candidates and not each.text]
                for number, found in zip(numbers, answers, strict=True):
                    rows = [record(found, said.prefix)] if as_json else written(found, number, nbest, show)
                    out.writelines(row + "\n" for row in rows)
                out.flush()
        if shortlist is not None and silent:
            which = f"line {silent[0]:,}" + (f" and {len(silent) - 1:,} more" if len(silent) > 1 else "")
            say(f"polyhead: Nothing is said of {which} among the words of {shortlist}; make a longer list.")


def written(found: Translation, number: int, nbest: int, show: Callable[[str], str]) -> Iterator[str]:
    """One translation as the lines that are printed."""
    if nbest == 1:
        yield show(one_line(found.text))
    else:
        for candidate in found.candidates:
            yield f"{number}\t{candidate.score:.4f}\t{show(one_line(candidate.text))}"


def record(found: Translation, prefix: str) -> str:
    """One translation as a line of JSON; what the model was asked, where it is asked in words."""
    candidates = [{"text": candidate.text, "score": candidate.score} for candidate in found.candidates]
    asked = {"prefix": prefix} if prefix else {}
    return to_json({"source": found.source, "translation": found.text, "candidates": candidates, **asked})


def numbered(incoming: Iterable[str], size: int) -> Iterator[tuple[range, list[str]]]:
    """The lines, so many at a time, and their numbers."""
    incoming, first = iter(incoming), 1
    while window := list(islice(incoming, size)):
        yield range(first, first + len(window)), window
        first += len(window)
