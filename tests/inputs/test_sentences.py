"""Sentences of English and Chinese print: borders where a reader sees them, and no character lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyhead.inputs.sentences import clauses, halves, joined, sentences, unwrapped, words

SOUP = st.text(st.sampled_from(list('aZ我。！.!?…,，;；、 \n\t"”)-—3')), max_size=60)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The cat sat. It ran!", ["The cat sat.", "It ran!"]),
        ("He said \"Stop!\" Then he left.", ['He said "Stop!"', "Then he left."]),
        ("(Was it good?) It was...", ["(Was it good?)", "It was..."]),
        ("It costs 3.14 dollars. 5 are left.", ["It costs 3.14 dollars.", "5 are left."]),
        ("Dr. Smith met J. R. Hill, i.e. Bob.", ["Dr. Smith met J. R. Hill, i.e. Bob."]),
        ("See Fig. 3 and No. 5. Or no. Well.", ["See Fig. 3 and No. 5.", "Or no.", "Well."]),
        ("So did I. You too?", ["So did I.", "You too?"]),
        ("Wait... but no. Well.", ["Wait... but no.", "Well."]),
        ("see polyhead.attention. then go", ["see polyhead.attention. then go"]),
        ("A line\nthat goes on. A title\n\nThe text", ["A line\nthat goes on.", "A title", "The text"]),
        ("我爱吃苹果。你呢？“好！”他说。", ["我爱吃苹果。", "你呢？", "“好！”", "他说。"]),
        ("他买了iPhone 3.5。English too. 好", ["他买了iPhone 3.5。", "English too.", "好"]),
        ("", []),
    ],
)  # fmt: skip
def test_borders_stand_where_sentences_end(text: str, wanted: list[str]) -> None:
    assert [sentence.rstrip() for sentence in sentences(text)] == wanted


def test_what_is_too_long_is_cut_finer() -> None:
    assert clauses("He ran, she sat; 3,000 others，都走了、跑了") == [
        "He ran, ", "she sat; ", "3,000 others，", "都走了、", "跑了",
    ]  # fmt: skip
    assert words("a bc  d") == ["a ", "bc  ", "d"]
    assert halves("abcde") == ["ab", "cde"] and halves("a") == ["a"]


@pytest.mark.parametrize("cut", [sentences, clauses, words, halves])
@given(text=SOUP)
def test_the_parts_together_are_the_text(cut, text: str) -> None:
    assert "".join(cut(text)) == text and all(cut(text))


@pytest.mark.parametrize("text", ["." * 10**5, " " * 10**5, "\n " * 10**5, "a. " * 10**5, '."' * 10**5, "-" * 10**5])
@pytest.mark.timeout(20)
def test_no_text_takes_long(text: str) -> None:
    for cut in (sentences, clauses, words):
        assert "".join(cut(text)) == text


def test_chinese_lines_join_without_a_space() -> None:
    assert unwrapped("我爱\n吃 apples\nand  pears。\n好") == "我爱吃 apples and pears。好"
    assert joined(["我爱。", "你。", "The end.", "All.", "好。"]) == "我爱。你。 The end. All. 好。"
