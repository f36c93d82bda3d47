"""Characters that no font here has become boxes with their numbers, and a note says which they are."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import groupby

from polyhead.lens.draw.labels import graphemes, printable
from polyhead.lens.figures.drawing import SOFT, Curve, Drawing, Label, Shape, letter, wrapped
from polyhead.lens.figures.sheet import EDGE, TALL
from polyhead.lens.figures.wording import Language, said

Measure = Callable[[Label], float]  # how wide a label is drawn
NAMED = 4  # characters that a note names
LEAST = 0.72  # of its size: how wide a box is at least
DIGITS = 0.44  # of its size: how large the digits in a box are at most
CHINESE = ("CJK", "IDEOGRAPHIC", "FULLWIDTH", "HIRAGANA", "KATAKANA", "HANGUL")


def boxed(drawing: Drawing, lacking: Collection[str], measure: Measure) -> Drawing:
    """The drawing with a box for each character that is lacking, and the note under it."""
    shapes = [part for shape in drawing.shapes for part in parts(shape, lacking, measure)]
    lines = wrapped(note(lacking, drawing.language), drawing.width - 2 * EDGE)
    y = drawing.height - EDGE + 8 + TALL / 2
    notes = [Label(EDGE, y + n * TALL, line, colour=SOFT) for n, line in enumerate(lines)]
    shapes += [part for line in notes for part in parts(line, lacking, measure)]
    return replace(drawing, shapes=shapes, height=drawing.height + 8 + TALL * len(lines))


def note(lacking: Collection[str], language: Language) -> str:
    """Which characters are lacking, and what helps; in English where Chinese itself could not be read."""
    some = sorted(lacking)
    chinese = any(unicodedata.name(c, "").startswith(CHINESE) for c in some)
    language = "en" if chinese else language
    names = [named(c) for c in some[:NAMED]]
    listed = ("、" if language == "zh" else ", ").join(names)
    if len(some) > NAMED:
        listed = said("and more", language, listed, len(some) - NAMED)
    return said("lacking Chinese" if chinese else "lacking", language, listed)


def named(character: str) -> str:
    """A character, its number, and its name where that says more."""
    number, name = f"{ord(character):04X}", unicodedata.name(character, "")
    return f"{printable(character)} U+{number} {'' if name.endswith(number) else name}".rstrip()


def parts(shape: Shape, lacking: Collection[str], measure: Measure) -> Iterator[Shape]:
    """A label as pieces that fonts can write and boxes between them, along its own line; anything else as it is."""
    if not isinstance(shape, Label) or not any(c in lacking for c in shape.text):
        yield shape
        return
    runs = [
        (missing, text)
        for missing, group in groupby(graphemes(shape.text), lambda one: any(c in lacking for c in one))
        for text in (group if missing else ["".join(group)])
    ]
    pieces = [replace(shape, text=text, anchor="start") for _, text in runs]
    widths = [
        breadth(text, shape.size) if missing else measure(piece)
        for (missing, text), piece in zip(runs, pieces, strict=True)
    ]
    at = {"start": 0.0, "middle": -sum(widths) / 2, "end": -sum(widths)}[shape.anchor]
    for (missing, text), piece, width in zip(runs, pieces, widths, strict=True):
        if missing:
            yield from box(shape, next(c for c in text if c in lacking), at, width)
        else:
            x, y = place(shape, at, 0.0)
            yield replace(piece, x=x, y=y)
        at += width


def box(label: Label, character: str, at: float, width: float) -> Iterator[Shape]:
    """A box so far along a label, the character's number in it in two lines."""
    edge, half = 0.06 * label.size, 0.5 * label.size
    corners = [
        place(label, u, v) for u, v in ((at + edge, -half), (at + width - edge, -half), (at + width - edge, half),
                                        (at + edge, half))
    ]  # fmt: skip
    yield from (
        Curve((one, two), label.colour, 0.75) for one, two in zip(corners, [*corners[1:], corners[0]], strict=True)
    )
    number = f"{ord(character):04X}"
    across = (len(number) + 1) // 2
    size = min(DIGITS * label.size, (width - 4 * edge) / (across * 0.64))
    for digits, down in ((number[:across], -0.23), (number[across:], 0.23)):
        x, y = place(label, at + width / 2, down * label.size)
        yield Label(x, y, digits, size, "middle", colour=label.colour, angle=label.angle)


def place(label: Label, along: float, down: float) -> tuple[float, float]:
    """A place of the sheet: so far along a label, and so far under the middle of its letters."""
    turn = math.radians(label.angle)
    return (
        label.x + along * math.cos(turn) - down * math.sin(turn),
        label.y + along * math.sin(turn) + down * math.cos(turn),
    )


def breadth(text: str, size: float) -> float:
    return size * max(letter(text[0]), LEAST)
