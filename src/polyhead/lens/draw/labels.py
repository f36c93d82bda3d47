"""Tokens become labels that are safe to print: whatever a token holds, the terminal shows it and never obeys it."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

# Categories whose characters act on the terminal or cannot be seen: controls, formats (joiners, overrides of the
# direction), lone surrogates, private and unassigned characters, line and paragraph separators, spaces but U+0020.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def printable(token: str, encoding: str = "utf-8") -> str:
    """The token as a label: spaces as a dot, control characters by name, anything the encoding lacks as an escape.

    Escape is ␛, other ASCII controls read as in Python (`\\x07`), unseen characters by number (`‹U+202E›`), and a
    combining mark without a letter before it sits on a dotted circle. An empty token reads `‹›`.
    """
    if not token:
        label = "‹›"
    else:
        label = "".join(map(_character, token))
        if unicodedata.category(token[0]).startswith("M"):
            label = "◌" + label
    return label.encode(encoding, "backslashreplace").decode(encoding)


def _character(character: str) -> str:
    if character == " ":
        return "·"
    if character == "\x1b":
        return "␛"
    if unicodedata.category(character) not in _UNSEEN:
        return character
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
