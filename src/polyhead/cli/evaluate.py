"""`polyhead evaluate`: held-out pairs and a model go in, scores come out: BLEU and chrF, accuracy and F1, or recall."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import options
from polyhead.cli.door import output
from polyhead.cli.screen import bar, one_line, safe, say, shower, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table

    from polyhead.inputs.readers import Skipped

BLOCKS = 10  # of a label's bar
SKIP = "--skip-broken"


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="TSV or JSONL, two parallel files, a folder of images, or two of IDX."),
    ],
    model: options.Model = "zh-en",
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="SOURCE,TARGET", show_default="1,2", help="Columns (from 1) or keys of both sides."
        ),
    ] = None,
    where: options.Where = None,
    skip_broken: options.SkipBroken = False,
    task: options.Task = None,
    prefix: options.Prefix = None,
    beam: options.Beam = None,
    shortlist: options.Shortlist = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", min=0, max=1, show_default="the model's", help="Of labels, where several may hold."
        ),
    ] = None,
    several: options.Several = None,
    separator: Annotated[
        str | None, typer.Option("--separator", show_default=",", help="What stands between several labels.")
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Score a model on held-out data.

    A translator's lines by BLEU and chrF, with sacreBLEU's signatures, which make them comparable. A classifier's
    labels by accuracy and F1, each label by itself, and, where several may hold, by threshold. Of a model that reads
    texts and images, a table of images and their texts by how often each finds its own among the first 1, 5 and 10.
    --output keeps what the model said, a line each.

    **Examples**

        polyhead evaluate test.tsv --columns 2,1 --model runs/zh-en
        polyhead evaluate test.tsv.gz --columns 2,1 --where 4=simp,same
        polyhead evaluate test.zh test.en --beam 1 --json
        polyhead evaluate test.tsv --model runs/goemotions
        polyhead evaluate t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz --model runs/digits
        polyhead evaluate captions.tsv --model my-clip
    """
    if len(data) > 2:
        raise ArgumentError(f"Give one file of pairs or two parallel files, not {len(data)}.")
    if len(data) == 2 and (columns or where):
        raise ArgumentError("--columns and --where choose from one file of pairs, but two parallel files are given.")
    chosen, rows = sides(columns or "1,2"), filters(where or [])

    from polyhead.inputs.readers import Skipped
    from polyhead.tasks.evaluate import Scores
    from polyhead.tasks.evaluate import evaluate as score
    from polyhead.tasks.load import load

    loaded, skipped = load(model, device=device, precision=precision), Skipped()
    both = loaded.family.reads == "text or image"
    images = both or loaded.family.reads == "image"
    kind = "pairs" if both else "images" if images else "lines"
    if both and (len(data) == 2 or data[0].is_dir()):
        raise ArgumentError("This model reads texts and images; give a table of images and their texts.")
    if not images and (folder := next((path for path in data if path.is_dir()), None)):
        raise ArgumentError(f"{folder} is a folder, but this model reads texts; give a file of two columns.")
    if images and where:
        raise ArgumentError("--where chooses from a file of texts, but this model reads images; leave it out.")
    if images and (columns or skip_broken) and (len(data) == 2 or data[0].is_dir()):
        raise ArgumentError("--columns and --skip-broken are of a table; leave them out for a folder or two IDX files.")
    name = " + ".join(map(str, data))
    pairs = (pictures if images else texts)(data, chosen, rows, skip_broken, skipped, loaded.family.does == "labels")
    if skipped.total:
        say(f"{name}: {skipped.total:,} lines left out: {skipped}")
    with bar("evaluating", len(pairs)) as tell:
        scores, said = score(
            pairs, model=loaded, beam=beam, task=task, prefix=prefix, shortlist=shortlist, several=several,
            threshold=threshold, separator=separator, file=name, progress=tell,
        )  # fmt: skip
    if output_file:
        with output(output_file) as out:
            show = shower(out)
            lines = [each if isinstance(each, str) else ", ".join(each.labels) for each in said]
            out.writelines(show(one_line(line)) + "\n" for line in lines)
    if as_json:
        print(to_json({**asdict(scores), "left_out": skipped.total}))
        return
    from rich.console import Console

    left_out = f", {skipped.total:,} left out" if skipped.total else ""
    console = Console(file=sys.stdout)
    console.print(safe(f"{model}: {scores.n:,} {kind} of {name}{left_out}"), markup=False, highlight=False)
    for table in (translated if isinstance(scores, Scores) else recalled if both else labelled)(scores):
        console.print(table)


