"""Rotary positions: each pair of numbers of a query or key turns by an angle that grows with its place.

A dot product of two turned vectors depends on how far apart they stand, and on nothing else of their places. How fast
each pair turns is a value, `Speeds`; the kinds below stretch the places that a model can tell apart beyond those it was
trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from polyhead.core.position import Position
from polyhead.core.run import Run
from polyhead.errors import ArgumentError

Turns = tuple[Tensor, Tensor]


def plain(theta: float, width: int, device: torch.device) -> Tensor:
    """theta^(-2k/K) for the K/2 pairs: radians a place, from 1 down to about 1/theta (Su et al. 2021, 3.2.2)."""
    return 1.0 / theta ** (torch.arange(0, width, 2, device=device).float() / width)


@dataclass(frozen=True)
class Speeds:
    """How fast each pair turns, and by how much queries and keys grow (`gain`)."""

    grows: ClassVar[bool] = False  # whether the speeds depend on how long the text is

    @property
    def gain(self) -> float:
        return 1.0

    def of(self, theta: float, width: int, device: torch.device, length: int) -> Tensor:
        """Radians a place [K/2], float32, in a text that has reached `length` places."""
        return plain(theta, width, device)


@dataclass(frozen=True)
class Slower(Speeds):
    """All pairs turn slower by one factor: places are interpolated (Chen et al. 2023, 2306.15595)."""

    factor: float

    def of(self, theta: float, width: int, device: torch.device, length: int) -> Tensor:
        return plain(theta, width, device) / self.factor


@dataclass(frozen=True)
class Dynamic(Speeds):
    """Beyond `max_len` places theta grows with the text, so that the slow pairs slow down and the fast ones do not
    (the "dynamic NTK" of Peng et al. 2023, 2309.00071, appendix)."""

    grows = True
    factor: float
    max_len: int

    def of(self, theta: float, width: int, device: torch.device, length: int) -> Tensor:
        stretch = self.factor * max(length, self.max_len) / self.max_len - (self.factor - 1)
        return plain(theta * stretch ** (width / (width - 2)), width, device)


@dataclass(frozen=True)
class Yarn(Speeds):
    """Pairs that turn often within the `trained` places stay, those that hardly turn are interpolated, a ramp between
    (Peng et al. 2023, 2309.00071, 3.2); `fast` and `slow` are turns where the ramp begins and ends.

    attention: what queries and keys are multiplied with; unless given, 0.1 m ln(factor) + 1 of both m's (3.4).
    """

    factor: float
    trained: int
    fast: float = 32.0
    slow: float = 1.0
    attention: float | None = None
    m: float | None = None
    m_all: float | None = None
    whole: bool = True  # the ramp begins and ends at whole pairs

    @property
    def gain(self) -> float:
        if self.attention is not None:
            return self.attention
        above, below = (self.m, self.m_all) if self.m and self.m_all else (1.0, 0.0)
        return self.grown(above) / self.grown(below)

    def grown(self, m: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * m * math.log(self.factor) + 1.0

    def of(self, theta: float, width: int, device: torch.device, length: int) -> Tensor:
        def pair(turns: float) -> float:
            """The pair that turns so often within the trained places."""
            return width * math.log(self.trained / (2 * math.pi * turns)) / (2 * math.log(theta))

        first, last = pair(self.fast), pair(self.slow)
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        last = last + 0.001 if last == first else last
        kept = 1 - ((torch.arange(width // 2, device=device).float() - first) / (last - first)).clamp(0, 1)
        speed = plain(theta, width, device)
        return speed / self.factor * (1 - kept) + speed * kept


@dataclass(frozen=True)
class ByWavelength(Speeds):
    """Pairs whose wave is shorter than trained / high stay, those longer than trained / low slow down by `factor`, a
    ramp between (Llama 3.1, 2024)."""

    factor: float
    low: float
    high: float
    trained: int

    def of(self, theta: float, width: int, device: torch.device, length: int) -> Tensor:
        speed = plain(theta, width, device)
        waves = self.trained * speed / (2 * math.pi)  # how many fit into the trained places
        kept = ((waves - self.low) / (self.high - self.low)).clamp(0, 1)
        return speed / self.factor * (1 - kept) + speed * kept


@dataclass(frozen=True)
class Searched(Speeds):
    """Every pair slows down by a factor of its own that a search has found, one set of them for texts within the
    `trained` places and one for longer ones (LongRoPE, Ding et al. 2024, 2402.13753)."""

    grows = True
    short: tuple[float, ...]
    long: tuple[float, ...]
    trained: int
    factor: float  # by how much the places were stretched
    attention: float | None = None

    @property
    def gain(self) -> float:
        if self.attention is not None:
            return self.attention
        return 1.0 if self.factor <= 1 else math.sqrt(1 + math.log(self.factor) / math.log(self.trained))

    def of(self, theta: float, width: int, device: torch.device, length: int) -> Tensor:
        factors: Sequence[float] = self.long if length > self.trained else self.short
        if len(factors) != width // 2:
            raise ArgumentError(f"a head of width {width} needs {width // 2} rotary factors; found {len(factors)}")
        return plain(theta, width, device) / torch.tensor(factors, device=device)


@dataclass(frozen=True)
class Rotary(Position):
    """Turn pairs (k, k + K/2) of queries and keys by place x speed (Su et al. 2021)."""

    theta: float = 10_000.0
    speeds: Speeds = Speeds()

    def turns(self, run: Run, n: int, width: int, device: torch.device) -> Turns:
        """Cosines and sines [B or 1, 1, T, K/2] of the run's next n places, times the gain."""
        places = run.places(n, device)  # [B or 1, T]
        length = int(places.max()) + 1 if self.speeds.grows and n else 0
        angle = places[:, None, :, None].float() * self.speeds.of(self.theta, width, device, length)
        return angle.cos() * self.speeds.gain, angle.sin() * self.speeds.gain

    def rotated(self, heads: Tensor, run: Run) -> Tensor:
        found = run.turns or self.turns(run, heads.shape[2], heads.shape[3], heads.device)
        cos, sin = (x.to(heads.dtype) for x in found)
        left, right = heads.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
