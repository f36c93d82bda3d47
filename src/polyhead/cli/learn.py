"""`polyhead learn`: a sentence goes in; one head of a model that read it is worked, on the screen or as a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from polyhead.cli import options
from polyhead.errors import ArgumentError


def learn(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="A sentence; Chinese may be cut by spaces.")],
    model: options.Model = "zh-en",
    part: Annotated[
        Literal["encoder", "decoder", "cross"] | None,
        typer.Option("--part", help="Which attention.", show_default="the model's first"),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option("--layer", min=0, help="Counted from 0.", show_default="one whose words look at others"),
    ] = None,
    head: Annotated[int | None, typer.Option("--head", min=0, help="Counted from 0.", show_default="likewise")] = None,
    query: Annotated[
        str | None, typer.Option("--query", metavar="WORD", help="The word that looks; its second time is WORD#2.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="WORD", help="The word that is looked at.")] = None,
    translation: Annotated[
        str | None,
        typer.Option("--translation", metavar="TEXT", help="What the decoder reads, if not the model's own."),
    ] = None,
    no_scale: Annotated[bool, typer.Option("--no-scale", help="What if scores were not divided by √d?")] = False,
    mask: Annotated[
        bool | None,
        typer.Option("--mask/--no-mask", help="What if what comes later were hidden, or nothing?", show_default=False),
    ] = None,
    no_positions: Annotated[bool, typer.Option("--no-positions", help="What if no word knew where it stands?")] = False,
    head_off: Annotated[
        list[int] | None, typer.Option("--head-off", metavar="H", min=0, help="What without this head? Several may go.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="What if scores were divided by it? Below 1 is sharper.")
    ] = 1.0,
    swap: Annotated[
        tuple[str, str] | None, typer.Option("--swap", metavar="A B", help="What if these words changed places?")
    ] = None,
    quiz: Annotated[bool, typer.Option("--quiz", help="Ask at each station, and wait.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page to play with, one file, offline.")
    ] = None,
    lang: options.Lang = None,
    as_json: options.Json = False,
    device: options.Device = "auto",
) -> None:
    """Follow one head of a real model all the way: nine stations from words to output, with all its numbers.

    The numbers are worked by the formula from the model's own vectors and weights, and checked against what the model
    computed. Break something, and see before and after.

    **Examples**

        polyhead learn "我 爱 吃 苹果 。"
        polyhead learn "我 爱 吃 苹果 。" --query 吃 --key 苹果 --quiz
        polyhead learn "我 爱 吃 苹果 。" --swap 我 苹果
        polyhead learn "我 爱 吃 苹果 。" --html lesson.html
    """
    if quiz and (as_json or html):
        raise ArgumentError("--quiz asks on the screen; leave --json and --html out.")
    if html and as_json:
        raise ArgumentError("Write a page with --html or JSON with --json, one at a time.")

    from rich.console import Console
    from rich.text import Text

    from polyhead.cli.door import output
    from polyhead.cli.screen import say, to_json
    from polyhead.lens.draw.canvas import Canvas
    from polyhead.lens.language import language
    from polyhead.lens.learn import terminal
    from polyhead.lens.learn.lesson import learn as work
    from polyhead.lens.learn.telling import numbers

    text = " ".join(texts)
    spoken = lang or language(text)
    lesson = work(
        text, model=model, part=part, layer=layer, head=head, query=query, key=key, translation=translation,
        scale=not no_scale, mask=mask, positions=not no_positions, heads_off=head_off or (), temperature=temperature,
        swap=swap, device=device,
    )  # fmt: skip
    if html is not None:
        page = lesson.html(lang=spoken)
        with output(html) as stream:
            stream.write(page)
        say(f"{html}: {len(page.encode()) / 1e6:.2f} MB")
        return
    if as_json:
        print(to_json(numbers(lesson, spoken), indent=2))
        return
    console = Console(file=sys.stdout)
    canvas = Canvas.of(console)
    if not quiz:
        console.print(lesson.draw(lang=spoken, canvas=canvas), soft_wrap=True)
        return

    def ask(prompt: str) -> str:
        try:
            return input(prompt)
        except EOFError:
            print()
            return ""

    terminal.quiz(lesson, spoken, canvas, lambda lines: console.print(Text("\n").join(lines), soft_wrap=True), ask)
