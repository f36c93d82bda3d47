"""A text goes in; the ids that the model reads, and the words that a learner reads, come out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from polyhead.inputs.tokenizer import Piece
from polyhead.lens.axes import START, Words
from polyhead.lens.draw.words import group, word
from polyhead.lens.language import wide

LONGEST = 64  # pieces of a lesson


@dataclass(frozen=True)
class Cut:
    """A text as the model reads it: ids, one label a piece, and the words that pieces make.

    apart   whether the text was cut where its spaces are, and its tokenizer alone would have cut it elsewhere.
    whole   how many pieces the text has, where it is longer than a lesson and only some of them are read.
    """

    text: str
    ids: list[int]
    labels: list[str]
    words: Words
    apart: bool = False
    whole: int = 0

    def window(self, near: int, longest: int = LONGEST) -> Cut:
        """The part of a long text round one of its words, to be read as if it were all there is; signs at the ends
        stay."""
        n = len(self.ids)
        if n <= longest:
            return self
        return self.chosen(self.around(self.words.pieces[near][0], longest), whole=n)

    def around(self, middle: int, longest: int = LONGEST) -> list[int]:
        """So many pieces round one of them, and the signs at the ends."""
        n, inner = len(self.ids), self.inner
        room = longest - n + len(inner)
        first = min(max(middle - room // 2, inner.start), inner.stop - room)
        return [*range(inner.start), *range(first, first + room), *range(inner.stop, n)]

    @property
    def inner(self) -> range:
        """The pieces between the signs at the ends."""
        signs, n = {*self.signs}, len(self.ids)
        words = [i for i in range(n) if i not in signs]
        return range(words[0], words[-1] + 1) if words else range(n)

    def chosen(self, kept: Sequence[int], whole: int = 0) -> Cut:
        """These pieces alone, in this order; words that lose some of their pieces keep the others. whole: as above."""
        place = {old: new for new, old in enumerate(kept)}
        order = sorted(
            ((label, [place[i] for i in pieces if i in place], w in self.words.signs)
             for w, (label, pieces) in enumerate(zip(self.words.labels, self.words.pieces, strict=True))),
            key=lambda each: each[1][:1],
        )  # fmt: skip
        order = [each for each in order if each[1]]
        words = Words(
            [label for label, _, _ in order],
            [pieces for _, pieces, _ in order],
            [w for w, (_, _, sign) in enumerate(order) if sign],
            self.words.unit,
        )
        return replace(
            self,
            ids=[self.ids[i] for i in kept],
            labels=[self.labels[i] for i in kept],
            words=words,
            whole=whole or self.whole,
        )

    def swapped(self, one: int, other: int) -> Cut:
        """The same text with two of its words in each other's place."""
        order = list(range(len(self.words.pieces)))
        order[one], order[other] = order[other], order[one]
        return self.chosen([i for w in order for i in self.words.pieces[w]])

    def read(self, start: int) -> Cut:
        """What a decoder reads of it: a start sign first, and not the last piece."""
        words = self.words.read()
        return replace(self, ids=[start, *self.ids[:-1]], labels=[START, *self.labels[:-1]], words=words)

    @property
    def signs(self) -> list[int]:
        """The pieces that stand for no characters of the text."""
        return [i for w in self.words.signs for i in self.words.pieces[w]]


def cut(tokenizer: Any, text: str) -> Cut:
    """The pieces of a text. Chinese that is written with spaces is read without them, and cut where they were."""
    chunks = chunks_of(text)
    if len(chunks) == 1:
        return labelled(text, tokenizer.pieces(text))
    plain, pieces, words = "".join(chunks), list[Piece](), list[list[int]]()
    for number, chunk in enumerate(chunks):
        read, offset = tokenizer.read(chunk), sum(map(len, chunks[:number]))
        inner = [
            piece._replace(start=piece.start + offset, end=piece.end + offset)
            for place, (piece, of) in enumerate(zip(read.pieces, read.texts, strict=True))
            if of is not None or (number == 0 and place == 0) or (chunk is chunks[-1] and place > 0)
        ]
        grouped = together(plain, [(piece.start, piece.end) for piece in inner])
        words += [[len(pieces) + i for i in numbers] for numbers in grouped]
        pieces += inner
    alone = [piece.id for piece in tokenizer.pieces(plain)]
    return labelled(plain, pieces, words, apart=alone != [piece.id for piece in pieces])


def labelled(text: str, pieces: Sequence[Piece], words: list[list[int]] | None = None, *, apart: bool = False) -> Cut:
    places = [(piece.start, piece.end) for piece in pieces]
    words = group(text, places) if words is None else words
    names = [word(text, places, numbers) or pieces[numbers[0]].text for numbers in words]
    signs = [w for w, numbers in enumerate(words) if places[numbers[0]][0] == places[numbers[0]][1]]
    labels = [word(text, places, [i]) or piece.text for i, piece in enumerate(pieces)]
    return Cut(text, [piece.id for piece in pieces], labels, Words(names, words, signs), apart)


def chunks_of(text: str) -> list[str]:
    """The text cut at the spaces beside Chinese, which stand there for a reader and not for the model."""
    chunks, begin = list[str](), 0
    for gap in re.finditer(" +", text):
        before, after = text[: gap.start()][-1:], text[gap.end() :][:1]
        if before and after and (wide(before) or wide(after)):
            chunks.append(text[begin : gap.start()])
            begin = gap.end()
    return [*chunks, text[begin:]]


def together(text: str, places: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The pieces of what somebody wrote without a space in it: letters stay together, other characters are apart."""
    words: list[list[int]] = []
    for number, (start, end) in enumerate(places):
        before = places[number - 1] if number else (0, 0)
        letters = end > start and before[1] > before[0] and text[start].isalnum() and text[before[1] - 1].isalnum()
        if words and (letters or start < before[1]):
            words[-1].append(number)
        else:
            words.append([number])
    return words
