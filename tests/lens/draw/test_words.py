"""Pieces become words: letters that meet join, Chinese and punctuation stay apart, and no weight is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polyhead.lens.draw.words import group, merge, word


def test_letters_that_meet_are_one_word():
    text = "I like apples."
    places = [(0, 1), (1, 6), (6, 10), (10, 13), (13, 14), (14, 14)]  # I, like, app, les, ., </s>
    words = group(text, places)
    assert words == [[0], [1], [2, 3], [4], [5]]
    assert [word(text, places, pieces) for pieces in words] == ["I", "like", "apples", ".", ""]


def test_an_apostrophe_within_a_word_does_not_cut_it():
    assert group("I don't", [(0, 1), (1, 5), (5, 7), (7, 7)]) == [[0], [1, 2], [3]]
    assert group("dogs' 'a'", [(0, 4), (4, 5), (6, 8), (8, 9)]) == [[0], [1], [2], [3]]


def test_chinese_pieces_stay_apart():
    assert group("我爱苹果。", [(0, 1), (1, 2), (2, 4), (4, 5), (5, 5)]) == [[0], [1], [2], [3], [4]]


def test_a_piece_that_is_only_a_space_is_not_nothing():
    assert word("a  b", [(0, 1), (1, 2), (2, 4)], [1]) == " "


def test_the_bytes_of_one_character_are_one_word():
    assert group("我𠀀吃", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]) == [[0], [1, 2, 3], [4]]


def test_what_joiners_join_is_one_word():
    family = "a \U0001f468\u200d\U0001f469\u200d\U0001f467 b"  # three people, joined
    assert group(family, [(0, 1), *((i, i + 1) for i in range(2, 7)), (8, 9)]) == [[0], [1, 2, 3, 4, 5], [6]]
    assert group("\U0001f44b\U0001f3fd\U0001f44b", [(0, 1), (1, 2), (2, 3)]) == [[0, 1], [2]]  # a skin's colour
    assert group("❤\ufe0f!", [(0, 1), (1, 2), (2, 3)]) == [[0, 1], [2]]
    assert group("می\u200cخواهم", [(0, 2), (2, 3), (3, 8)]) == [[0, 1, 2]]


def test_a_space_ends_a_word_whichever_piece_holds_it():
    assert group("a b", [(0, 1), (1, 3)]) == [[0], [1]]
    assert group("a b", [(0, 1), (2, 3)]) == [[0], [1]]
    assert group("a b", [(0, 2), (2, 3)]) == [[0], [1]]


@given(st.data())
def test_rows_of_words_still_add_up_to_one(data: st.DataObject):
    T, S = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    weights = np.random.default_rng(T * 7 + S).dirichlet(np.ones(S), size=(2, T))
    rows, columns = data.draw(runs(T)), data.draw(runs(S))
    merged = merge(weights, rows, columns)
    assert merged.shape == (2, len(rows), len(columns))
    np.testing.assert_allclose(merged.sum(-1), 1)


@st.composite
def runs(draw: st.DrawFn, total: int) -> list[list[int]]:
    """0..total-1 cut into runs."""
    parts: list[list[int]] = [[0]]
    for i in range(1, total):
        if draw(st.booleans()):
            parts.append([i])
        else:
            parts[-1].append(i)
    return parts
