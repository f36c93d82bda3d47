"""Labels as people write them, `joy,love` or `3`, become numbers, and the names of a data set's labels are found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polyhead.errors import ArgumentError, DataError, did_you_mean
from polyhead.inputs.text import clean

NAMED = 12  # labels that a message lists


@dataclass(frozen=True)
class LabelNames:
    """The names of labels in the order of their numbers.

    separator: what stands between several labels of one thing; empty where each has exactly one.
    """

    names: tuple[str, ...]
    separator: str = ""

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.names if self.names.count(name) > 1}) if len(self) < 1 << 12 else []
        if twice or not all(self.names):
            raise ArgumentError(f"Every label needs a name of its own; found {', '.join(map(repr, twice)) or repr('')}")
        if self.separator and (torn := [name for name in self.names if self.separator in name]):
            raise ArgumentError(
                f"'{torn[0]}' holds '{self.separator}', which stands between labels; choose another separator"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        return len(self.names)

    def encode(self, text: str) -> list[int]:
        """The numbers of the labels in a text, by name or, where no name is a number, by number. Raises DataError."""
        numbers = sorted({self._number(part) for part in split(text, self.separator)})
        if not (numbers or self.separator):
            raise DataError(f"There is no label where one was expected; known: {self._few()}.")
        return numbers

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([self.names, self.separator]).encode()).hexdigest()

    def _number(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        if name in self._by_number:
            return self._by_number[name]
        raise DataError(f"'{name:.80}' is no label; known: {self._few()}.{did_you_mean(name, self.names)}")

    @cached_property
    def _by_number(self) -> dict[str, int]:
        """0, 1 ... as they may stand for names; nothing where a name is a number itself."""
        numbered = any(name.isdecimal() for name in self.names)
        return {} if numbered else {str(i): i for i in range(len(self.names))}

    def _few(self) -> str:
        return ", ".join(self.names[:NAMED]) + (f", ... ({len(self)} in all)" if len(self) > NAMED else "")


def split(text: str, separator: str) -> list[str]:
    """The labels in a text; the text itself where nothing separates."""
    return [part for part in map(clean, text.split(separator) if separator else [text]) if part]


def found(texts: Iterable[str], separator: str = "") -> tuple[str, ...]:
    """The names that labels of a data set have, by their number if all are numbers, else by the alphabet."""
    names = {name for text in texts for name in split(text, separator)}
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (len(name.lstrip("0")), name.lstrip("0"), name) if numbers else name))


def read_names(path: str | Path) -> tuple[str, ...]:
    """The names in a file: a JSON list, a JSON object whose "labels" is one, or a name a line. Raises DataError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as wrong:
        raise DataError(f"{path} cannot be read as the names of labels ({wrong}); check the path.") from None
    if not text.lstrip().startswith(("[", "{")):
        return tuple(filter(None, map(clean, text.splitlines())))
    try:
        held: Any = json.loads(text)
    except ValueError as wrong:
        raise DataError(f"{path} is not JSON ({wrong}); expected a list of names.") from None
    names = held.get("labels") if isinstance(held, dict) else held
    if not (isinstance(names, list) and names and all(isinstance(name, str) and clean(name) for name in names)):
        raise DataError(f'{path} must hold a list of names, or an object whose "labels" is one; found {names!r:.80}.')
    return tuple(map(clean, names))