def texts(
    data: Sequence[Path], columns: Any, where: Any, skip: bool, skipped: Skipped, lone: bool, most: int | None = None
) -> list[Any]:
    """The first so many pairs, or all; what is behind them is not read."""
    from polyhead.inputs.readers import Source, read

    path = data[0] if len(data) == 1 else tuple(data)
    source = Source(path=path, columns=columns, where=where, lone=lone, skip=SKIP)
    return list(islice(read(source, on_error="skip" if skip else "stop", report=skipped), most))


def pictures(data: Sequence[Path], columns: Any, _: Any, skip: bool, skipped: Skipped, __: bool) -> list[Any]:
    from polyhead.inputs.pictures import Album, read_album

    path = data[0] if len(data) == 1 else tuple(data)
    album = read_album(
        Album(path=path, columns=columns, skip=SKIP), on_error="skip" if skip else "stop", report=skipped
    )
    return list(zip(album.pictures, album.labels, strict=True))


def lined_up(title: str, *columns: str) -> Table:
    """A table whose first column is words and whose others are numbers."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    return table


def translated(scores: Any) -> list[Table]:
    from rich.text import Text

    table = lined_up("", "metric", "score")
    table.add_column("signature", overflow="fold")
    table.add_row("BLEU", f"{scores.bleu:.2f}", Text(scores.bleu_signature))
    table.add_row("chrF", f"{scores.chrf:.2f}", Text(scores.chrf_signature))
    return [table]


def recalled(scores: Any) -> list[Table]:
    table = lined_up("", "", "n", "R@1", "R@5", "R@10", "median rank")
    for name, one in (("text to image", scores.text_to_image), ("image to text", scores.image_to_text)):
        shares = (f"{100 * share:.1f} %" for share in (one.r1, one.r5, one.r10))
        table.add_row(name, f"{one.n:,}", *shares, f"{one.median_rank:g}")
    return [table]


def labelled(scores: Any) -> list[Table]:
    """The whole, each label with a bar as long as its F1, and one threshold for all labels where several may hold."""
    from rich.text import Text

    whole = lined_up("", "score", "")
    for name, value in (("accuracy", scores.accuracy), ("micro F1", scores.micro_f1), ("macro F1", scores.macro_f1)):
        whole.add_row(name, f"{100 * value:.2f} %")
    whole.add_row("loss", f"{scores.loss:.4f}")
    several = bool(scores.sweep)
    each = lined_up("each label", "label", "n", "precision", "recall", "F1", *(["threshold"] if several else []))
    each.add_column("", no_wrap=True)
    for one in scores.labels:
        shares = [f"{100 * x:.1f}" for x in (one.precision, one.recall, one.f1)]
        at = [f"{one.threshold:.2f}"] if several else []
        each.add_row(Text(safe(one.label)), f"{one.n:,}", *shares, *at, "▇" * round(BLOCKS * one.f1))
    if not several:
        return [whole, each]
    sweep = lined_up("one threshold for all", "threshold", "precision", "recall", "micro F1", "macro F1")
    for one in scores.sweep:
        shares = (one.precision, one.recall, one.micro_f1, one.macro_f1)
        sweep.add_row(f"{one.threshold:.1f}", *(f"{100 * x:.1f}" for x in shares))
    return [whole, each, sweep]


def sides(text: str) -> tuple[int | str, int | str]:
    """`2,1` or `zh,en` as the columns of source and target."""
    names = [int(name) if name.isdecimal() else name for name in text.split(",")]
    if len(names) != 2 or "" in names:
        raise ArgumentError(f"--columns takes two columns such as 2,1 or zh,en, found '{text}'.")
    return names[0], names[1]


def filters(texts: list[str]) -> dict[int | str, list[str]]:
    """`4=simp,same` as the values that a column may hold."""
    found: dict[int | str, list[str]] = {}
    for text in texts:
        column, equals, values = text.partition("=")
        if not (column and equals):
            raise ArgumentError(f"--where takes a column and its values such as 4=simp,same, found '{text}'.")
        found.setdefault(int(column) if column.isdecimal() else column, []).extend(values.split(","))
    return found
