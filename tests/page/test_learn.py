"""The lesson in a real browser: its numbers are Python's, its parts answer to keys, and nothing is asked of anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyhead.lens.learn.caught import caught, without_places
from polyhead.lens.learn.lesson import Lesson, learn, swapped
from polyhead.lens.learn.working import Breaks, Working, work
from tests.hostile import HOSTILE
from tests.lens.learn.worlds import PARTS, text_of
from tests.page.conftest import FRAME, settle

Browser = Any
Page = Any
SOURCE = "我 爱 吃 苹果 。"
STAGES = """() => {
    const v = lesson.view(), list = (x) => Array.from(x, (r) => Array.from(r));
    const rows = v.rows.map((_, i) => i);
    return { raw: list(v.stages.raw), scaled: list(v.stages.scaled), weights: list(v.stages.weights),
        found: v.all.map(list), output: list(rows.map(v.output)), stream: list(rows.map(v.stream)),
        out: v.lesson.outFeatures };
}"""


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open the page of a lesson with the network off; at the end it has asked nobody and complained of nothing."""
    contexts: list[Any] = []
    asked: list[str] = []
    complaints: list[str] = []

    def show(lesson: Lesson, fragment: str = "", *, width: int = 1280, **how: Any) -> Page:
        file = tmp_path / "lesson.html"
        lesson.save(file)
        options = {"reduced_motion": "reduce", "offline": True, "viewport": {"width": width, "height": 800}} | how
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.goto(file.as_uri() + fragment)
        page.wait_for_selector(".learn .station h2")
        return page

    yield show
    assert all(url.startswith("file://") for url in asked)
    assert not complaints
    for context in contexts:
        context.close()


