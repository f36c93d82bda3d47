"""docs/generation.md: its commands print what stands below them, its Python runs, its rules exist; in two languages."""

from __future__ import annotations

import re
import shlex

import pytest

from polyhead import generation
from polyhead.tasks import decoder
from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.structure.page import ROOT
from tests.structure.test_readme import blocks

PAGES = ["docs/generation.md", "docs/generation.zh.md"]
polyhead = conftest.polyhead  # the fixture that types commands


def test_its_commands_print_what_stands_below_them(polyhead: Polyhead) -> None:
    shown = list(zip(blocks(PAGES[0], "sh"), blocks(PAGES[0], "text"), strict=True))
    assert len(shown) >= 6
    for commands, text in shown:
        lines = [shlex.split(line) for line in commands.splitlines()]
        assert all(words[:2] == ["polyhead", "translate"] for words in lines)
        assert "".join(polyhead(*words[1:]).out for words in lines) == text


def test_both_languages_show_the_same() -> None:
    for language in ("sh", "text"):
        assert blocks(PAGES[0], language) == blocks(PAGES[1], language)
    codes = [
        re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL))
        for page in PAGES
    ]
    assert {*codes[0]} == {*codes[1]}


@pytest.mark.parametrize("page", PAGES)
def test_its_python_runs_and_its_rules_are_there(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks(page, "python")
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out == "[[2, 3, 4], [2, 3, 4, 4]]\n"
    rows = re.findall(r"^\| `[a-z_]+`.*?\| (.*?) \|", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([A-Z]\w+)`", row)]
    assert len(names) > 12
    assert all(hasattr(generation, name) or hasattr(decoder, name) for name in names)
