"""Names of labels: written by name or by number, one or several, found in data or read from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.label_names import LabelNames, found, read_names

EMOTIONS = LabelNames(("joy", "love", "fear", "hope"), separator=",")


@given(st.sets(st.integers(0, 3)))
def test_names_and_numbers_mean_the_same(numbers: set[int]) -> None:
    by_name = ",".join(EMOTIONS.names[n] for n in sorted(numbers))
    by_number = " , ".join(str(n) for n in sorted(numbers))
    assert EMOTIONS.encode(by_name) == EMOTIONS.encode(by_number) == sorted(numbers)


def test_where_a_name_is_a_number_numbers_are_names_only_and_one_label_may_hold_a_comma() -> None:
    assert LabelNames(("1", "0")).encode("0") == [1]
    with pytest.raises(DataError, match="'0' is no label; known: 1, 2, 3"):
        LabelNames(("1", "2", "3")).encode("0")
    with pytest.raises(DataError, match="is no label"):
        EMOTIONS.encode("9" * 5000)
    with pytest.raises(ArgumentError, match="'so, so' holds ','"):
        LabelNames(("so, so", "good"), ",")
    assert LabelNames(("so, so", "good")).encode("so, so") == [0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rage", "'rage' is no label; known: joy, love, fear, hope."),
        ("loev", "Did you mean 'love'?"),
        ("4", "'4' is no"),
    ],
)
def test_what_is_no_label_is_refused_by_name(text: str, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        EMOTIONS.encode(f"joy,{text}")
    assert sentence in str(refused.value)


def test_nothing_is_no_label_where_one_must_hold() -> None:
    assert EMOTIONS.encode(" , ") == []
    with pytest.raises(DataError, match="There is no label where one was expected; known: a, b"):
        LabelNames(("a", "b")).encode(" ")


def test_names_are_found_in_the_data_numbers_by_value() -> None:
    assert found(["b", "a", "b"]) == ("a", "b")
    assert found(["10", "9", "10", "2"]) == ("2", "9", "10")
    assert found(["b,a", "", "c"], ",") == ("a", "b", "c")


def test_names_are_read_from_lists_objects_and_lines(tmp_path: Path) -> None:
    for text in (json.dumps(["a", "b"]), json.dumps({"labels": ["a", "b"], "more": 1}), "a\n\n b \n"):
        (tmp_path / "names").write_text(text, "utf-8")
        assert read_names(tmp_path / "names") == ("a", "b")
    for text in ('{"names": ["a"]}', "[1, 2]", "[", "[]"):
        (tmp_path / "names").write_text(text, "utf-8")
        with pytest.raises(DataError, match="names"):
            read_names(tmp_path / "names")
    with pytest.raises(DataError, match="nowhere"):
        read_names(tmp_path / "nowhere")


def test_two_labels_of_one_name_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'a'"):
        LabelNames(("a", "b", "a"))
