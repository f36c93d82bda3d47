"""Pieces of a text become its words again, and the weights of pieces the weights of words."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, int]  # the characters [start, end) of a text
JOINERS = "\u200c\u200d"  # they spell words of some scripts, and emoji


def group(text: str, places: Sequence[Place]) -> list[list[int]]:
    """Which pieces make one word, as lists of piece numbers in their order.

    A piece goes on with the word before it when no space lies between and letters meet (`app` + `les`), or when both
    are fragments of one character (the bytes of a rare 字, the parts of an emoji). Chinese is written without spaces,
    so its pieces stay apart; so do punctuation and empty places (`</s>`).
    """
    words: list[list[int]] = []
    for number, place in enumerate(places):
        if words and _continues(text, places[number - 1], place):
            words[-1].append(number)
        else:
            words.append([number])
    return words


def word(text: str, places: Sequence[Place], pieces: Sequence[int]) -> str:
    """The characters that the pieces of one word stand for, without spaces round them unless there is nothing else."""
    characters = text[places[pieces[0]][0] : places[pieces[-1]][1]]
    return characters.strip() or characters


def merge(
    weights: NDArray[np.floating], rows: Sequence[list[int]], columns: Sequence[list[int]]
) -> NDArray[np.floating]:
    """Weights [..., T, S] of pieces as weights of words: what is looked at adds up, those who look are averaged."""
    merged = np.stack([weights[..., pieces].sum(-1) for pieces in columns], axis=-1)
    return np.stack([merged[..., pieces, :].mean(-2) for pieces in rows], axis=-2)


def _continues(text: str, before: Place, place: Place) -> bool:
    (start, end), (last_start, last_end) = place, before
    if start == end or last_start == last_end:
        return False
    if start < last_end:
        return True  # both lie in one character
    if start > last_end:
        return False
    if text[last_end - 1] in JOINERS or text[start] in JOINERS or "\U0001f3fb" <= text[start] <= "\U0001f3ff":
        return True  # what is joined; an emoji and the colour of its skin
    if unicodedata.category(text[start])[0] == "M":
        return True  # a mark of what is before it
    if not _spelled(text[last_end - 1]):
        return False
    return _spelled(text[start]) or (text[start] in "'’" and end - start > 1)  # don + 't


def _spelled(character: str) -> bool:
    """Whether words are spelled with this character: letters, marks and digits, but not ideographs or kana."""
    if unicodedata.category(character)[0] not in "LMN":
        return False
    return not unicodedata.name(character, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO"))
