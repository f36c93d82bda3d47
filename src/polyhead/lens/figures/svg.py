"""A drawing becomes SVG: text stays text, with a title and a description for screen readers, and nothing that runs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from polyhead.lens.figures.drawing import PAPER, Bitmap, Box, Curve, Drawing, Label, Shape

FONTS = (
    "system-ui, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC',"
    " 'Noto Sans SC', sans-serif"
)
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(drawing: Drawing) -> str:
    """The drawing as a document by itself; it asks for nothing from anywhere."""
    width, height = number(drawing.width), number(drawing.height)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' role="img" aria-labelledby="title description" xml:lang="{drawing.language}"'
        f' font-family="{plain(FONTS)}">',
        f'<title id="title">{plain(drawing.title)}</title>',
        f'<desc id="description">{plain(drawing.description)}</desc>',
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        *(line for shape in drawing.shapes for line in lines_of(shape)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def lines_of(shape: Shape) -> Iterator[str]:
    match shape:
        case Box(x, y, width, height, fill, stroke, thick):
            edge = f' stroke="{stroke}" stroke-width="{number(thick)}"' if stroke else ""
            yield around("rect", f'{at(x, y, width, height)} fill="{fill or "none"}"{edge}', shape.title)
        case Curve(points, stroke, thick, opacity):
            first, *rest = (f"{number(x)} {number(y)}" for x, y in points)
            way = f"M{first}{'C' if len(points) == 4 else 'L'}{' '.join(rest)}"
            seen = f' stroke-opacity="{number(opacity)}"' if opacity < 1 else ""
            yield around(
                "path", f'd="{way}" fill="none" stroke="{stroke}" stroke-width="{number(thick)}"{seen}', shape.title
            )
        case Label():
            x, y = (number(n) for n in shape.base)
            more = {"start": "", "middle": ' text-anchor="middle"', "end": ' text-anchor="end"'}[shape.anchor]
            more += ' font-weight="600"' if shape.bold else ""
            more += f' transform="rotate({number(shape.angle)} {x} {y})"' if shape.angle else ""
            yield (
                f'<text x="{x}" y="{y}" font-size="{number(shape.size)}" fill="{shape.colour}"{more}'
                f' xml:space="preserve">{plain(shape.text)}</text>'
            )
        case Bitmap(x, y, width, height, png, span, sharp):
            told = f"<title>{plain(shape.title)}</title>" if shape.title else ""
            look = ' style="image-rendering:pixelated"' if sharp else ""
            yield (
                f'<svg {at(x, y, width, height)} viewBox="0 0 {number(span)} 1" preserveAspectRatio="none">{told}'
                f'<image width="1" height="1" preserveAspectRatio="none"{look}'
                f' href="data:image/png;base64,{base64.b64encode(png).decode("ascii")}"/></svg>'
            )


def at(x: float, y: float, width: float, height: float) -> str:
    return f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'


def around(name: str, attributes: str, title: str) -> str:
    return (
        f"<{name} {attributes}>{f'<title>{plain(title)}</title></{name}>' if title else ''}"
        if title
        else (f"<{name} {attributes}/>")
    )


def number(x: float) -> str:
    return f"{x:.4f}".rstrip("0").rstrip(".")


def plain(text: str) -> str:
    """Text as XML has it: markup is only text, and what XML cannot hold is replaced."""
    return escape(NO_XML.sub("\ufffd", text), {'"': "&quot;"})
