"""`polyhead bench`: a model goes in; how fast each engine of this machine does its work comes out, side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.cli import options
from polyhead.cli.door import draw_into, figure_file, needs_folder, output
from polyhead.cli.screen import safe, telling, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.benchmark.result import Measured
    from polyhead.benchmark.wording import Language


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder, a shipped model, or hf:owner/name that is here.")
    ] = "zh-en",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="FILE", help="Texts, a line each (gz too); images or sounds: a file or a folder."
        ),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option("--beam", min=1, max=1000, show_default="the model's", help="Of a translator; 1 is greedy."),
    ] = None,
    sizes: Annotated[
        bool, typer.Option("--sizes", help="Besides, a usual encoder and decoder with random weights.")
    ] = False,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="Only polyhead, transformers, ctranslate2 or onnxruntime; may be given often.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, show_default="as many as CPUs", help="Threads of each engine.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each is measured.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run: little work, figures that mean nothing.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Tell where the time goes: products, attention, the rest.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the ratios as bars besides: .png, .svg, .tsv.")
    ] = None,
    lang: options.Lang = None,
    json: options.Json = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Write a line for each engine.")] = False,
    output_file: options.Output = None,
) -> None:
    """Measure engines on your own machine: polyhead beside transformers, CTranslate2 and ONNX Runtime.

    Each runs the same weights on the same rows, on the CPU, in a process of its own, and they take turns. What is not
    installed is told, with how to get it. Nothing is fetched. Close other programs first.

    **Examples**

        polyhead bench zh-en
        polyhead bench runs/mine --data sentences.txt --beam 1
        polyhead bench --sizes --plot speeds.png
        polyhead bench my-model --profile --engine polyhead --engine transformers
        polyhead bench my-encoder --engine polyhead --threads 1 --json
    """
    if json and tsv:
        raise ArgumentError("Give --json or --tsv, not both.")
    if plot is not None:
        figure_file(plot)
    from polyhead.benchmark.bench import bench as run
    from polyhead.lens.language import language as spoken

    if output_file is not None:
        needs_folder(output_file)
    with telling() as tell:
        found = run(
            model, data=data, beam=beam, sizes=sizes, engines=engine, threads=threads, rounds=rounds, quick=quick,
            profile=profile, progress=tell,
        )  # fmt: skip
    told = lang or spoken("")
    if json or tsv:
        with output(output_file) as out:
            out.write(to_json(found.as_dict(), indent=2) + "\n" if json else found.tsv)
    else:
        shown(found, told, output_file)
    if plot is not None:
        draw_into(plot, drawn(found, told))


def shown(found: Measured, language: Language, output_file: Path | None) -> None:
    """The table with its notes, on the terminal or in a file."""
    from rich.console import Console

    from polyhead.benchmark.table import table
    from polyhead.benchmark.wording import notes

    with output(output_file) as out:
        told = os.environ.get("COLUMNS", "")  # which rich obeys on a terminal
        console = Console(file=out, width=None if out.isatty() else int(told) if told.isdecimal() and int(told) else 80)
        width = min(console.width, 100)
        console.print(table(found, width=width, language=language, show=safe, blocks=has_blocks(out)))
        for note in notes(found, language):
            console.print(safe(note), highlight=False, markup=False)


def drawn(found: Measured, language: Language) -> Any:
    """The ratios as one figure."""
    from polyhead.benchmark.wording import circumstances, heading, said
    from polyhead.lens.figures.figure import Figure
    from polyhead.lens.figures.groups import Bar, grouped

    bars = [
        Bar(safe(heading(each, language)), line.name, *each.ratios(line), line.engine == "polyhead")
        for each in found.comparisons for line in each.lines if line.speeds
    ]  # fmt: skip
    title = said("title", language, base=found.comparisons[0].base.name)
    sentences = [said("whiskers", language)] if found.rounds > 1 else []
    return Figure(grouped(title, sentences, bars, circumstances(found, language), language, mark=1.0), bars)


def has_blocks(out: Any) -> bool:
    try:
        "█▏".encode(getattr(out, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
