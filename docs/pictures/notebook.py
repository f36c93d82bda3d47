"""Take the picture of docs/notebook.md in JupyterLab (pip install jupyterlab): python docs/pictures/notebook.py"""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CODE = 'import polyhead\n\nseen = polyhead.see("我爱吃苹果。")\npolyhead.show(seen, height=560)'
FEW = 128  # colours of the file
TOKEN = "picture"


def written(folder: Path) -> None:
    """A notebook of one cell."""
    cell = {"cell_type": "code", "id": "one", "execution_count": None, "metadata": {}, "outputs": [], "source": CODE}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}
    (folder / "apples.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def served(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """JupyterLab at work on a folder, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = [f"--port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *asked])
    address = f"http://127.0.0.1:{port}"
    for _ in range(60):
        time.sleep(0.5)
        try:
            urllib.request.urlopen(f"{address}/api")
            return server, address
        except OSError:
            continue
    server.terminate()
    raise SystemExit("JupyterLab did not begin to answer")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        written(Path(name))
        server, address = served(Path(name))
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1240, "height": 790}, locale="en-US")
            page.goto(f"{address}/doc/tree/apples.ipynb?token={TOKEN}")
            page.wait_for_selector(".jp-Notebook .jp-Cell")
            page.wait_for_timeout(3000)
            page.keyboard.press("Control+b")  # folds the list of files
            page.locator(".jp-Notebook .cm-content").first.click()
            page.keyboard.press("Shift+Enter")
            page.wait_for_selector("iframe[title]", timeout=120_000)
            inside = page.frame_locator("iframe[title]")
            inside.locator("#page[data-ready]").wait_for()
            inside.locator(".word.who").nth(3).click()
            page.wait_for_timeout(1500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(FEW, kmeans=1, dither=Image.Dither.NONE).save(HERE / "notebook.png", optimize=True)
        finally:
            browser.close()
            server.terminate()


if __name__ == "__main__":
    main()
