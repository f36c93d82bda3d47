"""Segments of a transcript become the text of a subtitle file: SubRip (.srt) or WebVTT (.vtt)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


class Shown(Protocol):
    """A text and when it is shown, in seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def text(self) -> str: ...


def srt(segments: Iterable[Shown]) -> str:
    """A SubRip file: numbered texts, each under its times."""
    shown = (f"{n}\n{span(each, ',')}\n{plain(each.text)}\n" for n, each in enumerate(segments, 1))
    return "\n".join(shown)


def vtt(segments: Iterable[Shown]) -> str:
    """A WebVTT file."""
    escaped = (
        (each, plain(each.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) for each in segments
    )
    return "WEBVTT\n" + "".join(f"\n{span(each, '.')}\n{text}\n" for each, text in escaped)


def span(each: Shown, point: str) -> str:
    return f"{clock(each.start, point)} --> {clock(each.end, point)}"


def clock(seconds: float, point: str = ".") -> str:
    """Hours, minutes, seconds and thousandths: 01:02:03.450."""
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def plain(text: str) -> str:
    """A text of one line that no reader of subtitles takes for the next time."""
    return " ".join(CONTROLS.sub(" ", text).split()).replace("-->", "->")
