"""`polyhead info`: a model or a published size goes in; its card, its costs and a table of its parameters come out."""

from __future__ import annotations

import json
import re
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

    from polyhead.tasks.info import Info, Spread

LAYERS = re.compile(r"(?:(.*?\.(?:\d+|\{[\d.,]+\}))\.)?(.*)")  # `encoder.blocks.{0..5}`, and what each of them holds


def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder, a shipped model, or a published size.")
    ] = "zh-en",
    sizes: Annotated[bool, typer.Option("--sizes", help="List the published sizes that can be counted.")] = False,
    length: Annotated[
        int | None, typer.Option("--length", help="Tokens of a text.", show_default="as many as the model reads")
    ] = None,
    tokens: Annotated[float | None, typer.Option("--tokens", help="Learn from so many tokens, such as 300e9.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="... at so many FLOPs a second, such as 1e15.")] = None,
    devices: Annotated[
        int | None,
        typer.Option("--devices", metavar="N", help="Share the experts of a layer out over so many devices."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """A model's card, what it takes in memory and operations, and a table of its parameters.

    A published size, such as gpt3.175b, is counted without its weights: nothing is loaded or fetched. Parameters that
    are tied count once; equal layers share a row.

    **Examples**

        polyhead info zh-en
        polyhead info runs/mine --json
        polyhead info --sizes
        polyhead info gpt3.175b --tokens 300e9 --rate 1e18
        polyhead info switch.c-2048 --devices 2048
    """
    from polyhead.tasks.info import info as run

    if sizes:
        listed(as_json=as_json)
        return
    facts = run(model, length=length, tokens=tokens, rate=rate, devices=devices)
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
    console.print(costs(facts))
    if facts.spread is not None:
        console.print(shared_out(facts.spread))
    console.print(work(facts))
    console.print(parameters(facts))


def listed(*, as_json: bool) -> None:
    """Every published size, each as soon as it is counted."""
    from polyhead.tasks.info import SIZES
    from polyhead.tasks.info import info as run

    if as_json:
        facts = [run(name) for name in SIZES]
        rows = [
            {"size": f.size, "parameters": f.parameters, "said": f.said, "source": f.source, **asdict(f.costs)}
            for f in facts
        ]
        print(to_json(rows, indent=2))
        return
    print(row("size", "parameters", "said", "bfloat16", "learning", "cache, full"))
    family = next(iter(SIZES)).partition(".")[0]
    for name in SIZES:
        facts = run(name)
        if name.partition(".")[0] != family:
            family = name.partition(".")[0]
            print()
        takes = facts.costs
        sizes = (
            in_words(n) if n else "-" for n in (takes.weights["bfloat16"], sum(takes.training.values()), takes.cache)
        )
        print(row(name, f"{facts.parameters:,}", facts.said, *sizes), flush=True)


def row(name: str, *cells: str) -> str:
    return f"{name:<19}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (17, 9, 11, 12, 11), strict=True))


def rendered(card: str, console: Console) -> Iterator[Segment]:
    """A card as it is printed, without what would act: Markdown can spell such characters in signs that cannot."""
    from rich.markdown import Markdown

    from polyhead.lens.draw.labels import acts

    for segment in console.render(Markdown(card, hyperlinks=False)):
        yield segment._replace(text="".join(c for c in segment.text if c == "\n" or not acts(c)))


def overview(facts: Info) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = f"{facts.folder or facts.size}: {facts.architecture}"
    table = Table(title=Text(safe(title)), title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", overflow="fold")
    table.add_row("parameters", f"{facts.parameters:,}")
    if facts.costs.active < facts.parameters:
        table.add_row("... that have a part in one token", f"{facts.costs.active:,}")
    for name, told in (("said to be", facts.said), ("source", facts.source), ("note", facts.note)):
        if told:
            table.add_row(name, told)
    for name, size in facts.files.items():
        table.add_row(Text(safe(name)), in_words(size))
    table.add_section()
    for name, value in facts.config.items():
        table.add_row(Text(name), Text(safe(str(value))))
    table.add_section()
    for name, value in facts.generation.items():
        table.add_row(Text(safe(name)), Text(safe(json.dumps(value, ensure_ascii=False))))
    return table


def costs(facts: Info) -> Table:
    """What the model takes in memory."""
    from rich.table import Table

    takes = facts.costs
    table = Table(title="Parameters and memory", title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for part, numbers in takes.parts.items():
        table.add_row(part, f"{numbers:,}", f"{100 * numbers / facts.parameters:.1f} %")
    table.add_section()
    for kind, size in takes.weights.items():
        table.add_row(f"weights, {kind}", in_words(size), "")
    table.add_section()
    if takes.cache_token:
        table.add_row("keys and values of a token, bfloat16", in_words(takes.cache_token), "")
        also = " and of what is read" if len(takes.work) == 2 else ""
        table.add_row(f"... of a text of {takes.length:,}{also}", in_words(takes.cache), "")
        table.add_section()
    for kind, size in takes.training.items():
        table.add_row(f"learning: {kind}", in_words(size), "")
    table.add_row("... all, 16 bytes a parameter, without activations", in_words(sum(takes.training.values())), "")
    more = sum(takes.training.values()) + takes.weights["bfloat16"]
    table.add_row("... all, 18 bytes with gradients in float32", in_words(more), "")
    return table


def shared_out(spread: Spread) -> Table:
    """What one of several devices holds and sends, that share experts out."""
    from rich.table import Table

    title = f"One of {spread.devices:,} devices that share the experts out, all else being on each"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_row("experts of each layer that has some", f"{spread.experts:,}")
    table.add_row("parameters", f"{spread.parameters:,}")
    table.add_row("weights, bfloat16", in_words(spread.weights))
    table.add_row("learning, 16 bytes a parameter, without activations", in_words(spread.training))
    for stack, size in spread.sent.items():
        table.add_row(f"sent for each token of the {stack}, bfloat16 (learning: twice)", in_words(size))
    return table


def work(facts: Info) -> Table:
    """What the model takes in operations: of each place, and in all."""
    from rich.table import Table

    takes = facts.costs
    table = Table(title="Operations (FLOPs)", title_justify="left")
    unit = "token" if takes.length and len(takes.work) == 1 else "place"
    table.add_column("", overflow="fold")
    for name in (f"{unit}s", "weights", "attention", "all"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in takes.work:
        of = f"{each.stack}, for each {unit}"
        numbers = each.products / each.places, each.looks / each.places
        table.add_row(of, f"{each.places:,}", *map(flops, numbers), flops(sum(numbers)))
    table.add_section()
    totals = sum(each.products for each in takes.work), sum(each.looks for each in takes.work)
    table.add_row("a full input", "", *map(flops, totals), flops(takes.forward))
    if takes.next_word:
        table.add_row("... its last word, the others kept", "", "", "", flops(takes.next_word))
    table.add_row("... learning from it, 3 x", "", "", "", flops(takes.learning))
    if len(takes.work) == 1 and takes.length:
        table.add_section()
        table.add_row("rule of thumb for a token: 2 N", "", "", "", flops(2 * takes.active))
        table.add_row("... learning from it: 6 N", "", "", "", flops(6 * takes.active))
    if (learning := facts.training) is not None:
        table.add_section()
        table.add_row(f"learning from {learning.tokens:.4g} tokens", "", "", "", flops(learning.flops))
        table.add_row("... by the rule of thumb", "", "", "", flops(learning.rule_of_thumb))
        if learning.seconds:
            table.add_row(f"... at {flops(learning.rate)} a second", "", "", "", long(learning.seconds))
    return table


def parameters(facts: Info) -> Table:
    """Every parameter; those of equal layers below the layers' name, which would fill the line again and again."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Tensors", title_justify="left", show_footer=True)
    table.add_column("name", "all", overflow="fold")
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("times", justify="right", no_wrap=True)
    table.add_column("numbers", f"{facts.parameters:,}", justify="right", no_wrap=True)
    above = ""
    for row in facts.tensors:
        layers, name = LAYERS.fullmatch(row.name).groups("")  # pyright: ignore[reportOptionalMemberAccess]
        if layers and layers != above:
            table.add_row(Text(layers))
        above = layers
        shape = " x ".join(map(str, row.shape))
        table.add_row(Text("  " * bool(layers) + name), shape, str(row.count), f"{row.numbers:,}")
    return table


def in_words(size: float) -> str:
    """A size in bytes as people say it: `17.4 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def flops(number: float) -> str:
    """Operations as people say them: `349.2 G`; those of a training as a power of ten."""
    if number >= 1e18:
        return f"{number:.3g}"
    for unit in ("", " k", " M", " G", " T"):
        if number < 1000:
            return f"{number:,.1f}{unit}"
        number /= 1000
    return f"{number:,.1f} P"


def long(seconds: float) -> str:
    """A time in the largest unit of which there is one: `3.7 days`."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"
