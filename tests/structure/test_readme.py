"""What the READMEs show is there: their Python runs, their commands and links exist, and both say the same."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

import pytest
import typer.main

from polyhead.cli.main import app
from tests.structure.page import ROOT

READMES = ("README.md", "README.zh.md")
each = pytest.mark.parametrize("name", READMES)


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)


@each
def test_its_python_runs(name: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks(name, "python"):
            exec(compile(block, name, "exec"), {})
    assert "fused" in printed.getvalue()


@each
def test_its_commands_exist_with_their_options(name: str) -> None:
    verbs = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    shown = [line for block in blocks(name, "sh") for line in block.splitlines() if line.startswith("polyhead ")]
    assert shown
    for line in shown:
        _, verb, *words = shlex.split(line, comments=True)
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        asked = {word for word in words if re.fullmatch(r"--?[a-z-]+", word)}
        assert asked <= known, f"{line}: {asked - known}"


@each
def test_its_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text("utf-8")):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_both_show_the_same_commands_and_figures() -> None:
    def shown(name: str) -> tuple[list[str], list[str], int]:
        text = (ROOT / name).read_text("utf-8")
        commands = [line.partition("#")[0].strip() for block in blocks(name, "sh") for line in block.splitlines()]
        figures = re.findall(r"\b\d[\d,]*(?:\.\d+)?\b", text, re.ASCII)
        return commands, sorted(figures), len(re.findall("^## ", text, re.MULTILINE))

    assert shown(READMES[0]) == shown(READMES[1])
