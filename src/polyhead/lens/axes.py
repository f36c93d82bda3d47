"""Words for the sides of a drawn map: pieces that make one word, or places that are drawn as one, stand together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from polyhead.inputs.tokenizer import Piece
from polyhead.lens import rulers
from polyhead.lens.draw.words import group, word
from polyhead.lens.rulers import Frames, Patches, Ruler

START = "<start>"
MOST = 60  # stretches of a sound that are drawn


@dataclass(frozen=True)
class Words:
    """The words of a text, the pieces that make each of them, and the places that hold a sign and no word."""

    labels: list[str]
    pieces: list[list[int]]
    signs: list[int]
    unit: str = "word"  # or "piece", where each stands for itself

    @classmethod
    def of(cls, text: str, pieces: Sequence[Piece], *, by_words: bool) -> Words:
        places = [(piece.start, piece.end) for piece in pieces]
        if not by_words:
            return cls([piece.text for piece in pieces], [[i] for i in range(len(pieces))], empty(places), "piece")
        words = group(text, places)
        labels = [word(text, places, numbers) or pieces[numbers[0]].text for numbers in words]
        return cls(labels, words, empty([places[numbers[0]] for numbers in words]))

    @property
    def joined(self) -> bool:
        """Whether some word is made of several pieces."""
        return any(len(numbers) > 1 for numbers in self.pieces)

    def read(self) -> Words:
        """The same words as the decoder reads them: after the start sign, and without the last piece."""
        *words, last = self.pieces
        words += [last[:-1]] if len(last) > 1 else []
        shifted = [[i + 1 for i in numbers] for numbers in words]
        signs = [0, *(i + 1 for i in self.signs if i < len(words))]
        return Words([START, *self.labels[: len(words)]], [[0], *shifted], signs, self.unit)


def axis(ruler: Ruler, start: int, count: int, *, by_words: bool) -> Words:
    """The side of a map whose first place stands at `start` of a ruler."""
    alone = [[i] for i in range(count)]
    match ruler:
        case rulers.Words():
            return axis_of_words(ruler, start, count, by_words=by_words)
        case Patches():
            names = [*ruler.before, *(f"{y},{x}" for y in range(ruler.rows) for x in range(ruler.columns))]
            return Words(names[start : start + count], alone, [*range(len(ruler.before))], "patch")
        case Frames():
            step = ceil(count / MOST) if by_words else 1
            runs = [[*range(i, min(i + step, count))] for i in range(0, count, step)]
            digits = 1 if step * ruler.seconds >= 0.1 else 2
            return Words([f"{(start + run[0]) * ruler.seconds:.{digits}f}s" for run in runs], runs, [], "stretch")
        case rulers.Places():
            return Words([str(start + i) for i in range(count)], alone, [], "place")


def axis_of_words(ruler: rulers.Words, start: int, count: int, *, by_words: bool) -> Words:
    own, places = ruler.labels[start : start + count], ruler.places[start : start + count]
    signs = {place - start for place in ruler.signs}
    runs = group(ruler.text, places) if by_words and places else [[i] for i in range(count)]
    labels = [(word(ruler.text, places, run) if places else "") or own[run[0]] for run in runs]
    return Words(
        labels if by_words else [*own], runs, [i for i, run in enumerate(runs) if run[0] in signs],
        "word" if by_words else "piece",
    )  # fmt: skip


def empty(places: Sequence[tuple[int, int]]) -> list[int]:
    return [i for i, (start, end) in enumerate(places) if start == end]
