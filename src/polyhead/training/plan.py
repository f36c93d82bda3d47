"""A task and its settings go in; parameters, memory, FLOPs and expected time come out before anything is trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from polyhead.training import rng
from polyhead.training.learner import Learner, weights_of
from polyhead.training.machine import casting, precision, prepared
from polyhead.training.progress import clock
from polyhead.training.settings import Training, schedule_of, steps_of
from polyhead.training.state import steps_in
from polyhead.training.task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will be and take. Bytes, FLOPs and seconds; `rate` is FLOP per second.

    parameters: by part of the model. memory: by use; activations are those that the largest sampled batch keeps for
    its backward pass. steps is None when only the clock ends the training and its speed was not measured.
    """

    parameters: dict[str, int]
    memory: dict[str, int]
    precision: str
    tokens_per_step: float
    flops_per_step: float
    steps: int | None
    rate: float
    seconds: float | None
    source: str


def plan(task: Task, settings: Training, *, seconds: float = 3.0, rate: float | None = None, samples: int = 8) -> Plan:
    """Look at a few real batches of the first epoch, and leave the task as it was found.

    The time comes from real steps, run for about `seconds`; or from `rate`, in FLOP per second, if one is given.
    Evaluations and the writing of states are not in it.
    """
    with prepared(settings), rng.kept(), _untouched(task.model):
        exact = precision(settings.precision, next(task.model.parameters()).device)
        steps = steps_of(settings, partial(steps_in, task, settings.accumulate))
        learner = Learner(task, settings, schedule_of(settings, steps), exact)
        task.model.train()
        batches = _spread(task.batches(0), samples)
        seen = [_look(task, batch, exact) for batch in batches]
        flops = settings.accumulate * sum(look.flops for look in seen) / len(seen)
        if rate is None:
            pace, count = _pace(learner, batches, settings.accumulate, seconds)
            source = f"measured: {count} steps of this training"
        else:
            pace, source = flops / rate, "from the stated rate"
        if settings.minutes:
            steps = min(steps or math.inf, max(1, int(60 * settings.minutes / pace)))
        return Plan(
            parameters=parts(task.model),
            memory=_memory(learner, max(look.kept for look in seen)),
            precision=exact,
            tokens_per_step=settings.accumulate * sum(look.tokens for look in seen) / len(seen),
            flops_per_step=flops,
            steps=int(steps) or None,
            rate=flops / pace,
            seconds=steps * pace if steps else None,
            source=source,
        )


def parts(model: nn.Module) -> dict[str, int]:
    """Parameters by part, in the model's order: layers of one stack together, tied weights once."""
    count: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        path = [word for word in name.split(".")[:-1] if not word.isdigit()]
        count[".".join(path[:3]) or name] += parameter.numel()
    return dict(count)


def describe(plan: Plan) -> str:
    """The plan as a page of text."""
    unknown = "unknown: only the clock ends this training"
    parameters = {**plan.parameters, "in all": sum(plan.parameters.values())}
    memory = {**plan.memory, "in all, at least": sum(plan.memory.values())}
    course = {
        "precision": plan.precision,
        "steps": f"{plan.steps:,}" if plan.steps else unknown,
        "tokens": f"{plan.tokens_per_step:,.0f} a step"
        + (f", {plan.tokens_per_step * plan.steps:,.0f} in all" if plan.steps else ""),
        "FLOPs": f"{plan.flops_per_step:.2e} a step"
        + (f", {plan.flops_per_step * plan.steps:.2e} in all" if plan.steps else ""),
        "speed": f"{plan.rate:.2e} FLOPs a second ({plan.source})",
        "time": unknown if plan.seconds is None else f"{clock(plan.seconds)} without evaluations",
    }
    sections = {
        "parameters": _column({part: f"{count:,}" for part, count in parameters.items()}, "rjust"),
        "memory": _column({use: f"{size / 2**20:,.1f} MiB" for use, size in memory.items()}, "rjust"),
        "training": _column(course, "ljust"),
    }
    return "\n\n".join("\n".join([title, *lines]) for title, lines in sections.items())


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One batch: floating-point operations forward and backward, bytes kept between the two, tokens."""

    flops: int
    kept: int
    tokens: int


def _look(task: Task, batch: Batch, exact: str) -> _Look:
    """Run one batch forward and backward under the counters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in task.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = next(task.model.parameters()).device
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor), casting(exact, device):
            loss = task.loss(batch)
        loss.total.backward()
    task.model.zero_grad()
    return _Look(flops=counter.get_total_flops(), kept=sum(kept.values()), tokens=loss.tokens)


def _pace(learner: Learner, batches: Sequence[Batch], accumulate: int, seconds: float) -> tuple[float, int]:
    """Seconds a step over as many steps as fit, at least one, after one that warms up; and how many they were."""
    groups = [[batches[(i + j) % len(batches)] for j in range(accumulate)] for i in range(0, len(batches), accumulate)]
    learner.learn(groups[0], 1)
    start, count = monotonic(), 0
    while not count or monotonic() - start < seconds:
        learner.learn(groups[count % len(groups)], 1)
        count += 1
    return (monotonic() - start) / count, count


def _memory(learner: Learner, activations: int) -> dict[str, int]:
    """Bytes by use. AdamW keeps two numbers a parameter; gradients are as large as the weights."""
    weights = sum(parameter.nbytes for parameter in learner.model.parameters())
    average = sum(tensor.nbytes for tensor in learner.average.tensors().values())
    memory = {"weights": weights, "gradients": weights, "AdamW": 2 * weights, "averaged weights": average}
    return {use: size for use, size in {**memory, "activations": activations}.items() if size}


def _spread(batches: Sequence[Batch], samples: int) -> list[Batch]:
    """So many batches, evenly over the epoch."""
    count = min(samples, len(batches))
    return [batches[i * len(batches) // count] for i in range(count)]


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Weights, buffers and mode leave as they came, gradients gone."""
    before, training = {name: tensor.clone() for name, tensor in weights_of(model).items()}, model.training
    try:
        yield
    finally:
        for name, tensor in weights_of(model).items():
            tensor.copy_(before[name])
        model.zero_grad()
        model.train(training)


def _column(words: Mapping[str, str], side: Literal["ljust", "rjust"]) -> list[str]:
    """Names on the left, words below each other, to the left or to the right."""
    name_width, width = max(map(len, words)), max(map(len, words.values()))
    return [f"  {name.ljust(name_width)}  {getattr(word, side)(width)}".rstrip() for name, word in words.items()]


def _forward(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _linear(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


ON_CPU = {
    torch.ops.mkldnn._linear_pointwise: _linear,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
"""PyTorch's counter knows the attention of GPUs and its own products; these are the same sums."""
