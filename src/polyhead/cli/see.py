"""`polyhead see`: a model reads a text, an image or a sound; what each of its heads looked at is drawn, or a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from polyhead.cli import options
from polyhead.cli.door import draw_into, figure_file, needs_folder
from polyhead.cli.screen import say, share
from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.lens.see import Seen


def see(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Sentences to translate and to look into; or a model, with --text."),
    ] = None,
    model: options.Model = "zh-en",
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="TEXT", help="What the model reads; given twice, both are compared."),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", metavar="FILE", help="An image, for a model of images.")
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option("--audio", metavar="FILE", help="A sound, for a model of speech; its first 30 seconds."),
    ] = None,
    recording: Annotated[
        list[Path] | None,
        typer.Option("--recording", metavar="FILE", help="What was recorded before, of any model."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the page as one file that needs no server and no network."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--html-size", min=1, show_default="20", metavar="MB", help="The most that --html is.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, show_default="a free one", help="Where the page answers.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say the page's address.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep the recording, to be seen again.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE", help="Draw into a file instead: .png, .svg, or .tsv for its numbers."),
    ] = None,
    lang: Annotated[
        Literal["en", "zh"] | None,
        typer.Option("--lang", show_default="yours, or the text's", help="The language of what --figure says."),
    ] = None,
    part: Annotated[
        Literal["cross", "encoder", "decoder"] | None,
        typer.Option(
            "--part",
            show_default="the first there is",
            help="What is written looking at what was read, what was read at itself, or what is written at itself.",
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="One layer, counted from 0; all unless given.")
    ] = None,
    head: Annotated[int | None, typer.Option("--head", min=0, help="One head, counted from 0, as a large map.")] = None,
    links: Annotated[bool, typer.Option("--links", help="A table of the word each head looks at most.")] = False,
    values: Annotated[bool, typer.Option("--values", help="Write the weights of --head in per cent.")] = False,
    experts: Annotated[
        bool,
        typer.Option("--experts", help="Tell which experts the tokens were sent to instead, in a model with some."),
    ] = False,
    pieces: Annotated[bool, typer.Option("--pieces", help="Show the tokenizer's pieces instead of words.")] = False,
    translation: Annotated[
        str | None, typer.Option("--translation", metavar="TEXT", help="Look at this translation, not the model's own.")
    ] = None,
    prefix: options.Prefix = None,
    language: Annotated[
        str | None, typer.Option("--language", show_default="heard", help="What is spoken in --audio.")
    ] = None,
    beam: options.Beam = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="WHAT",
            help="Show weight × gradient too, of what the model gave: answer (its likeliest label, or all that it"
            " wrote), a label, or a written word, by itself or by its number from 0.",
        ),
    ] = None,
    device: options.Device = "auto",
) -> None:
    """See what every head of a model looked at: which words, patches or moments, for each word that it read or wrote.

    With a text alone, the shipped translator's heads are drawn here. With a model and --text, --image or --audio, or
    with --recording, a page opens in the browser, answered by this machine and to this machine alone; --layer, --head,
    --part, --links or --values draw here instead, and --html writes the page as a file. The weights are exact, rebuilt
    from what the model's own kernel computed. They say where a head looked; they do not say why the model chose a word.

    **Examples**

        polyhead see 我爱吃苹果。
        polyhead see 我爱吃苹果。 --layer 1 --head 3 --values
        polyhead see my-encoder --text "the cat sat on the mat"
        polyhead see my-encoder --text "the cat sat" --text "the dog sat" --html both.html
        polyhead see my-mixtral --text "the cat sat on the mat" --experts
        polyhead see my-classifier --text "what a lovely day" --target glad
        polyhead see my-digits --image seven.png --layer 0
        polyhead see my-hearer --audio speech.wav --save speech.safetensors
        polyhead see --recording speech.safetensors
        polyhead see --recording speech.safetensors --layer 0 --figure heads.svg
    """
    named = {"--text": text, "--image": image, "--audio": audio, "--recording": recording}
    given = {name: list(values) for name, values in named.items() if values}
    if len(given) > 1:
        raise ArgumentError(f"Give one kind of thing to see; found {' and '.join(given)}.")
    if not given and not words:
        raise ArgumentError(
            "Give a TEXT, or a model with --text, --image or --audio, or --recording FILE. See polyhead see --help."
        )
    name, things = next(iter(given.items()), ("TEXT", list(words or [])))
    if name == "TEXT" and is_model(things[0]):
        raise ArgumentError(f"{things[0]} is a model; give it something to read, with --text, --image or --audio.")
    if given and len(words or []) > (0 if name == "--recording" else 1):
        raise ArgumentError(
            f"{name} is what is seen, so before it stands {'nothing' if name == '--recording' else 'one model'};"
            f" found {', '.join(words or [])}"
        )
    if experts:
        others = {
            name: name not in ("TEXT", "--text"), "--part cross": part == "cross", "--head": head is not None,
            "--links": links, "--values": values, "--html": html, "--html-size": most, "--port": port is not None,
            "--no-browser": no_browser, "--save": save, "--figure": picture, "--lang": lang, "--pieces": pieces,
            "--translation": translation, "--language": language, "--target": target,
        }  # fmt: skip
        if too := [other for other, there in others.items() if there]:
            raise ArgumentError(
                f"--experts tells where the tokens of texts go, beside --part encoder or decoder, --layer, --prefix and"
                f" --beam alone; leave out {too[0]}."
            )
        route(words[0] if given and words else model, things, part, layer, beam=beam, prefix=prefix, device=device)
        return
    drawn = part is not None or layer is not None or head is not None or links or values
    paged = port is not None or no_browser or html is not None
    if translation is not None and len(things) > 1:
        raise ArgumentError(f"--translation belongs to one sentence, but there are {len(things)}.")
    if drawn and paged:
        raise ArgumentError("--part, --layer, --head, --links and --values draw here; leave them out for a page.")
    if picture is not None and (paged or links or len(things) > 1):
        raise ArgumentError("--figure draws one thing into a file; leave out --links, --html, --port and --no-browser.")
    if lang is not None and picture is None:
        raise ArgumentError("--lang is of what a figure says; give --figure FILE too, or leave it out.")
    if html is not None and (port is not None or no_browser):
        raise ArgumentError("--html writes a file, which needs no --port and no --no-browser; leave these out.")
    if most is not None and html is None:
        raise ArgumentError("--html-size is of the file that --html names; give that too.")
    page = paged or not (drawn or save or picture or (name == "TEXT" and target is None))
    if target is not None and not page and save is None:
        raise ArgumentError("--target is for the page and for --save; gradients are not drawn here, so leave it out.")
    if (page or save) and len(things) > (1 if save else 2):
        raise ArgumentError(
            f"{'--save keeps one recording' if save else 'A page shows one thing, or compares two'};"
            f" found {len(things)} of {name}"
        )

    for thing in things if name == "TEXT" else ():
        if is_folder(thing):
            say(f"{thing} is read as a text; the folder of that name holds no model.")
    for path in (html, save):
        if path is not None:
            needs_folder(path)
    if picture is not None:
        figure_file(picture)

    from polyhead.lens.see import see as look

    how = {"translation": translation, "beam": beam, "prefix": prefix, "language": language, "target": target}

    def seen() -> Iterator[Seen]:
        if name == "--recording":
            if told := [f"--{option}" for option, value in how.items() if value is not None]:
                raise ArgumentError(f"A recording was made already, so {told[0]} says nothing; leave it out.")
            yield from (look(recording=thing, by_words=not pieces) for thing in things)
            return
        from polyhead.tasks.load import load

        loaded = load(words[0] if given and words else model, device=device)
        kind = {"--image": "image", "--audio": "audio"}.get(name, "text")
        for thing in things:
            yield look(**{kind: thing}, model=loaded, by_words=not pieces, **how)  # pyright: ignore[reportArgumentType]

    if page:
        show(list(seen()), save=save, html=html, most=most, port=port or 0, browser=not no_browser)
        return
    for each in seen():
        for note in each.notes:
            say(note)
        if save is not None:
            keep(each, save)
        if picture is not None:
            into(each, picture, part, lang, layer=layer, head=head, values=values, by_words=not pieces)
        elif drawn or save is None:
            draw(each, part, layer=layer, head=head, links=links, values=values)


def into(
    seen: Seen,
    path: Path,
    part: Literal["cross", "encoder", "decoder"] | None,
    lang: Literal["en", "zh"] | None,
    **chosen: Any,
) -> None:
    """The same as a figure in a file."""
    from polyhead.lens.figures.figure import figure
    from polyhead.lens.language import language

    draw_into(path, figure(seen, part=part, language=lang or language(seen.source), **chosen))


def is_model(text: str | Path) -> bool:
    """Whether a text is rather the folder of a model, or the name of a shipped one."""
    from polyhead.tasks.load import shipped

    try:
        return str(text) in shipped() or (Path(text) / "config.json").is_file()
    except (OSError, ValueError):  # too long for a name, or with a character that none has
        return False


def is_folder(text: str | Path) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):
        return False


def draw(
    seen: Seen,
    part: Literal["cross", "encoder", "decoder"] | None,
    *,
    layer: int | None,
    head: int | None,
    links: bool,
    values: bool,
) -> None:
    """The pictures of the terminal, what was read and written above them."""
    from rich.console import Console
    from rich.text import Text

    from polyhead.lens.draw.canvas import Canvas
    from polyhead.lens.draw.labels import shown

    console = Console(file=sys.stdout)
    canvas = Canvas.of(console)
    picture = seen.draw(part, layer=layer, head=head, links=links, values=values, canvas=canvas)
    for side in (seen.source, seen.target):
        if side is not None:
            console.print(Text(shown(side, canvas.encoding), "bold"), soft_wrap=True)
    console.print(Text("\n"), picture, Text("\n"), sep="")


def route(model: str, texts: Sequence[str], part: Any, layer: int | None, **how: Any) -> None:
    """Which experts the tokens of some texts were sent to."""
    from rich.console import Console

    from polyhead.lens.draw.canvas import Canvas
    from polyhead.lens.experts import experts

    console = Console(file=sys.stdout)
    console.print(experts(texts, model=model, **how).draw(part, layer=layer, canvas=Canvas.of(console)))


def keep(seen: Seen, path: Path) -> None:
    seen.recording.save(path)
    say(f"Recorded in {path}; see it with: polyhead see --recording {path}")


def show(
    both: Sequence[Seen], *, save: Path | None, html: Path | None, most: int | None, port: int, browser: bool
) -> None:
    """The page of one thing, or of two that are compared: as a file, or answered until Ctrl-C."""
    first, beside = both[0], both[1] if len(both) > 1 else None
    for note in (note for each in both for note in each.notes):
        say(note)
    if save is not None:
        keep(first, save)
    if html is not None:
        with share("writing") as tell:
            missing = first.html(html, beside=beside, most=None if most is None else most * 1_000_000, progress=tell)
        say(f"Written to {html}, {html.stat().st_size:,} bytes.")
        if missing:
            say(f"Left out, and told in the file too: {'; '.join(missing)}.")
        return
    first.page(beside=beside, port=port, browser=browser, tell=told)


def told(address: str) -> None:
    print(address, flush=True)
    say("The page answers there, to this machine alone; Ctrl-C ends it.")
