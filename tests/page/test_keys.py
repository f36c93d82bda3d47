"""Everything by keyboard alone, and the address brings one back."""

from __future__ import annotations

from collections.abc import Callable

from tests.page.conftest import Opened

Look = Callable[..., Opened]


def test_arrows_move_a_cell_and_brackets_and_points_the_head(look: Look):
    seen = look("text", "call=1&head=2&view=map")
    seen.press("ArrowDown", "ArrowRight")
    assert (seen.selection()["query"], seen.selection()["key"]) == ("0", "1")
    seen.press("ArrowDown", "Shift+ArrowDown")
    assert seen.selection()["query"] == "11"  # the last of 12
    seen.press("]")
    assert seen.selection()["head"] == "3"
    seen.press("[", "[")
    assert seen.selection()["head"] == "1"
    seen.press(".")
    assert seen.selection()["call"] == "2"
    seen.press(",", ",")
    assert seen.selection()["call"] == "0"


def test_undo_and_redo_go_through_what_was_chosen(look: Look):
    seen = look("text", "call=1&head=2&view=map")
    seen.press("]", "]", "w")
    there = seen.selection()
    assert there["head"] == "4" and there["weighting"] == "0"
    seen.press("Control+z", "Control+z", "Control+z")
    assert seen.selection() == {"call": "1", "head": "2", "view": "map"}
    seen.press("Control+Shift+Z", "Control+y", "Control+y")
    assert seen.selection() == there


def test_the_address_brings_one_back(look: Look):
    seen = look("text", "call=1&head=2&view=map")
    seen.press("ArrowDown", "ArrowRight", "s", "w", "]")
    before, said, much = seen.selection(), seen.text("#sentence"), seen.text(".readout .big")
    again = look("text", "&".join(f"{name}={value}" for name, value in before.items()))
    assert (again.selection(), again.text("#sentence"), again.text(".readout .big")) == (before, said, much)


def test_nonsense_in_the_address_does_no_harm(look: Look):
    seen = look(
        "text", "call=999&head=-4&query=1e9&key=%3Cb%3E&view=nothing&scale=x&heads=9.9,0.0&side=d&lang=xx&theme=%22"
    )
    assert "row = the word that looks" in seen.text("#sentence")


def test_a_word_and_a_head_are_found_by_name(look: Look):
    seen = look("text", "call=1&head=2&view=map")
    seen.press("/")
    seen.page.keyboard.type("雨")
    seen.settle()
    seen.press("Enter")
    assert "雨" in seen.text(".readout .said")
    seen.press("/")
    seen.page.keyboard.type("L2 H5")
    seen.settle()
    seen.press("ArrowDown", "Enter")
    assert (seen.selection()["call"], seen.selection()["head"]) == ("2", "5")


def test_help_opens_closes_and_gives_the_focus_back(look: Look):
    seen = look("text")
    seen.page.get_by_role("button", name="Help").focus()
    seen.press("Enter")
    assert seen.page.locator("dialog[open]").count() == 1
    seen.press("Escape")
    assert seen.page.locator("dialog[open]").count() == 0
    assert seen.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Help"


def test_every_control_is_reached_by_tab_and_shows_that_it_is(look: Look):
    seen = look("text", "call=6&head=2&view=map&query=1&key=1")
    reached: set[str] = set()
    for _ in range(90):
        seen.page.keyboard.press("Tab")
        name, shown = seen.page.evaluate(
            """() => { const at = document.activeElement, style = getComputedStyle(at);
            return [at.getAttribute('aria-label') || at.textContent || at.className,
            style.outlineStyle !== 'none' || at === document.body]; }"""
        )
        assert shown, f"nothing shows that {name!r} has the focus"
        reached.add(name.strip())
    for name in (
        "Undo",
        "Find",
        "中文",
        "Light or dark",
        "Help",
        "map",
        "lines",
        "text",
        "table",
        "weight",
        "Zoom in",
        "TSV",
        "copy numbers",
        "Why is this not an explanation?",
    ):
        if name != "Undo":  # which there is nothing for
            assert name in reached, f"{name} cannot be reached; reached are {sorted(reached)}"


def test_heads_are_walked_by_arrows_in_the_atlas(look: Look):
    seen = look("text", "call=0&head=0")
    seen.page.locator(".head[tabindex='0']").focus()
    seen.press("ArrowRight", "ArrowRight")
    assert seen.selection()["head"] == "2"
    seen.press("ArrowDown")
    assert (seen.selection()["call"], seen.selection()["head"]) == ("1", "2")


def test_what_is_looked_at_is_read_out_and_stands_in_a_table(look: Look):
    seen = look("text", "call=1&head=2&view=map")
    live = seen.page.locator("#readout")
    assert live.get_attribute("aria-live") == "polite"
    seen.press("ArrowDown", "ArrowDown", "ArrowRight")
    assert "looks at" in live.inner_text() and "%" in live.inner_text()
    assert "readout" in (seen.page.locator(".map").get_attribute("aria-describedby") or "")
    seen.page.get_by_role("button", name="as table").click()
    seen.settle()
    table = seen.page.locator("table.matrix")
    assert table.locator("tbody tr").count() == 12 and table.locator("tbody th[scope=row]").count() == 12
