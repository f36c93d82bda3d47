"""`polyhead learn`: a lesson on the screen, asked, as values and as a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Polyhead, refused

SOURCE = "我 爱 吃 苹果 。"
EN = ["--lang", "en"]


def test_words_may_be_one_argument_or_many(polyhead: Polyhead, model: Path):
    one, many = polyhead("learn", "-m", model, SOURCE, *EN), polyhead("learn", "-m", model, *SOURCE.split(), *EN)
    assert one.code == 0 and one.err == ""
    assert one.out == many.out
    for text in (
        "Who looks at whom",
        "1  Words become numbers",
        "9  And it is added",
        "Heads split the features",
        "Answers",
    ):
        assert text in one.out


def test_chinese_is_spoken_where_it_is_asked_for(polyhead: Polyhead, model: Path):
    assert "谁看谁" in polyhead("learn", "-m", model, SOURCE, "--lang", "zh").out


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (["--no-scale"], "no division by √d"),
        (["--mask"], "what comes later is hidden"),
        (["--no-mask", "--part", "decoder"], "no mask"),
        (["--no-positions"], "no positions"),
        (["--head-off", "0", "--head-off", "1"], "head 0 off, head 1 off"),
        (["--temperature", "0.5"], "temperature 0.5"),
        (["--swap", "我", "苹果"], "“我” and “苹果” in each other's place"),
    ],
)
def test_each_switch_shows_before_and_after(polyhead: Polyhead, model: Path, how: list[str], said: str):
    answer = polyhead("learn", "-m", model, SOURCE, *how, *EN)
    assert answer.code == 0, answer.err
    assert f"What if: {said}" in answer.out
    assert "In the end the model says" in answer.out


def test_a_quiz_asks_at_each_station_and_answers(polyhead: Polyhead, model: Path):
    answer = polyhead("learn", "-m", model, SOURCE, "--quiz", *EN, stdin=b"no idea\n" * 9)
    assert answer.code == 0
    assert answer.out.count("Your answer") == 9 and answer.out.count(" ! ") == 9
    assert polyhead("learn", "-m", model, SOURCE, "--quiz", *EN).code == 0  # nobody answers


def test_values_are_json(polyhead: Polyhead, model: Path):
    found = json.loads(polyhead("learn", "-m", model, SOURCE, "--json", "--layer", 1, "--head", 2, *EN).out)
    assert (found["layer"], found["head"], len(found["stations"])) == (1, 2, 9)
    assert all(abs(sum(row) - 1) < 1e-9 for row in found["weights"])


def test_a_page_is_one_file(polyhead: Polyhead, model: Path, tmp_path: Path):
    answer = polyhead("learn", "-m", model, SOURCE, "--html", tmp_path / "lesson.html", "--lang", "zh")
    assert answer.code == 0 and answer.out == "" and "MB" in answer.err
    assert (tmp_path / "lesson.html").read_text("utf-8").startswith("<!doctype html>")
    refused(polyhead("learn", "-m", model, SOURCE, "--html", tmp_path / "no" / "lesson.html"), "no")


def test_no_colours_where_none_are_wanted(polyhead: Polyhead, model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert "\x1b[" in polyhead("learn", "-m", model, SOURCE).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[38" not in polyhead("learn", "-m", model, SOURCE).out
    assert "\x1b[48" not in polyhead("learn", "-m", model, SOURCE).out


def test_what_cannot_be_learned_is_refused_in_one_sentence(polyhead: Polyhead, model: Path, tmp_path: Path):
    refused(polyhead("learn", "-m", model, "  "), "empty")
    refused(polyhead("learn", "-m", model, SOURCE, "--layer", 9), "layers 0 to 1")
    refused(polyhead("learn", "-m", model, SOURCE, "--no-mask"), "Nothing is hidden")
    refused(polyhead("learn", "-m", model, SOURCE, "--query", "雨"), "the words are 我, 爱")
    refused(polyhead("learn", "-m", model, SOURCE, "--temperature", 0), "above 0")
    refused(polyhead("learn", "-m", model, SOURCE, "--quiz", "--json"), "leave")
    refused(polyhead("learn", "-m", model, SOURCE, "--html", tmp_path / "x", "--json"), "one at a time")
    refused(polyhead("learn", "-m", tmp_path, SOURCE), "config.json")
