"""A text is cut where a person put spaces, and a long one round the word that looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polyhead.lens.learn.cutting import cut
from polyhead.lens.learn.lesson import learn
from polyhead.tasks.load import load

Folder = Callable[[str], Path]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我 爱 吃 苹果 。", ["我", "爱", "吃", "苹果", "。"]),
        ("我爱 吃苹果。", ["我爱", "吃苹果", "。"]),
        ("我 爱 apples 。", ["我", "爱", "apples", "。"]),
        ("我  爱", ["我", "爱"]),
    ],
)
def test_words_given_with_spaces_are_words(folder: Folder, text: str, words: list[str]):
    tokenizer = load(folder("translator")).tokenizer.source
    found = cut(tokenizer, text)
    assert [label for label in found.words.labels if label.strip("·▁ ")] == [*words, "</s>"]
    assert [i for pieces in found.words.pieces for i in pieces] == list(range(len(found.ids)))
    assert found.text == text.replace(" ", "")
    assert found.signs == [len(found.ids) - 1] and found.ids[-1] == tokenizer.eos_id


def test_the_pieces_spell_the_text_and_no_space_is_read(folder: Folder):
    tokenizer = load(folder("translator")).tokenizer.source
    assert tokenizer.decode(cut(tokenizer, "我 爱 吃 苹果 。").ids) == "我爱吃苹果。"


def test_spaces_between_latin_words_stay(folder: Folder):
    tokenizer = load(folder("translator")).tokenizer.source
    assert cut(tokenizer, "I like apples.").ids == tokenizer.encode("I like apples.")


def test_a_cut_that_is_the_tokenizers_own_is_not_said_to_be_another(folder: Folder):
    tokenizer = load(folder("translator")).tokenizer.source
    alone = [piece.text for piece in tokenizer.pieces("我爱吃苹果。")]
    own = " ".join(alone[:-1])
    assert not cut(tokenizer, own).apart
    split = " ".join("我爱吃苹果。")
    assert cut(tokenizer, split).apart == (alone[:-1] != list("我爱吃苹果。"))


def test_signs_around_the_text_stand_once(folder: Folder):
    words = load(folder("bert")).tokenizer
    assert cut(words, "中 the 中 cat").labels.count("[CLS]") == 1
    assert cut(words, "中 the 中 cat").labels[-1] == "[SEP]"


def test_a_long_text_is_cut_round_the_word_that_looks(folder: Folder):
    text = " ".join(["rain"] * 40 + ["apples"] + ["rain"] * 60)
    tokenizer = load(folder("translator")).tokenizer.source
    whole = cut(tokenizer, text)
    part = whole.window(whole.words.labels.index("apples"), 30)
    assert len(part.ids) == 30 and part.whole == len(whole.ids)
    assert "apples" in part.words.labels and part.labels[-1] == "</s>" and part.ids[-1] == tokenizer.eos_id
    assert [i for pieces in part.words.pieces for i in pieces] == list(range(30))
    lesson = learn(text, model=folder("translator"), query="apples")
    assert len(lesson.source.ids) == 64 and lesson.source.whole == len(whole.ids)
    assert (
        lesson.rows.words.labels[next(w for w, p in enumerate(lesson.rows.words.pieces) if lesson.row in p)] == "apples"
    )


def test_swapping_takes_the_pieces_of_a_word_along(folder: Folder):
    found = cut(load(folder("translator")).tokenizer.source, "我 like 吃 苹果")
    moved = found.swapped(0, len(found.words.labels) - 2)
    assert moved.words.labels[0] == "苹果" and moved.words.labels[-2] == "我"
    assert sorted(moved.ids) == sorted(found.ids)
