"""`polyhead info`: a model goes in; its card, sizes and table of parameters come out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from polyhead.tasks.load import Loaded


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder or a shipped model.")] = "zh-en",
    as_json: options.Json = False,
) -> None:
    """A model's card, its sizes, and a table of its parameters.

    **Examples**

        polyhead info zh-en
        polyhead info runs/mine --json
    """
    from polyhead.tasks.load import load

    facts = describe(load(model))
    if as_json:
        print(json.dumps(asdict(facts), ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(file=sys.stdout)
    if facts.card:
        console.print(Markdown(facts.card, hyperlinks=False))
        console.print()
    console.print(overview(facts))
    console.print(parameters(facts.tensors))


@dataclass(frozen=True)
class Tensors:
    """Parameters of one name and shape, one in each of `count` layers."""

    name: str
    shape: tuple[int, ...]
    count: int

    @property
    def numbers(self) -> int:
        return prod(self.shape) * self.count


@dataclass(frozen=True)
class Facts:
    """What there is to say about a model folder; sizes in bytes."""

    folder: str
    architecture: str
    parameters: int
    config: dict[str, Any]
    generation: dict[str, Any]
    files: dict[str, int]
    tensors: list[Tensors]
    card: str


def describe(loaded: Loaded) -> Facts:
    """The facts of a loaded model; tied parameters count once."""
    folder = loaded.folder or Path()
    named = [(name, tuple(parameter.shape)) for name, parameter in loaded.model.named_parameters()]
    card = folder / "README.md"
    return Facts(
        folder=str(folder),
        architecture=loaded.family.architecture,
        parameters=sum(prod(shape) for _, shape in named),
        config=asdict(loaded.config),
        generation=loaded.generation,
        files={path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()},
        tensors=gathered(named),
        card=tame(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else "",
    )


def gathered(named: Iterable[tuple[str, tuple[int, ...]]]) -> list[Tensors]:
    """Parameters of equal layers in one row: `encoder.blocks.{0..5}.attn.query.weight`."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for name, shape in named:
        layer = re.search(r"\.(\d+)\.", name)
        pattern = re.sub(r"\.\d+\.", ".{}.", name, count=1)
        groups.setdefault((pattern, shape), []).append(int(layer[1]) if layer else 0)
    return [
        Tensors(pattern.replace("{}", span(layers)), shape, len(layers)) for (pattern, shape), layers in groups.items()
    ]


def span(numbers: list[int]) -> str:
    """`3`, `{0..5}` or `{0,2,5}`."""
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    return "{" + ",".join(map(str, numbers)) + "}"


def tame(card: str) -> str:
    """A card without its YAML head and without control characters: it may come from anybody."""
    card = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    return "".join(c for c in card if c == "\n" or c.isprintable()).strip()


def overview(facts: Facts) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{facts.folder}: {facts.architecture}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    table.add_row("parameters", f"{facts.parameters:,}")
    for name, size in facts.files.items():
        table.add_row(Text(tame(name)), in_words(size))
    table.add_section()
    for name, value in facts.config.items():
        table.add_row(Text(name), Text(tame(str(value))))
    table.add_section()
    for name, value in facts.generation.items():
        table.add_row(Text(tame(name)), Text(tame(json.dumps(value, ensure_ascii=False))))
    return table


def parameters(tensors: list[Tensors]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Parameters", title_justify="left", show_footer=True)
    table.add_column("name", "all", overflow="fold")
    table.add_column("shape", justify="right")
    table.add_column("times", justify="right")
    table.add_column("numbers", f"{sum(row.numbers for row in tensors):,}", justify="right")
    for row in tensors:
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
