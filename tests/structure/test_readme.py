"""What the READMEs show is there: their Python runs, their commands and links exist, and both say the same."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from polyhead.cli.main import app
from tests.structure.page import ROOT

READMES = ("README.md", "README.zh.md")
PAGES = ("docs/attention.md", "docs/attention.zh.md")
each = pytest.mark.parametrize("name", READMES)


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)


@each
def test_its_python_runs(name: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks(name, "python"):
            exec(compile(block, name, "exec"), {})
    assert "compiled" in printed.getvalue()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_from_its_first_example_to_its_last(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks(name, "python"):
            exec(compile(block, name, "exec"), world)
    assert "record" in world


def test_both_pages_show_the_same_code_and_arguments() -> None:
    def shown(name: str) -> tuple[list[str], list[str]]:
        code = [line.partition("#")[0].strip() for block in blocks(name, "python") for line in block.splitlines()]
        rows = re.findall(r"^\| (`\w+`) \|", (ROOT / name).read_text("utf-8"), re.MULTILINE)
        return [line for line in code if "print(f" not in line], rows

    assert shown(PAGES[0]) == shown(PAGES[1])


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
        text = re.sub(
            r"(\d+) 万", lambda n: f"{int(n[1]) / 100:g} million", text
        )  # as Chinese counts: 760 万, 7.6 million
        figures = re.findall(r"\b\d[\d,]*(?:\.\d+)?\b", text, re.ASCII)
        return commands, sorted(figures), len(re.findall("^## ", text, re.MULTILINE))

    assert shown(READMES[0]) == shown(READMES[1])
