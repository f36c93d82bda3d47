"""A drawing becomes a PNG, by matplotlib (the extra `plot`)."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from polyhead.errors import extra
from polyhead.lens.figures.boxed import boxed, note
from polyhead.lens.figures.drawing import PAPER, Bitmap, Box, Curve, Drawing, Label, Shape
from polyhead.lens.figures.fonts import SELECTORS, families

POINT = 72  # units of a drawing in an inch, so that sizes of letters are points


def raster(drawing: Drawing, *, scale: float = 2.0) -> bytes:
    """The drawing with so many pixels for each of its own; what no font has stands in boxes. Raises MissingExtra."""
    figures: Any = extra("matplotlib.figure", "plot")
    agg: Any = extra("matplotlib.backends.backend_agg", "plot")
    drawing, (names, missing) = legible(drawing)
    figure = figures.Figure((drawing.width / POINT, drawing.height / POINT), dpi=POINT * scale, facecolor=PAPER)
    canvas = agg.FigureCanvasAgg(figure)
    if missing:
        drawing = boxed(drawing, missing, lambda label: length(canvas.get_renderer(), label, names) / scale)
        figure.set_size_inches(drawing.width / POINT, drawing.height / POINT)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    for n, shape in enumerate(drawing.shapes):
        draw(axes, shape, names, n)
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    held = io.BytesIO()
    told = {"Title": drawing.title, "Description": drawing.description, "Software": "polyhead"}
    figure.savefig(held, format="png", dpi=POINT * scale, metadata=told)
    return held.getvalue()


def lacking(drawing: Drawing) -> str:
    """What no installed font can write of a drawing, as a sentence in its language; empty where they have it all."""
    drawing, (_, missing) = legible(drawing)
    return note(missing, drawing.language) if missing else ""


def legible(drawing: Drawing) -> tuple[Drawing, tuple[list[str], frozenset[str]]]:
    """The drawing without what only chooses the form of a character and no font knows; its fonts; what they lack."""
    texts = {text: written(text) for text in drawing.texts}
    names, missing = families(texts.values())
    silent = dict.fromkeys(ord(c) for c in missing if ord(c) in SELECTORS)
    shapes = [
        replace(shape, text=texts[shape.text].translate(silent)) if isinstance(shape, Label) else shape
        for shape in drawing.shapes
    ]
    return replace(drawing, shapes=shapes), (names, frozenset(c for c in missing if ord(c) not in SELECTORS))


def length(renderer: Any, label: Label, names: list[str]) -> float:
    """How many pixels wide a label is drawn, spaces at its ends included."""
    font = extra("matplotlib.font_manager", "plot").FontProperties(
        family=names, size=label.size, weight="bold" if label.bold else "normal"
    )
    long, short = (
        renderer.get_text_width_height_descent(text, font, ismath=False)[0] for text in (f"x{label.text}x", "xx")
    )
    return float(long - short)


def draw(axes: Any, shape: Shape, names: list[str], order: int) -> None:
    patches: Any = extra("matplotlib.patches", "plot")
    match shape:
        case Box(x, y, width, height, fill, stroke, thick):
            axes.add_patch(
                patches.Rectangle(
                    (x, y), width, height, facecolor=fill or "none", edgecolor=stroke or "none",
                    linewidth=thick if stroke else 0, zorder=order, antialiased=bool(stroke),
                )
            )  # fmt: skip
        case Curve(points, stroke, thick, opacity):
            paths: Any = extra("matplotlib.path", "plot").Path
            codes = [paths.MOVETO, *[paths.CURVE4 if len(points) == 4 else paths.LINETO] * (len(points) - 1)]
            axes.add_patch(
                patches.PathPatch(
                    paths(points, codes), facecolor="none", edgecolor=stroke, linewidth=thick, alpha=opacity,
                    zorder=order, capstyle="butt",
                )
            )  # fmt: skip
        case Label(text=text, size=size):
            x, y = shape.base
            axes.text(
                x, y, text, fontsize=size, family=names, weight="bold" if shape.bold else "normal",
                color=shape.colour,
                ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor], va="baseline",
                rotation=-shape.angle, rotation_mode="anchor", zorder=order, parse_math=False,
            )  # fmt: skip
        case Bitmap(x, y, width, height, png, span, sharp):
            pixels = extra("matplotlib.image", "plot").imread(io.BytesIO(png), format="png")
            pixels = pixels[:, : max(round(pixels.shape[1] * span), 1)]
            axes.imshow(
                pixels, extent=(x, x + width, y + height, y), aspect="auto", zorder=order, cmap="gray",
                interpolation="nearest" if sharp else "bilinear",
            )  # fmt: skip


def written(text: str) -> str:
    """A text without what few fonts have: the picture of the escape character, and unusual spaces."""
    return "".join(" " if c.isspace() else c for c in text.replace("␛", "\\x1b"))
