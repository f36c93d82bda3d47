"""A lesson in the terminal: within its width, in line, in both languages, and every sum as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.language import language
from polyhead.lens.learn.lesson import Lesson, learn
from polyhead.lens.learn.said import filled, say, sentences
from polyhead.lens.learn.telling import linked, numbers, small, stations
from polyhead.lens.learn.terminal import folded
from tests.hostile import HOSTILE
from tests.lens.learn.worlds import PARTS, text_of

Folder = Callable[[str], Path]
SOURCE = "我 爱 吃 苹果 。"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_every_kind_of_model_fits_the_width_in_both_languages(folder: Folder, kind: str, part: Any, lang: str):
    lesson = learn(text_of(kind), model=folder(kind), part=part, temperature=0.5)
    for width in (80, 60):
        lines = lesson.draw(lang=lang, canvas=Canvas(width=width)).plain.split("\n")
        assert max(map(cell_len, lines)) <= width
        assert not re.search(r"\{\w+\}", "\n".join(lines))
    titles = [station["title"] for station in sentences(lang)["stations"]]
    assert [line[3:] for line in lines if re.match(r"[1-9]  ", line)][:9] == titles


def test_a_table_with_chinese_stands_in_line(folder: Folder):
    lines = learn(SOURCE, model=folder("translator")).draw().plain.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("6  "))
    rows = [line for line in lines[start : start + 20] if re.search(r"0\.\d{4}", line)][:5]
    ends = [[cell_len(line[: found.end()]) for found in re.finditer(r"\d\.\d{4}", line)] for line in rows]
    assert len({tuple(each) for each in ends}) == 1 and len(ends[0]) > 3


def test_printed_weights_are_the_lessons_weights(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"))
    station = stations(lesson, "en")[5]
    np.testing.assert_array_equal([x for _, x in station.grid], lesson.working.weights[lesson.head])
    text = lesson.draw().plain
    assert f"[{lesson.working.weights[lesson.head, lesson.row, lesson.column]:.4f}]" in text
    assert f"computed to {small(lesson.off)}" in text.replace("\n  ", " ")


def test_worked_sums_are_the_numbers_of_their_stations(folder: Folder):
    for kind, part in PARTS:
        lesson = learn(text_of(kind), model=folder(kind), part=part)
        met, w, h, i, j = lesson.caught, lesson.working, lesson.head, lesson.row, lesson.column
        every = stations(lesson, "en")
        sums = [[one.sum.total for one in station.worked if one.sum] for station in every]
        g = h // (met.projections.heads // met.projections.key_heads)
        for total, made in zip(sums[1], (met.asked[h, i], met.offered[g, j], met.value[g, j]), strict=True):
            assert np.isclose(total, made, rtol=1e-9).any()  # a feature as it is projected
        best = np.abs(met.query[h, i] * met.key[g, j]).argmax()  # the one whose product counts most
        np.testing.assert_allclose(sums[1][:2], [met.asked[h, i, best], met.offered[g, j, best]])
        np.testing.assert_allclose(sums[2], met.query[h, i] @ met.key[g, j])
        if np.abs(w.scaled[h, i]).max() <= 30:
            np.testing.assert_allclose(np.exp(w.scaled[h, i][w.visible[h, i]]).sum() / sums[5][0], 1, rtol=1e-9)
        assert np.isclose(sums[6], w.found[h, i]).any()
        f = np.abs(w.parts[h, i]).argmax()
        np.testing.assert_allclose(sums[7], [w.parts[h, i, f], w.output[i, f]])


def test_plain_words_name_the_largest_weight(folder: Folder):
    lesson = learn("the cat sat on the mat.", model=folder("bert"), layer=1, head=1)
    weights, labels = lesson.weights()[1], lesson.columns.words.labels
    spoken = [i for i in range(len(labels)) if i not in lesson.rows.words.signs]
    for i, sentence in zip(spoken, linked(lesson, "en"), strict=True):
        best = int(weights[i].argmax())
        who = "itself" if best == i else f"“{labels[best]}”"
        assert sentence.startswith(f"“{labels[i]}” looks most at {who} ({100 * weights[i].max():.0f} %)")


def test_what_breaks_is_shown_before_and_after(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"), swap=("我", "苹果"), temperature=0.5, heads_off=[1])
    text = lesson.draw().plain
    assert "What if: “我” and “苹果” in each other's place, temperature 0.5, head 1 off" in text.replace("\n", " ")
    assert lesson.broken is not None
    now = lesson.weights_broken()[lesson.head]
    word = next(w for w, pieces in enumerate(lesson.rows.words.pieces) if lesson.row in pieces)
    for x in now[word]:
        assert f"{100 * x:5.1f} %" in text


def test_pieces_are_joined_for_reading_and_said_to_be(folder: Folder):
    assert "pieces" in learn("我 abcI", model=folder("translator")).draw().plain
    assert "several pieces" not in learn("雨", model=folder("translator")).draw().plain


def test_without_answers_they_are_not_there(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"))
    answer = sentences("en")["stations"][5]["answer"][:30]
    assert answer in lesson.draw().plain and answer not in lesson.draw(answers=False).plain


@pytest.mark.parametrize("token", [t for t in HOSTILE if t.strip() and not any("\ud800" <= c <= "\udfff" for c in t)])
def test_no_character_of_a_text_acts_on_the_terminal(folder: Folder, token: str):
    from tests.cli.conftest import ACTING

    for lang in ("en", "zh"):
        text = learn(f"雨 {token} 雨", model=folder("translator")).draw(lang=lang).plain
        assert not set(text) & set(ACTING)


def test_ascii_is_enough(folder: Folder):
    text = learn("the cat sat.", model=folder("gpt2"), scale=False).draw(canvas=Canvas(encoding="ascii")).plain
    text.replace("“", '"').replace("”", '"').encode("ascii", "backslashreplace")
    assert "█" not in text and "■" not in text


def test_small_differences_are_written_out():
    assert [small(x) for x in (1.26e-6, 0.0, 3e-5, 1e-15)] == ["0.000001", "0", "0.00003", "0.000000000001"]


def test_both_languages_say_the_same_things():
    english, chinese = sentences("en"), sentences("zh")
    assert english.keys() == chinese.keys()
    places = lambda text: sorted(set(re.findall(r"\{(\w+)\}", text)))  # noqa: E731
    for key in english.keys() - {"stations"}:
        assert places(english[key]) == places(chinese[key]), key
    for one, other in zip(english["stations"], chinese["stations"], strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() - {"question"}:
            assert places(one[key]) == places(other[key]), (one["name"], key)


def test_every_sentence_is_used_somewhere():
    here = Path(say.__code__.co_filename).parent
    code = "".join(file.read_text("utf-8") for file in [*here.glob("*.py"), *here.glob("static/*.js")])
    for key in sentences("en").keys():
        stem = next(
            (s for s in ("broken_", "part_", "theme_", "zoom_", "switch_", "worked_") if key.startswith(s)), None
        )
        assert key in code or (stem is not None and stem in code), key


def test_a_word_that_looks_like_a_place_stays_as_it_is():
    assert filled("{row} and {col}", row="{col}", col="x") == "{col} and x"


def test_the_language_is_the_persons_or_the_texts(monkeypatch: pytest.MonkeyPatch):
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    for lang, text, wanted in (
        ("zh_CN.UTF-8", "the cat", "zh"), ("en_US.UTF-8", "我爱", "en"), ("C.UTF-8", "我爱", "zh"), ("C", "cat", "en"),
    ):  # fmt: skip
        monkeypatch.setenv("LANG", lang)
        assert language(text) == wanted


def test_lines_break_at_spaces_and_before_no_closing_mark():
    assert folded("one two three", 8) == ["one two", "three"]
    lines = folded("每个头都看到所有的词，但每个词只给它自己的特征。", 10)
    assert all(cell_len(line) <= 11 for line in lines)
    assert not any(line[0] in "，。" for line in lines)
    assert "".join(lines) == "每个头都看到所有的词，但每个词只给它自己的特征。"


def test_the_same_as_values(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"), scale=False)
    found = numbers(lesson, "en")
    assert found["weights"] == lesson.working.weights[lesson.head].tolist()
    assert found["broken"]["what"] == ["scale"] and len(found["stations"]) == 9


def test_printing_a_lesson_prints_it(folder: Folder):
    lesson: Lesson = learn(SOURCE, model=folder("translator"))
    assert str(lesson) == lesson.draw().plain
