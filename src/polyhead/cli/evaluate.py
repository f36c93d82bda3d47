"""`polyhead evaluate`: pairs of lines and a model go in, BLEU and chrF with their signatures come out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import output
from polyhead.cli.screen import bar, one_line, safe, say, shower, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table

    from polyhead.tasks.evaluate import Scores


def evaluate(
    data: Annotated[
        list[Path], typer.Argument(metavar="FILE [FILE]", help="A TSV or JSONL file of pairs, or two parallel files.")
    ],
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
    task: options.Task = None,
    prefix: options.Prefix = None,
    beam: options.Beam = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Score a model's translations of held-out lines with BLEU and chrF.

    Each score comes with sacreBLEU's signature, which makes it comparable. --output keeps the translations, one a line.

    **Examples**

        polyhead evaluate test.tsv --columns 2,1 --model runs/zh-en
        polyhead evaluate test.tsv.gz --columns 2,1 --where 4=simp,same
        polyhead evaluate test.zh test.en --beam 1 --json
    """
    if len(data) > 2:
        raise ArgumentError(f"Give one file of pairs or two parallel files, not {len(data)}.")
    if len(data) == 2 and (columns or where):
        raise ArgumentError("--columns and --where choose from one file of pairs, but two parallel files are given.")
    chosen, rows = sides(columns or "1,2"), filters(where or [])

    from polyhead.inputs.readers import Skipped, Source, read
    from polyhead.tasks.evaluate import evaluate as score

    source = Source(path=data[0] if len(data) == 1 else tuple(data), columns=chosen, where=rows)
    skipped = Skipped()
    pairs = list(read(source, on_error="skip" if skip_broken else "stop", report=skipped))
    if skipped.total:
        say(f"{source.name}: {skipped.total:,} lines left out: {skipped}")
    with bar("translating", len(pairs)) as tell:
        scores, texts = score(
            pairs, model=model, beam=beam, task=task, prefix=prefix, device=device, file=source.name, progress=tell
        )
    if output_file:
        with output(output_file) as out:
            show = shower(out)
            out.writelines(show(one_line(text)) + "\n" for text in texts)
    if as_json:
        print(to_json({**asdict(scores), "left_out": skipped.total}))
        return
    from rich.console import Console

    left_out = f", {skipped.total:,} left out" if skipped.total else ""
    title = safe(f"{model}: {scores.n:,} lines of {source.name}{left_out}")
    Console(file=sys.stdout).print(table(title, scores))


def table(title: str, scores: Scores) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    table.add_column("metric")
    table.add_column("score", justify="right")
    table.add_column("signature", overflow="fold")
    table.add_row("BLEU", f"{scores.bleu:.2f}", Text(scores.bleu_signature))
    table.add_row("chrF", f"{scores.chrf:.2f}", Text(scores.chrf_signature))
    return table


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
