"""One step of learning: batches go in, the model's weights change, what happened comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from polyhead import memory
from polyhead.errors import CheckpointError
from polyhead.training.average import Weights, average_of
from polyhead.training.machine import casting
from polyhead.training.optim import adamw, load_moments, moments, scale_gradients
from polyhead.training.schedule import Schedule
from polyhead.training.settings import Training
from polyhead.training.task import Batch, Task
from polyhead.weights.file import saved_tensors


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What one step saw: the loss summed over its targets, and the gradient's length before clipping."""

    loss: float
    targets: int
    tokens: int
    norm: float
    lr: float


class NotFinite(Exception):
    """A number that training cannot go on from, met in one of `batches` (by their place in the step)."""

    def __init__(self, what: str, value: float, batches: dict[int, Batch]) -> None:
        super().__init__(what)
        self.what, self.value, self.batches = what, value, batches


class Learner:
    """What a step changes: the model, AdamW's moments, the averaged weights."""

    def __init__(self, task: Task, settings: Training, schedule: Schedule, precision: str) -> None:
        self.task = task
        self.model = task.model
        self.device = next(self.model.parameters()).device
        self.schedule = schedule
        self.precision = precision
        self.clip = settings.clip
        for parameter in self.model.parameters():  # of a start, some lie as their file has them
            parameter.data = parameter.data.contiguous()
        self.optimizer = adamw(self.model, settings)
        self.average = average_of(settings, self.model)

    def learn(self, batches: Sequence[Batch], step: int) -> Learnt:
        """Forward and backward over every batch, then one update on the mean over all their targets."""
        total, targets, tokens = 0.0, 0, 0
        for place, batch in enumerate(batches):
            with casting(self.precision, self.device):
                loss = self.task.loss(batch)
            value = loss.total.item()
            if not math.isfinite(value):
                raise NotFinite("loss", value, {place: batch})
            loss.total.backward()
            total, targets, tokens = total + value, targets + loss.targets, tokens + loss.tokens
        norm = scale_gradients(self.model, targets=targets, clip=self.clip)
        if not math.isfinite(norm):
            raise NotFinite("gradient", norm, dict(enumerate(batches)))
        lr = self.schedule.lr(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.stepped(self.model, step)
        memory.swept(step)
        return Learnt(loss=total, targets=targets, tokens=tokens, norm=norm, lr=lr)

    def parts(self) -> dict[str, Weights]:
        """Every tensor that the next step depends on, by file."""
        return {
            "weights": weights_of(self.model),
            "optimizer": moments(self.optimizer, self.model),
            "average": self.average.tensors(),
        }

    def load(self, parts: dict[str, Weights]) -> None:
        """Put back what `parts` gave."""
        own, saved = weights_of(self.model), parts["weights"]
        wrong = [
            *(f"{name} is not in it" for name in own.keys() - saved.keys()),
            *(f"the model has no {name}" for name in saved.keys() - own.keys()),
            *(
                f"{name} is {list(saved[name].shape)} there and {list(own[name].shape)} here"
                for name in own.keys() & saved.keys()
                if own[name].shape != saved[name].shape
            ),
        ]
        if wrong:
            raise CheckpointError(f"the training state is of another model: {'; '.join(sorted(wrong))}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(saved[name])
        try:
            load_moments(self.optimizer, self.model, parts["optimizer"])
            self.average.load(parts["average"])
        except (KeyError, ValueError, RuntimeError) as lacking:
            raise CheckpointError(f"the training state is of another optimiser or average: {lacking}") from lacking


def weights_of(model: torch.nn.Module) -> Weights:
    """Parameters and saved buffers by name, those that are tied once."""
    return {name: tensor.detach() for name, tensor in saved_tensors(model).items()}
