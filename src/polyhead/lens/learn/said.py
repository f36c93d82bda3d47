"""The sentences of a lesson, in English and in Chinese: one file of them serves the terminal and the page."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.lens.language import LANGUAGES


@cache
def sentences(lang: str) -> dict[str, Any]:
    """Every sentence by its key; `stations` is a list of nine."""
    if lang not in LANGUAGES:
        raise ArgumentError(
            f"lang must be one of {', '.join(LANGUAGES)}, found {lang!r}.{did_you_mean(lang, LANGUAGES)}"
        )
    text = (files("polyhead") / "lens" / "learn" / "static" / "texts.json").read_text(encoding="utf-8")
    return json.loads(text)[lang]


def say(lang: str, key: str, **words: Any) -> str:
    """A sentence with its words filled in."""
    return filled(sentences(lang)[key], **words)


def filled(sentence: str, **words: Any) -> str:
    """In one go, so that a word that looks like a place to be filled stays as it is."""
    return re.sub(r"\{(\w+)\}", lambda place: str(words.get(place[1], place[0])), sentence)
