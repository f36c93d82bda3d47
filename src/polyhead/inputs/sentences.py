"""A text enters, its sentences leave, or its clauses or words; joined again they are the text, character by character.

Borders are those of English and Chinese print: a full stop with a space and no small letter behind it, 。！？ anywhere,
an empty line. Where a point may belong to a short form ("Dr. Smith", "e.g. this") there is no border.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from polyhead.inputs.text import clean

HAN = "\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"  # with their punctuation
CLOSING = "\"'”’»)\\]」』）】》"
BORDER = re.compile(
    rf"(?P<western>(?<![.!?…])[.!?…]+[{CLOSING}]*\s+)|(?P<chinese>[。！？｡．]+[{CLOSING}]*\s*)|(?P<empty_line>\n\s*\n\s*)"
)
CLAUSE = re.compile(rf"[,;:][{CLOSING}]*\s+|[，；：、][{CLOSING}]*\s*|\s[-–—]+\s+|——+")
WRAPPED = re.compile(rf"(?<=[{HAN}])[ \t]*\r?\n[ \t]*(?=[{HAN}])")
LAST_WORD = re.compile(r"([^\W\d_]+(?:\.[^\W\d_]+)*)\.$")
SHORT = frozenset(
    "mr mrs ms dr prof st mt rep rev gen col capt lt sgt hon vs etc cf ed eds inc ltd co corp jr sr dept univ jan "
    "feb mar apr jun jul aug sep sept oct nov dec".split()
)
NUMBERED = frozenset("no nos fig figs eq eqs p pp vol ch sec".split())  # words by themselves, unless a number follows


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with the spaces behind it."""
    return cut(text, (found.end() for found in BORDER.finditer(text) if is_border(text, found)))


def clauses(text: str) -> list[str]:
    """What stands between commas and their like."""
    return cut(text, (found.end() for found in CLAUSE.finditer(text)))


def words(text: str) -> list[str]:
    """What stands between spaces."""
    return cut(text, (found.end() for found in re.finditer(r"\s+", text)))


def halves(text: str) -> list[str]:
    """The two halves of what has no border of any kind."""
    return cut(text, [len(text) // 2])


def joined(texts: Sequence[str]) -> str:
    """Texts one after the other, with a space between them unless both sides of it are Chinese."""
    return WRAPPED.sub("", "\n".join(texts)).replace("\n", " ")


def unwrapped(text: str) -> str:
    """A text as one clean line; a line end between Chinese characters was put there to fit a page, and goes."""
    return clean(WRAPPED.sub("", text))


def is_border(text: str, found: re.Match[str]) -> bool:
    """Whether a sentence ends with these marks, and not only a short form or a pause."""
    if found.lastgroup != "western":
        return True
    behind = text[found.end() : found.end() + 9].lstrip("\"'“‘«([")
    if behind[:1].islower():
        return False
    if not (marks := found.group().strip()).startswith(".") or marks.startswith(".."):
        return True
    before = LAST_WORD.search(text[max(0, found.start() - 40) : found.start() + 1])
    return before is None or not is_short_form(before.group(1), behind)


def is_short_form(word: str, behind: str) -> bool:
    """Whether a point after this belongs to it: an initial, letters with points between them, a known short form."""
    known = NUMBERED | SHORT if behind[:1].isdecimal() else SHORT
    return (len(word) == 1 and word != "I") or "." in word or word.lower() in known


def cut(text: str, ends: Iterator[int] | Sequence[int]) -> list[str]:
    """A text cut at these places; nothing is empty."""
    places = [0, *(end for end in ends if 0 < end < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(places) if start < end]
