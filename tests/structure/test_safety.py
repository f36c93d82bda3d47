"""What the source never does: run text as code, unpickle, name a model outside its family, name a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyhead.families import ARCHITECTURES
from tests.structure.page import PACKAGE, ROOT, folder_of, parsed, sources

FILES = [pytest.param(file, id=str(file.relative_to(PACKAGE))) for file in sources()]
FAMILIES = set(ARCHITECTURES.values())


@pytest.mark.parametrize("file", FILES)
def test_no_text_is_run_as_code_and_no_pickle_is_trusted(file: Path):
    for node in ast.walk(parsed(file)):
        assert not (isinstance(node, ast.ImportFrom) and node.module == "pickle"), "from pickle: import only its error"
    for call in (node for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ("eval", "exec", "compile", "__import__", "os.system"), f"line {call.lineno}: {name}"
        assert given.get("allow_pickle", "False") == "False", f"line {call.lineno}: allow_pickle"
        assert not name.startswith("pickle.") or name == "pickle.UnpicklingError", f"line {call.lineno}: {name}"
        assert given.get("shell", "False") == "False", f"line {call.lineno}: shell"
        if name == "torch.load":
            assert given.get("weights_only") == "True", f"line {call.lineno}: torch.load without weights_only=True"


@pytest.mark.parametrize("file", FILES)
def test_a_models_name_appears_only_in_its_family(file: Path):
    """In small letters, to clip is what is done to numbers."""
    if folder_of(file) == "families" or file.stem.startswith("by_"):  # what a peer calls its classes is its own affair
        return
    for line, text in names_and_strings(parsed(file)):
        if text.endswith((".json", "ImageProcessor")):  # files, and what they name, are called what they are called
            continue
        words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*", text) if word != "clip"}
        assert not words & FAMILIES, f"line {line}: {text!r}"


def test_every_extra_that_an_error_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for file in sources():
        for call in (node for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "extra" and len(call.args) == 2:
                assert ast.literal_eval(call.args[1]) in extras, f"{file.name} line {call.lineno}"


def test_no_file_of_the_project_names_a_machine_or_a_home():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    private = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt)/\w")
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if file.suffix in (".py", ".md", ".toml", ".txt", ".json", "") and file.is_file():
            text = file.read_text(encoding="utf-8", errors="ignore")
            assert not private.search(text), f"{name}: {private.search(text)}"


def names_and_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name and every string of a file that is code: docstrings and comments may cite whom they like."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.lineno, node.name