def agree(page: Page, working: Working, head: int, stream: Any, rtol: float = 1e-5) -> None:
    """What the browser worked is what Python works, up to the rounding of the numbers on the page."""
    found = page.evaluate(STAGES)
    size = np.abs(working.raw[head]).max()
    np.testing.assert_allclose(found["raw"], working.raw[head], rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(found["scaled"], working.scaled[head], rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(found["weights"], working.weights[head], atol=10 * rtol)
    for name, wanted in (
        ("found", working.found), ("output", working.output[:, found["out"]]), ("stream", stream[:, found["out"]]),
    ):  # fmt: skip
        np.testing.assert_allclose(found[name], wanted, rtol=10 * rtol, atol=10 * rtol * np.abs(wanted).max())


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_the_browser_works_the_same_numbers(show: Any, folder: Any, kind: str, part: Any):
    lesson = learn(text_of(kind), model=folder(kind), part=part)
    page = show(lesson)
    met = lesson.caught
    agree(page, lesson.working, lesson.head, met.stream)
    page.evaluate("lesson.set({ temperature: 0.5, scale: false })")
    agree(page, work(met, Breaks(temperature=0.5, scale=False)), lesson.head, met.stream, 1e-4)
    page.evaluate("lesson.set({ temperature: 1, scale: true, positions: false })")
    bare = caught(without_places(lesson.loaded.model), lesson.given, lesson.part, lesson.layer)
    agree(page, work(bare), lesson.head, bare.stream)
    if part != "cross":
        page.evaluate("lesson.set({ positions: true, mask: true })")
        agree(page, work(met, Breaks(mask=True)), lesson.head, met.stream)
        page.evaluate("lesson.set({ mask: false })")
        agree(page, work(met, Breaks(mask=False)), lesson.head, met.stream)


def test_a_head_off_and_two_words_swapped_are_as_python_has_them(show: Any):
    lesson = learn(SOURCE)
    page = show(lesson)
    page.check("[data-break=head]")
    agree(page, work(lesson.caught, Breaks(heads_off=(lesson.head,))), lesson.head, lesson.caught.stream)
    page.uncheck("[data-break=head]")
    page.select_option("[data-break=swap]", "0-3")
    source, _ = swapped(lesson.source, 0, 3)
    met = caught(lesson.loaded.model, (source.ids, *lesson.given[1:]), lesson.part, lesson.layer)
    agree(page, work(met), lesson.head, met.stream)
    assert "Apples love me" in page.inner_text(".ends")
    assert page.locator(".pairs.new .top .chip").first.inner_text() == "苹果"


def test_worked_sums_total_what_python_says(show: Any, folder: Any):
    from polyhead.lens.learn.telling import stations

    for lesson in (
        learn(SOURCE),
        learn("the cat sat.", model=folder("qwen3")),
        learn("the cat.", model=folder("t5"), part="cross"),
    ):
        page = show(lesson)
        for place, station in enumerate(stations(lesson, "en"), 1):
            found = page.evaluate(f"lesson.pinned({place}).filter((one) => one.sum)")
            wanted = [(one.about, one.sum) for one in station.worked if one.sum]
            for one, (about, due) in zip(found, wanted, strict=True):
                assert one["about"] == about
                np.testing.assert_allclose(one["sum"]["total"], due.total, rtol=1e-4, atol=1e-6)
                assert one["sum"]["others"] == due.others
                for term, (at, _, product) in zip(one["sum"]["terms"], due.terms, strict=True):
                    assert term["at"] == at
                    np.testing.assert_allclose(term["product"], product, rtol=1e-4, atol=1e-6)


def test_it_goes_by_keys_alone(show: Any):
    page = show(learn(SOURCE))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".station h2") == "How well do they fit?"
    page.keyboard.press("3")
    assert page.locator("table.sum").count() == 1
    page.keyboard.press("ArrowLeft")
    assert page.locator("table.sum").count() == 3  # a query, a key, a value
    page.keyboard.press("ArrowRight")
    head = page.evaluate("lesson.state.head")
    page.keyboard.press("]")
    assert page.evaluate("lesson.state.head") == head + 1
    page.keyboard.press("1")
    page.focus(".matrix")
    row = page.evaluate("lesson.state.row")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("lesson.state.row") == row + 1
    assert page.evaluate("document.activeElement.className") == "matrix"
    for _ in range(60):  # every control can be reached
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset?.break") == "temperature":
            break
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("lesson.state.temperature") < 1
    assert page.locator(".panels.two").count() == 1
    assert page.evaluate("document.activeElement.dataset.break") == "temperature"


def test_the_address_says_where_one_is(show: Any):
    page = show(learn(SOURCE), "#station=7&zoom=numbers&head=2&row=1&column=3&lang=zh")
    assert page.inner_text(".station h2") == "收集"
    state = page.evaluate("lesson.state")
    assert (state["head"], state["row"], state["column"], state["zoom"]) == (2, 1, 3, "numbers")
    page.click("[data-lang=en]")
    assert "lang=en" in page.evaluate("location.hash")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_an_address_that_means_nothing_is_passed_over(show: Any):
    page = show(learn(SOURCE), "#station=99&head=-1&row=x&zoom=<img>&lang=tlh")
    assert page.evaluate("lesson.state.station") == 1


def test_the_slider_moves_through_the_stations(show: Any):
    page = show(learn(SOURCE), reduced_motion="no-preference")
    page.locator(".ribbon input").evaluate("(s) => { s.value = 5.4; s.dispatchEvent(new Event('input')); }")
    assert page.evaluate("lesson.state.at") == pytest.approx(5.4)
    page.locator(".ribbon input").evaluate("(s) => s.dispatchEvent(new Event('change'))")
    settle(page)
    assert page.evaluate("lesson.state.at") == 5  # by itself, to a whole one


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_width_makes_the_page_wider_than_its_window(show: Any, width: int):
    page = show(learn(SOURCE), width=width)
    for station in range(1, 10):
        for zoom in ("picture", "numbers", "sum"):
            page.evaluate(f"lesson.set({{ station: {station}, zoom: '{zoom}', temperature: 0.5 }})")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (station, zoom)


def test_hostile_words_are_words(show: Any, folder: Any):
    for token in HOSTILE:
        if token.strip() and not any("\ud800" <= c <= "\udfff" for c in token):
            page = show(learn(f"雨 {token[:40]} 雨", model=folder("translator")))
            assert page.locator("#page img, #page iframe, #page script").count() == 0


def test_themes_and_languages_change_what_is_seen(show: Any):
    page = show(learn(SOURCE), color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.select_option(".tools select", "dark")
    assert page.evaluate(ground) != light
    page.click("[data-lang=zh]")
    assert "谁看谁" in page.inner_text(".sentence")
    assert "{" not in page.inner_text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("lang", "width"), [("en", 1280), ("zh", 390)])
def test_axe_finds_no_fault_at_any_station(show: Any, scheme: str, lang: str, width: int):
    from axe_playwright_python.sync_playwright import Axe

    page = show(learn(SOURCE), f"#lang={lang}", width=width, color_scheme=scheme)
    for station in range(1, 10):
        zoom = ("picture", "numbers", "sum")[(station + width) % 3]
        page.evaluate(f"lesson.set({{ station: {station}, zoom: '{zoom}', scale: {str(station % 2 == 0).lower()} }})")
        page.evaluate(FRAME)
        faults = Axe().run(page).response["violations"]
        assert [(f["id"], [n["html"][:120] for n in f["nodes"]][:3]) for f in faults] == [], (station, zoom)
