"""`polyhead shortlist`: pairs and a model go in, a file leaves that says which words it needs for which sources."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, needs_folder
from polyhead.cli.evaluate import filters, sides, texts
from polyhead.cli.screen import bar, safe, say
from polyhead.errors import ArgumentError


def shortlist(
    data: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="TSV or JSONL of pairs, or two parallel files.")
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write; needed.")
    ] = None,
    texts_file: Annotated[
        Path | None,
        typer.Option("--texts", metavar="FILE", help="Lines of sources alone; the model translates them first."),
    ] = None,
    model: options.Model = "zh-en",
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="SOURCE,TARGET", show_default="1,2", help="Columns (from 1) or keys of both sides."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE,...", help="Only rows whose column holds one of the values."),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out lines that cannot be read, and say how many and why.")
    ] = False,
    frequent: Annotated[
        int, typer.Option("--frequent", min=1, metavar="F", help="The F most frequent words are on every list.")
    ] = 100,
    best: Annotated[
        int, typer.Option("--best", min=0, metavar="K", help="The K likeliest translations of each source token.")
    ] = 100,
    most: Annotated[
        int, typer.Option("--most", min=1, metavar="N", help="Read the first N pairs, or lines of --texts.")
    ] = 100_000,
    task: options.Task = None,
    prefix: options.Prefix = None,
    device: options.Device = "auto",
) -> None:
    """Learn which words a translator needs for which sources.

    With the file, `polyhead translate --shortlist FILE` looks for each word among some hundreds instead of all that
    the model knows, which is faster where it knows tens of thousands. Take pairs like those it will translate; or, with
    --texts, sources alone, which the model itself translates first.

    **Examples**

        polyhead shortlist pairs.tsv --columns 2,1 -o zh-en.shortlist
        polyhead shortlist train.zh train.en -m opus-mt-zh-en -o opus.shortlist
        polyhead shortlist --texts book.zh.txt -o book.shortlist
        polyhead translate -i book.zh.txt --shortlist zh-en.shortlist
    """
    if output_file is None:
        raise ArgumentError("Say where the short-list shall be written: --output FILE.")
    if bool(data) == (texts_file is not None):
        raise ArgumentError("Give pairs, in one file or two parallel ones, or --texts FILE; one of them.")
    if (texts_file or (data and len(data) > 1)) and (columns or where):
        raise ArgumentError("--columns and --where choose from one file of pairs; leave them out.")
    if data and len(data) > 2:
        raise ArgumentError(f"Give one file of pairs or two parallel files, not {len(data)}.")
    if texts_file and skip_broken:
        raise ArgumentError("--skip-broken is of a file of pairs; leave it out.")
    chosen, rows = sides(columns or "1,2"), filters(where or [])

    needs_folder(output_file)

    from polyhead.inputs.readers import Skipped
    from polyhead.tasks.asking import asking
    from polyhead.tasks.learning.lexicon import ROUNDS
    from polyhead.tasks.load import load
    from polyhead.tasks.shortlist import shortlist as learned
    from polyhead.tasks.translator import Translator

    loaded = load(model, device=device)
    if texts_file:
        sources = list(islice(lines(texts_file), most))
        translator = Translator(loaded, said=asking(loaded, "translation", task=task, prefix=prefix))
        with bar("translating", len(sources)) as tell:
            said = translator(sources, file=str(texts_file), progress=tell)
        pairs: list[Any] = [(each.source, each.text) for each in said if each.text]
    else:
        skipped = Skipped()
        pairs = texts(data or [], chosen, rows, skip_broken, skipped, False, most)
        if skipped.total:
            say(f"{' + '.join(map(str, data or []))}: {skipped.total:,} lines left out: {skipped}")
    with bar("learning", len(pairs) + ROUNDS, of="steps") as tell:
        found = learned(
            pairs, model=loaded, frequent=frequent, best=best, most=most, task=task, prefix=prefix, progress=tell
        )
    found.save(output_file)
    print(safe(f"Wrote {output_file}: {found.mean:,.0f} words for a source token, learned from {len(pairs):,} pairs"))
