"""What all engines are asked to do with one model: rows of ids or pixels, in batches, and what is counted of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["translate", "complete", "embed", "classify", "look", "hear"]
Unit = Literal["tokens written", "tokens read", "images", "seconds of sound"]


@dataclass(frozen=True)
class Job:
    """One model's work.

    kind: "translate" writes an answer to each row until it ends by itself; "complete" adds `new` tokens to each;
    "embed" gives each the mean of its vectors; "classify" and "look" give scores of labels, of rows and of pixels;
    "hear" writes down what is said in pictures of sound. rows: ids of texts, or of what a window of sound begins with.
    batches: which rows go together. beams: 1 is greedy. arrays: a .npy file of pixels or pictures of sound. unit,
    amount: what a speed counts, and how much there is of it; None: as much as is written. most: tokens of an answer,
    where places end. pad, start, end: ids that
    rows are filled up with, that answers start from, and that end one. never, never_first: ids that are not written.
    rules: what else the folder asks for of answers, which engines with searches of their own do not do.
    """

    model: str
    folder: str
    kind: Kind
    rows: Sequence[Sequence[int]]
    batches: Sequence[Sequence[int]]
    unit: Unit
    amount: float | None = None
    new: int | None = None
    beams: int = 1
    most: int | None = None
    pad: int = 0
    start: int = 0
    end: Sequence[int] = ()
    never: Sequence[int] = ()
    never_first: Sequence[int] = ()
    rules: Sequence[str] = ()
    arrays: str = ""

    @property
    def writes(self) -> bool:
        """Whether what comes back are rows of ids."""
        return self.kind in ("translate", "complete", "hear")

    def longest(self, batch: Sequence[int]) -> int:
        """The most tokens of an answer to any row of a batch."""
        longest = self.new or 2 * max(len(self.rows[i]) for i in batch) + 30
        return longest if self.most is None else min(longest, self.most)

    def speed(self, answer: dict[str, Any]) -> float:
        """What an engine did in a second; a token that ends an answer is not counted."""
        amount = sum(map(len, answer["rows"])) if self.amount is None else self.amount
        return amount / answer["seconds"]


class Bench:
    """What every engine is for who asks: `open` a job, then `run` it. An engine's file says what it loads and does."""

    job: Job
    work: Callable[[Sequence[int]], Sequence[Any]]

    def __init__(self, load: Callable[..., Callable[[Sequence[int]], Sequence[Any]]]) -> None:
        self.load = load

    def open(self, job: dict[str, Any], precision: str, threads: int, scratch: str) -> None:
        self.job = Job(**job)
        self.work = self.load(self.job, precision=precision, threads=threads, scratch=scratch)

    def run(self, least: float) -> dict[str, Any]:
        """The answers in the rows' order, and the mean seconds of as many times as take `least` seconds together."""
        start, times = time.perf_counter(), 0
        while True:
            found = self.once()
            times += 1
            if (seconds := time.perf_counter() - start) >= least:
                return {
                    "seconds": seconds / times,
                    "rows": [answer for _, answer in sorted(found, key=lambda one: one[0])],
                }

    def once(self) -> list[tuple[int, Any]]:
        return [(i, answer) for batch in self.job.batches for i, answer in zip(batch, self.work(batch), strict=True)]

    def parts(self) -> dict[str, float]:
        """The seconds in products and in attention, where PyTorch does the work."""
        from polyhead.benchmark.parts import looked_at

        return looked_at(self.once)


def verbs(load: Callable[..., Callable[[Sequence[int]], Sequence[Any]]]) -> dict[str, Callable[..., Any]]:
    """What an engine serves. load(job, precision=, threads=, scratch=) gives what answers the rows of a batch."""
    bench = Bench(load)
    return {"open": bench.open, "run": bench.run, "parts": bench.parts}
