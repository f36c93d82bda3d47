"""A recording in a notebook: the page to look about in, and a picture that stays when the notebook is saved."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from polyhead.errors import ArgumentError, MissingExtra
from polyhead.lens.figures.figure import Figure, figure
from polyhead.lens.notebook.widget import bundle_of, widget
from polyhead.lens.page.answers import Answers
from polyhead.lens.recording import Recording
from polyhead.lens.see import Seen, see

MOST = 5_000_000  # bytes of the page in a notebook without anywidget
OVER = (
    '<div style="display:grid">'
    '<img style="grid-area:1/1;max-width:100%" alt="{alt}" src="data:image/svg+xml;base64,{picture}">'
    '<iframe style="grid-area:1/1;width:100%;height:{height}px;border:0" sandbox="allow-scripts allow-downloads"'
    ' title="{alt}" srcdoc="{page}"></iframe></div>'
)


@dataclass(frozen=True, eq=False, repr=False)
class View:
    """What a notebook shows of a recording.

    seen    what is looked at.
    still   the figure that stands for it in a saved notebook.
    widget  the page that asks this Python; None without anywidget, where one file's page stands in a frame.
    """

    seen: Seen
    still: Figure
    height: int
    widget: Any = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The page, and always a picture for those who cannot run it."""
        shown = self.still._repr_mimebundle_()
        if self.widget is not None:
            return shown | {name: x for name, x in bundle_of(self.widget).items() if name != "text/plain"}
        return shown | {"text/html": self.frame}

    @cached_property
    def frame(self) -> str:
        """The page of one file in a frame that may do nothing but draw, over the picture, which shows where frames are
        taken out."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "page.html"
            self.seen.html(path, most=MOST)
            page = path.read_text(encoding="utf-8")
        picture = base64.b64encode(self.still.svg.encode("utf-8")).decode("ascii")
        return OVER.format(alt=escape(self.still.title), picture=picture, height=self.height, page=escape(page))

    def __repr__(self) -> str:
        return f"View({self.still.title!r})"


def show(of: Recording | Seen | str | Path, *, height: int = 720, still: Figure | None = None) -> View:
    """Show a recording of any model, as the last line of a notebook's cell.

    of      a recording, its file, or what `see` returned.
    height  of the page, in pixels.
    still   the figure that a saved notebook keeps, for GitHub and PDF; every head as a small map unless given.

    With anywidget (the extra `notebook`) the page asks this Python for what it shows, at any length; without it, a page
    of at most 5 MB stands in the notebook, which says what it had to leave out. Raises ArgumentError.
    """
    if type(height) is not int or not 100 <= height <= 10_000:
        raise ArgumentError(f"height must be 100 to 10,000 pixels; found {height!r}")
    seen = of if isinstance(of, Seen) else see(recording=of)
    still = figure(seen) if still is None else still
    try:
        made = widget(Answers([seen.scene]), title=still.title, height=height)
    except MissingExtra:
        made = None
    return View(seen, still, height, made)
