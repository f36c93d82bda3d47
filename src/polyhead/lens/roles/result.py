"""What the heads of a model do, as one value: numbers by call, head and metric, their intervals, and chance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.language import LANGUAGES, Language
from polyhead.lens.recording import Part
from polyhead.lens.roles.metrics import Metric
from polyhead.lens.roles.syntax import Syntax
from polyhead.lens.roles.wording import said

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Attention:
    """One attention of a model: its name there, "self" or "cross", the part of the model that it belongs to, its number
    among those of its part, its heads."""

    name: str
    kind: str
    part: Part
    layer: int
    heads: int

    def label(self, head: int, lang: Language = "en") -> str:
        """How a table calls one of its heads: `enc 3.7` is head 7 of the encoder's layer 3, both counted from 0."""
        return f"{said(self.part, lang)} {self.layer}.{head}"


class Row(NamedTuple):
    """One number of one head."""

    call: str
    kind: str
    part: str
    layer: int
    head: int
    metric: str
    value: float
    low: float
    high: float
    chance: float
    inputs: int


@dataclass(frozen=True, eq=False, repr=False)
class Heads:
    """What the heads of a model do.

    model      which one, as it was named.
    calls      its attentions, in the order of a run.
    metrics    those that could be asked, in the order of the arrays' last axis.
    values     [calls, H, metrics] the means over inputs; NaN where a metric does not apply, or a call has fewer heads.
    low, high  [calls, H, metrics] the interval of 95 %, by drawing the inputs again; NaN for a single input.
    chance     [calls, metrics] what a head of chance gets on the same inputs, see `Metric.chance`; NaN for none.
    inputs     [calls, metrics] how many inputs each number is of.
    syntax     what they found in a treebank, where one was given.
    notes      what was read, what could not be asked, and why; notes_zh the same in Chinese.
    `print(heads)` shows a table.
    """

    model: str
    calls: tuple[Attention, ...]
    metrics: tuple[Metric, ...]
    values: Array
    low: Array
    high: Array
    chance: Array
    inputs: NDArray[np.int64]
    syntax: Syntax | None = None
    notes: tuple[str, ...] = ()
    notes_zh: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Heads of {self.model}: {sum(c.heads for c in self.calls)} heads, {len(self.metrics)} metrics"

    def __str__(self) -> str:
        return self.draw().plain

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(metric.key for metric in self.metrics)

    def of(self, key: str) -> Array:
        """One metric [calls, H]. Raises ArgumentError."""
        return self.values[..., self.place(key)]

    def place(self, key: str) -> int:
        """Where a metric stands in the arrays' last axis. Raises ArgumentError."""
        if key not in self.keys:
            raise ArgumentError(
                f"'{key}' was not measured here; there are {', '.join(self.keys)}.{did_you_mean(key, self.keys)}"
            )
        return self.keys.index(key)

    def ranked(self, key: str | None = None) -> list[tuple[int, int]]:
        """Every (call, head), in the order of the model, or the largest of a metric first and those without it last."""
        every = [(c, h) for c, call in enumerate(self.calls) for h in range(call.heads)]
        if key is None:
            return every
        of = self.of(key)
        return sorted(every, key=lambda at: (np.isnan(of[at]), -of[at]))

    def rows(self, *, sort: str | None = None) -> Iterator[Row]:
        """Every number that there is, head by head."""
        for c, h in self.ranked(sort):
            call = self.calls[c]
            for m, metric in enumerate(self.metrics):
                numbers = (float(x[c, h, m]) for x in (self.values, self.low, self.high))
                value, low, high = numbers
                if not np.isnan(value):
                    yield Row(
                        call.name, call.kind, call.part, call.layer, h, metric.key, value, low, high,
                        float(self.chance[c, m]), int(self.inputs[c, m]),
                    )  # fmt: skip

    def tsv(self, *, sort: str | None = None) -> str:
        """A line for each number, and one of names before; what there is none of is left empty."""
        lines = ["\t".join(Row._fields)]
        lines += ["\t".join(spelled(x) for x in row) for row in self.rows(sort=sort)]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; what there is none of is null."""
        return {
            "model": self.model,
            "calls": [asdict(call) for call in self.calls],
            "metrics": [asdict(metric) for metric in self.metrics],
            **{name: plain(getattr(self, name)) for name in ("values", "low", "high", "chance")},
            "inputs": self.inputs.tolist(),
            "syntax": None if self.syntax is None else syntax_json(self.syntax),
            "notes": list(self.notes),
            "notes_zh": list(self.notes_zh),
        }

    def draw(
        self, *, sort: str | None = None, columns: Sequence[str] | None = None, every: bool = False,
        canvas: Canvas | None = None, lang: Language = "en",
    ) -> Text:  # fmt: skip
        """A table, a line for each head: as many columns as the canvas is wide, those named, or every one; in English
        or Chinese ("zh"). Raises ArgumentError."""
        from polyhead.lens.roles.table import table

        if lang not in LANGUAGES:
            raise ArgumentError(f"lang must be one of {', '.join(LANGUAGES)}; found {lang!r}")
        return table(self, sort=sort, columns=columns, every=every, canvas=canvas or Canvas(), lang=lang)


def spelled(x: object) -> str:
    return ("" if np.isnan(x) else f"{x:.6g}") if isinstance(x, float) else str(x)


def plain(x: NDArray[Any]) -> Any:
    """Nested lists with None for NaN, numbers with six digits."""
    if x.ndim:
        return [plain(each) for each in x]
    return None if np.isnan(x) else float(f"{float(x):.6g}")


def syntax_json(found: Syntax) -> dict[str, Any]:
    return {
        "sentences": found.sentences,
        "left_out": found.left_out,
        "relations": dict(zip(found.relations, found.pairs, strict=True)),
        "calls": list(found.calls),
        **{name: plain(getattr(found, name)) for name in ("scores", "low", "high", "baseline")},
        "offset": found.offset.tolist(),
        "best": [
            {key: float(f"{x:.6g}") if isinstance(x, float) and not np.isnan(x) else None if x != x else x
             for key, x in asdict(best).items()} | {"margin": round(best.margin, 4), "syntactic": best.syntactic}
            for best in found.best
        ],
    }  # fmt: skip


def dumped(found: Heads) -> str:
    return json.dumps(found.to_json(), ensure_ascii=False)
