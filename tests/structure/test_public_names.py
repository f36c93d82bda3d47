"""`import polyhead` is cheap, and gives exactly the documented names."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import polyhead
from tests.structure.page import PACKAGE, parsed

NAMES = [
    *("attention", "attend", "rows", "explain"),
    *("Causal", "Window", "Prefix", "Lengths", "Segments", "Dense", "Alibi", "Buckets"),
    *("load", "save", "translate", "evaluate", "train", "watch"),
]
HEAVY = ["torch", "numpy", "transformers", "tokenizers", "safetensors", "huggingface_hub", "fastapi"]


def test_the_public_names_are_these():
    assert sorted(polyhead.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(polyhead))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str):
    assert getattr(polyhead, name).__doc__


def test_type_checkers_see_the_same_names_in_the_same_modules():
    tree = parsed(PACKAGE / "__init__.py")
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: statement.module.removeprefix("polyhead.")
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }
    assert typed == polyhead._HOME


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        _ = polyhead.atention  # pyright: ignore[reportAttributeAccessIssue]


def test_no_package_or_module_has_the_name_of_a_public_function():
    there = {path.stem for path in PACKAGE.iterdir()}
    assert not there & set(NAMES)


@pytest.mark.parametrize("code", ["import polyhead", "import polyhead.cli.main"])
def test_importing_loads_nothing_heavy(code: str):
    assert loaded(code) == []


def test_help_loads_nothing_heavy():
    code = "from polyhead.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    assert loaded(code) == []


def loaded(code: str) -> list[str]:
    """Which heavy modules a fresh interpreter holds after running `code`."""
    probe = f"{code}\nimport sys; print('\\n' + ' '.join(m for m in {HEAVY} if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1].split()
