"""What a person looks at: text and JSON that cannot act on the terminal, a bar while they wait."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def safe(text: str) -> str:
    """The text as one line that a terminal shows and never obeys, in the letters that the terminal has."""
    from polyhead.lens.draw.labels import shown

    return shown(text, sys.stdout.encoding or "utf-8")


def shower(out: TextIO) -> Callable[[str], str]:
    """How a text is written there: safe on a terminal, as it is in a file or a pipe."""
    return safe if out.isatty() else str


def one_line(text: str) -> str:
    """A translation as one line of a file: line ends and other controls, which no translation needs, become a space."""
    return CONTROLS.sub(" ", text)


def teller() -> Callable[[str], None]:
    """What prints a text bit by bit as it is written, its line ends as they are and the rest safe on a terminal."""
    show = shower(sys.stdout)

    def tell(text: str) -> None:
        if sys.stdout.isatty():
            text = text.replace("\t", "    ")
        print("\n".join(show(part) for part in text.split("\n")), end="", flush=True)

    return tell


def say(sentence: str) -> None:
    """One line for the person, beside the output."""
    print(safe(sentence), file=sys.stderr)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON with its Chinese as it is, and everything that a terminal would obey as an escape."""
    from polyhead.lens.draw.labels import acts

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(json.dumps(c)[1:-1] if c != "\n" and acts(c) else c for c in text)


@contextmanager
def bar(verb: str, total: int, *, of: str = "lines", done: int = 0) -> Iterator[Callable[[int], None] | None]:
    """A progress bar of so many lines, some of them done before, on the standard error, where that is a terminal; gone
    when the work is done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn(f"{of},"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda count: progress.advance(task, count)


@contextmanager
def share(verb: str) -> Iterator[Callable[[float], None]]:
    """The same bar of one work; it is told the share that is done, from 0 to 1."""
    with bar(verb, 100, of="%") as advance:
        reached = 0

        def tell(done: float) -> None:
            nonlocal reached
            if advance is not None and (more := int(100 * done) - reached) > 0:
                advance(more)
                reached += more

        yield tell


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """One line on the standard error that says what is being done, where that is a terminal; gone when it is done. It
    moves only when it is told something, and so takes nothing from what is measured meanwhile."""
    if not sys.stderr.isatty():
        yield lambda line: None
        return
    clear = "\r\x1b[K"
    try:
        yield lambda line: print(f"{clear}{safe(line)}", end="", file=sys.stderr, flush=True)
    finally:
        print(clear, end="", file=sys.stderr, flush=True)
