"""Evaluating: pairs and a model give scores, beside the very translations that were scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyhead.errors import ArgumentError, DataError
from polyhead.generation import Greedy
from polyhead.inputs.readers import Source, read
from polyhead.tasks.evaluate import evaluate, score
from polyhead.tasks.load import load
from polyhead.tasks.translator import translate
from tests.tasks.conftest import pairs
from tests.tasks.words import in_folder

PAIRS = pairs(8, seed=6)
SOURCES, REFERENCES = zip(*PAIRS, strict=True)


def test_the_scores_are_those_of_the_translations(trained: Path) -> None:
    heard: list[int] = []
    scores, texts = evaluate(PAIRS, model=trained, progress=heard.append)
    assert texts == [found.text for found in translate(SOURCES, model=trained)]
    assert scores == score(texts, REFERENCES)
    assert sum(heard) == scores.n == len(PAIRS)


def test_a_name_a_folder_and_a_loaded_model_serve_alike(trained: Path) -> None:
    found = evaluate(PAIRS, model=load(trained), beam=1)
    assert found == evaluate(PAIRS, model=str(trained), search=Greedy())


def test_a_source_that_is_too_long_is_named_by_its_line_in_the_file(trained: Path, tmp_path: Path) -> None:
    rows = ["天\tsky", "", "", "天" * 30 + "\tsky"]
    (tmp_path / "test.tsv").write_text("\n".join(rows), "utf-8")
    with pytest.raises(DataError, match="Line 4 has 31 tokens"):
        evaluate(read(Source(path=tmp_path / "test.tsv")), model=trained)


def test_no_pairs_give_no_score(trained: Path) -> None:
    with pytest.raises(DataError, match="0 translations and 0 references"):
        evaluate([], model=trained)


@pytest.mark.parametrize("wrong", [[("天",)], [("天", None)], ["天地"], [5], 5])
def test_what_is_no_pair_is_refused_in_one_sentence(trained: Path, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Pair 1 must be \(source, reference\), two texts, found"):
        evaluate(wrong, model=trained)


@pytest.mark.parametrize("wrong", ["photos", Path("photos"), ""])
def test_a_path_in_place_of_pairs_is_told_how_to_become_pairs(trained: Path, wrong: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"^pairs must be a list of pairs, found '(photos|)'; read those of a file first"
    ):
        evaluate(wrong, model=trained)


@pytest.mark.parametrize("item", [Path("cat.png"), np.zeros((4, 4, 3), np.uint8), None])
def test_pictures_for_a_model_of_texts_are_one_sentence(tmp_path: Path, item: Any) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(ArgumentError, match=r"^Pair 2 holds a \w+, but this model reads texts; give \(text, labels\)"):
        evaluate([("the cat", "a"), (item, "b")], model=tmp_path)


@pytest.mark.parametrize("labels", ["c", ["a", "b"], []])
def test_a_label_that_is_wrong_is_told_what_to_do(tmp_path: Path, labels: Any) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(DataError, match=r"^Pair 1: (.*)\. Mend it, or leave such pairs out\.$"):
        evaluate([("the cat", labels)], model=tmp_path)


def test_labels_may_be_lists_whose_names_hold_what_separates(tmp_path: Path) -> None:
    names = ["red, green", "blue"]
    how: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    in_folder(tmp_path, "BertForSequenceClassification", problem_type="multi_label_classification", **how)
    scores, found = evaluate([("the cat", names), ("not good", [])], model=tmp_path, threshold=0.0)
    assert [each.labels for each in found] and [(one.label, one.n) for one in scores.labels] == [(n, 1) for n in names]
    with pytest.raises(ArgumentError, match="'red, green' holds ','"):
        evaluate([("the cat", "blue")], model=tmp_path)
    assert evaluate([("the cat", "blue")], model=tmp_path, separator="|")[0].n == 1
