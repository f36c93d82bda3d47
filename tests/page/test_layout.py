"""What is written stays to be read: headings of tables, ends of axes, words beside lines, numbers in cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.page.conftest import FRAME, PHONE, Opened

Look = Callable[..., Opened]


def boxes(seen: Opened, css: str) -> list[dict[str, float]]:
    return seen.page.locator(css).evaluate_all("all => all.map(one => one.getBoundingClientRect().toJSON())")


def test_who_a_row_of_heads_is_stays_beside_its_metrics(look: Look):
    for size in ({"width": 1280, "height": 720}, PHONE):
        seen = look("text", "view=heads&call=6&head=2", size=size)
        before = boxes(seen, ".sortable thead th") + boxes(seen, ".scatter")
        seen.page.evaluate("document.querySelector('.table-pane').scrollLeft = 900")
        seen.settle()
        assert seen.page.evaluate("document.querySelector('.table-pane').scrollLeft") > 200
        for name in ("thead th", "tbody tr:first-child td"):
            part, layer, head, *_ = boxes(seen, f".sortable {name}")
            pane = boxes(seen, ".table-pane")[0]
            assert abs(part["left"] - pane["left"]) < 19 and part["right"] <= layer["left"] + 1
            assert layer["right"] <= head["left"] + 1
        for n, word in enumerate(("part", "layer", "head")):
            over = seen.page.evaluate(
                """n => { const th = document.querySelectorAll(".sortable th")[n];
                const { x, y, width, height } = th.getBoundingClientRect();
                return document.elementFromPoint(x + width / 2, y + height / 2)?.closest('th').textContent; }""",
                n,
            )
            assert over is not None and over.startswith(word)
        assert boxes(seen, ".scatter")[0]["left"] <= before[-1]["left"]
        assert boxes(seen, ".scatter")[0]["right"] > boxes(seen, ".table-pane")[0]["left"] + 200
        assert boxes(seen, ".scatter")[0]["width"] <= boxes(seen, ".table-pane")[0]["width"]


def test_headings_of_patches_can_be_told_apart(look: Look):
    seen = look("image", "view=table&call=0&head=0")
    cut = seen.page.locator(".matrix thead th").evaluate_all(
        "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
    )
    assert cut == []
    assert max(box["height"] for box in boxes(seen, ".matrix thead th")) < 75


def test_the_shorter_side_of_lines_is_on_the_first_screen(look: Look):
    seen = look("both", "call=6&view=lines&side=b", size={"width": 1280, "height": 420})
    who, whom = boxes(seen, ".word.who"), boxes(seen, ".word.whom")
    assert len(who) != len(whom) and who[0]["top"] == whom[0]["top"]


def test_the_ends_of_an_axis_are_told_apart(look: Look):
    seen = look("text", "view=heads")
    names = seen.page.locator("details .row select").first.locator("option").count()
    for n in range(names):
        for at in (0, 1):
            seen.page.locator("details .row select").nth(at).select_option(index=n)
        seen.page.evaluate(FRAME)
        if not seen.page.locator(".scatter").count():
            assert "—" in seen.text(".table-pane details")  # none has both; another may still be chosen
            continue
        low, high, down, up = seen.page.locator(".scatter text:not(.chosen)").all_text_contents()
        assert low != high and down != up


def test_what_enter_finds_is_marked_wherever_the_pointer_rests(look: Look):
    seen = look("text", "call=1")
    seen.press("/")
    seen.page.keyboard.type("L2 H3")
    seen.settle()
    assert seen.page.locator(".found button").count() == 3
    seen.page.locator(".found button").nth(2).hover()
    seen.settle()
    paint: list[Any] = seen.page.locator(".found button").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert paint[0] != paint[1] == paint[2]
    seen.press("Enter")
    assert seen.selection() | {"call": "2", "head": "3"} == seen.selection()


def test_numbers_stay_in_cells_when_the_sentence_is_longer(look: Look):
    seen = look("text", "call=4&head=2&view=map", size={"width": 1280, "height": 690})
    seen.page.evaluate(
        """() => { window.written = []; const write = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...at) { window.written.push(String(text));
        return write.call(this, text, ...at); }; }"""
    )
    lines = seen.page.evaluate("document.querySelector('#sentence').clientHeight")
    seen.press("s")
    assert seen.page.evaluate("document.querySelector('#sentence').clientHeight") > lines
    assert len([text for text in seen.page.evaluate("window.written") if text.isdecimal()]) > 12
