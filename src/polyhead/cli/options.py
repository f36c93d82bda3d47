"""Options that several verbs take, each written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from polyhead.cli.screen import say
from polyhead.errors import ArgumentError, did_you_mean

DEVICE = re.compile(r"auto|(cpu|cuda|mps)(:[0-9]+)?")


def device_named(name: str) -> str:
    """A device as it was typed, refused where none is called so; whether it is here, PyTorch says later."""
    if not DEVICE.fullmatch(name):
        near = did_you_mean(name, ("auto", "cpu", "cuda", "mps"))
        raise ArgumentError(f"--device is '{name}', but must be auto, cpu, cuda, cuda:N or mps.{near}")
    return name


Model = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="A model folder, a shipped model, or hf:owner/name.")
]
NeededModel = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="A model folder or hf:owner/name; needed.")
]
Input = Annotated[
    Path | None, typer.Option("--input", "-i", metavar="FILE", help="Take every line of this UTF-8 file (gz too).")
]
Field = Annotated[
    str | None,
    typer.Option("--field", metavar="NAME", show_default="text", help="That field of the lines of a .jsonl --input."),
]
Beam = Annotated[
    int | None,
    typer.Option(
        "--beam", min=1, max=1000, show_default="the model's, or 4", help="Answers kept open at once; 1 is greedy."
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="TEXT",
        show_default="the model's",
        help="Words that ask, for a model asked in words, or a sign, as >>fra<<; the text goes behind, or to {text}.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="What a model asked in words is asked, by its name in config.json's task_specific_params (or en-de, cnn).",
    ),
]
Several = Annotated[
    bool | None,
    typer.Option("--several/--one", show_default="the model's", help="Whether labels do not exclude each other."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        callback=device_named,
        help="cpu, cuda, cuda:N or mps; auto is cuda where there is one.",
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16", "int8"],
    typer.Option(
        "--precision",
        help="Of the numbers it computes with: bf16 takes half the memory; int8, on a CPU, multiplies whole numbers.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", min=1, max=64, help="Processes that share the threads: pays for thousands of lines, small models."
    ),
]
Lang = Annotated[
    Literal["en", "zh"] | None,
    typer.Option("--lang", help="The language of what is told.", show_default="yours, or the text's"),
]
Shortlist = Annotated[
    Path | None,
    typer.Option("--shortlist", metavar="FILE", help="Look for words on this list only; polyhead shortlist makes one."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE,...", help="Only rows whose column holds one of the values."),
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out lines that cannot be read, and say how many and why.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write here instead of the screen; appears when it is whole."),
]


def needed(model: str) -> None:
    """Refuse a verb without its model: none that it could take is shipped."""
    if not model:
        raise ArgumentError("Give the folder of a model: --model FOLDER; none for this verb comes with polyhead.")


def crowded(workers: int) -> None:
    """Tell of more workers than there are CPUs."""
    from polyhead.benchmark import machine

    if workers > max(1, cpus := machine.cpus()):
        say(f"polyhead: {workers} workers share {cpus} CPU{'s' * (cpus > 1)}; one for each is enough.")
