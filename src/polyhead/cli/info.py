"""`polyhead info`: a model goes in; its card, sizes and table of parameters come out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import options
from polyhead.cli.screen import safe, to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment
    from rich.table import Table

    from polyhead.tasks.info import Info


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder or a shipped model.")] = "zh-en",
    as_json: options.Json = False,
) -> None:
    """A model's card, its sizes, and a table of its parameters.

    Parameters that are tied count once; equal layers share a row.

    **Examples**

        polyhead info zh-en
        polyhead info runs/mine --json
    """
    from polyhead.tasks.info import info as run

    facts = run(model)
    if as_json:
        print(to_json(asdict(facts), indent=2))
        return
    from rich.console import Console
    from rich.segment import Segments

    console = Console(file=sys.stdout)
    if facts.card:
        console.print(Segments(rendered(facts.card, console)))
        console.print()
    console.print(overview(facts))
    console.print(parameters(facts))


def rendered(card: str, console: Console) -> Iterator[Segment]:
    """A card as it is printed, without what would act: Markdown can spell such characters in signs that cannot."""
    from rich.markdown import Markdown

    from polyhead.lens.draw.labels import acts

    for segment in console.render(Markdown(card, hyperlinks=False)):
        yield segment._replace(text="".join(c for c in segment.text if c == "\n" or not acts(c)))


def overview(facts: Info) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(safe(f"{facts.folder}: {facts.architecture}")), title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", overflow="fold")
    table.add_row("parameters", f"{facts.parameters:,}")
    for name, size in facts.files.items():
        table.add_row(Text(safe(name)), in_words(size))
    table.add_section()
    for name, value in facts.config.items():
        table.add_row(Text(name), Text(safe(str(value))))
    table.add_section()
    for name, value in facts.generation.items():
        table.add_row(Text(safe(name)), Text(safe(json.dumps(value, ensure_ascii=False))))
    return table


def parameters(facts: Info) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Parameters", title_justify="left", show_footer=True)
    table.add_column("name", "all", overflow="fold")
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("times", justify="right", no_wrap=True)
    table.add_column("numbers", f"{facts.parameters:,}", justify="right", no_wrap=True)
    for row in facts.tensors:
        shape = " x ".join(map(str, row.shape))
        table.add_row(Text(row.name), shape, str(row.count), f"{row.numbers:,}")
    return table


def in_words(size: float) -> str:
    """A size in bytes as people say it: `17.4 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
