"""The page as one text: small, alone, and in both languages."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from pathlib import Path

import pytest

from polyhead.lens.page.bundle import LEARN, STATIC, joined, modules, page, stations

FILES = {file.name: file.read_text(encoding="utf-8") for file in sorted(STATIC.iterdir())}
SCRIPT = joined(STATIC / "main.js")


def test_the_page_is_small():
    assert len(gzip.compress(page().html.encode(), 9)) <= 60_000


def test_what_comes_later_is_small():
    later = stations()
    assert len(later.script.encode()) <= 65_536 and len(later.style.encode()) <= 65_536
    assert len(gzip.compress((later.script + later.style).encode(), 9)) <= 25_000


def test_every_module_is_in_the_page_and_opens_with_a_sentence():
    scripts = {name: text for name, text in FILES.items() if name.endswith(".js")}
    assert {file.name for file in modules(STATIC / "main.js") if file.parent == STATIC} == scripts.keys()
    assert all(text.startswith("// ") for text in scripts.values())


def test_the_joined_script_imports_and_exports_nothing():
    assert not re.search(r"^\s*(import|export)\b", SCRIPT, re.MULTILINE)


@pytest.mark.parametrize("first", [STATIC / "main.js", LEARN / "main.js", LEARN / "inside.js"], ids=str)
def test_no_name_is_given_twice(first: Path):
    given: list[str] = []
    for text in modules(first).values():
        given += re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", text, re.MULTILINE)
        several = re.findall(r"^(?:const|let) (.*)", text, re.MULTILINE)
        given += [name for line in several for name in re.findall(r", (\w+) = ", re.sub(r"[(\[{].*?[)\]}]", "", line))]
    assert sorted(given) == sorted(set(given))


def test_the_policy_names_the_very_script_and_style():
    made = page()
    for tag, rule in (('script type="module"', "script-src"), ("style", "style-src")):
        text = made.html.split(f"<{tag}>")[1].split(f"</{tag.split()[0]}>")[0]
        later = stations().script if "script" in tag else stations().style
        names = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (text, later)]
        assert f"{rule} 'sha256-{names[0]}' 'sha256-{names[1]}';" in made.policy
    assert "unsafe" not in made.policy and "default-src 'none'" in made.policy


def test_nothing_is_fetched_from_anywhere():
    addresses = set(re.findall(r"\bhttps?://[^'\"\s)]+", page().html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_no_text_becomes_markup_or_code():
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
    ):
        assert word not in SCRIPT + stations().script, word


def test_everything_is_said_in_both_languages():
    said = FILES["say.js"].split("const WORDS = {")[1].split("\n};")[0]
    known = dict(re.findall(r"(?:'([^']+)'|\b(?:\w+)): \[", said) and [
        (quoted or bare, pair)
        for quoted, bare, pair in re.findall(r"(?:'([^']+)'|\b(\w+)): \[((?:'(?:[^'\\]|\\.)*'(?:, )?){2})\]", said)
    ])  # fmt: skip
    assert len(known) > 100
    used = set(re.findall(r"\bsay\('([^']+)'", SCRIPT)) | set(re.findall(r"\bicon\('[^']*', '([^']+)'", SCRIPT))
    assert used <= known.keys(), f"not said in both languages: {sorted(used - known.keys())}"
    for name, pair in known.items():
        english, chinese = re.findall(r"'((?:[^'\\]|\\.)*)'", pair)
        assert set(re.findall(r"\{\d\}", english)) == set(re.findall(r"\{\d\}", chinese)), name


def test_answers_cannot_break_out_of_their_script():
    made = page({"scene.json": b"</script><script>alert(1)</script>", "</script><b>": b""})
    held = made.html.split('id="answers">')[1].split("</script>")[0]
    assert "<" not in held
    assert 'http-equiv="Content-Security-Policy"' in made.html and "connect-src" not in made.policy


@pytest.mark.parametrize("first", [STATIC / "main.js", LEARN / "inside.js", LEARN / "main.js"])
def test_no_text_loses_a_blank_on_its_way(first: Path):
    """Blanks go round signs of the code; a sentence that has such a sign must not be written into a module."""
    sent = joined(first)
    quoted = re.compile(r"`(?:[^`\\]|\\.)*`|'((?:[^'\\\n]|\\.)*)'")
    texts = [text for module in modules(first).values() for text in quoted.findall(module)]
    assert len(texts) > 50
    assert [text for text in texts if text not in sent] == []
