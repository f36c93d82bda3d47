"""The page in a notebook: its bytes are a server's, and the saved notebook holds a picture."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import polyhead
from polyhead.errors import ArgumentError
from polyhead.lens.notebook import widget
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import page
from polyhead.lens.page.export import chosen
from tests.lens.figures.test_figures import HOSTILE, recorded, words


class Kernel:
    """What a widget sends, kept."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []

    def send(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self.sent.append((content, buffers))


def test_messages_have_byte_for_byte_what_the_server_answers() -> None:
    fastapi = pytest.importorskip("fastapi.testclient", reason="starlette asks for httpx to test with")
    from polyhead.lens.page.server import app_of

    seen = polyhead.see(recording=recorded(5, encoder=words(*"abcde")))
    client = fastapi.TestClient(app_of(Answers([seen.scene]), page(), "t"), base_url="http://127.0.0.1")
    kernel, answers = Kernel(), Answers([seen.scene])
    paths = [
        *chosen(Answers([seen.scene]), 10**7, lambda done: None).answers,
        "cell/0/1/2/3.bin",
        "row/0/1/1/2.bin",
        "../x",
        "whole/9/9.bin",
    ]
    for n, path in enumerate(paths):
        widget.reply(kernel, answers, {"id": n, "path": path})
        content, buffers = kernel.sent[-1]
        expected = client.get(f"/t/{path}")
        assert content == {"id": n, "found": expected.status_code == 200}, path
        assert buffers == ([expected.content] if content["found"] else []), path
    assert sum(content["found"] for content, _ in kernel.sent) == len(paths) - 2


def test_a_failure_is_an_answer_too() -> None:
    class Gone:
        def get(self, path: str) -> None:
            raise OSError("the disk was taken out")

    kernel, gone = Kernel(), Gone()
    with pytest.raises(OSError, match="taken out"):
        widget.reply(kernel, gone, {"id": 4, "path": "scene.json"})  # type: ignore[arg-type]
    assert kernel.sent == [({"id": 4, "found": False, "failed": "the disk was taken out"}, [])]


def test_two_recordings_are_compared_in_the_language_asked_for() -> None:
    shown = polyhead.show(recorded(3), beside=recorded(4), language="zh")
    kernel, answers = Kernel(), Answers(shown.scenes)
    for n, path in enumerate(("scene.json", "b/scene.json")):
        widget.reply(kernel, answers, {"id": n, "path": path})
    first, second = (json.loads(body) for _, [body] in kernel.sent)
    assert first["compare"] and (first["calls"][0]["keys"], second["calls"][0]["keys"]) == (3, 4)
    assert first["language"] == "zh" and shown.still.title.startswith("第 0 层")
    with pytest.raises(ArgumentError, match="language must be en or zh; found 'fr'"):
        polyhead.show(recorded(2), language="fr")  # type: ignore[arg-type]


def test_jupyter_is_given_the_page_and_under_it_the_picture_that_it_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output alone would show nothing where the widget's Python is gone, as every saved notebook's is."""
    pytest.importorskip("anywidget")
    display = pytest.importorskip("IPython.display")
    shown, given = polyhead.show(recorded(len(HOSTILE), encoder=words(*HOSTILE))), []
    monkeypatch.setattr(display, "display", lambda output, raw: given.append(output))
    shown._ipython_display_()
    live, picture = given
    assert list(live) == ["application/vnd.jupyter.widget-view+json"]
    kept = picture["image/png"] if "image/png" in picture else picture["image/svg+xml"].encode()
    assert base64.b64encode(kept).decode() in picture["text/html"] and picture["text/html"].count("<img") == 1
    assert f'class="polyhead-{shown.widget.mark}"' in picture["text/html"]
    assert "<script" not in picture["text/html"] and "onerror=x" not in picture["text/html"]
    assert polyhead.show(recorded(2)).widget.mark != shown.widget.mark, "a page would hide the picture of another"


def test_a_widget_hears_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    shown = polyhead.show(recorded(3))
    kernel = Kernel()
    monkeypatch.setattr(shown.widget, "send", kernel.send)
    shown.widget._handle_custom_msg({"id": "v.1", "path": ""}, [])
    [(content, [body])] = kernel.sent
    assert content == {"id": "v.1", "found": True} and body == page(port=True).html.encode()
    assert shown.widget._esm == widget.RELAY.read_text("utf-8")


def test_the_page_of_a_port_is_the_same_bundle_and_may_not_connect() -> None:
    mine, servers = page(port=True), page()
    script = servers.html[servers.html.index('<script type="module">') :]
    assert mine.html.endswith(script) and "connect-src" not in mine.policy and mine.policy in mine.html


@pytest.mark.parametrize("anywidget", [True, False])
def test_a_saved_notebook_always_holds_the_picture(
    anywidget: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not anywidget:
        widget.kind.cache_clear()
        monkeypatch.setitem(sys.modules, "anywidget", None)
    else:
        pytest.importorskip("anywidget")
    shown = polyhead.show(recorded(len(HOSTILE), encoder=words(*HOSTILE)))
    data = shown._repr_mimebundle_()
    kept_as = {name: x if isinstance(x, (str, dict)) else base64.b64encode(x).decode() for name, x in data.items()}
    output = {"output_type": "display_data", "metadata": {}, "data": kept_as}
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": [], "outputs": [output]}
    path = tmp_path / "saved.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}), encoding="utf-8")
    kept = json.loads(path.read_text("utf-8"))["cells"][0]["outputs"][0]["data"]
    assert kept["image/svg+xml"].startswith("<?xml") and "<svg" in kept["image/svg+xml"]
    assert ("application/vnd.jupyter.widget-view+json" in kept) is anywidget
    assert ("text/html" in kept) is not anywidget
    if not anywidget:
        html = kept["text/html"]
        assert html.count("<iframe") == html.count("<img") == 1 and "<script" not in html
        assert 'sandbox="allow-scripts allow-downloads"' in html and "onerror=x" not in html


def test_a_height_that_is_none_is_said() -> None:
    with pytest.raises(ArgumentError, match="100 to 10,000 pixels; found 3"):
        polyhead.show(recorded(2), height=3)
