"""Tokens and texts become safe to print: whatever they hold, the terminal shows it and never obeys it."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

# Categories whose characters act on the terminal or make a reader see another text than there is: controls, formats
# (marks and overrides of the direction, invisible operators, tags), lone surrogates, line and paragraph separators.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # they spell words of some scripts, and emoji

# In a label also those that cannot be seen: private and unassigned characters, spaces but U+0020, joiners.
_UNSEEN = {*_ACTING, "Co", "Cn", "Zs"}


def acts(character: str) -> bool:
    """Whether a terminal would obey the character, or show another text than there is."""
    return unicodedata.category(character) in _ACTING and character not in _JOINERS


def shown(text: str, encoding: str = "utf-8") -> str:
    """A text as one line of a terminal: what acts is named as `printable` names it, all else stays as it is."""
    if not text.isprintable():
        text = "".join(_named(c) if acts(c) else c for c in text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def printable(token: str, encoding: str = "utf-8") -> str:
    """The token as a label: spaces as a dot, control characters by name, anything the encoding lacks as an escape.

    Escape is ␛, other ASCII controls read as in Python (`\\x07`), unseen characters by number (`‹U+202E›`), and a
    combining mark, or a skin tone, without anything before it sits on a dotted circle. An empty token reads `‹›`.
    """
    if not token:
        label = "‹›"
    else:
        label = "".join(map(_character, token))
        if unicodedata.category(token[0]).startswith("M") or cell_len(label[0]) == 0:
            label = "◌" + label
    return label.encode(encoding, "backslashreplace").decode(encoding)


def _character(character: str) -> str:
    if character == " ":
        return "·"
    return _named(character) if unicodedata.category(character) in _UNSEEN else character


def _named(character: str) -> str:
    if character == "\x1b":
        return "␛"
    if ord(character) < 0xA0:
        return repr(character)[1:-1]
    return f"‹U+{ord(character):04X}›"


def graphemes(label: str) -> list[str]:
    """The label cut into what takes place of its own: a mark without width stays with its letter."""
    parts: list[str] = []
    for character in label:
        if parts and cell_len(character) == 0:
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def fit(label: str, width: int, ellipsis: str = "…") -> str:
    """The label in at most `width` cells, its end cut off where it is longer."""
    if cell_len(label) <= width:
        return label
    return set_cell_size(label, max(width - cell_len(ellipsis), 0)).rstrip() + ellipsis[:width]


def pad(label: str, width: int, align: str = "left") -> str:
    """The label with spaces to `width` cells, aligned left, right or center; Chinese takes two cells a character."""
    spare = width - cell_len(label)
    before = {"left": 0, "right": spare, "center": spare // 2}[align]
    return " " * before + label + " " * (spare - before)
