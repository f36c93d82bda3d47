"""A page for each verb in two languages: its commands and its Python run as they stand there, and say the same."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.structure.page import ROOT
from tests.structure.test_readme import blocks
from tests.structure.worlds import WORLDS

PAGES = sorted(path.name.removesuffix(".md") for path in (ROOT / "docs/verbs").glob("*.md"))
VERBS = [name for name in PAGES if not name.endswith(".zh")]
polyhead = conftest.polyhead  # the fixture that types commands


def test_every_page_has_its_twin_and_its_world() -> None:
    assert sorted([*VERBS, *(f"{verb}.zh" for verb in VERBS)]) == PAGES
    assert sorted(WORLDS) == VERBS


def commands(page: str) -> list[list[str]]:
    """The words of every command of a page; one line may pipe a text into it: `echo "..." | polyhead ...`."""
    lines = [line for block in blocks(f"docs/verbs/{page}.md", "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.mark.parametrize("verb", VERBS)
def test_its_commands_and_its_python_run(
    verb: str, polyhead: Polyhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WORLDS[verb](tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = commands(verb)
    assert any(words[:2] == ["polyhead", verb] for words in shown)
    for words in shown:
        stdin = b""
        if words[0] == "echo":
            place = words.index("|")
            stdin, words = (" ".join(words[1:place]) + "\n").encode(), words[place + 1 :]
        assert words[0] == "polyhead", words
        answer = polyhead(*words[1:], stdin=stdin)
        assert answer.code == 0, (words, answer.err)
    python, world = blocks(f"docs/verbs/{verb}.md", "python"), dict[str, object]()
    assert python
    with contextlib.redirect_stdout(io.StringIO()):
        for block in python:
            exec(compile(block, f"{verb}.md", "exec"), world)


@pytest.mark.parametrize("verb", VERBS)
def test_both_languages_show_the_same(verb: str) -> None:
    def shown(page: str) -> object:
        text = (ROOT / f"docs/verbs/{page}.md").read_text("utf-8")
        code = [
            line.partition("#")[0].strip() for b in blocks(f"docs/verbs/{page}.md", "python") for line in b.split("\n")
        ]
        return commands(page), code, len(re.findall("^## ", text, re.MULTILINE))

    assert shown(verb) == shown(f"{verb}.zh")


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page: str) -> None:
    file = ROOT / f"docs/verbs/{page}.md"
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8")):
        assert target.startswith("https://") or (file.parent / target).exists(), target
