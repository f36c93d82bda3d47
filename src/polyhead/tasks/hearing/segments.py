"""What was said of one window, times among words, becomes segments, and the place where the next window begins.

<0.00> the cat sat <2.40> <2.40> on the mat <4.10> <4.10> and th        two segments; go on at 4.10: the rest was cut
<0.00> the cat sat <2.40> <2.40> on the mat <4.10>                      two segments; nothing follows in this window
<0.00> the cat sat                                                      one segment, as long as the window
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """Tokens, times among them, and where in the window they begin and end, in steps of time."""

    tokens: list[int]
    start: float
    end: float


def parts_of(tokens: Sequence[int], *, first_time: int, steps: float) -> tuple[list[Part], int | None]:
    """The segments of a window that holds so many `steps` of sound, and at which step to go on; None: at its end."""
    times = [token - first_time if token >= first_time else None for token in tokens]
    cuts = [i + 1 for i in range(len(times) - 1) if times[i] is not None and times[i + 1] is not None]
    if not cuts:
        told = [time for time in times if time is not None]
        return [Part([*tokens], 0, told[-1] if told and told[-1] else steps)], None
    closed = times[-1] is not None and times[-2] is None
    ends = [*cuts, len(tokens)] if closed else cuts
    parts: list[Part] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        parts.append(Part([*tokens[begin:end]], times[begin] or 0, times[end - 1] or 0))
    return parts, None if closed else int(parts[-1].end)
