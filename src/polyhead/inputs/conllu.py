"""Treebanks enter (CoNLL-U, gz too), sentences leave: their text, and each word with place, head and relation.

1	the	...	2	det
2	dog	...	3	nsubj
3	ran	...	0	root
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from polyhead.errors import DataError
from polyhead.inputs.readers import read_lines

COLUMNS = 10
ID, FORM, HEAD, RELATION, MISC = 0, 1, 6, 7, 9


class Word(NamedTuple):
    """A word of a sentence.

    start, end: the characters that it stands for. head: the number of the word it depends on, from 0; -1 for the root.
    alone: whether no other word stands for the same characters, as in French `du`, which is two words.
    """

    form: str
    start: int
    end: int
    head: int
    relation: str
    alone: bool


@dataclass(frozen=True)
class Sentence:
    """A sentence with its grammar, and the line of the file it begins in."""

    text: str
    words: tuple[Word, ...]
    line: int


class Row(NamedTuple):
    """A line of a word: its number in the file, its columns, and the token of the text that it is part of."""

    line: int
    columns: list[str]
    token: int


def read_conllu(path: str | Path) -> Iterator[Sentence]:
    """The sentences of a file, one by one. Raises DataError with file and line for what is no CoNLL-U."""
    waiting: list[tuple[int, str]] = []
    found = False
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            waiting.append((number, line))
        elif waiting:
            found = True
            yield sentence(waiting, path)
            waiting = []
    if waiting:
        found = True
        yield sentence(waiting, path)
    if not found:
        raise DataError(f"{path} holds no sentences; give a treebank in CoNLL-U")


def sentence(lines: Sequence[tuple[int, str]], path: str | Path) -> Sentence:
    """One block of lines. Ids with a dash are tokens of several words, those with a dot are words that nobody wrote."""
    text: str | None = None
    rows: list[Row] = []
    tokens: list[tuple[str, bool]] = []  # as they are written, and whether a space follows
    inside = 0  # the last word of the token that was begun
    for number, line in lines:
        if line.startswith("#"):
            name, _, said = line[1:].partition("=")
            text = said.strip() if name.strip() == "text" else text
            continue
        columns = line.split("\t")
        if len(columns) != COLUMNS:
            raise DataError(f"{path} line {number} has {len(columns)} columns, expected {COLUMNS}, set apart by tabs")
        id = columns[ID]
        if "." in id:
            continue
        spaced = "SpaceAfter=No" not in columns[MISC].split("|")
        if "-" in id:
            first, _, last = id.partition("-")
            if not (first.isdecimal() and last.isdecimal() and int(first) == len(rows) + 1 <= int(last)):
                raise DataError(
                    f"{path} line {number}: '{id}' spans no words that follow; expected {len(rows) + 1}-..."
                )
            inside = int(last)
            tokens.append((columns[FORM], spaced))
            continue
        if not id.isdecimal() or int(id) != len(rows) + 1:
            raise DataError(f"{path} line {number}: word '{id}' where word {len(rows) + 1} was expected")
        if int(id) > inside:
            tokens.append((columns[FORM], spaced))
        rows.append(Row(number, columns, len(tokens) - 1))
    first = lines[0][0]
    if not rows:
        raise DataError(f"{path} line {first}: a sentence without words")
    if text is None:
        text = "".join(form + " " * spaced for form, spaced in tokens).rstrip()
    spans = placed(tokens, text, f"{path} line {first}")
    return Sentence(text, tuple(words(rows, tokens, spans, path)), first)


def placed(tokens: Sequence[tuple[str, bool]], text: str, where: str) -> list[tuple[int, int]]:
    """Where each token stands in the text."""
    spans: list[tuple[int, int]] = []
    at = 0
    for form, _ in tokens:
        while at < len(text) and text[at].isspace() and not form.startswith(text[at]):
            at += 1
        if not text.startswith(form, at):
            raise DataError(f"{where}: '{form}' does not stand in '# text =' where it should, after {at} characters")
        spans.append((at, at + len(form)))
        at += len(form)
    return spans


def words(
    rows: Sequence[Row], tokens: Sequence[tuple[str, bool]], spans: Sequence[tuple[int, int]], path: str | Path
) -> Iterator[Word]:
    """The words with their places: those of one token share it letter by letter if they spell it, else all have it."""
    together: dict[int, list[Row]] = {}
    for row in rows:
        together.setdefault(row.token, []).append(row)
    for token, some in together.items():
        start, end = spans[token]
        spelled = "".join(row.columns[FORM] for row in some) == tokens[token][0]
        for row in some:
            head = row.columns[HEAD]
            if not head.isdecimal() or int(head) > len(rows):
                raise DataError(f"{path} line {row.line}: head '{head}' is no word of the sentence, 0 to {len(rows)}")
            form = row.columns[FORM]
            place = (start, start + len(form)) if spelled else (start, end)
            start = place[1] if spelled else start
            yield Word(form, *place, int(head) - 1, row.columns[RELATION], spelled)
