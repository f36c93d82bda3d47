"""A text that is longer than a model reads well becomes portions that end where sentences end, about equally long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from polyhead.inputs.sentences import clauses, halves, sentences, words

Sizes = Callable[[Sequence[str]], list[int]]
"""Texts -> how many tokens each has."""

FINER = clauses, words, halves  # how a sentence is cut that is too long for itself


def portions(text: str, most: int, sizes: Sizes) -> list[str]:
    """The text in as few portions as it takes for each to have at most `most` tokens, and of these the most even.

    Joined they are the text. Only a sentence that is too long by itself is cut: between its clauses, else its words.
    """
    pieces = small(sentences(text), most, sizes)
    tokens = sizes(pieces)
    fewest = len(packed(tokens, most))
    limits = range(max(max(tokens, default=0), 1), most + 1)
    even = bisect_left(limits, -fewest, key=lambda limit: -len(packed(tokens, limit)))
    return ["".join(pieces[i] for i in some) for some in packed(tokens, limits[even] if limits else most)]


def small(
    pieces: Sequence[str], most: int, sizes: Sizes, finer: Sequence[Callable[[str], list[str]]] = FINER
) -> list[str]:
    """The pieces, those of more than `most` tokens cut finer."""
    found: list[str] = []
    for piece, size in zip(pieces, sizes(pieces), strict=True):
        if size <= most or len(piece) < 2:
            found.append(piece)
        else:
            found += small(finer[0](piece), most, sizes, finer[1:] or finer)
    return found


def packed(tokens: Sequence[int], most: int) -> list[range]:
    """Which pieces go together, in their order, so that no more than `most` tokens do."""
    groups, start, held = list[range](), 0, 0
    for place, size in enumerate(tokens):
        if place > start and held + size > most:
            groups.append(range(start, place))
            start, held = place, 0
        held += size
    return [*groups, range(start, len(tokens))] if start < len(tokens) else groups
