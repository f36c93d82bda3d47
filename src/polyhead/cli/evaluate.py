"""`polyhead evaluate`: pairs of lines and a model go in, BLEU and chrF with their signatures come out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import output
from polyhead.errors import ArgumentError


def evaluate(
    data: Annotated[
        list[Path], typer.Argument(metavar="FILE [FILE]", help="A TSV or JSONL file of pairs, or two parallel files.")
    ],
    model: options.Model = "zh-en",
    columns: Annotated[
        str, typer.Option("--columns", metavar="SOURCE,TARGET", help="Columns (from 1) or keys of both sides.")
    ] = "1,2",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE,...", help="Only rows whose column holds one of the values."),
    ] = None,
    beam: options.Beam = 4,
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

    from polyhead.inputs.readers import Source, read
    from polyhead.tasks.evaluate import evaluate as score

    source = Source(path=data[0] if len(data) == 1 else tuple(data), columns=sides(columns), where=filters(where or []))
    scores, texts = score(read(source), model=model, beam=beam)
    if output_file:
        with output(output_file) as out:
            out.writelines(text + "\n" for text in texts)
    if as_json:
        print(json.dumps(asdict(scores), ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{model}: {scores.n:,} lines of {', '.join(map(str, data))}", title_justify="left")
    table.add_column("metric")
    table.add_column("score", justify="right")
    table.add_column("signature", overflow="fold")
    table.add_row("BLEU", f"{scores.bleu:.2f}", scores.bleu_signature)
    table.add_row("chrF", f"{scores.chrf:.2f}", scores.chrf_signature)
    Console(file=sys.stdout).print(table)


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
        found[int(column) if column.isdecimal() else column] = values.split(",")
    return found
