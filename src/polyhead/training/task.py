"""What training sees of a task: a model, batches in a fixed order, a loss, scores, and a way to save."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from polyhead.errors import ArgumentError

Batch = Any
"""A mapping or a dataclass whose tensors training can save when a batch has to be shown to a person."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A batch's loss, summed over its targets, so that steps of several batches weigh every target alike.

    `total` is a scalar with a gradient, `targets` counts the tokens that were predicted (padding excluded) and
    `tokens` what the batch held in all, source and target, from which the speed is told.
    """

    total: Tensor  # []
    targets: int
    tokens: int


class Task(Protocol):
    """Everything here is a pure function of (seed, epoch, index), apart from dropout: exact resume rests on it."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained, in place."""
        ...

    @property
    def scores(self) -> Collection[str]:
        """The names of the scores that `evaluate` gives."""
        ...

    def batches(self, epoch: int) -> Sequence[Batch]:
        """The batches of one epoch. `len` and `[i]` are all that is used; `[i]` may be reached in any order."""
        ...

    def loss(self, batch: Batch) -> Loss:
        """Run `model` on one batch. Called in training mode, under the precision the settings ask for."""
        ...

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """The `scores` on held-out data. Called in evaluation mode, without gradients."""
        ...

    def save(self, folder: Path, model: nn.Module, card: str) -> None:
        """Write the model and its README.md into `folder`, whole or not at all, beside what else lies there."""
        ...


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch by name, whether it is a mapping or a dataclass."""
    if is_dataclass(batch):
        items = [(field.name, getattr(batch, field.name)) for field in fields(batch)]
    elif isinstance(batch, Mapping):
        items = list(batch.items())
    else:
        raise ArgumentError(f"a batch must be a mapping or a dataclass of tensors, found {type(batch).__name__}")
    return {str(name): value for name, value in items if isinstance(value, Tensor)}
