"""What was said in a sound: its text, its segments with their times, and what was not written down."""

from __future__ import annotations

from dataclasses import dataclass

from polyhead.tasks.hearing.subtitles import srt, vtt
from polyhead.tasks.hearing.word_times import Word


@dataclass(frozen=True)
class Segment:
    """What was said from `start` to `end`, in seconds.

    tokens: as the model said them, times among them. words: with times of their own, where they were asked for.
    log_probability: the mean of its window's tokens, natural logarithm. temperature: at which its window was read; 0
    where the search's own answer was good enough.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    words: tuple[Word, ...]
    log_probability: float
    temperature: float


@dataclass(frozen=True)
class Transcript:
    """What was said in a sound.

    item: its file, or its number. language: its code; probability: how sure that is, None where it was given. seconds:
    how long the sound is. left_out: from where to where nothing was written, since nobody seems to speak. cut: windows
    whose text reached the most tokens that the model has places for, so that some may be missing.
    """

    item: str
    text: str
    language: str | None
    probability: float | None
    task: str
    seconds: float
    segments: tuple[Segment, ...]
    left_out: tuple[tuple[float, float], ...] = ()
    cut: tuple[tuple[float, float], ...] = ()

    def srt(self) -> str:
        """The segments as a SubRip file (.srt)."""
        return srt(self.segments)

    def vtt(self) -> str:
        """The segments as a WebVTT file (.vtt)."""
        return vtt(self.segments)
