"""The page of a lesson: one file, small, that asks nobody and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyhead.errors import ArgumentError
from polyhead.lens.learn import page
from polyhead.lens.learn.lesson import learn
from polyhead.lens.page import bundle
from tests.hostile import HOSTILE
from tests.lens.learn.worlds import PARTS, text_of

Folder = Callable[[str], Path]
SOURCE = "我 爱 吃 苹果 。"


def lesson_in(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="answers">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(zlib.decompress(base64.b64decode(json.loads(found[1])["lesson.json"])))


def array(coded: dict[str, Any]) -> Any:
    dtype = {"f32": "<f4", "f16": "<f2", "u8": "u1"}[coded["type"]]
    return np.frombuffer(base64.b64decode(coded["data"]), dtype).reshape(coded["shape"]).astype(float)


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_it_holds_what_the_layer_met(folder: Folder, tmp_path: Path, kind: str, part: Any):
    lesson = learn(text_of(kind), model=folder(kind), part=part)
    lesson.save(tmp_path / "lesson.html", lang="zh")
    html = (tmp_path / "lesson.html").read_text("utf-8")
    assert len(html.encode()) < 2_000_000
    held = lesson_in(html)
    plain = held["readings"][0]
    for name in ("x", "query", "key", "value"):
        np.testing.assert_allclose(array(plain[name]), getattr(lesson.caught, name), rtol=1e-6, atol=1e-6)
    met, p, K = lesson.caught, lesson.caught.projections, lesson.width
    for name, weight, bias, read, made in (
        ("q", p.query, p.query_bias, met.x, met.asked), ("k", p.key, p.key_bias, met.memory, met.offered),
        ("v", p.value, p.value_bias, met.memory, met.value),
    ):  # fmt: skip
        kept = held["projections"][name]
        columns = array(kept["columns"])  # [N, F, D]
        assert np.shape(kept["features"]) == (len(made), K) == columns.shape[:2] and weight.shape[1] == len(made) * K
        projected = np.einsum("td,nfd->ntf", read, columns) + (0 if bias is None else array(kept["bias"])[:, None])
        np.testing.assert_allclose(projected, made, rtol=1e-4, atol=1e-4)
    assert held["lang"] == "zh" and held["readings"][1]["kind"] == "positions"
    assert (plain["memory"] is not None) == (part == "cross")
    assert (plain["bias"] is not None) == (kind in ("t5", "bloom") and part != "cross") or kind == "t5"


def test_nothing_in_it_asks_anybody_and_only_its_own_script_and_style_run(folder: Folder):
    html = page.html(learn(SOURCE, model=folder("translator")), "en")
    assert set(re.findall(r"\b(?:src|href|action)\s*=\s*\S*", html)) == {'href="data:,">'}  # no icon is asked for
    assert set(re.findall(r"https?://[^\s\"']+", html)) <= {
        "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/2000/svg",
    }  # fmt: skip
    for asking in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "innerHTML", "eval(", "Function("):
        assert asking not in html
    policy = re.search(r'content="(default-src[^"]*)"', html)
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]
    for tag, name in (("style", "style-src"), ('script type="module"', "script-src")):
        text = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", html, re.DOTALL)
        assert text
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy[1]


@pytest.mark.parametrize("token", [t for t in HOSTILE if t.strip() and not any("\ud800" <= c <= "\udfff" for c in t)])
def test_no_text_can_end_the_data_or_begin_a_script(folder: Folder, token: str):
    html = page.html(learn(f"雨 {token} 雨", model=folder("translator")), "en")
    assert html.count("</script>") == 2 and html.count("<script") == 2
    assert lesson_in(html)["text"]


@pytest.mark.parametrize("first", ["main.js", "inside.js"])
def test_modules_can_stand_in_one_script(first: str):
    """Nothing is imported any more, and no module is left over."""
    script = bundle.joined(bundle.LEARN / first)
    assert not re.search(r"^(?:import|export) ", script, re.MULTILINE)
    own = {*bundle.LEARN.glob("*.js")}
    assert all(file.read_text("utf-8").startswith("// ") for file in own)
    left = own - bundle.modules(bundle.LEARN / first).keys()
    assert {file.name for file in left} == {"main.js", "inside.js"} - {first}


def test_a_page_that_would_be_too_large_carries_less_and_says_so(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    lesson = learn(text_of("t5"), model=folder("t5"), part="encoder")
    around, broken = page.readings(lesson), page.spoken(lesson)
    sizes = [len(page.assembled(page.data(lesson, "en", around, broken, size)).encode()) for size in page.SIZES]
    assert sizes == sorted(sizes, reverse=True)
    monkeypatch.setattr(page, "LARGEST", sizes[1])
    rounded = lesson_in(page.html(lesson, "en"))
    assert rounded["rounded"] is True
    monkeypatch.setattr(page, "LARGEST", sizes[-2])
    least = lesson_in(page.html(lesson, "en"))
    assert least["swapsLeft"] and not any(r["kind"] == "swap" for r in least["readings"])
    monkeypatch.setattr(page, "LARGEST", sizes[-1])
    assert lesson_in(page.html(lesson, "en"))["hasHead"].count(True) == 1
    monkeypatch.setattr(page, "LARGEST", 1000)
    with pytest.raises(ArgumentError, match="shorter"):
        page.html(lesson, "en")


def test_an_unknown_language_is_refused(folder: Folder):
    with pytest.raises(ArgumentError, match="lang must be one of en, zh"):
        page.html(learn(SOURCE, model=folder("translator")), "de")
