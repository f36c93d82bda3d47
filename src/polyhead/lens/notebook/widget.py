"""The page as a widget: what it asks for by a path is answered from this Python, with the bytes a server would send."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from polyhead.errors import extra
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import page

RELAY = Path(__file__).parent / "relay.js"


def widget(answers: Answers, *, title: str, height: int, mark: str) -> Any:
    """The widget of some answers. mark: of the picture that it takes the place of. Raises MissingExtra where anywidget
    is not installed."""
    made = kind()(title=title, height=height, mark=mark)
    made.on_msg(lambda _, asked, buffers: reply(made, answers, asked))
    return made


def reply(to: Any, answers: Answers, asked: Mapping[str, Any]) -> None:
    """Answer one message: {"id", "path"}, where no path is the page itself. A page that hears nothing would wait for
    ever, so it is told of a failure too."""
    try:
        told = answer(answers, str(asked.get("path")))
    except Exception as failure:
        to.send({"id": asked.get("id"), "found": False, "failed": str(failure)}, buffers=[])
        raise
    to.send({"id": asked.get("id"), "found": told is not None}, buffers=[] if told is None else [told])


def answer(answers: Answers, path: str) -> bytes | None:
    """The bytes of a path; None where there are none."""
    if not path:
        return page(port=True).html.encode("utf-8")
    found = answers.get(path)
    return None if found is None else found.body


@cache
def kind() -> Any:
    """The class of the widget, made when first asked for."""
    anywidget: Any = extra("anywidget", "notebook")
    traitlets: Any = extra("traitlets", "notebook")
    fields: dict[str, Any] = {
        "_esm": RELAY.read_text(encoding="utf-8"),
        "title": traitlets.Unicode().tag(sync=True),
        "height": traitlets.Int().tag(sync=True),
        "mark": traitlets.Unicode().tag(sync=True),
    }
    return type("Page", (anywidget.AnyWidget,), fields)


def bundle_of(made: Any) -> dict[str, Any]:
    """What the widget shows itself by in a notebook."""
    told = made._repr_mimebundle_()
    return dict(told[0] if isinstance(told, tuple) else told or {})
