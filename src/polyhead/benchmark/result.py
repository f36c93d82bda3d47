"""What engines did in each round becomes medians, spreads, ratios and agreement, as JSON and as TSV."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from polyhead.benchmark.job import Unit
from polyhead.benchmark.machine import QUIET
from polyhead.benchmark.speeds import ratios

Work = Literal["translate", "complete", "embed", "classify", "look", "hear"]
COLUMNS = ("model", "work", "unit", "engine", "precision", "median", "low", "high", "ratio", "ratio_low", "ratio_high",
           "agrees", "why", "products", "attention", "rest")  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Where the seconds of a piece of work go."""

    products: float
    attention: float
    rest: float

    @classmethod
    def of(cls, whole: float, products: float, attention: float) -> Parts:
        """The parts of so many seconds. Where the profiler saw more than there were, on a machine that others use,
        both are cut alike."""
        cut = min(1.0, whole / max(products + attention, 1e-12))
        products, attention = cut * products, cut * attention
        return cls(products, attention, max(0.0, whole - products - attention))

    @property
    def shares(self) -> tuple[float, float, float]:
        whole = self.products + self.attention + self.rest
        return self.products / whole, self.attention / whole, self.rest / whole


@dataclass(frozen=True)
class Line:
    """One engine in one precision.

    speeds: one a round, in the comparison's unit a second; none where it did not run, and `why` says why. agrees: with
    the answers of the base: the share of rows that are equal where tokens are written, else the smallest cosine between
    two vectors. parts: where the time of the median round goes, if that was asked for and the engine is PyTorch's.
    """

    engine: str
    precision: str
    speeds: tuple[float, ...] = ()
    agrees: float | None = None
    why: str = ""
    parts: Parts | None = None

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)

    @property
    def spread(self) -> float:
        """From the lowest to the highest, as a share of the median."""
        return (max(self.speeds) - min(self.speeds)) / self.median


@dataclass(frozen=True)
class Comparison:
    """Engines at one model's work. rows: texts, images or sounds. new: tokens that are added to each, where told.
    rules: what the folder asks for of answers beyond what CTranslate2 and ONNX Runtime are told to do."""

    model: str
    work: Work
    unit: Unit
    rows: int
    beams: int
    new: int | None
    lines: tuple[Line, ...]
    rules: tuple[str, ...] = ()

    @property
    def base(self) -> Line:
        """Whom ratios compare with: transformers, else the first that ran."""
        ran = [line for line in self.lines if line.speeds]
        return next((line for line in ran if line.engine == "transformers"), ran[0])

    def ratios(self, line: Line) -> tuple[float, float, float]:
        """How many times faster than the base: the median of the rounds' own ratios, the lowest, the highest."""
        each = ratios(line.speeds, self.base.speeds)
        return statistics.median(each), min(each), max(each)


@dataclass(frozen=True)
class Measured:
    """What `bench` found, and where.

    missing: the engines that are not installed, and how each is had. busy: how many CPUs others used meanwhile, on
    average; None where the system does not tell. quick: a smoke run, whose figures mean nothing.
    """

    comparisons: tuple[Comparison, ...]
    missing: dict[str, str]
    threads: int
    rounds: int
    date: str
    hardware: str
    versions: tuple[str, ...]
    busy: float | None
    quick: bool

    @property
    def quiet(self) -> bool | None:
        """Whether nobody else used the machine; None where that is not known."""
        return None if self.busy is None else self.busy <= QUIET

    @cached_property
    def rows(self) -> list[tuple[str | float | None, ...]]:
        """A row for each engine of each comparison, under `COLUMNS`; None where there is no figure."""
        found: list[tuple[str | float | None, ...]] = []
        for each in self.comparisons:
            for line in each.lines:
                figures: list[float | None] = [None] * 6
                if line.speeds:
                    figures = [line.median, min(line.speeds), max(line.speeds), *each.ratios(line)]
                shares = line.parts.shares if line.parts else [None] * 3
                found.append((each.model, each.work, each.unit, line.engine, line.precision, *figures, line.agrees,
                              line.why, *shares))  # fmt: skip
        return found

    @property
    def tsv(self) -> str:
        """Every figure, a line each, under a line of names."""
        lines = [COLUMNS, *([spelled(x) for x in row] for row in self.rows)]
        return "".join("\t".join(line) + "\n" for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """All there is, speeds of every round too."""
        found = asdict(self)
        for each, told in zip(self.comparisons, found["comparisons"], strict=True):
            for line, row in zip(each.lines, told["lines"], strict=True):
                row["ratio"] = each.ratios(line)[0] if line.speeds else None
            told["base"] = each.base.name
        return {**found, "quiet": self.quiet}

    def __str__(self) -> str:
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=2)


def spelled(x: str | float | None) -> str:
    return "" if x is None else f"{x:.5g}" if isinstance(x, float) else " ".join(str(x).split())


def agreement(rows: Sequence[Sequence[float]], base: Sequence[Sequence[float]], *, written: bool) -> float:
    """The share of rows that are equal, or the smallest cosine between two vectors."""
    pairs = list(zip(rows, base, strict=True))
    if written:
        return sum(list(a) == list(b) for a, b in pairs) / len(pairs)
    return min(cosine(a, b) for a, b in pairs)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / max(math.hypot(*a) * math.hypot(*b), 1e-30)
