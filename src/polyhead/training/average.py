"""Changing weights go in, steadier ones come out: three ways to average, and a way to try the average on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from polyhead.training.settings import Training

Weights = dict[str, Tensor]


class Average(Protocol):
    """Told of every step and of every evaluation; gives the weights to evaluate and to keep."""

    def stepped(self, model: nn.Module, step: int) -> None: ...

    def evaluated(self, model: nn.Module) -> None: ...

    def weights(self) -> Weights:
        """The averaged parameters by name; empty: the model's own."""
        ...

    def tensors(self) -> Weights:
        """What a checkpoint must hold."""
        ...

    def load(self, tensors: Weights) -> None: ...


class Own:
    """No average: the model's own weights."""

    def stepped(self, model: nn.Module, step: int) -> None: ...

    def evaluated(self, model: nn.Module) -> None: ...

    def weights(self) -> Weights:
        return {}

    def tensors(self) -> Weights:
        return {}

    def load(self, tensors: Weights) -> None: ...


class Moving:
    """An exponential moving average: after step t, e <- d e + (1 - d) w with d = min(decay, (1 + t) / (10 + t)).

    The ramp, TensorFlow's, forgets the random first weights soon; without it they would weigh decay^t.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.kept = _copied(model)

    def stepped(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            self.kept[name].lerp_(parameter.detach(), 1 - decay)

    def evaluated(self, model: nn.Module) -> None: ...

    def weights(self) -> Weights:
        return self.kept

    def tensors(self) -> Weights:
        return self.kept

    def load(self, tensors: Weights) -> None:
        for name, kept in self.kept.items():
            kept.copy_(tensors[name])


class Last:
    """The mean of the weights at the last `count` evaluations (Vaswani et al. 2017, section 6.1)."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.kept: list[Weights] = []

    def stepped(self, model: nn.Module, step: int) -> None: ...

    def evaluated(self, model: nn.Module) -> None:
        self.kept = [*self.kept, _copied(model)][-self.count :]

    def weights(self) -> Weights:
        names = self.kept[0] if self.kept else ()
        return {name: torch.stack([weights[name] for weights in self.kept]).mean(0) for name in names}

    def tensors(self) -> Weights:
        return {f"{i}/{name}": tensor for i, weights in enumerate(self.kept) for name, tensor in weights.items()}

    def load(self, tensors: Weights) -> None:
        self.kept = [{} for _ in {key.partition("/")[0] for key in tensors}]
        for key, tensor in tensors.items():
            i, _, name = key.partition("/")
            self.kept[int(i)][name] = tensor


def average_of(settings: Training, model: nn.Module) -> Average:
    """The average that the settings ask for."""
    if settings.ema_decay:
        return Moving(model, settings.ema_decay)
    return Last(settings.average_last) if settings.average_last else Own()


@contextmanager
def wearing(model: nn.Module, weights: Weights) -> Iterator[None]:
    """The model computes with `weights` inside, with its own again after; nothing is copied."""
    own = {name: parameter.data for name, parameter in model.named_parameters()}
    try:
        for name, parameter in model.named_parameters():
            parameter.data = weights.get(name, parameter.data)
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.data = own[name]


def _copied(model: nn.Module) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
