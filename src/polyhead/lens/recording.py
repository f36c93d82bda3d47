"""What was recorded of one run: every attention call by name, with all that its exact weights can be rebuilt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from polyhead.errors import ArgumentError, DataError, did_you_mean
from polyhead.lens.backward import Backward, Target, slopes
from polyhead.lens.inputs import Inputs
from polyhead.lens.rulers import Ruler
from polyhead.operator import Causal, Observe, Record, Statistics
from polyhead.operator.record import checked
from polyhead.operator.request import Request, chosen

Level = Literal["summary", "rows", "inputs"]
Route = Literal["polyhead", "fused", "flex", "explicit", "native"]
Part = Literal["encoder", "decoder", "cross"]
LEVELS: tuple[Level, ...] = ("summary", "rows", "inputs")
LACKS = {
    "summary": "its queries and keys were not kept; record again with watch(model, level='rows')",
    "inputs": "its queries and keys were not kept; run the layer again with recording.replay('{}')",
}


@dataclass(frozen=True, eq=False)
class Norms:
    """How long the values are that weights are multiplied with.

    values  [B, H, S] the norm of each value, of each query head.
    after   whether it is that of the value after the output projection: how much of it can reach the residual stream.
            False where the layer shows no output projection; then it is the norm of the value itself.
    """

    values: Tensor
    after: bool


@dataclass(frozen=True)
class Facts:
    """What is known of a call without reading its tensors; T queries look at S keys.

    causal     whether a rule of the call hides later keys, where its rules were kept.
    shape      (B, H, T, S).
    gradients  whether a backward pass came by.
    """

    name: str
    kind: Literal["self", "cross"]
    kernel: str
    route: Route
    level: Level
    exactness: str
    norms_after: bool
    causal: bool
    shape: tuple[int, int, int, int]
    gradients: bool = False

    @property
    def part(self) -> Part:
        return part_of(self.name, self.kind, self.causal)


def part_of(name: str, kind: str, causal: bool) -> Part:
    """The part of the model that a call belongs to: of cross-attention "cross", of others what their name says; where
    it says nothing, what hides later keys is a decoder."""
    if kind == "cross":
        return "cross"
    for word in name.lower().split("."):
        if "decoder" in word:
            return "decoder"
        if "encoder" in word:
            return "encoder"
    return "decoder" if causal else "encoder"


@dataclass(frozen=True, eq=False, repr=False)
class Call:
    """What was kept of one attention call.

    name        of the module that made it, such as `decoder.blocks.2.cross`.
    kind        "self" or "cross".
    kernel      the kernel that computed the output, and `reasons` why each ahead of it could not.
    lse         [B, H, T] the logarithm of each row's sum of exponentials, see `Record`.
    norms       of the values, [B, H, S].
    statistics  what `observe` asked for.
    kept        the rest, by the level of the recording: queries, keys and rules ("rows"), what the layer read
                ("inputs"), nothing ("summary").
    replayed    of a call that was run again: how far its output then was from the recorded one, relative to the largest
                row; None where it was recorded in the run.
    route       how it was seen: "polyhead", our own layer; "fused", a kernel of PyTorch's that never writes weights
                out; "flex", FlexAttention; "explicit", a softmax that somebody wrote out; "native", a fast path of
                PyTorch's that shows no queries, which were made again.
    backward    its values, and what a backward pass said of its output, where that was asked for.
    """

    name: str
    kind: Literal["self", "cross"]
    kernel: str
    reasons: Mapping[str, str]
    lse: Tensor
    norms: Norms
    statistics: Statistics
    kept: Request | Inputs | None
    replayed: float | None = None
    route: Route = "polyhead"
    backward: Backward | None = None

    @property
    def level(self) -> Level:
        """How much was kept."""
        if self.kept is None:
            return "summary"
        return "inputs" if isinstance(self.kept, Inputs) else "rows"

    @property
    def part(self) -> Part:
        """The part of the model that made the call: "encoder", "decoder", or "cross" between the two."""
        return part_of(self.name, self.kind, self.causal)

    @property
    def causal(self) -> bool:
        """Whether a rule of the call hides later keys, where its rules were kept."""
        rule = None if self.kept is None else self.kept.rule
        return rule is not None and any(isinstance(part, Causal) for part in rule.parts())

    @property
    def facts(self) -> Facts:
        """What can be told of it in a line."""
        B, H, T = self.lse.shape
        return Facts(
            self.name, self.kind, self.kernel, self.route, self.level, self.exactness, self.norms.after, self.causal,
            (B, H, T, self.norms.values.shape[2]), self.backward is not None and self.backward.output is not None,
        )  # fmt: skip

    @cached_property
    def record(self) -> Record:
        """The operator's record of the call, checked: some of its rows must sum to what they must.

        Its values were not kept: `request.value` has no width. Raises ArgumentError where queries and keys
        were not kept, and DataError where they are no longer what they were.
        """
        if not isinstance(self.kept, Request):
            raise ArgumentError(f"{self.name} has no weights: {LACKS[self.level].format(self.name)}")
        record = Record(self.lse, self.kernel, self.reasons, self.kept, self.statistics)
        try:
            checked(record)
        except ValueError as broken:
            raise DataError(f"{self.name} is damaged, or was changed since: {broken}; record the run again") from None
        return record

    def weights(
        self, rows: Sequence[int] | Tensor | None = None, columns: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """The exact softmax weights [B, H, rows, columns] of the chosen rows and columns (all, where None)."""
        return self.record.weights(rows, columns)

    def gradients(
        self, rows: Sequence[int] | Tensor | None = None, columns: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """d target / d weight [B, H, rows, columns] of the chosen rows and columns (all, where None), at the cost of
        those: how much the target would rise for each weight that is added there.

        Whether a query may look there does not matter to it. Raises ArgumentError where no gradient was recorded.
        """
        heard = self.backward
        if heard is None or heard.output is None:
            raise ArgumentError(
                f"{self.name} has no gradients: "
                + (
                    "record with watch(model, gradients=True)"
                    if heard is None
                    else "no backward pass reached it; call backward() on what the model gave"
                )
            )
        T, S = heard.output.shape[2], heard.value.shape[2]
        some, others = (
            chosen(name, x, n, heard.value.device) for name, x, n in (("rows", rows, T), ("columns", columns, S))
        )
        return slopes(heard.output.index_select(2, some), heard.value.index_select(2, others), self.lse.dtype)

    def weights_times_gradients(
        self, rows: Sequence[int] | Tensor | None = None, columns: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """`weights` times `gradients`, [B, H, rows, columns]: above 0 what raises the target, below 0 what lowers it,
        as far as a straight line tells; 0 where a query may not look. Raises ArgumentError."""
        p, slope = self.weights(rows, columns), self.gradients(rows, columns)
        return (p * slope).masked_fill(p == 0, 0.0)  # whatever is in values that nobody may see

    def observe(self, observe: Observe) -> Statistics:
        """What `observe` would have told in the run, asked later."""
        return self.record.observe(observe)

    @property
    def exactness(self) -> str:
        """What the answers are exact to, as a sentence."""
        match self.kept:
            case Request(query=query):
                said = f"weights exact to the rounding of {name_of(query)} products"
                return said if self.replayed is None else f"replayed, output off by {self.replayed:.1g}; {said}"
            case Inputs():
                return "statistics of the run itself; weights after a replay, which says how far its output was off"
            case None:
                return f"statistics exact to the rounding of {name_of(self.lse)}; no other weights"

    def __repr__(self) -> str:
        B, H, T = self.lse.shape
        return f"{self.name}: [{B}, {H}, {T}, {self.norms.values.shape[2]}] by {self.kernel}; {self.exactness}"


@runtime_checkable
class Stored(Protocol):
    """A way to a call that lies in a file, and what is known of it without reading it."""

    @property
    def facts(self) -> Facts: ...
    def __call__(self) -> Call: ...


@dataclass(frozen=True)
class Missed:
    """An attention that ran and of which nothing is known, and why."""

    name: str
    reason: str


@dataclass(eq=False, repr=False)
class Recording:
    """The calls of a run, in the order they were made.

    level    how much was kept of each call, see `watch`.
    rulers   what the places along the axes stand for, by the part of the model: {"encoder": Words(...), "decoder":
             Words(...)}, or lists of words; "chosen" may hold the words that a decoder chose next at each place. `see`
             fills them, else they are yours to fill; they are saved with the recording.
    missed   attention that ran and of which nothing is known.
    target   what the gradients are of, in two languages, or why there are none; None: whatever `backward()` was called
             on. `see` fills it, else it is yours to fill.
    version  of torch, which computed it.
    model    the one that was watched and replays its layers; a file keeps none.
    entries  the name of each call, and a way to it.
    """

    level: Level = "rows"
    rulers: dict[str, Ruler | list[str]] = field(default_factory=dict[str, Ruler | list[str]])
    missed: list[Missed] = field(default_factory=list[Missed])
    version: str = torch.__version__
    model: nn.Module | None = None
    entries: list[tuple[str, Callable[[], Call]]] = field(default_factory=list[tuple[str, Callable[[], Call]]])
    target: Target | None = None

    def __getitem__(self, name: str) -> Call:
        """The last call of the attention with this name, such as `decoder.blocks.2.cross`."""
        for known, call in reversed(self.entries):
            if known == name:
                return call()
        raise ArgumentError(
            f"'{name}' was not recorded; recorded are {', '.join(self.names()) or 'no calls at all'}."
            + did_you_mean(str(name), self.names())
        )

    def __iter__(self) -> Iterator[Call]:
        return (call() for _, call in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"Recording of {len(self)} calls ({self.level}): {', '.join(self.names())}{self.lacking()}"

    def lacking(self) -> str:
        """What was missed, as the end of a sentence; nothing if nothing was."""
        return f"; missed {len(self.missed)}: {said(self.missed)}" if self.missed else ""

    def calls(self, name: str) -> list[Call]:
        """Every call of the attention with this name in order, one for each step of a generation."""
        found = [call() for known, call in self.entries if known == name]
        return found or [self[name]]  # which says what there is

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.entries))

    def facts(self) -> list[Facts]:
        """What is known of each call, in order, at no cost: of a file, nothing but its head is read."""
        return [call.facts if isinstance(call, Stored) else call().facts for _, call in self.entries]

    def replay(self, name: str, *, model: nn.Module | None = None) -> Call:
        """Run the last call of one layer again from what it read, and give it as if its rows had been recorded.

        model is the one that was watched, needed where the recording comes from a file. The call says in `replayed` how
        far its output was off. Raises DataError where that is more than rounding, and where the run cannot be repeated:
        with keys from a cache, or with dropout. Raises ArgumentError where there is nothing to replay.
        """
        from polyhead.lens.replay import replay

        return replay(self[name], model or self.model)

    def save(self, path: str | Path) -> None:
        """Write the whole recording to one safetensors file, whole or not at all.

        Raises WriteError, and ArgumentError where a rule or a bias is code.
        """
        from polyhead.lens.recording_file import save

        save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Recording:
        """The recording that was saved. A call's tensors stay in the file until they are read; `call.record` checks its
        rows. Raises DataError where the file is none, or damaged."""
        from polyhead.lens.recording_file import load

        return load(Path(path))


def said(missed: Sequence[Missed]) -> str:
    return "; ".join(f"{one.name} ({one.reason})" for one in missed)


def name_of(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
