"""Portions of a long text: none too long, as few as can be, about equally long, cut where sentences end."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from polyhead.inputs.sentences import sentences
from polyhead.tasks.portions import packed, portions

TEXT = st.text(st.sampled_from(list("abc我。. ,，\n")), max_size=80)


def letters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


@given(text=TEXT, most=st.integers(1, 30))
def test_no_portion_is_too_long_and_nothing_is_lost(text: str, most: int) -> None:
    found = portions(text, most, letters)
    assert "".join(found) == text
    assert all(0 < len(portion) <= most for portion in found)


def test_portions_are_as_few_as_can_be_and_even() -> None:
    text = "One is here. " * 10  # 13 letters each
    found = portions(text, 13 * 9, letters)
    assert letters(found) == [65, 65]  # and not 117 and 13
    assert all(sentence in sentences(text) for portion in found for sentence in sentences(portion))


def test_only_a_sentence_that_is_too_long_by_itself_is_cut() -> None:
    found = portions("Short one. Here it goes on, and on, and on without an end. Short two.", 20, letters)
    assert found == ["Short one. ", "Here it goes on, ", "and on, and on ", "without an end. ", "Short two."]


@given(tokens=st.lists(st.integers(1, 9)), most=st.integers(9, 30))
def test_packs_are_full(tokens: list[int], most: int) -> None:
    groups = packed(tokens, most)
    assert [i for group in groups for i in group] == list(range(len(tokens)))
    sums = [sum(tokens[i] for i in group) for group in groups]
    assert all(total <= most for total in sums)
    assert all(total + tokens[after.start] > most for total, after in zip(sums, groups[1:], strict=False))
