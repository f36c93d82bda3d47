"""A recording in a notebook: the page to look about in, and a picture that stays when the notebook is saved."""

from __future__ import annotations

import base64
import secrets
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from polyhead.errors import ArgumentError, MissingExtra, extra
from polyhead.lens.figures.figure import Figure, figure
from polyhead.lens.language import LANGUAGES, Language
from polyhead.lens.notebook.widget import bundle_of, widget
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import page
from polyhead.lens.page.export import export
from polyhead.lens.page.scene import Scene
from polyhead.lens.recording import Recording
from polyhead.lens.see import Seen, see

MOST = 5_000_000  # bytes of the page in a notebook without anywidget
OVER = (
    '<style>.polyhead-{mark}:has(iframe) img{{display:none}}</style><div class="polyhead-{mark}" style="display:grid">'
    '<img style="grid-area:1/1;max-width:100%" alt="{alt}" src="data:{kind};base64,{picture}">'
    '<iframe style="grid-area:1/1;box-sizing:border-box;width:100%;height:{height}px;border:1px solid rgb(128 128 128 /'
    ' .35);border-radius:8px" sandbox="allow-scripts allow-downloads" title="{alt}" srcdoc="{page}"></iframe></div>'
)
# JupyterLab says of a widget whose Python is gone that it was not found; beside the picture that says nothing.
STILL = (
    "<style>.jp-OutputArea-child:has(> .jupyter-widgets):has(+ .jp-OutputArea-child .polyhead-{mark})"
    ":not(:has(iframe)){{display:none}}</style>"
    '<img class="polyhead-{mark}" style="max-width:100%" width="{width}" alt="{alt}"'
    ' src="data:{kind};base64,{picture}">'
)


@dataclass(frozen=True, eq=False, repr=False)
class View:
    """What a notebook shows of a recording.

    scenes  what is looked at; two are compared.
    still   the figure that stands for it in a saved notebook.
    mark    by which the page finds the picture that it takes the place of.
    widget  the page that asks this Python; None without anywidget, where one file's page stands in a frame.
    """

    scenes: list[Scene]
    still: Figure
    height: int
    mark: str
    widget: Any = None

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """What is shown, one under the other. A widget needs its Python, and a saved notebook shows nothing in its
        place; so the picture is an output of its own, which stands until the page is there. Of pictures one kind, for
        an SVG beside a PNG asks for Inkscape when a notebook becomes a PDF."""
        picture = {name: self.shown[name] for name in (self.kind, "text/plain")}
        if self.widget is None:
            return [picture | {"text/html": self.frame}]
        live = {name: x for name, x in bundle_of(self.widget).items() if name != "text/plain"}
        return [live, picture | {"text/html": self.picture}]

    def _ipython_display_(self) -> None:
        """What Jupyter asks for."""
        ipython: Any = extra("IPython.display", "notebook")
        for output in self.outputs:
            ipython.display(output, raw=True)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """All of it as one output, for notebooks of other kinds."""
        if self.widget is not None:
            return self.shown | {name: x for name, x in bundle_of(self.widget).items() if name != "text/plain"}
        return self.shown | {"text/html": self.frame}

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The picture as a notebook takes it, drawn once."""
        return self.still._repr_mimebundle_()

    @property
    def kind(self) -> str:
        """Of the picture: pixels where they can be made, for not everybody shows SVG."""
        return "image/png" if "image/png" in self.shown else "image/svg+xml"

    @cached_property
    def told(self) -> dict[str, Any]:
        """The picture as a page's markup wants it."""
        held = self.shown[self.kind]
        body = held if isinstance(held, bytes) else held.encode("utf-8")
        return {"kind": self.kind, "picture": base64.b64encode(body).decode("ascii"), "alt": escape(self.still.title)}

    @property
    def picture(self) -> str:
        """The picture, which the page hides when it is there."""
        return STILL.format(**self.told, mark=self.mark, width=round(self.still.drawing.width))

    @cached_property
    def frame(self) -> str:
        """The page of one file in a frame that may do nothing but draw, over the picture, which shows where frames are
        taken out."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "page.html"
            export(Answers(self.scenes), path, most=MOST, page=page)
            whole = path.read_text(encoding="utf-8")
        return OVER.format(**self.told, mark=self.mark, height=self.height, page=escape(whole))

    def __repr__(self) -> str:
        return f"View({self.still.title!r})"


def show(
    of: Recording | Seen | str | Path,
    *,
    beside: Recording | Seen | str | Path | None = None,
    height: int = 720,
    language: Language | None = None,
    still: Figure | None = None,
) -> View:
    """Show a recording of any model, as the last line of a notebook's cell.

    of        a recording, its file, or what `see` returned.
    beside    what it is compared with.
    height    of the page, in pixels.
    language  of the page when it opens and of the picture, "en" or "zh"; the browser's for the page, unless given.
    still     the figure that a saved notebook keeps, for GitHub and PDF; every head as a small map unless given.

    With anywidget (the extra `notebook`) the page asks this Python for what it shows, at any length; without it, a page
    of at most 5 MB stands in the notebook, which says what it had to leave out. Raises ArgumentError.
    """
    if type(height) is not int or not 100 <= height <= 10_000:
        raise ArgumentError(f"height must be 100 to 10,000 pixels; found {height!r}")
    if language not in (None, *LANGUAGES):
        raise ArgumentError(f"language must be {' or '.join(LANGUAGES)}; found {language!r}")
    seen = [one if isinstance(one, Seen) else see(recording=one) for one in (of, beside) if one is not None]
    scenes = [replace(one.scene, language=language) for one in seen]
    still = figure(seen[0], language=language or "en") if still is None else still
    mark = secrets.token_hex(6)
    try:
        made = widget(Answers(scenes), title=still.title, height=height, mark=mark)
    except MissingExtra:
        made = None
    return View(scenes, still, height, mark, made)
