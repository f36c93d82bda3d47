"""Hostile words stay words, the policy lets nothing in, and one file works with no server and no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polyhead.lens.page.bundle import page
from polyhead.lens.page.export import export
from tests.hostile import HOSTILE
from tests.page import scenes
from tests.page.conftest import Opened

Look = Callable[..., Opened]
VIEWS = ("map", "lines", "text", "table", "heads")


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_words_stay_words(view: str, look: Look):
    seen = look("hostile", f"view={view}&query=1&key=0")
    inside = seen.page.evaluate(
        """() => ({ scripts: document.scripts.length,
        pictures: document.querySelectorAll('img, iframe, object, embed, a[href^=http]').length,
        bold: document.querySelectorAll('.middle b').length, title: document.title })"""
    )
    assert inside["scripts"] == 1 and inside["pictures"] == 0 and inside["bold"] == 0
    assert "script" in inside["title"]  # as text
    for one in ("<img·src=x·onerror=alert(1)>", "</script>"):
        assert one in seen.page.locator(".readout").inner_text()


def test_what_cannot_be_seen_is_named(look: Look):
    seen = look("hostile", "view=table")
    heads = seen.page.locator(".matrix tbody th").all_inner_texts()
    assert len(heads) == len(HOSTILE)
    said = dict(zip(HOSTILE, heads, strict=True))
    assert said["\x1b[2J"] == "‹ESC›[2J" and said["\n"] == "‹LF›" and said["\u202etxt.exe"] == "‹RLO›txt.exe"
    assert said["\ud800"] == "‹U+D800›" and said[""] == "‹›" and said["\u0301"].startswith("◌")
    shown = seen.page.evaluate("document.body.innerText")
    assert not any(acting in shown for acting in "\x1b\x07\u202e\u2066\u2028\x00")


def test_the_policy_forbids_what_is_not_the_pages_own(look: Look):
    seen = look("text")
    for attempt in (
        "const s = document.createElement('script'); s.textContent = 'window.came = 1'; document.body.append(s)",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.came = 2\">')",
        "setTimeout('window.came = 3', 0)",
    ):
        seen.page.evaluate(f"() => {{ try {{ {attempt} }} catch {{}} }}")
    seen.settle()
    assert seen.page.evaluate("window.came") is None
    assert seen.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'came', () => 'refused')") == "refused"
    assert seen.complaints, "the browser said nothing against it"
    seen.complaints.clear()
    seen.abroad.clear()


@pytest.mark.parametrize("name", ["text", "both", "image", "audio", "hostile"])
def test_one_file_is_the_same_page(name: str, look: Look, tmp_path: Path):
    (tmp_path / "world").mkdir()
    answers = scenes.SCENES[name](tmp_path / "world")
    export(answers, tmp_path / "seen.html", page=page)
    fragment = "call=1&head=1&query=2&key=1"
    alone, live = look(tmp_path / "seen.html", fragment), look(name, fragment)
    for css in ("#sentence", "#readout", ".views", ".links", ".heads"):
        assert alone.text(css) == live.text(css)
    assert alone.page.locator(".head").count() == live.page.locator(".head").count()
    assert not alone.page.locator(".empty").is_visible()


def test_nothing_is_asked_but_of_the_page_itself(look: Look):
    seen = look("audio")
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url))
    seen.press("v", "v", "]", ".", "w", "s", "?")
    assert asked and all(url.startswith((seen.address, "blob:", "data:")) for url in asked)
