"""Processes that answer lines of JSON: what is answered, refused or printed by one arrives here as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyhead import errors
from polyhead.processes import Process

ANSWERS = """
import os, sys
from polyhead import errors
from polyhead.processes import serve

def refuse(kind):
    raise errors.WriteError("here", "full") if kind == "WriteError" else getattr(errors, kind)("as it is")

os.write(1, sys.argv[1].encode())
serve({"double": lambda n: [print("noise", flush=True), 2 * n][1], "nothing": lambda: None, "refuse": refuse})
"""


def process(folder: Path, printed: str = "") -> Process:
    (folder / "answers.py").write_text(ANSWERS, encoding="utf-8")
    made = Process("answers", printed, paths=[folder])
    made.name = "answers"
    return made


def test_answers_come_back_whatever_is_printed_meanwhile(tmp_path: Path) -> None:
    asked = process(tmp_path)
    assert asked.ask("double", n=21) == 42
    assert asked.ask("nothing") is None
    asked.close()


def test_an_error_comes_back_as_the_class_that_it_is(tmp_path: Path) -> None:
    asked = process(tmp_path)
    for kind in (errors.ArgumentError, errors.CheckpointError, errors.ConfigError, errors.DataError):
        with pytest.raises(errors.PolyheadError, match=r"^as it is$") as refused:
            asked.ask("refuse", kind=kind.__name__)
        assert refused.type is kind
    with pytest.raises(errors.PolyheadError, match=r"^here could not be written") as refused:  # it is made of two words
        asked.ask("refuse", kind="WriteError")
    assert refused.type is errors.PolyheadError
    assert asked.ask("double", n=1) == 2
    asked.close()


@pytest.mark.parametrize("printed", ["Welcome to a library!", "[1]", "3", "{}", '{"other": 1}'])
def test_what_a_library_prints_in_the_place_of_an_answer_is_one_sentence(tmp_path: Path, printed: str) -> None:
    asked = process(tmp_path, printed + "\n")
    with pytest.raises(errors.PolyheadError) as told:
        asked.ask("double", n=1)
    assert str(told.value) == f"The process answers printed {printed!r} in the place of its answer"
    asked.close()
