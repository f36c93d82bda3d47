"""Where a training stands, apart from tensors: what a step advances, what a checkpoint writes as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar, get_origin, get_type_hints

from polyhead.errors import DataError
from polyhead.training import rng
from polyhead.training.learner import Learnt
from polyhead.training.task import Batch, Task

T = TypeVar("T")


@dataclass(kw_only=True)
class Window:
    """Sums since the last line of metrics."""

    loss: float = 0.0
    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, learnt: Learnt, seconds: float) -> None:
        self.loss += learnt.loss
        self.targets += learnt.targets
        self.tokens += learnt.tokens
        self.seconds += seconds


@dataclass(kw_only=True)
class State:
    """The cursor (the next batch is `index` of `epoch`), the sums, and what early stopping remembers."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    tokens: int = 0
    seconds: float = 0.0
    window: Window = field(default_factory=Window)

    scores: dict[str, float] = field(default_factory=dict)  # of the last evaluation
    evaluated: int = 0  # its step
    best: dict[str, float] = field(default_factory=dict)  # of the best evaluation
    best_step: int = 0
    stale: int = 0  # evaluations since the best one


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a checkpoint holds beside tensors: the settings, those that may not change, the state, the random states."""

    fixed: dict[str, Any]
    recipe: dict[str, Any]
    state: State
    metrics_length: int
    rng: dict[str, Any]

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Facts:
        """What `asdict` gave; raises ValueError, TypeError, KeyError or RuntimeError where nobody can go on from it."""
        with rng.kept():
            rng.restore(facts["rng"])
        return _filled(cls, facts)


def _filled(kind: type[T], facts: Any) -> T:
    """A dataclass from what `asdict` made of it: every field, of its type, and nothing else."""
    kinds = get_type_hints(kind)
    if not isinstance(facts, dict) or facts.keys() != kinds.keys():
        raise ValueError(f"its {kind.__name__.lower()} must hold {', '.join(kinds)}, and nothing else")
    values = {
        name: _filled(k, facts[name]) if is_dataclass(k) else facts[name]  # pyright: ignore[reportArgumentType]
        for name, k in kinds.items()
    }
    for name, k in kinds.items():
        if not isinstance(values[name], (int, float) if k is float else get_origin(k) or k):
            raise ValueError(f"its {name} is of the wrong type: {values[name]!r:.100}")
    return kind(**values)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The batches of one step, and where they stand: batch `index` and those after it of `epoch`."""

    epoch: int
    index: int
    batches: tuple[Batch, ...]
    ends_epoch: bool


def steps_in(task: Task, accumulate: int, epoch: int) -> int:
    """How many groups an epoch has."""
    return math.ceil(len(task.batches(epoch)) / accumulate)


def groups(task: Task, state: State, accumulate: int) -> Iterator[Group]:
    """The batches of each step to come, for ever, from the state's cursor on; the cursor is moved past each.

    The last step of an epoch takes the batches that are left, so that no step reaches over two epochs.
    """
    while True:
        epoch, batches = state.epoch, task.batches(state.epoch)
        if not len(batches):
            raise DataError(f"epoch {epoch} has no batches: the training data is empty")
        while state.epoch == epoch:
            start, stop = state.index, min(state.index + accumulate, len(batches))
            taken = tuple(batches[i] for i in range(start, stop))
            ends = stop == len(batches)
            state.step += 1
            state.epoch, state.index = (epoch + 1, 0) if ends else (epoch, stop)
            yield Group(epoch=epoch, index=start, batches=taken, ends_epoch=ends)
