"""Images and a line below each become one sheet: a picture (PNG) or a page (HTML) that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from polyhead.errors import ArgumentError, extra
from polyhead.files import write_bytes, write_text
from polyhead.inputs.image import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 200  # pixels of the longest side of an image on the sheet
GAP = 12  # pixels between two
LINE = 16  # pixels of a line of words
MOST_COLUMNS = 5
MOST = 2000  # images of one sheet, of which a picture takes some 600 MB of memory
ENDINGS = (".png", ".html")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }}
body {{ margin: 1.5rem; }}
section > div {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({side}px, 1fr)); gap: 1rem; }}
figure {{ margin: 0; overflow-wrap: anywhere; }}
img {{ max-width: 100%; max-height: {side}px; border-radius: 4px; }}
</style></head><body>
{sections}
</body></html>
"""


@dataclass(frozen=True)
class Row:
    """What was asked, and the images that answer it, each with a line below."""

    title: str
    images: Sequence[Any]
    lines: Sequence[str]


def check(path: Path, images: int = 0) -> None:
    """Refuse a name whose ending is none of a sheet's, and more images than one holds."""
    if path.suffix.lower() not in ENDINGS:
        raise ArgumentError(f"A sheet is a file that ends in {' or '.join(ENDINGS)}; found {path.name}")
    if images > MOST:
        raise ArgumentError(f"A sheet holds at most {MOST:,} images, but would get {images:,}; show fewer of each.")


def save_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Write a sheet, as its ending says, whole or not at all. Raises DataError for an image that cannot be read, and
    WriteError."""
    check(path, sum(len(row.images) for row in rows))
    if path.suffix.lower() == ".html":
        write_text(path, page(rows))
    else:
        held = io.BytesIO()
        drawn(rows).save(held, "PNG")
        write_bytes(path, held.getvalue())


def thumbnail(image: Any) -> Image:
    """An image as it is, made small."""
    name = str(image) if isinstance(image, str | Path) else "The image"
    small = open_image(image, on_white=True, name=name)
    small.thumbnail((SIDE, SIDE))
    return small


def page(rows: Sequence[Row]) -> str:
    """The sheet as HTML, its images inside; words are words, whatever they hold."""
    sections: list[str] = []
    for row in rows:
        figures: list[str] = []
        for image, line in zip(row.images, row.lines, strict=True):
            held = io.BytesIO()
            thumbnail(image).save(held, "JPEG", quality=85)
            data = base64.b64encode(held.getvalue()).decode()
            shown = f'<img alt="" src="data:image/jpeg;base64,{data}">'
            figures.append(f"<figure>{shown}<figcaption>{escape(line)}</figcaption></figure>")
        sections.append(f"<section><h1>{escape(row.title)}</h1><div>{''.join(figures)}</div></section>")
    title = escape(", ".join(row.title for row in rows)[:200])
    return PAGE.format(title=title, side=SIDE, sections="\n".join(sections))


def drawn(rows: Sequence[Row]) -> Image:
    """The sheet as a picture. Its letters are those of the font that Pillow has; others are a box."""
    pil: ModuleType = extra("PIL.Image", "image")
    drawing: ModuleType = extra("PIL.ImageDraw", "image")
    fonts: ModuleType = extra("PIL.ImageFont", "image")
    columns = min(MOST_COLUMNS, max(len(row.images) for row in rows))
    shelves = [
        (
            row.title * (start == 0),
            [*map(thumbnail, row.images[start : start + columns])],
            row.lines[start : start + columns],
        )
        for row in rows
        for start in range(0, max(1, len(row.images)), columns)
    ]
    heights = [
        (4 if title else 2) * LINE + max((small.height for small in some), default=0) + GAP
        for title, some, _ in shelves
    ]
    sheet = pil.new("RGB", (GAP + columns * (SIDE + GAP), GAP + sum(heights)), "white")
    pen, font = drawing.Draw(sheet), fonts.load_default(LINE - 3)
    top = GAP
    for (title, some, lines), height in zip(shelves, heights, strict=True):
        pen.text((GAP, top), fitted(title, sheet.width - 2 * GAP, font), "black", font)
        under = top + height - 2 * LINE - GAP
        for place, (small, line) in enumerate(zip(some, lines, strict=True)):
            left = GAP + place * (SIDE + GAP)
            sheet.paste(small, (left + (SIDE - small.width) // 2, under - small.height))
            for number, words in enumerate(line.split("\n")[:2]):
                pen.text((left, under + number * LINE), fitted(words, SIDE, font), "black", font)
        top += height
    return sheet


def fitted(words: str, width: int, font: Any) -> str:
    """As much of the end of a line as fits, for there are the names of files."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength("…" + words) > width:
        words = words[1:]
    return "…" + words
