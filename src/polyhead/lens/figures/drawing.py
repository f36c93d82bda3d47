"""What a figure is made of before it is a file: boxes, curves, labels and bitmaps at places of one sheet.

Lengths are pixels of the sheet, x to the right and y down; an angle turns clockwise, in degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.cells import cell_len

from polyhead.lens.language import Language

PAPER, INK, SOFT, LINE, BLUE, ORANGE = "#ffffff", "#16191d", "#55606b", "#c3c9cf", "#1c4f8f", "#a8480c"
Anchor = Literal["start", "middle", "end"]
NARROW, BROAD = set("iljtfrI.,:;'|!()[] ·"), set("mwMW@%—…")


@dataclass(frozen=True)
class Box:
    """A rectangle; `title` is what a browser says of it under the pointer."""

    x: float
    y: float
    width: float
    height: float
    fill: str = ""
    stroke: str = ""
    thick: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Curve:
    """A straight line of two points, or a cubic curve of four."""

    points: tuple[tuple[float, float], ...]
    stroke: str = LINE
    thick: float = 1.0
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Label:
    """A line of text, `y` being the middle of its letters."""

    x: float
    y: float
    text: str
    size: float = 12.0
    anchor: Anchor = "start"
    bold: bool = False
    colour: str = INK
    angle: float = 0.0

    @property
    def base(self) -> tuple[float, float]:
        """Where its baseline begins, ends or has its middle, by `anchor`."""
        turn, down = math.radians(self.angle), 0.35 * self.size
        return self.x - down * math.sin(turn), self.y + down * math.cos(turn)


@dataclass(frozen=True)
class Bitmap:
    """A PNG, stretched into a rectangle. span: the share of it, from its left, that is shown. sharp: its pixels are
    cells of a map, which nothing may blur."""

    x: float
    y: float
    width: float
    height: float
    png: bytes
    span: float = 1.0
    sharp: bool = True
    title: str = ""


Shape = Box | Curve | Label | Bitmap


@dataclass(eq=False)
class Drawing:
    """A sheet with what is drawn on it, the last above all. title, description: for who cannot see it."""

    width: float
    height: float
    title: str
    description: str
    language: Language = "en"
    shapes: list[Shape] = field(default_factory=list[Shape])

    def add(self, *shapes: Shape) -> None:
        self.shapes += shapes

    @property
    def texts(self) -> list[str]:
        return [shape.text for shape in self.shapes if isinstance(shape, Label)]


def width_of(text: str, size: float = 12.0) -> float:
    """About how wide a line is; fonts differ, and this is rather too wide than too narrow."""
    return size * sum(map(letter, text))


def letter(c: str) -> float:
    if cell_len(c) != 1:
        return 1.0 if cell_len(c) else 0.0
    if c == "\ufffd":
        return 1.1
    if c in NARROW:
        return 0.39
    return 0.98 if c in BROAD else 0.72 if c.isupper() else 0.635


def cut(text: str, width: float, size: float = 12.0) -> str:
    """The line in so much room, its end cut off where it is longer."""
    if width_of(text, size) <= width:
        return text
    while text and width_of(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, width: float, size: float = 12.0) -> list[str]:
    """Lines of so much room: broken at spaces, and between ideographs."""
    lines, line = list[str](), ""
    for part in broken(text):
        if line and width_of(line + part.rstrip(), size) > width:
            lines.append(line.rstrip())
            line = ""
        line += part
    return [*lines, line.rstrip()] if line.strip() else lines


def broken(text: str) -> list[str]:
    """The parts of a text between which a line may end."""
    parts = [""]
    for c in text:
        wide = cell_len(c) == 2 and c not in "，。；：、）”？！"
        if wide and parts[-1]:
            parts.append("")
        parts[-1] += c
        if c == " ":
            parts.append("")
    return [part for part in parts if part]


def spaced(count: int, most: int) -> Sequence[int]:
    """At most so many of the numbers below `count`, evenly spread, the first among them."""
    step = max(math.ceil(count / max(most, 1)), 1)
    return range(0, count, step)
