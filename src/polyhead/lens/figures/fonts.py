"""Which of the installed fonts can write the characters of a figure, and which characters none of them has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from polyhead.errors import extra

ALWAYS = "DejaVu Sans"  # comes with matplotlib
LIKED = (
    "Noto Sans CJK",
    "Noto Sans SC",
    "Source Han Sans",
    "PingFang",
    "YaHei",
    "WenQuanYi",
    "Noto Sans",
    "Arial Unicode",
)
# Joiners and variation selectors, which choose a form of their neighbours: a font that lacks one shows the usual form.
SELECTORS = frozenset([*range(0x200C, 0x200E), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])


def families(texts: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """The families to write these texts with, the next where one lacks a glyph; and the characters that all lack."""
    wanted = {ord(c) for text in texts for c in text if not c.isspace()}
    missing, chosen = wanted - glyphs(ALWAYS), [ALWAYS]
    for name in installed() if missing - SELECTORS else ():
        if found := missing & glyphs(name):
            chosen.append(name)
            missing -= found
            if not missing - SELECTORS:
                break
    return chosen, frozenset(map(chr, missing))


def manager() -> Any:
    fonts: Any = extra("matplotlib.font_manager", "plot")
    return fonts.fontManager


@cache
def installed() -> list[str]:
    """The upright families of ordinary weight: those made for many scripts, then sans, then all others."""
    names = {
        font.name
        for font in manager().ttflist
        if font.style == "normal" and font.weight in (400, "normal", "regular", "book")
    }

    def order(name: str) -> tuple[int, bool, str]:
        liked = next((n for n, some in enumerate(LIKED) if some in name), len(LIKED))
        return liked, "Sans" not in name, name

    return sorted(names, key=order)


@cache
def glyphs(name: str) -> frozenset[int]:
    """The characters that a family has as outlines; none at all where its file cannot be read, or holds pictures."""
    found: Any = extra("matplotlib.font_manager", "plot")
    faces: Any = extra("matplotlib.ft2font", "plot")
    try:
        face = faces.FT2Font(found.findfont(name, fallback_to_default=False))
        return frozenset(face.get_charmap()) if face.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
