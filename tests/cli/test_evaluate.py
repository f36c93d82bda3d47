"""`polyhead evaluate`: scores with signatures, of the rows that were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyhead.cli.evaluate import filters, sides
from polyhead.errors import ArgumentError
from tests.cli.conftest import Polyhead, refused


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "test.tsv"
    file.write_text("I love\t我爱\tsimp\nrain\t雨\tsame\nrain\t雨\ttrad\n", encoding="utf-8")
    return file


def test_scores_come_with_their_signatures(polyhead: Polyhead, model: Path, pairs: Path):
    answer = polyhead("evaluate", pairs, "--columns", "2,1", "-m", model, "--beam", 1)
    assert answer.code == 0
    for text in ("BLEU", "chrF", "tok:13a", "case:mixed", "3 lines"):
        assert text in answer.out


def test_rows_are_chosen_by_a_column(polyhead: Polyhead, model: Path, pairs: Path, tmp_path: Path):
    out = tmp_path / "out.txt"
    how = ["--columns", "2,1", "--where", "3=simp,same", "-m", model, "--json", "-o", out]
    answer = polyhead("evaluate", pairs, *how)
    scores = json.loads(answer.out)
    assert scores["n"] == 2
    assert {"bleu", "chrf", "bleu_signature", "chrf_signature"} < set(scores)
    assert len(out.read_text("utf-8").splitlines()) == 2


def test_two_parallel_files_are_read_side_by_side(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "a.zh").write_text("雨\n我爱\n", encoding="utf-8")
    (tmp_path / "a.en").write_text("rain\nI love\n", encoding="utf-8")
    answer = polyhead("evaluate", tmp_path / "a.zh", tmp_path / "a.en", "-m", model, "--json")
    assert json.loads(answer.out)["n"] == 2


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "one.tsv").write_text("雨\n", encoding="utf-8")
    refused(polyhead("evaluate", tmp_path / "none.tsv", "-m", model), "none.tsv")
    refused(polyhead("evaluate", tmp_path / "empty.tsv", "-m", model))
    refused(polyhead("evaluate", tmp_path / "one.tsv", "-m", model), "one.tsv", "1")
    refused(polyhead("evaluate", "a", "b", "c", "-m", model), "3")


def test_columns_and_filters_are_read_as_typed():
    assert sides("2,1") == (2, 1)
    assert sides("zh,en") == ("zh", "en")
    assert filters(["4=simp,same", "kind=x"]) == {4: ["simp", "same"], "kind": ["x"]}
    for wrong in ("1", "1,2,3", "1,"):
        with pytest.raises(ArgumentError, match="--columns"):
            sides(wrong)
    with pytest.raises(ArgumentError, match="--where"):
        filters(["4"])
