"""`polyhead heads`: a model and some inputs go in; a table of what each of its heads does comes out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from polyhead.cli import options
from polyhead.cli.door import draw_into, figure_file, lines, output
from polyhead.cli.screen import share
from polyhead.errors import ArgumentError
from polyhead.inputs.listing import ends_like, files_in


def heads(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, a shipped model, or hf:owner/name.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Texts, a line each (gz too); images or sounds: a file or a folder."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", metavar="TEXT", help="A text; may be given several times.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="METRIC", help="The largest of this metric first.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="METRIC", help="This column; may be given several times.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every column, however wide.")] = False,
    conllu: Annotated[
        Path | None, typer.Option("--conllu", metavar="FILE", help="A treebank to compare heads with (gz too).")
    ] = None,
    alignments: Annotated[
        Path | None,
        typer.Option("--alignments", metavar="FILE", help="Word alignments of FILE's pairs, a line each: 0-0 1-2."),
    ] = None,
    prefix_offset: Annotated[
        int, typer.Option("--prefix-offset", metavar="+1|-1", help="Prefix matching: the token after, or before.")
    ] = 1,
    ablation: Annotated[
        Literal["mean", "zero", "none"], typer.Option("--ablation", help="What a head's output is replaced by.")
    ] = "mean",
    language: Annotated[
        Literal["en", "zh"] | None,
        typer.Option("--language", show_default="the shorter", help="Of our own sentences, where no text is given."),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=0, metavar="N", help="How often inputs are drawn again for intervals.")
    ] = 1000,
    lang: options.Lang = None,
    picture: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE", help="Draw --sort (or the first --metric) as bars: .png, .svg, .tsv."),
    ] = None,
    json: options.Json = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Write a line for each number, with its interval.")] = False,
    device: options.Device = "auto",
    output_file: options.Output = None,
) -> None:
    """Measure what every head of a model does: which place, token, sign or relation it looks at, and what it is worth.

    Means over the inputs, beside what a head of chance would get; intervals are in --json and --tsv. Without inputs,
    sentences that polyhead brings are read. Where a head looks is not yet why the model answers as it does.

    **Examples**

        polyhead heads zh-en
        polyhead heads all-MiniLM-L6-v2 sentences.txt --sort previous
        polyhead heads all-MiniLM-L6-v2 sentences.txt --sort distance --figure distance.svg
        polyhead heads all-MiniLM-L6-v2 --conllu en_ewt-ud-dev.conllu.gz --tsv -o heads.tsv
    """
    if file is not None and text:
        raise ArgumentError("Give FILE or --text, not both.")
    if json and tsv:
        raise ArgumentError("Give --json or --tsv, not both.")
    if picture is not None and (json or tsv or every or output_file is not None):
        raise ArgumentError("--figure draws one metric into a file; leave out --json, --tsv, --all and --output.")
    from polyhead.lens.roles.metrics import chosen

    if unknown := [key for key in (sort, *(metric or ())) if key is not None]:
        chosen(unknown)  # says what there is, before anything is loaded
    if picture is not None:
        figure_file(picture)

    from rich.console import Console

    from polyhead.lens.draw.canvas import Canvas
    from polyhead.lens.heads import heads as look
    from polyhead.lens.language import language as spoken
    from polyhead.lens.roles.result import dumped
    from polyhead.tasks.load import load

    loaded = load(model, device=device)
    given: list[str] | list[Path] | None = text or None
    if file is not None:
        reads = loaded.family.reads
        if loaded.family.towers:
            reads = "image" if file.is_dir() or ends_like(file, "image") else "text"
        given = files_in(file, reads) if reads in ("image", "sound") else [line for line in lines(file) if line.strip()]
    with share("looking") as tell:
        found = look(
            loaded, given, conllu=conllu, alignments=None if alignments is None else list(lines(alignments)),
            prefix_offset=prefix_offset,  # pyright: ignore[reportArgumentType]
            ablate=None if ablation == "none" else ablation, language=language, resamples=resamples, progress=tell,
        )  # fmt: skip
    told = lang or spoken("".join(each for each in given or () if isinstance(each, str)))
    if picture is not None:
        from polyhead.lens.figures.figure import figure

        drawn = sort or next(iter(metric or ()), found.keys[0])
        draw_into(picture, figure(found, metric=drawn, language=told), drawn)
        return
    if json or tsv or output_file is not None:
        with output(output_file) as out:
            if json:
                out.write(dumped(found) + "\n")
            elif tsv:
                out.write(found.tsv(sort=sort))
            else:
                out.write(found.draw(sort=sort, columns=metric, every=every, lang=told).plain + "\n")
        return
    console = Console(file=sys.stdout)
    table = found.draw(sort=sort, columns=metric, every=every, canvas=Canvas.of(console), lang=told)
    console.print(table, soft_wrap=every)
