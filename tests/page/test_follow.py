"""From a cell of the page through its nine stations and back: by key, with the run's own numbers, and offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import PHONE, Opened
from tests.page.scenes import translated

Look = Callable[..., Opened]
CELL = "call=1&head=2&query=3&key=1&view=map"


def opened(look: Look, fragment: str = CELL, **how: Any) -> Opened:
    seen = look("text", f"{fragment}&station=1", **how)
    seen.page.wait_for_selector(".learn .station h2")
    seen.settle()
    return seen


def heading(seen: Opened) -> str:
    return seen.text(".learn .station h2")


def test_a_key_leads_into_the_stations_and_another_one_back(look: Look):
    seen = look("text", CELL)
    before = seen.selection()
    seen.page.focus("canvas.map")
    seen.press("l")
    seen.page.wait_for_selector(".learn .station h2")
    assert heading(seen) == "Words become numbers" and seen.selection()["station"] == "1"
    assert not seen.page.locator(".regions canvas.map").is_visible()
    seen.press("ArrowRight", "ArrowRight")
    assert heading(seen) == "How well do they fit?" and seen.selection()["station"] == "3"
    seen.press("3")
    assert seen.page.locator(".follow table.sum").count() == 1
    seen.press("Escape")
    assert seen.selection() == before
    assert seen.page.locator(".follow").is_hidden() and seen.page.locator("canvas.map").is_visible()
    assert seen.page.evaluate("document.activeElement.className") == "map"


def test_the_button_does_the_same_and_says_why_where_it_cannot(look: Look):
    seen = look("text", "call=1&head=2&query=3&view=map")
    assert seen.page.locator(".on button").is_disabled()
    assert "one who is looked at" in seen.text(".on")
    seen.press("l")
    assert "one who is looked at" in seen.text(".toast") and seen.page.locator(".follow").is_hidden()
    seen.page.evaluate(f"location.hash = '{CELL}'")
    seen.settle()
    seen.page.click(".on button")
    seen.page.wait_for_selector(".learn .station h2")
    seen.page.click(".follow .bar button")
    seen.settle()
    assert seen.page.locator(".follow").is_hidden()
    for scene, reason in (("image", "Only a text"), ("both", "Choose A or B")):
        assert reason in look(scene, f"{CELL}&side={'d' if scene == 'both' else ''}").text(".on")


def test_two_that_stand_too_far_apart_cannot_be_followed_and_the_page_says_why(look: Look):
    seen = look("window", "call=0&query=70&key=3&view=map")
    assert seen.page.locator(".on button").is_disabled() and "67 pieces apart" in seen.text(".on")
    seen.press("l")
    assert "at most 64 are" in seen.text(".toast") and seen.page.locator(".follow").is_hidden()


@pytest.mark.parametrize("how", [{}, {"size": PHONE}], ids=["laptop", "telephone"])
@pytest.mark.parametrize(("query", "key"), [(40, 39), (65, 3), (40, 2)])
def test_of_a_long_text_both_words_are_seen_and_what_is_read_of_it(
    look: Look, query: int, key: int, how: dict[str, Any]
):
    seen = look("window", f"call=0&query={query}&key={key}&view=map&station=1", **how)
    seen.page.wait_for_selector(".learn .station h2")
    seen.settle()
    assert "The model reads 64 of them here" in seen.text(".follow .bar")
    box = seen.page.locator(".follow .pairs").bounding_box()
    for side in ("top", "bottom"):
        chip = seen.page.locator(f'.follow .{side} .chip[aria-pressed="true"]').bounding_box()
        assert box["x"] - 1 <= chip["x"] and chip["x"] + chip["width"] <= box["x"] + box["width"] + 1


def test_a_row_of_a_translation_says_what_was_read_and_what_is_written_next(look: Look):
    seen = opened(look, "call=7&head=2&query=3&key=1&view=map")
    rows = translated().scene.parts["chosen"].labels  # type: ignore[union-attr]
    chips = seen.page.locator(".follow .top .chip small").all_inner_texts()
    assert chips == [f"▸ writes {label.strip('▁ ')}" for label in rows]
    said = f"{translated().scene.parts['decoder'].labels[3].strip('▁ ')} ▸ writes {rows[3].strip('▁ ')}"  # type: ignore[union-attr]
    assert said in seen.text(".follow .bar")
    assert (
        seen.page.locator(".follow").get_by_text("writes").count()
        and not opened(look).page.locator(".chip small").get_by_text("writes").count()
    )


@pytest.mark.parametrize("scene", ["text", "window"])
def test_on_a_small_laptop_a_station_is_seen_under_what_is_above_it(look: Look, scene: str):
    seen = look(scene, f"{CELL}&station=2")
    seen.page.wait_for_selector(".learn .station h2")
    seen.settle()
    assert seen.page.locator(".follow .station .panel").bounding_box()["y"] <= 540  # of 720


@pytest.mark.parametrize("call", range(9))
def test_the_weight_there_is_the_weight_of_the_recording(look: Look, call: int):
    seen = opened(look, f"call={call}&head=3&query=2&key=1&weighting=0")
    weights = translated().scene.call(call).weights()[0, 3]
    seen.press("2")
    seen.page.evaluate("location.hash = location.hash.replace('station=1', 'station=6')")
    seen.settle()
    cells = seen.page.locator(".follow table.numbers tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => Number(cell.textContent)))"
    )
    assert cells == [[pytest.approx(float(w), abs=6e-5) for w in row] for row in weights]
    pinned = seen.page.locator(".follow table.numbers td.pin").inner_text()
    assert float(pinned) == pytest.approx(float(weights[2, 1]), abs=6e-5)
    seen.press("3")
    assert f"= {float(weights[2, 1]):.4f}"[:-1] in seen.text(".follow .result")


def test_where_one_goes_there_is_where_one_is(look: Look):
    seen = opened(look)
    seen.press("]")
    seen.page.locator(".follow .bottom .chip").nth(0).click()
    seen.page.locator(".follow .top .chip").nth(5).click()
    seen.settle()
    assert seen.selection() | {"head": "3", "query": "5", "key": "0"} == seen.selection()
    seen.press("Control+z")
    assert seen.selection()["query"] == "3"
    assert seen.page.locator(".follow .top .chip").nth(3).get_attribute("aria-pressed") == "true"


def test_a_key_right_after_an_address_leads_nobody_back(look: Look):
    """Between the two there is no frame in which the stations could hear where the address has led."""
    seen = opened(look)
    seen.page.evaluate(
        """async () => {
        const led = new Promise((done) => addEventListener('hashchange', () => {
            done(document.dispatchEvent(new KeyboardEvent('keydown', { key: '2' })));
        }, { once: true }));
        location.hash = location.hash.replace('station=1', 'station=6');
        await led; }"""
    )
    seen.settle()
    assert seen.selection()["station"] == "6"
    assert seen.text(".learn .station .count") == "6 / 9" and seen.page.locator(".follow table.numbers td.pin").count()


def test_the_address_leads_there_in_the_other_language(look: Look):
    seen = opened(look, f"{CELL}&lang=zh")
    assert heading(seen) == "词变成数"
    seen.page.locator(".icon.wide").click()  # the language
    seen.page.wait_for_selector(".learn .station h2")
    seen.settle()
    assert heading(seen) == "Words become numbers"


@pytest.mark.parametrize("call", [0, 4])
def test_a_file_has_the_lesson_that_it_opens_with_and_no_other(look: Look, tmp_path: Path, call: int):
    run = translated()
    run.html(tmp_path / "page.html")
    opens = run.scene.opens
    seen = look(tmp_path / "page.html", f"call={opens}&head=1&query=2&key=3&view=map", offline=True)
    seen.press("l")
    seen.page.wait_for_selector(".learn .station h2")
    seen.press("2")
    seen.page.evaluate("location.hash = location.hash.replace('station=1', 'station=6')")
    seen.settle()
    weight = float(run.scene.call(opens).weights()[0, 1, 2, 3])
    assert float(seen.page.locator(".follow td.pin").inner_text()) == pytest.approx(weight, abs=6e-5)
    if call != opens:
        seen = look(tmp_path / "page.html", f"call={call}&head=1&query=2&key=3", offline=True)
        assert "does not keep" in seen.text(".on")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("how", [{}, {"size": PHONE, "language": "zh-CN"}], ids=["laptop", "telephone"])
def test_axe_finds_no_fault_there(look: Look, how: dict[str, Any], theme: str):
    from tests.page.test_axe import faults

    seen = opened(look, f"{CELL}&theme={theme}", **how)
    for station in (1, 2, 6, 8):
        seen.page.evaluate(f"location.hash = location.hash.replace(/station=\\d/, 'station={station}')")
        seen.press(str(station % 3 + 1))
        assert faults(seen) == [], station
        assert seen.page.evaluate("document.querySelector('.follow').scrollWidth <= innerWidth")
