"""axe-core finds nothing to say against any view, light or dark, in both languages, large or small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.page.conftest import LAPTOP, PHONE, Opened

Look = Callable[..., Opened]

CROSS = "call=6&head=2&query=3"
VIEWS = [
    ("text", f"{CROSS}&view=lines"), ("text", f"{CROSS}&key=1&view=map"), ("text", f"{CROSS}&view=text"),
    ("text", f"{CROSS}&view=table"), ("text", "view=heads"), ("both", "call=1&view=map&side=d"),
    ("image", "call=1&head=1&query=6"), ("audio", "call=3&head=0&query=4"), ("long", "call=1&view=text&query=40"),
    ("hostile", "view=map&query=2"), ("aimed", f"{CROSS}&key=1&view=map&weighting=4"),
    ("aimed", f"{CROSS}&view=text&weighting=4"), ("pieces", "call=1&view=distance&query=9&key=4"),
    ("pieces", "call=1&view=text&by=words&query=4"), ("several", "view=map&row=1"),
]  # fmt: skip


def faults(seen: Opened) -> list[Any]:
    found = Axe().run(seen.page).response["violations"]
    return [(one["id"], [node["html"][:120] for node in one["nodes"]][:4]) for one in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("scene", "fragment"), VIEWS)
def test_no_view_has_a_fault(scene: str, fragment: str, theme: str, look: Look):
    assert faults(look(scene, f"{fragment}&theme={theme}")) == []


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "telephone"])
@pytest.mark.parametrize("region", ["Where", "Picture", "Numbers"])
def test_no_region_has_a_fault_in_chinese(region: str, size: dict[str, int], look: Look):
    seen = look("text", "call=6&head=2&query=3&key=1", size=size, language="zh-CN")
    if size is PHONE:
        seen.page.locator(".narrow button").nth(["Where", "Picture", "Numbers"].index(region)).click()
        seen.settle()
    assert faults(seen) == []


def test_the_small_windows_have_none(look: Look):
    for key in ("?", "/"):
        seen = look("text")
        seen.press(key)
        assert faults(seen) == []


def test_motion_and_forced_colours_are_honoured(look: Look):
    seen = look("text", "call=6&head=2&query=3", forced_colors="active")
    moving = seen.page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert moving == 0
    assert faults(seen) == []
