"""Weight times gradient in the page: numbers of the recording with signs, in two colours, towards what is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from polyhead.lens.see import Seen, see
from tests.page.conftest import Opened
from tests.page.scenes import TEXT

Look = Callable[..., Opened]
HERE = "call=6&head=2&query=3&key=1&weighting=4"


@pytest.fixture(scope="module")
def seen() -> Seen:
    return see(TEXT, target="answer")


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", ""))


def test_the_read_out_is_the_number_of_the_recording_and_the_sentence_says_of_what(look: Look, seen: Seen):
    exact = seen.recording.entries[6][1]().weights_times_gradients()[0, 2]
    page = look("aimed", f"{HERE}&view=map")
    assert number(page.text(".readout .big")) == pytest.approx(float(exact[3, 1]), rel=2e-3)
    assert "weight × its gradient towards the log-probability of all that was written" in page.text("#sentence")
    links = page.page.locator(".links .number").all_inner_texts()
    order = exact[3].abs().argsort(descending=True)
    assert [number(x) for x in links[:4]] == pytest.approx([float(exact[3, j]) for j in order[:4]], rel=2e-3)
    assert {x[0] for x in links} <= {"+", "−"}
    assert "%" not in "".join(links)
    chinese = look("aimed", f"{HERE}&view=map&lang=zh").text("#sentence")
    assert "权重 × 对所写全部内容的对数概率的梯度" in chinese


def test_the_table_has_every_number_with_its_sign(look: Look, seen: Seen):
    exact = seen.recording.entries[6][1]().weights_times_gradients()[0, 2]
    page = look("aimed", f"{HERE}&view=table")
    cells = [number(x) for x in page.page.locator("table.matrix tbody tr").nth(3).locator("td").all_inner_texts()]
    assert cells == pytest.approx([float(x) for x in exact[3]], rel=1e-2, abs=1e-3 * float(exact.abs().max()))


def test_what_raises_is_orange_and_what_lowers_is_blue(look: Look, seen: Seen):
    """In the text, for whoever has a sign that can be seen."""
    exact = seen.recording.entries[6][1]().weights_times_gradients()[0, 2]
    page = look("aimed", "call=6&head=2&query=3&weighting=4&view=text&theme=light")
    checked = set()
    for j, value in enumerate(exact[3].tolist()):
        if abs(value) < 0.02 * float(exact.abs().max()):
            continue
        style = page.page.locator(f'.plate.key [data-i="{j}"]').get_attribute("style") or ""
        found = re.search(r"background: rgb\((\d+), (\d+), (\d+)\)", style)
        assert found, style
        red, _, blue = map(int, found.groups())
        assert (red > blue) == (value > 0)
        checked.add(value > 0)
    assert checked


def test_the_key_goes_through_all_three_and_sinks_can_be_hidden(look: Look, seen: Seen):
    page = look("aimed", "call=6&head=2&query=3&view=map")
    page.press("w")
    assert page.selection()["weighting"] == "4"
    before = page.page.locator(".links .number").all_inner_texts()
    page.press("s")
    assert "; special tokens hidden" in page.text("#sentence") and "renormalised" not in page.text("#sentence")
    after = page.page.locator(".links .number").all_inner_texts()
    kept = [x for x in before if x in after]
    assert (
        0 < len(kept) < len(before) and after[: len(kept)] == kept
    )  # some are gone, and the others are what they were
    page.press("w")
    assert page.selection()["weighting"] == "0"
    page.press("w")
    assert "weighting" not in page.selection()


def test_without_gradients_the_switch_says_why(look: Look):
    page = look("text", "call=6&head=2&view=map&weighting=4")
    button = page.page.locator("[data-weighting='4']")
    assert button.get_attribute("aria-disabled") == "true" and "--target" in (button.get_attribute("title") or "")
    assert page.page.locator("[data-weighting='1']").get_attribute("aria-pressed") == "true"
    button.click(force=True)
    assert "no gradients were recorded" in page.text(".toast")
    page.press("w", "w")
    assert page.page.locator("[data-weighting='1']").get_attribute("aria-pressed") == "true"


def test_a_file_shows_them_too(look: Look, seen: Seen, tmp_path: Path):
    seen.html(tmp_path / "page.html")
    exact = seen.recording.entries[6][1]().weights_times_gradients()[0, 2]
    page = look(tmp_path / "page.html", f"{HERE}&view=map")
    assert number(page.text(".readout .big")) == pytest.approx(float(exact[3, 1]), rel=2e-3)


def test_differences_of_gradients_are_drawn(look: Look, seen: Seen):
    page = look("aimed", "call=6&head=2&view=map&weighting=4&side=d")
    links = page.page.locator(".links .number").all_inner_texts()
    assert links and any(number(x) for x in links) and "%" not in "".join(links)


@pytest.mark.parametrize("view", ["lines", "map", "text", "table"])
def test_every_view_is_drawn_without_complaint(view: str, look: Look):
    for more in ("", "&sinks=1", "&query=2", "&key=2", "&scale=log", "&heads=6.2,6.3"):
        look("aimed", f"call=6&head=2&weighting=4&view={view}{more}")
