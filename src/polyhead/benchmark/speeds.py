"""Figures of several rounds become one: a median, how far they spread, and how they compare with another's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def spread(values: Sequence[float]) -> str:
    """From the lowest to the highest, as a share of the median."""
    return f"{(max(values) - min(values)) / statistics.median(values):.0%}"


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round: what slows a whole round down cancels out."""
    return [a / b for a, b in zip(values, base, strict=True)]


def ratio(values: Sequence[float], base: Sequence[float]) -> str:
    """The median of the rounds' own ratios."""
    return f"{statistics.median(ratios(values, base)):.2f}x"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
