"""`import polyhead` is cheap, and gives exactly the documented names."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import polyhead
from polyhead import errors
from polyhead.cli.main import VERBS
from tests.structure.page import PACKAGE, parsed

NAMES = [
    *("attention", "attend", "Observe", "rows", "explain", "value_norms"),
    *("Causal", "Window", "Prefix", "Lengths", "Segments", "Dense", "MaskMod", "ScoreMod", "Alibi", "Buckets"),
    *("load", "save", "watch", "Record", "Recording", "Conversation", "Serving", "figure", "show"),
    *(
        "translate",
        "summarize",
        "complete",
        "classify",
        "answer",
        "embed",
        "search",
        "transcribe",
        "see",
        "learn",
        "heads",
        "experts",
        "evaluate",
        "info",
    ),
    *("train", "convert", "chat", "bench", "shortlist", "Shortlist"),
    *("Greedy", "Beam", "Sample", "Lookup", "DiverseBeam", "ConstrainedBeam", "SampledBeam", "Contrastive"),
    *("PolyheadError", "ArgumentError", "ConfigError", "DataError", "CheckpointError", "WriteError"),
    *("NonFiniteLoss", "MissingExtra"),
]
HEAVY = ["torch", "numpy", "transformers", "tokenizers", "safetensors", "huggingface_hub", "fastapi"]


def test_the_public_names_are_these():
    assert sorted(polyhead.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(polyhead))


def test_every_verb_is_a_function_and_every_error_is_public():
    assert set(VERBS) <= set(NAMES)
    assert all(callable(getattr(polyhead, verb)) for verb in VERBS)
    assert {name for name, value in vars(errors).items() if inspect.isclass(value)} <= {
        *NAMES,
        "Iterable",
        "ModuleType",
    }


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


def test_every_name_is_there_in_a_fresh_interpreter_whatever_was_used_before():
    """Importing a module binds its name in its package, which must not hide a public function."""
    code = f"import polyhead\nfor name in {NAMES}: getattr(polyhead, name)\n"
    code += f"assert not [n for n in {NAMES} if type(getattr(polyhead, n)).__name__ == 'module']"
    assert "torch" in loaded(code)


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
