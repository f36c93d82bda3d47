"""What one call of the operator leaves behind: the rows' log-sum-exp, and all that its weights can be rebuilt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from torch import Tensor

from polyhead.operator.answers import Statistics
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request
from polyhead.operator.statistics import exact, measure


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

    def __repr__(self) -> str:
        B, H, T = self.lse.shape
        return f"Record of [{B}, {H}, {T}, {self.request.key.shape[2]}] by {self.kernel}"

    def weights(
        self, rows: Sequence[int] | Tensor | None = None, columns: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Exact weights [B, H, len(rows), len(columns)] of chosen queries and keys (None: all), at the cost of those.

        Zeros where hidden; a row over all columns sums to 1, less the sink's share. Raises ArgumentError.
        """
        frame = self.request.frame
        rows = range(frame.n_queries) if rows is None else rows
        columns = range(frame.n_keys) if columns is None else columns
        return exact(self.request, self.lse.detach(), rows, columns).to(self.lse.dtype)

    def observe(self, observe: Observe) -> Statistics:
        """What `attend` would have told, asked later; numbers to read, without gradients.

        The tensors of the call must still hold what they held. Raises ArgumentError.
        """
        return measure(self.request, self.lse.detach(), observe)

    def save(self, path: str | Path) -> None:
        """Write the record and its statistics to one safetensors file, whole or not at all.

        Raises WriteError, and ArgumentError where a rule or a bias is code.
        """
        from polyhead.operator.record_file import save

        save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Record:
        """The record that was saved. Its value tensors were not, so `request.value` stands for the keys.

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
