"""A real browser opens a page of this machine: when its first picture stands, what it asks for, and its frames."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from typing import Any

from common import serve, stop

WINDOW: Any = {"width": 1440, "height": 900}
WAITS = 60_000  # milliseconds
COUNT_SCRIPT = """() => {
  window.spent = [];
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (run) => ask((time) => {
    const from = performance.now();
    run(time);
    window.spent.push(performance.now() - from);
  });
}"""
PAINTED = "() => document.querySelector('#page')?.dataset.ready"
held: dict[str, Any] = {}


def begin() -> str:
    """Start the browser; its version."""
    from playwright.sync_api import sync_playwright

    where = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if where is None:
        stop("No chromium is on the PATH, and CHROMIUM names none; tests/page/chromium.sh installs it")
    held["playwright"] = sync_playwright().start()
    held["browser"] = held["playwright"].chromium.launch(executable_path=where, args=["--no-sandbox"])
    warm = held["browser"].new_page()  # what every page of a browser that already runs finds there
    warm.set_content("<canvas></canvas>")
    warm.close()
    return held["browser"].version


def first(address: str) -> dict[str, Any]:
    """From asking for an address to the first picture, and to the finer one that takes its place: seconds, and the
    requests that were made until then."""
    page = held["page"] = held["browser"].new_page(viewport=WINDOW)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(address)))
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(PAINTED, timeout=WAITS)
    picture, before = time.perf_counter() - start, len(asked)
    page.wait_for_function("() => document.querySelector('.sampled')?.textContent", timeout=WAITS)
    page.wait_for_load_state("networkidle", timeout=WAITS)
    sizes = page.evaluate(
        "() => performance.getEntriesByType('resource').map((each) => [each.name, each.encodedBodySize])"
    )
    largest = max(sizes, key=lambda each: each[1])
    told = {"requests": len(asked), "largest": largest[1], "path": largest[0].removeprefix(address)}
    return {"picture": picture, "before": before, **told}


def pan(steps: int) -> dict[str, float]:
    """Near enough for single weights, the picture is dragged: milliseconds of script a frame, median and worst."""
    page = held["page"]
    box = page.locator(".map").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    for _ in range(14):
        page.mouse.wheel(0, -120)
        page.wait_for_timeout(30)
    page.wait_for_timeout(1500)
    page.evaluate(COUNT_SCRIPT)
    page.mouse.down()
    for step in range(steps):
        page.mouse.move(x - 6 * (step % 40), y - 4 * (step % 40))
    page.mouse.up()
    spent = page.evaluate("() => window.spent")
    page.close()
    return {"frames": len(spent), "median": statistics.median(spent), "worst": max(spent)}


def end() -> None:
    held["browser"].close()
    held["playwright"].stop()


if __name__ == "__main__":
    serve({"begin": begin, "first": first, "pan": pan, "end": end})
