"""The languages that people are spoken to in, and which of them a person is."""

from __future__ import annotations

import locale
import os
import unicodedata
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def language(text: str) -> Language:
    """Chinese where the person's settings say so; where they say nothing, the language of the text."""
    told = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    told = told or (locale.getlocale()[0] or "")
    if told.lower().startswith("zh"):
        return "zh"
    if told and told.split(".")[0] not in ("C", "POSIX"):
        return "en"
    return "zh" if sum(map(wide, text)) > len(text) / 2 else "en"


def wide(character: str) -> bool:
    """Whether it is of a script that is written without spaces, or its punctuation."""
    return unicodedata.east_asian_width(character) in "WF"
