"""The command: it explains itself, and refuses in one place what it does not know."""

from __future__ import annotations

import pytest

import polyhead as package
from polyhead.cli.main import VERBS
from tests.cli.conftest import Polyhead


def test_help_lists_every_verb(polyhead: Polyhead):
    answer = polyhead("--help")
    assert answer.code == 0
    assert all(f"│ {verb} " in answer.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(polyhead: Polyhead, verb: str):
    answer = polyhead(verb, "--help")
    assert answer.code == 0
    assert "Example" in answer.out
    assert f"polyhead {verb} " in answer.out


def test_the_version_is_the_packages(polyhead: Polyhead):
    assert polyhead("--version").out == f"{package.__version__}\n"


@pytest.mark.parametrize("words", [["tranlsate"], ["translate", "--bream", "4"], ["translate", "--beam", "0"], ["see"]])
def test_unknown_words_exit_with_2_and_no_traceback(polyhead: Polyhead, words: list[str]):
    answer = polyhead(*words)
    assert answer.code == 2
    assert "Traceback" not in answer.err
