"""`polyhead search`: a text or an image goes in, those of many images or texts that it goes with best come out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyhead.cli import options
from polyhead.cli.door import lines, needs_folder, output
from polyhead.cli.screen import bar, one_line, say, shower, to_json
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.tasks.search import Found

TOLD = 5  # images that cannot be read, before the others are only counted


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|AMONG",
            help="What is searched for, unless --image or --input says it; then folders of images, images, or a file of"
            " texts, a line each.",
        ),
    ] = None,
    model: options.NeededModel = "",
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="Search for what goes with this image; may be given often."),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Search for every line of this UTF-8 file (gz too)."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            metavar="FILE",
            help="Keep images' vectors here; next time only new and changed ones are read. Alone: search all of it.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop from the index the images that are not there now.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Show so many, the nearest first.")] = 10,
    shares: Annotated[
        bool,
        typer.Option(
            "--shares", help="Show the probability too that the model gives: a share of all, or of each alone."
        ),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Draw the images found: .png, or .html.")
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Search texts or images by a text or an image.

    Texts by a text, with any model that embed takes; images too with one that reads both (CLIP, SigLIP). One line for
    each that is found, the nearest first: its cosine with what was asked, a tab, and its file or its text; of several
    that were asked, the asked one stands before. Images that cannot be read are left out and told at the end.

    **Examples**

        polyhead search "a red bicycle" photos/ -m hf:openai/clip-vit-large-patch14 --top 10
        polyhead search "a red bicycle" photos/ -m my-clip --index photos.safetensors --sheet found.html
        polyhead search "where to eat" notes.txt -m all-MiniLM-L6-v2 --top 3
        polyhead search --image photo.jpg captions.txt -m my-clip --shares
        polyhead search --image photo.jpg photos/ -m my-clip
    """
    options.needed(model)
    words = list(words or [])
    if image and input_file is not None:
        raise ArgumentError("Give --image or --input, not both.")
    named = bool(image) or input_file is not None
    if not named and not words:
        raise ArgumentError("Give a text to search for, or --image FILE, and images or texts to search among.")
    asked, places = ([], words) if named else (words[:1], words[1:])
    if not places and index is None:
        raise ArgumentError("Say what to search: folders of images, images, a file of texts, or --index FILE of some.")
    if prune and index is None:
        raise ArgumentError("--prune is of an index; give --index FILE.")
    if not named and not places:
        no_place(asked[0])
    for path in (index, sheet, output_file):
        if path is not None:
            needs_folder(path)

    from polyhead.inputs.sheet import check
    from polyhead.tasks.load import HUB, load
    from polyhead.tasks.needs import able_by_name
    from polyhead.tasks.search import Searcher, away, gathered

    if sheet is not None:
        check(sheet)
    if not model.startswith(HUB):  # which may be fetched for minutes
        able_by_name(model, "search")
    pictures, texts = gathered(places) if places else ([], [])
    if texts and (index is not None or sheet is not None):
        raise ArgumentError("--index and --sheet are for images, but texts are searched; leave them out.")
    if input_file is not None:
        asked = [line for line in lines(input_file) if line.strip()]
        if not asked:
            raise ArgumentError(f"{input_file} holds no text to search for.")
    if sheet is not None and pictures:  # before they are read, for hours; of an index alone, nobody knows yet
        check(sheet, len(image or asked) * min(top, len(pictures)))
    find = Searcher(load(model, device=device, precision=precision), shares=shares)
    names = list(map(str, image or asked))
    vectors = find.space.images(list(image)) if image else find.texts(asked).vectors
    with bar("reading", len(texts or pictures), of="texts" if texts else "images") as tell:
        if texts:
            among = find.texts(texts, tell)
        else:
            among = find.images(pictures, index=index, prune=prune, skip=True, progress=tell)
    found = find(names, vectors, among, top=top)
    with output(output_file) as out:
        show = shower(out)
        for each in found:
            rows = [to_json(record(each))] if as_json else written(each, len(found) > 1, show)
            out.writelines(row + "\n" for row in rows)
            out.flush()
    if sheet is not None:
        draw(sheet, found)
    told(among.left_out)
    for sentence in away(among.absent, index, prune=prune) if index is not None else ():
        say(sentence)


def no_place(text: str) -> None:
    """Refuse a folder or a file in the place of what is searched for, which would be searched for by its name."""
    if os.path.exists(text):
        raise ArgumentError(
            f"{text} is here, and is where to search; say before it what for. A text that is called so goes in a file,"
            " with --input."
        )


def written(found: Found, several: bool, show: Callable[[str], str]) -> list[str]:
    """A line for each that was found."""
    rows: list[str] = []
    for hit in found.hits:
        share = [] if hit.share is None else [f"{100 * hit.share:.2f}%"]
        asked = [show(one_line(found.query))] if several else []
        rows.append("\t".join([*asked, f"{hit.score:.4f}", *share, show(one_line(hit.item))]))
    return rows


def record(found: Found) -> dict[str, object]:
    hits = [
        {"item": hit.item, "score": round(hit.score, 6), **({} if hit.share is None else {"share": hit.share})}
        for hit in found.hits
    ]
    return {"query": found.query, "hits": hits}


def draw(path: Path, found: Sequence[Found]) -> None:
    from polyhead.inputs.sheet import Row, save_sheet

    rows = [
        Row(each.query, [hit.item for hit in each.hits], [f"{hit.score:.3f}\n{hit.item}" for hit in each.hits])
        for each in found
    ]
    save_sheet(path, rows)
    say(f"Drawn into {path}.")


def told(left_out: Sequence[str]) -> None:
    """Which images could not be read, and why."""
    for why in left_out[:TOLD]:
        say(why)
    if (n := len(left_out)) > 0:
        those = "images are" if n > 1 else "image is"
        say(f"{n:,} {those} left out" + (f"; the first {TOLD} are named above." if n > TOLD else "."))
