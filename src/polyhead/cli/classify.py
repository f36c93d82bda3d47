"""`polyhead classify`: texts, lines or images go in, their labels come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import field_of, in_windows, output
from polyhead.cli.screen import one_line, shower, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.tasks.classify import Classification


def classify(
    items: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts, or files of images.")] = None,
    model: options.NeededModel = "",
    input_file: options.Input = None,
    field: options.Field = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            show_default="the model's",
            help="Where several labels may hold: the least probability.",
        ),
    ] = None,
    several: options.Several = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="NAME,NAME",
            help="Labels to choose from, for a model of texts and images, which has none.",
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            show_default="a photo of a {}.",
            help="The text that says a label, {} being its name; of several the vectors are averaged.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Show so many labels with their probabilities.")] = 1,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Label texts or images.

    One line for each: its labels, or with --top its likeliest labels and their probabilities. A text that is longer
    than the model reads is read in parts, and their probabilities are averaged. A model that reads texts and images
    chooses from --labels that it never learned.

    **Examples**

        polyhead classify -m runs/goemotions "what a lovely day"
        polyhead classify -m runs/goemotions -i comments.txt -o labels.txt --threshold 0.3
        polyhead classify -m runs/digits seven.png --top 3
        polyhead classify -m my-clip photo.jpg --labels cat,dog,bicycle --top 3
    """
    options.needed(model)
    if as_json and top > 1:
        raise ArgumentError("--json gives every label's probability; leave out --top, which is for the screen.")
    field = field_of(input_file, field)
    from polyhead.tasks.classify import classifier
    from polyhead.tasks.load import load

    label = classifier(
        load(model, device=device, precision=precision), several=several, threshold=threshold,
        labels=None if labels is None else labels.split(","), templates=template or None,
    )  # fmt: skip
    with output(output_file) as out:
        show = shower(out)
        for _, found in in_windows(items, input_file, output_file, "labelling", label, field=field):
            for each in found:
                out.write((to_json(record(each)) if as_json else show(written(each, top))) + "\n")
            out.flush()


def written(found: Classification, top: int) -> str:
    if top > 1:
        best = list(found.scores.items())[:top]
        return "\t".join(f"{one_line(name)} {100 * share:.1f}%" for name, share in best)
    return ", ".join(one_line(name) for name in found.labels)


def record(found: Classification) -> dict[str, object]:
    return {
        "item": found.item,
        "labels": list(found.labels),
        "scores": dict(found.scores),
        "windows": found.windows,
    }
