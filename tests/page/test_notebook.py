"""The page in a notebook's cell: relay.js runs in a browser as anywidget runs it, and the widget's Python answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Frame, Page

import polyhead
from polyhead.lens.notebook.show import View
from polyhead.lens.page import answers as answering
from polyhead.lens.rulers import Words
from tests.hostile import HOSTILE
from tests.page.conftest import Opened, settle
from tests.page.scenes import drawn, translated

ADDRESS = "http://127.0.0.1:9/notebook"
# As strict as a notebook's window may be: nothing from any network, scripts as text and blobs, as anywidget needs them.
HOST = """<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"
content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:">
</head><body style="margin:0;background:#fff"><div id="cell"></div><div id="saved"></div></body></html>"""
# What anywidget gives a module: get, on, off, send, and buffers as views that need not begin where their bytes do.
RUN = """async ([esm, traits, saved]) => {
  document.querySelector('#saved').innerHTML = saved;
  const heard = new Set(), cell = document.querySelector('#cell');
  const view = (text) => {
    const bytes = Uint8Array.from('xyz' + atob(text), (c) => c.charCodeAt(0));
    return new DataView(bytes.buffer, 3);
  };
  const model = {
    get: (name) => traits[name],
    on: (what, hear) => what === 'msg:custom' && heard.add(hear),
    off: (what, hear) => heard.delete(hear),
    send: async (content) => {
      for (const [told, bodies] of await askPython(content)) for (const hear of heard) hear(told, bodies.map(view));
    },
  };
  const { default: widget } = await import(URL.createObjectURL(new Blob([esm], { type: 'text/javascript' })));
  window.end = await widget.render({ model, el: cell });
  window.heard = heard;
}"""
# Turned by the wheel, which comes when it comes; `wait_for_function` would be eval, which the page's policy forbids.
SCROLLED = "async () => { while (scrollY === 0) await new Promise(requestAnimationFrame); }"
# How far the window is scrolled when it no longer moves.
RESTED = """async () => {
  for (let still = 0, last = -1; still < 12; last = scrollY) {
    await new Promise(requestAnimationFrame);
    still = scrollY === last ? still + 1 : 0;
  }
  return scrollY;
}"""


@dataclass
class Cell:
    """A cell that was run: the window round it, and what went to Python."""

    window: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def page(self) -> Frame:
        """The page inside, when it is there."""
        frame = self.window.wait_for_selector("iframe", state="attached")
        assert frame is not None
        inside = frame.content_frame()
        assert inside is not None
        inside.wait_for_selector("#page[data-ready]")
        return inside

    def settle(self) -> None:
        settle(self.page)
        settle(self.window)

    def renew(self, act: str, theme: str) -> None:
        """Do what the window answers with the page loaded anew, and wait for that one."""
        self.page.evaluate("document.documentElement.dataset.old = ''")
        self.window.evaluate(act)
        new = self.window.frame_locator("iframe").locator(f"html[data-theme={theme}]:not([data-old]) #page[data-ready]")
        new.wait_for(state="attached")
        self.settle()

    def text(self, css: str) -> str:
        return self.page.locator(css).first.inner_text()


def view(height: int = 720) -> View:
    """The shipped translator at work, with a small figure that stands for it."""
    return polyhead.show(translated(), height=height, still=still())


@cache
def still() -> polyhead.Figure:
    return polyhead.figure(translated(), part="cross", layer=1, head=4)


@pytest.fixture
def run(browser: Browser) -> Iterator[Callable[..., Cell]]:
    """Run a cell whose last line is a view; at the end nothing was asked of a network, and nothing complained of."""
    requests: list[str] = []
    cells: list[Cell] = []

    def run(shown: View, *, answers: bool = True) -> Cell:
        pytest.importorskip("anywidget")
        context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US", reduced_motion="reduce")
        window = context.new_page()
        cell = Cell(window)
        cells.append(cell)
        complaints = cell.complaints
        window.route(ADDRESS, lambda route: route.fulfill(body=HOST, content_type="text/html"))
        window.on("request", lambda request: requests.append(request.url))
        window.on("pageerror", lambda error: complaints.append(str(error)))
        window.on("console", lambda said: complaints.extend([said.text] * (said.type == "error")))
        window.on("dialog", lambda dialog: complaints.append(dialog.message))
        sent: list[list[Any]] = []
        shown.widget.send = lambda content, buffers: sent.append(
            [content, [base64.b64encode(one).decode("ascii") for one in buffers]]
        )

        def ask(content: dict[str, Any]) -> list[list[Any]]:
            cell.asked.append(content["path"])
            if answers:
                shown.widget._handle_custom_msg(content, [])
            told = [*sent]
            sent.clear()
            return told

        window.expose_function("askPython", ask)
        window.goto(ADDRESS)
        traits = {name: getattr(shown.widget, name) for name in ("title", "height", "mark")}
        window.evaluate(RUN, [shown.widget._esm, traits, shown.outputs[-1]["text/html"]])
        return cell

    yield run
    for cell in cells:
        cell.window.context.close()
    assert {url for url in requests if not url.startswith(("blob:", "data:"))} <= {ADDRESS, "about:srcdoc"}
    assert not [said for cell in cells for said in cell.complaints]


def test_a_cell_shows_the_page_and_a_click_changes_its_picture(run: Callable[..., Cell]):
    cell = run(view(600))
    weights = translated().recording["encoder.blocks.1.attn"].weights()[0, 3]
    assert cell.window.locator("iframe").bounding_box() == {"x": 0, "y": 0, "width": 1280, "height": 600}
    assert not cell.window.locator("#saved img").is_visible(), "the picture stands beside the page"
    before = cell.text("#sentence")
    cell.page.locator(".head[data-call='1'][data-head='3']").click()
    cell.page.locator(".views [data-view='table']").click()
    cell.page.locator("[data-weighting='0']").click()
    cell.settle()
    assert cell.text("#sentence") != before and "Encoder layer 1 head 3" in cell.text("#sentence")
    cells = cell.page.locator(".matrix tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => parseFloat(cell.textContent)))"
    )
    torch.testing.assert_close(torch.tensor(cells), weights, atol=1.6e-3, rtol=0)
    assert "whole/1/3.bin" in cell.asked and cell.asked[0] == ""


def test_what_is_said_is_what_a_server_would_say(run: Callable[..., Cell], look: Callable[..., Opened]):
    served, cell = look("text", "call=6&head=2"), run(view())
    cell.page.locator(".head[data-call='6'][data-head='2']").click()
    cell.settle()
    for css in ("#sentence", ".links", ".views"):
        assert cell.text(css) == served.text(css), css


def test_the_page_wears_the_theme_round_it_and_stays_where_it_was_left(run: Callable[..., Cell]):
    cell = run(view())
    assert cell.page.evaluate("document.documentElement.dataset.theme") == "light"
    cell.page.locator(".head[data-call='1'][data-head='3']").click()
    cell.settle()
    left = cell.text("#sentence")
    for act, theme in (
        ("document.body.style.background = '#111'", "dark"),
        ("document.body.append(document.querySelector('#cell'))", "dark"),  # the cell is moved
        ("document.body.style.background = '#fff'", "light"),
    ):
        cell.renew(act, theme)
        assert cell.text("#sentence") == left


def test_the_wheel_scrolls_the_notebook_until_somebody_clicks_on_the_map(run: Callable[..., Cell]):
    cell = run(view(600))
    cell.window.evaluate("document.body.style.height = '3000px'")
    cell.page.locator(".views [data-view='map']").evaluate("tab => tab.click()")
    cell.settle()
    cell.window.mouse.move(600, 400)
    cell.window.mouse.wheel(0, 120)
    cell.window.evaluate(SCROLLED)
    scrolled = cell.window.evaluate(RESTED)
    cell.window.mouse.click(600, 400)
    cell.page.evaluate("addEventListener('wheel', () => { document.body.dataset.turned = ''; }, { capture: true })")
    cell.window.mouse.wheel(0, -60)
    cell.page.wait_for_selector("body[data-turned]")
    assert cell.window.evaluate(RESTED) == scrolled


def test_hostile_words_stay_words_in_a_cell(run: Callable[..., Cell]):
    recording = drawn(len(HOSTILE))
    recording.rulers = {"encoder": Words(tuple(HOSTILE))}
    cell = run(polyhead.show(recording, still=polyhead.figure(recording, head=0)))
    assert cell.window.evaluate("document.querySelectorAll('script, b, a').length") == 0
    for name in ("map", "lines", "text", "table"):
        cell.page.locator(f".views [data-view='{name}']").click()
        cell.settle()
        assert cell.page.evaluate("document.querySelectorAll('img, iframe, .middle b').length") == 0
    heads = cell.page.locator(".matrix tbody th").all_inner_texts()
    assert "</script>" in heads and "‹ESC›[2J" in heads


def test_the_page_may_neither_ask_a_network_nor_touch_the_notebook(run: Callable[..., Cell]):
    cell = run(view())
    tried = cell.page.evaluate(
        """async () => {
        const out = await fetch('http://127.0.0.1:9/x').then(() => 'came', () => 'refused');
        let above = 'refused';
        try { above = parent.document.title; } catch {}
        return [out, above, location.href];
        }"""
    )
    assert tried == ["refused", "refused", "about:srcdoc"]
    told = cell.page.evaluate("document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in told and "connect-src" not in told
    assert any("Content Security Policy" in said for said in cell.complaints), "the browser said nothing against it"
    cell.complaints.clear()


def test_without_its_python_the_picture_stands_and_a_late_one_is_told(run: Callable[..., Cell]):
    shown = view()
    cell = run(shown, answers=False)
    settle(cell.window)
    assert cell.asked == [""]
    assert cell.window.locator("iframe").count() == 0 and cell.window.locator("#saved img").is_visible()
    live = run(shown)
    assert live.page and not live.window.locator("p[role=status]").is_visible()
    live.window.evaluate("window.askPython = async () => []")  # another cell runs
    live.page.locator(".head[data-call='2'][data-head='1']").click()
    live.window.get_by_role("status").get_by_text("Waiting for Python").wait_for()
    live.window.evaluate("end()")
    assert live.window.evaluate("heard.size") == 0 and live.window.locator("#saved img").is_visible()


def test_a_failure_in_python_is_told_on_the_page(run: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch):
    cell = run(view())
    assert cell.page
    made = answering.Answers.get

    def get(self: Any, path: str) -> Any:
        if path.startswith("whole/2/"):
            raise OSError("the disk was taken out")
        return made(self, path)

    monkeypatch.setattr(answering.Answers, "get", get)
    cell.page.locator(".views [data-view='map']").click()
    cell.page.locator(".head[data-call='2'][data-head='1']").click()
    cell.settle()
    assert "the disk was taken out" in cell.text(".empty")
    assert [said for said in cell.complaints if "the disk was taken out" not in said] == []
    cell.complaints.clear()


@pytest.mark.parametrize("framed", [True, False])
def test_without_anywidget_the_page_lies_over_the_picture(framed: bool, look: Callable[..., Opened], tmp_path: Any):
    frame = replace(view(), widget=None).frame
    path = tmp_path / "cell.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>x</title><div id=page data-ready>{frame}", "utf-8")
    seen = look(path)
    if framed:
        inside = seen.page.frame_locator("iframe")
        inside.locator("#page[data-ready]").wait_for()
        assert "row = the word that looks" in inside.locator("#sentence").inner_text()
        assert not seen.page.locator("img").is_visible(), "the picture looks out from under the page"
    else:
        seen.page.evaluate("document.querySelector('iframe').remove()")  # as sites do that show notebooks
        assert seen.page.evaluate("document.querySelector('img').naturalWidth") > 500
        assert seen.page.locator("img").is_visible()
    assert json.dumps(frame).count("http://") == json.dumps(frame).count("http://www.w3.org/2000/svg")
