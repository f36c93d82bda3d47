"""docs/serving.md: its commands and its Python run as they stand there, and both languages show the same."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.structure.test_readme import blocks
from tests.tasks.words import decoder_in_folder

PAGES = ["docs/serving.md", "docs/serving.zh.md"]
polyhead = conftest.polyhead  # the fixture that types commands


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_in_folder(tmp_path / "my-writer", "LlamaForCausalLM", chats=True, max_position_embeddings=300)
    decoder_in_folder(tmp_path / "my-small-writer", "LlamaForCausalLM", chats=True, num_hidden_layers=1)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("world")
def test_its_commands_run(polyhead: Polyhead) -> None:
    lines = [line for block in blocks(PAGES[0], "sh") for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        name, *words = shlex.split(line)
        answer = polyhead(*words)
        assert (name, answer.code) == ("polyhead", 0), (line, answer.err)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("page", PAGES)
def test_its_python_runs(page: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for code in blocks(page, "python"):
            found: dict[str, Any] = {}
            exec(compile(code, page, "exec"), found)
    assert re.search(r"\d+ of \d+ proposed tokens were taken; \d+ tokens in \d+ passes", out.getvalue())


def test_both_languages_show_the_same() -> None:
    def shown(page: str) -> list[str]:
        return [re.sub("#.*", "", block) for kind in ("sh", "python", "text") for block in blocks(page, kind)]

    assert shown(PAGES[0]) == shown(PAGES[1])
