"""A step goes in, a learning rate comes out: four small frozen schedules. The first update is step 1."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A straight rise over `warmup` steps, then `peak` for ever."""

    peak: float
    warmup: int = 0

    def lr(self, step: int) -> float:
        return self.peak * rise(step, self.warmup)


@dataclass(frozen=True, kw_only=True)
class Noam:
    """Vaswani et al. 2017, equation 3, told by its peak: d_model^-0.5 * warmup^-0.5 = peak, reached at `warmup`."""

    peak: float
    warmup: int

    def lr(self, step: int) -> float:
        return self.peak * min(step / self.warmup, (self.warmup / step) ** 0.5)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Loshchilov and Hutter 2017, equation 5, one period without restarts, after a straight rise."""

    peak: float
    warmup: int
    horizon: int
    floor: float = 0.0

    def lr(self, step: int) -> float:
        if step <= self.warmup:
            return self.peak * rise(step, self.warmup)
        gone = min(1.0, (step - self.warmup) / (self.horizon - self.warmup))
        return self.floor + (self.peak - self.floor) * (1 + math.cos(math.pi * gone)) / 2


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay:
    """Hu et al. 2024 (MiniCPM): rise, stay, fall over the last `decay` steps, as 1 - sqrt (Hägele et al. 2024)."""

    peak: float
    warmup: int
    decay: int
    horizon: int
    floor: float = 0.0

    def lr(self, step: int) -> float:
        if step <= self.horizon - self.decay:
            return self.peak * rise(step, self.warmup)
        gone = min(1.0, (step - (self.horizon - self.decay)) / self.decay)
        return self.floor + (self.peak - self.floor) * (1 - math.sqrt(gone))


Schedule = Constant | Noam | Cosine | WarmupStableDecay


def rise(step: int, warmup: int) -> float:
    """The share of the peak that a straight warm-up has reached."""
    return min(1.0, step / warmup) if warmup else 1.0
