"""What one call of the operator leaves behind: the rows' log-sum-exp, and all that its weights can be rebuilt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.operator.answers import Statistics
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request
from polyhead.operator.statistics import exact, measure

SAMPLE = 8  # rows whose sums are checked when a record is opened
Versions = tuple[int, ...]
AT_ONCE = 64  # rows that are looked at together
NEAR = {
    torch.float64: 1e-9,
    torch.float32: 1e-3,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}  # of a row's sum to its due
DIGITS = 8  # roundings of a score between two ways to compute it


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """What `attend` tells beside its output.

    lse         [B, H, T] the logarithm of each row's sum of exponentials, sink included, before dropout; float32
                (float64 for float64 inputs); -inf in rows that may look nowhere and have no sink. Exact weights are
                exp(score - lse). It carries gradients where the call's tensors do.
    kernel      the name of the kernel that computed the output.
    reasons     for each kernel ahead of it in the table, why it could not.
    request     the call itself: query, key and the rules in force, as they were handed in and not copied.
    statistics  what `observe=` asked for.
    """

    lse: Tensor
    kernel: str
    reasons: Mapping[str, str]
    request: Request
    statistics: Statistics = field(default_factory=Statistics)
    _looked_at: dict[Versions, float] = field(default_factory=dict[Versions, float], init=False)

    def __repr__(self) -> str:
        B, H, T = self.lse.shape
        return f"Record of [{B}, {H}, {T}, {self.request.key.shape[2]}] by {self.kernel}"

    def weights(
        self, rows: Sequence[int] | Tensor | None = None, columns: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Exact weights [B, H, len(rows), len(columns)] of chosen queries and keys (None: all), at the cost of those.

        Zeros where hidden; a row over all columns sums to 1, less the sink's share. Raises ArgumentError, and
        DataError, see `row_error`.
        """
        _ = self.row_error  # or raise
        frame = self.request.frame
        rows = range(frame.n_queries) if rows is None else rows
        columns = range(frame.n_keys) if columns is None else columns
        return exact(self.request, self.lse.detach(), rows, columns).to(self.lse.dtype)

    def observe(self, observe: Observe) -> Statistics:
        """What `attend` would have told, asked later; numbers to read, without gradients.

        The tensors of the call must still hold what they held. Raises ArgumentError, and DataError, see `row_error`.
        """
        if not isinstance(cast(object, observe), Observe):
            raise ArgumentError(f"observe must be an Observe, such as Observe(links=8); found {observe!r}")
        _ = self.row_error
        return measure(self.request, self.lse.detach(), observe)

    @property
    def row_error(self) -> float:
        """The most that sums of some rows are off from what they must be; of all rows, where a tensor of the call may
        have been written to since.

        Raises DataError where that is more than rounding: tensors of the call were written over.
        """
        now = versions(self.request)
        if now is None:
            off = self.checked()
        elif now not in self._looked_at:
            off = self._looked_at[now] = self.checked(every=bool(self._looked_at))
        else:
            off = self._looked_at[now]
        return off

    def checked(self, *, every: bool = False) -> float:
        """`row_error` of some rows, or of every one, looked at now."""
        try:
            return checked(self, every=every)
        except ValueError as broken:
            raise DataError(
                f"a query or key of this record was changed after the call, for {broken}; record the call again, and"
                " hand in copies of tensors that are written over"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the record and its statistics to one safetensors file, whole or not at all.

        Raises WriteError, ArgumentError where a rule or a bias is code, and DataError, see `row_error`.
        """
        from polyhead.operator.record_file import save

        _ = self.row_error
        save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Record:
        """The record that was saved. Its values were not: `request.value` has no width.

        Raises DataError where the file is damaged, or its weights do not sum to 1.
        """
        from polyhead.operator.record_file import load

        return load(Path(path))

    def detached(self) -> Record:
        """The same record apart from any graph, as one keeps it."""
        return replace(self, lse=self.lse.detach(), statistics=_detached(self.statistics))


def _detached(told: Statistics) -> Statistics:
    plain = {f.name: x.detach() for f in fields(told) if isinstance(x := getattr(told, f.name), Tensor)}
    links = told.links
    return replace(
        told,
        links=None if links is None else replace(links, weights=links.weights.detach()),
        mass={name: x.detach() for name, x in told.mass.items()},
        rectangles=tuple(x.detach() for x in told.rectangles),
        **plain,
    )


def versions(request: Request) -> Versions | None:
    """How often each tensor of a call has been written to; None where tensors do not count it."""
    if any(x.is_inference() for x in request.held):
        return None
    return tuple(x._version for x in request.held)


def checked(record: Record, *, every: bool = False) -> float:
    """The most that sums of rows, some spread over the map or every one, are off from 1, or from what a sink leaves.

    Raises ValueError where that is more than rounding: a score that is as large as the row's log-sum-exp is rounded in
    its last digits, and its weight is off by as much. Rows whose log-sum-exp is NaN or Inf say nothing: their scores
    were so when the model ran.
    """
    T = record.request.frame.n_queries
    if not record.lse.numel():
        return 0.0
    some = torch.arange(T) if every else torch.linspace(0, T - 1, min(T, SAMPLE)).round().long()
    parts = [some[start : start + AT_ONCE].to(record.lse.device) for start in range(0, len(some), AT_ONCE)]
    return max(off_of(record, part) for part in parts)


def off_of(record: Record, some: Tensor) -> float:
    """How far the sums of these rows are off at most."""
    request, lse = record.request, record.lse.detach()
    level = lse[:, :, some].double()
    due = torch.ones_like(level)
    if request.sinks is not None:
        due = due - (request.sinks.double()[:, None] - level).exp()
    due = due.masked_fill(level == -torch.inf, 0.0)
    off = (exact(request, lse, some, range(request.frame.n_keys)).sum(-1) - due).abs()
    off = off.masked_fill(~(level < torch.inf), 0.0)
    digits = DIGITS * torch.finfo(lse.dtype).eps * level.abs().nan_to_num(0.0, 0.0, 0.0)
    if not (off <= NEAR[request.query.dtype] + digits.expm1()).all():
        raise ValueError(f"its weights sum to 1 only within {float(off.max()):.2g}")
    return float(off.max())
