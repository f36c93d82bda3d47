"""A drawing becomes a PNG, by matplotlib (the extra `plot`)."""

from __future__ import annotations

import io
from typing import Any

from polyhead.errors import extra
from polyhead.lens.figures.drawing import PAPER, Bitmap, Box, Curve, Drawing, Label, Shape
from polyhead.lens.figures.fonts import families

POINT = 72  # units of a drawing in an inch, so that sizes of letters are points


def raster(drawing: Drawing, *, scale: float = 2.0) -> bytes:
    """The drawing with so many pixels for each of its own. Raises MissingExtra, and DataError for lack of a font."""
    figures: Any = extra("matplotlib.figure", "plot")
    names = families(map(written, drawing.texts))
    figure = figures.Figure((drawing.width / POINT, drawing.height / POINT), dpi=POINT * scale, facecolor=PAPER)
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
                x, y, written(text), fontsize=size, family=names, weight="bold" if shape.bold else "normal",
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
    """A text without the picture of the escape character, which few fonts have."""
    return text.replace("␛", "\\x1b")
