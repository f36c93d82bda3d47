"""The command: it explains itself, and refuses in one place what it does not know."""

from __future__ import annotations

import subprocess
import sys

import pytest

import polyhead as package
from polyhead.cli.main import VERBS
from tests.cli.conftest import ACTING, Polyhead, refused


def test_help_lists_every_verb(polyhead: Polyhead):
    answer = polyhead("--help")
    assert answer.code == 0
    assert all(f"│ {verb} " in answer.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(polyhead: Polyhead, verb: str):
    answer = polyhead(verb, "--help")
    assert answer.code == 0
    examples = [line.strip() for line in answer.out.partition("Example")[2].splitlines() if f"polyhead {verb} " in line]
    assert examples
    assert all(line.count(f"polyhead {verb} ") == 1 for line in examples)


@pytest.mark.parametrize(
    ("verb", "usage"),
    [
        ("evaluate", "[OPTIONS] FILE..."),
        ("see", "[OPTIONS] [TEXT]..."),
        ("classify", "[OPTIONS] [TEXT]..."),
        ("answer", "[OPTIONS] [QUESTION] [PASSAGE]"),
        ("convert", "[OPTIONS] MODEL OUT"),
    ],
)
def test_a_usage_line_tells_what_is_needed_and_what_is_not(polyhead: Polyhead, verb: str, usage: str):
    line = next(line for line in polyhead(verb, "--help").out.splitlines() if "Usage:" in line)
    assert line.strip() == f"Usage: polyhead {verb} {usage}"


def test_the_version_is_the_packages(polyhead: Polyhead):
    assert polyhead("--version").out == f"{package.__version__}\n"


def test_the_package_runs_as_the_command_does():
    ran = subprocess.run([sys.executable, "-m", "polyhead", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{package.__version__}\n"


def test_nothing_typed_shows_the_help(polyhead: Polyhead):
    assert polyhead() == polyhead("--help")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tranlsate"], ["'tranlsate'", " See polyhead --help."]),
        (["translate", "--bream", "4"], ["--bream", "--beam", ". See polyhead translate --help."]),
        (
            ["translate", "--beam", "0"],
            ["--beam is 0, but must be a whole number from 1 to 1000. See polyhead translate --h"],
        ),
        (["translate", "--workers=65"], ["--workers is 65, but must be a whole number from 1 to 64. See polyhead tr"]),
        (["translate", "--workers", "two"], ["--workers is 'two', but must be a whole number from 1 to 64."]),
        (["translate", "--diversity", "x"], ["--diversity is 'x', but must be a number."]),
        (["complete", "--max-new", "0"], ["--max-new is 0, but must be a whole number of at least 1."]),
        (["search", "--top", "0"], ["--top is 0, but must be a whole number of at least 1."]),
        (["evaluate", "a", "--threshold", "2"], ["--threshold is 2, but must be a number from 0 to 1."]),
        (
            ["translate", "--precision", "fp16"],
            ["--precision is 'fp16', but must be fp32, bf16 or int8.", "Did you mean"],
        ),
        (["convert", "--to", "gguf", "a", "b"], ["--to is 'gguf', but must be safetensors, ct2 or onnx. See polyhead"]),
        (
            ["heads", "zh-en", "--ablation", "zer"],
            ["--ablation is 'zer', but must be mean, zero or none. Did you mean"],
        ),
        (["see", "a", "--device", "gpu"], ["--device is 'gpu', but must be auto, cpu, cuda, cuda:N or mps."]),
        (["translate", "--device", "cuda:x"], ["--device is 'cuda:x', but must be auto, cpu, cuda, cuda:N or mps."]),
        (["translate", "--workers"], ["--workers", ". See polyhead translate --help."]),
        (["see"], ["TEXT", ". See polyhead see --help."]),
        (["translate", "--[red]\x1b[2J\u202e"], ["--[red]", "‹U+202E›"]),
    ],
)
def test_what_is_mistyped_is_one_sentence(polyhead: Polyhead, words: list[str], told: list[str]):
    answer = polyhead(*words)
    refused(answer, *told)
    assert not set(answer.err) & set(ACTING)


@pytest.mark.parametrize("verb", VERBS)
def test_bytes_that_are_no_text_are_one_sentence(polyhead: Polyhead, verb: str):
    refused(polyhead(verb, "雨\udcff[red]"), "Word 2 of the command, '雨‹U+DCFF›[red]', is not UTF-8")
