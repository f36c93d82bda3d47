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


def widget(answers: Answers, *, title: str, height: int) -> Any:
    """The widget of some answers. Raises MissingExtra where anywidget is not installed."""
    made = kind()(title=title, height=height)
    made.on_msg(lambda _, asked, buffers: reply(made, answers, asked))
    return made


def reply(to: Any, answers: Answers, asked: Mapping[str, Any]) -> None:
    """Answer one message: {"id", "path"}, where no path is the page itself."""
    told = answer(answers, str(asked.get("path")))
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
    }
    return type("Page", (anywidget.AnyWidget,), fields)


def bundle_of(made: Any) -> dict[str, Any]:
    """What the widget shows itself by in a notebook."""
    told = made._repr_mimebundle_()
    return dict(told[0] if isinstance(told, tuple) else told or {})
