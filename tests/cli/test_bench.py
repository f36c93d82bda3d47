"""`polyhead bench`: a table for a person, figures for programs, one picture; what cannot be asked is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Polyhead, refused
from tests.tasks.words import in_folder

QUICK = "--quick", "--threads", 1, "--engine", "polyhead"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "my-encoder"
    in_folder(folder, "BertModel")
    return folder


def test_a_person_sees_a_table_and_gets_a_picture(polyhead: Polyhead, encoder: Path, tmp_path: Path) -> None:
    answer = polyhead("bench", encoder, *QUICK, "--lang", "en", "--plot", tmp_path / "speeds.svg")
    assert answer.code == 0
    assert answer.lines[0] == "my-encoder: 4 texts to turn into vectors"
    assert max(map(len, answer.lines)) <= 80
    told = " ".join(answer.out.split())
    for text in (
        "tokens/s",
        "polyhead fp32",
        "1.00x",
        "polyhead bf16",
        "polyhead int8",
        "1 thread each",
        "A smoke run",
    ):
        assert text in told
    assert "Drawn into" in answer.err
    picture = (tmp_path / "speeds.svg").read_text("utf-8")
    assert "How many times as fast as polyhead fp32" in picture and "polyhead int8" in picture


@pytest.mark.parametrize(("columns", "width"), [("100", 100), ("60", 60), ("0", 80), ("wide", 80)])
def test_what_goes_into_a_pipe_is_as_wide_as_columns_says(
    polyhead: Polyhead, encoder: Path, monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    answer = polyhead("bench", encoder, *QUICK, "--lang", "en")
    assert width - 12 < max(map(len, answer.lines)) <= width


def test_programs_get_every_figure(polyhead: Polyhead, encoder: Path, tmp_path: Path) -> None:
    answer = polyhead("bench", encoder, *QUICK, "--json", "-o", tmp_path / "found.json")
    assert (answer.code, answer.out) == (0, "")
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    [each] = found["comparisons"]
    assert (each["model"], each["work"], each["base"]) == (str(encoder), "embed", "polyhead fp32")
    assert [line["precision"] for line in each["lines"]] == ["fp32", "bf16", "int8"]
    assert each["lines"][0]["ratio"] == 1.0 and each["lines"][1]["agrees"] > 0.99
    assert found["quick"] is True and found["threads"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--json", "--tsv"), "Give --json or --tsv, not both."),
        (("--plot", "speeds.html"), "A figure is written as .png, .svg or .tsv; found speeds.html"),
        (("--plot", "nowhere/speeds.png"), "There is no folder nowhere"),
        (("--engine", "transformer"), "Did you mean 'transformers'?"),
        (("--threads", "0"), "--threads"),
        (("--profile", "--engine", "onnxruntime"), "--profile is for polyhead and transformers; name one of them"),
        (("--rounds", "0"), "--rounds"),
        (("--beam", "none"), "--beam"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    polyhead: Polyhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(polyhead("bench", *words), told)


def test_a_model_that_is_none_and_a_beam_of_no_translator_are_one_sentence(polyhead: Polyhead, encoder: Path) -> None:
    refused(polyhead("bench", "zh-em"), "zh-em")
    refused(polyhead("bench", encoder, "--beam", 2), "--beam is of models that translate; a BertModel does not")


def test_a_model_of_the_hub_is_not_fetched(polyhead: Polyhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    refused(polyhead("bench", "hf:nobody/nothing"), "is not on this machine", "polyhead info hf:nobody/nothing")
