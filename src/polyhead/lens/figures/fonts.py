"""Which of the installed fonts can write the characters of a figure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from polyhead.errors import DataError, extra

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


def families(texts: Iterable[str]) -> list[str]:
    """The families to write these texts with, the next where one lacks a glyph. Raises DataError where all lack it."""
    wanted = {ord(c) for text in texts for c in text if not c.isspace()}
    missing, chosen = wanted - glyphs(ALWAYS), [ALWAYS]
    if not missing:
        return chosen
    for name in installed():
        if found := missing & glyphs(name):
            chosen.append(name)
            missing -= found
            if not missing:
                return chosen
    lacking = "".join(map(chr, sorted(missing)[:8])) + ("…" if len(missing) > 8 else "")
    raise DataError(
        f"No installed font has the characters {lacking}, so the PNG cannot be written; install a font that has them"
        " (on Debian: apt install fonts-noto-cjk), or save as .svg, which is drawn where it is opened"
    )


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
    """The characters that a family has; none at all where its file cannot be read."""
    found: Any = extra("matplotlib.font_manager", "plot")
    faces: Any = extra("matplotlib.ft2font", "plot")
    try:
        return frozenset(faces.FT2Font(found.findfont(name, fallback_to_default=False)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
