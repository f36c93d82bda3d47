"""`polyhead evaluate`: scores with signatures, of the rows that were asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import polyhead as library
from polyhead.cli.evaluate import filters, sides
from polyhead.errors import ArgumentError
from tests.cli.conftest import Polyhead, refused
from tests.structure.worlds import classify as world_of_pictures
from tests.tasks.words import in_folder


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


def test_repeated_filters_of_a_column_add_up(polyhead: Polyhead, model: Path, pairs: Path):
    how = ["--columns", "2,1", "--where", "3=simp", "--where", "3=same", "-m", model, "--json"]
    assert json.loads(polyhead("evaluate", pairs, *how).out)["n"] == 2


def test_a_folder_is_refused_by_a_model_that_reads_texts(polyhead: Polyhead, model: Path, tmp_path: Path):
    refused(polyhead("evaluate", tmp_path, "-m", model), "is a folder, but this model reads texts; give a file")


def test_broken_lines_are_left_out_by_choice_and_counted(polyhead: Polyhead, model: Path, tmp_path: Path):
    file = tmp_path / "a\u202e[red].tsv"
    file.write_bytes("雨\train\n\n我爱\n".encode() + b"\xff\tx\n" + "我爱\tI love\n".encode())
    refused(polyhead("evaluate", file, "-m", model), "line 3: has 1 column", "--skip-broken")
    answer = polyhead("evaluate", file, "-m", model, "--skip-broken", "--json")
    scores = json.loads(answer.out)
    assert (answer.code, scores["n"], scores["left_out"]) == (0, 2, 2)
    assert "a‹U+202E›[red].tsv: 2 lines left out: 1 x too few columns (first: " in answer.err
    assert "line 3" in answer.err and "1 x not UTF-8" in answer.err
    shown = polyhead("evaluate", file, "-m", model, "--skip-broken").out
    assert "2 lines of" in shown.replace("\n", " ") and "2 left out" in shown.replace("\n", " ")
    assert "[red].tsv" in shown.replace("\n", "") and "\u202e" not in shown


def test_a_line_beyond_the_models_positions_is_named_by_its_place_in_the_file(
    polyhead: Polyhead, model: Path, tmp_path: Path
):
    (tmp_path / "long.tsv").write_text("雨\train\n\n\n" + "雨" * 80 + "\train\n", encoding="utf-8")
    refused(polyhead("evaluate", tmp_path / "long.tsv", "-m", model), "long.tsv line 4 has 81 tokens")


def test_options_that_would_be_ignored_are_refused(polyhead: Polyhead, model: Path, pairs: Path):
    for how in (["--columns", "1,2"], ["--where", "3=simp"]):
        refused(polyhead("evaluate", pairs, pairs, *how, "-m", model), "two parallel files")
    refused(polyhead("evaluate", pairs, "-m", model, "--device", "cuda:99"), "There is no device 'cuda:99' here")


def test_a_bar_is_shown_to_a_person_and_leaves_no_trace(
    polyhead: Polyhead, model: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
):
    how = "evaluate", pairs, "--columns", "2,1", "-m", model, "--json"
    quiet = polyhead(*how)
    assert quiet.err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seen = polyhead(*how)
    assert seen.out == quiet.out
    assert "evaluating" in seen.err and "3/3" in seen.err


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
    assert filters(["4=simp,same", "kind=x", "4=trad"]) == {4: ["simp", "same", "trad"], "kind": ["x"]}
    for wrong in ("1", "1,2,3", "1,"):
        with pytest.raises(ArgumentError, match="--columns"):
            sides(wrong)
    with pytest.raises(ArgumentError, match="--where"):
        filters(["4"])


def test_labels_are_scored_each_by_itself(polyhead: Polyhead, tmp_path: Path):
    names = {"id2label": {0: "sad", 1: "glad"}, "label2id": {"sad": 0, "glad": 1}}
    in_folder(tmp_path / "model", "BertForSequenceClassification", **names)
    rows = [("the cat sat", "glad"), ("not good", "sad"), ("a bad dog", "sad"), ("good", "glad")]
    (tmp_path / "rows.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in rows), "utf-8")
    found = [library.classify(text, model=tmp_path / "model").labels[0] for text, _ in rows]
    right = sum(said == label for said, (_, label) in zip(found, rows, strict=True))
    how = "evaluate", tmp_path / "rows.tsv", "-m", tmp_path / "model"
    told = json.loads(polyhead(*how, "--json", "-o", tmp_path / "said.txt").out)
    assert (told["n"], told["accuracy"]) == (4, right / 4)
    assert [one["label"] for one in told["labels"]] == ["sad", "glad"]
    assert (tmp_path / "said.txt").read_text("utf-8").splitlines() == found
    shown = polyhead(*how).out
    assert "accuracy" in shown and f"{25 * right:.2f} %" in shown and "4 lines of" in shown.replace("\n", " ")
    refused(polyhead(*how, "--beam", "2"), "beam cannot be given for a BertForSequenceClassification")
    (tmp_path / "rows.tsv").write_text("good\tglad\nbad\tsadd\n", "utf-8")
    refused(polyhead(*how), "rows.tsv line 2: 'sadd' is no label", "Did you mean 'sad'?")


def test_whether_several_labels_may_hold_can_be_said_as_to_classify(polyhead: Polyhead, model: Path, tmp_path: Path):
    """What an error offers is an option of the command."""
    names = {"id2label": {0: "sad", 1: "glad"}, "label2id": {"sad": 0, "glad": 1}}
    in_folder(tmp_path / "model", "BertForSequenceClassification", **names)
    (tmp_path / "rows.tsv").write_text("the cat sat\tglad,sad\nnot good\tsad\n", "utf-8")
    how = "evaluate", tmp_path / "rows.tsv", "-m", tmp_path / "model", "--json"
    told = json.loads(polyhead(*how, "--several", "--threshold", "0").out)
    assert [one["recall"] for one in told["labels"]] == [1, 1] and told["sweep"]
    answer = polyhead(*how, "--beam", "2")
    refused(answer, "it takes several, threshold, separator")
    shown = polyhead("evaluate", "--help").out
    assert all(f"--{name}" in shown for name in ("several", "threshold", "separator"))
    refused(polyhead(*how, "--one"), "line 1: 'glad,sad' is no label", "Mend it, or leave such pairs out.")
    refused(polyhead("evaluate", tmp_path / "rows.tsv", "-m", model, "--several"), "several cannot be given for a Mari")


def test_a_broken_line_of_a_table_of_pictures_names_the_option_that_skips_it(polyhead: Polyhead, tmp_path: Path):
    world_of_pictures(tmp_path)
    (tmp_path / "rows.tsv").write_text("seven.png\tsad\nseven.png\nseven.png\tglad\n", "utf-8")
    how = "evaluate", tmp_path / "rows.tsv", "-m", tmp_path / "my-digits", "--json"
    refused(polyhead(*how), "line 2: has 1 column", "have broken ones skipped (--skip-broken).")
    told = json.loads(polyhead(*how, "--skip-broken").out)
    assert (told["n"], told["left_out"]) == (2, 1)
