"""`polyhead shortlist`: pairs and a model go in, a file leaves that says which words it needs for which sources."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, needs_folder
from polyhead.cli.evaluate import filters, sides, texts
from polyhead.cli.screen import bar, safe, say
from polyhead.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from polyhead.tasks.asking import Asking
    from polyhead.tasks.load import Loaded

FEW, TRIED, SIZED = 1000, 16, 1000  # pairs that are few, that the model tries, and whose lists are measured
SCANT = 20  # words for a sentence, among which hardly an answer is found


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
            "--columns",
            metavar="SOURCE,TARGET",
            show_default="1,2",
            help="Columns (from 1) or keys of the source and the target.",
        ),
    ] = None,
    where: options.Where = None,
    skip_broken: options.SkipBroken = False,
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
    from polyhead.inputs.text import clean
    from polyhead.tasks.asking import asking
    from polyhead.tasks.learning.lexicon import ROUNDS
    from polyhead.tasks.load import load
    from polyhead.tasks.shortlist import shortlist as learned
    from polyhead.tasks.translator import Translator

    loaded = load(model, device=device)
    said = asking(loaded, "translation", task=task, prefix=prefix)
    if texts_file:
        sources = list(islice(lines(texts_file), most))
        if not any(map(clean, sources)):
            raise DataError(f"{texts_file} is empty; expected a source in each line.")
        with bar("translating", len(sources)) as tell:
            answers = Translator(loaded, said=said)(sources, file=str(texts_file), progress=tell)
        pairs: list[Any] = [(each.source, each.text) for each in answers if each.text]
    else:
        skipped = Skipped()
        pairs = texts(data or [], chosen, rows, skip_broken, skipped, False, most)
        if skipped.total:
            say(f"{' + '.join(map(str, data or []))}: {skipped.total:,} lines left out: {skipped}")
    with bar("learning", len(pairs) + ROUNDS, of="steps") as tell:
        found = learned(
            pairs, model=loaded, frequent=frequent, best=best, most=most, task=task, prefix=prefix, progress=tell
        )
    if not texts_file and swapped(pairs, loaded, said):
        turned = "the two files the other way round" if len(data or ()) > 1 else f"--columns {chosen[1]},{chosen[0]}"
        say(f"polyhead: The model says the sources where it is given the targets; did you mean {turned}?")
    words = int(
        statistics.median(found.size(row) for row in rows_of([pair[0] for pair in pairs[:SIZED]], loaded, said))
    )
    if len(pairs) < FEW:
        few = f"{counted(len(pairs), 'pair')} {'is' if len(pairs) == 1 else 'are'} few"
        say(f"polyhead: {few}: what they do not show is on no list; give some thousands.")
    if words < SCANT:
        say(f"polyhead: {counted(words, 'word')} for a sentence will hardly do; raise --frequent or --best.")
    found.save(output_file)
    made = f"{counted(words, 'word')} for a sentence, learned from {counted(len(pairs), 'pair')}"
    print(safe(f"Wrote {output_file}: {made}"))


def counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def rows_of(sources: Sequence[str], loaded: Loaded, said: Asking) -> list[list[int]]:
    """The ids of sources, as they are asked."""
    from polyhead.inputs.text import clean

    return loaded.tokenizer.source.encode_batch([said.of(clean(text)) for text in sources])


def swapped(pairs: Sequence[Any], loaded: Loaded, said: Asking) -> bool:
    """Whether the model, given the targets of the first pairs, comes far nearer to the sources than the other way."""
    from polyhead.tasks.decoding import chosen_search
    from polyhead.tasks.shortlist import LONGEST
    from polyhead.tasks.translator import Translator

    tried = [pair[:2] for pair in pairs[:TRIED]]
    sides = [rows_of(side, loaded, said) for side in zip(*tried, strict=True)]
    short = [max(map(len, rows)) <= min(LONGEST, loaded.config.max_len) for rows in zip(*sides, strict=True)]
    tried = [pair for pair, fits in zip(tried, short, strict=True) if fits]
    translator = Translator(loaded, search=chosen_search(loaded, None, 1, task=said.settings), said=said)

    def near(given: int) -> float:
        found = translator([pair[given] for pair in tried])
        return sum(alike(each.text, pair[1 - given]) for each, pair in zip(found, tried, strict=True))

    return near(1) > near(0) + 0.2 * len(tried)


def alike(one: str, other: str) -> float:
    """What share of the neighbouring letters of two texts they have in common."""
    here, there = ({text[i : i + 2] for i in range(len(text) - 1)} for text in (one, other))
    return len(here & there) / max(1, len(here), len(there))
