"""The page in a real browser: `make page` runs these tests, and the quick ones need no browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lens.learn.conftest import folder as folder

if "POLYHEAD_PAGE" not in os.environ:  # set by `make page`, which installs the browser
    collect_ignore_glob = ["test_*.py"]
else:
    from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

    from tests.page import scenes

HOME = ("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:", "blob:null", "file://")
# Wait until nothing stirs: for some turns in a row, each of a timer and a frame, no answer was on its way and neither
# the document nor a shadow in it changed; false where that takes longer than so many milliseconds.
STILL = """async (most) => {
    const until = performance.now() + most, watcher = new MutationObserver(() => { stirred = true; });
    const watch = (root) => {
        watcher.observe(root, { attributes: true, characterData: true, childList: true, subtree: true });
        for (const { shadowRoot } of root.querySelectorAll('*')) if (shadowRoot) watch(shadowRoot);
    };
    let still = 0, stirred = true;
    while (still < 5 && performance.now() < until) {
        if (stirred) watch(document);
        stirred = false;
        await new Promise((done) => setTimeout(done, 40));
        await new Promise((done) => requestAnimationFrame(done));
        if (still === 4) await new Promise((done) => requestIdleCallback(done, { timeout: 500 }));
        still = stirred || Number(document.documentElement.dataset.asked ?? 0) ? 0 : still + 1;
    }
    watcher.disconnect();
    return still >= 5;
}"""
FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
LAPTOP, PHONE = {"width": 1280, "height": 720}, {"width": 390, "height": 844}


def settle(page: Any, most: float = 20_000) -> None:
    """Wait until a page, or a frame, has done all that it was asked for, however slow the machine is."""
    assert page.evaluate(STILL, most), f"the page still stirs after {most / 1000:.0f} s"


@dataclass
class Opened:
    """A page in the browser, and whatever it did that it must not do."""

    page: Any
    address: str
    abroad: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def heed(self, url: str) -> None:
        if not url.startswith(HOME):
            self.abroad.append(url)

    def refuse(self, dialog: Any) -> None:
        self.complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def text(self, css: str) -> str:
        return self.page.locator(css).first.inner_text()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.page.evaluate(FRAME)
        self.settle()

    def selection(self) -> dict[str, str]:
        """What the address says."""
        fragment = self.page.evaluate("location.hash").removeprefix("#")
        return dict(pair.split("=", 1) for pair in fragment.split("&") if pair)

    def settle(self) -> None:
        settle(self.page)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    where = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert where, "chromium is not on the PATH; tests/page/chromium.sh installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox", "--font-render-hinting=none"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The address of a live page by the name of its scene, made when it is first asked for."""
    known: dict[str, str] = {}
    servers: list[Any] = []

    def address(name: str) -> str:
        if name not in known:
            server, known[name] = scenes.served(scenes.SCENES[name](tmp_path_factory.mktemp(name)))
            servers.append(server)
        return known[name]

    yield address
    for server, thread in servers:
        server.should_exit = True
        thread.join(5)


@pytest.fixture
def look(browser: Browser, addresses: Callable[[str], str]) -> Iterator[Callable[..., Opened]]:
    """Open a scene, or a file; at the end nothing may have been asked of another host, and nothing complained of."""
    contexts: list[BrowserContext] = []
    opened: list[Opened] = []

    def look(
        name: str | Path, fragment: str = "", *, size: dict[str, int] = LAPTOP, language: str = "en-US", **how: Any
    ) -> Opened:
        context = browser.new_context(
            viewport=ViewportSize(width=size["width"], height=size["height"]),
            locale=language,
            reduced_motion="reduce",
            **how,
        )
        contexts.append(context)
        page: Page = context.new_page()
        address = name.as_uri() if isinstance(name, Path) else addresses(name)
        seen = Opened(page, address)
        opened.append(seen)
        page.on("request", lambda request: seen.heed(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("dialog", lambda dialog: seen.refuse(dialog))
        page.on("console", lambda said: seen.complaints.extend([said.text] * (said.type == "error")))
        page.goto(address + (f"#{fragment}" if fragment else ""))
        page.wait_for_selector("#page[data-ready]")
        seen.settle()
        return seen

    yield look
    for each in opened:
        assert not each.abroad, "asked of somebody else"
        assert not each.complaints
    for context in contexts:
        context.close()
