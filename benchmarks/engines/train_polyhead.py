"""A recipe goes in, the speed of its own training comes out: the loop's Learner on the task's batches."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import serve

from polyhead.tasks.learning.translation import TranslationTask, prepare
from polyhead.tasks.learning.translation_recipe import read_recipe
from polyhead.training.learner import Learner
from polyhead.training.machine import prepared
from polyhead.training.settings import schedule_of

held = ExitStack()
task: TranslationTask
learner: Learner


def load(recipe: str, overrides: list[tuple[str, str]], out: str, precision: str) -> dict[str, Any]:
    """The sizes of the model, which the others take over."""
    global task, learner
    settings = read_recipe(recipe, overrides)
    held.enter_context(prepared(settings.train))
    task = prepare(settings, Path(out))
    task.model.train()
    schedule = schedule_of(settings.train, len(task.batches(0)) * (settings.train.epochs or 1))
    learner = Learner(task, settings.train, schedule, precision)
    return asdict(task.config)


def write_batches(path: str, count: int) -> int:
    """The first batches of the first epoch as padded arrays; returns their tokens, padding not counted."""
    batches = [task.batches(0)[i] for i in range(count)]
    arrays = {f"source{i}": batch.source.numpy() for i, batch in enumerate(batches)}
    arrays |= {f"target{i}": batch.target.numpy() for i, batch in enumerate(batches)}
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return int(sum((array != task.config.pad_id).sum() for array in arrays.values()))


def learn(count: int) -> dict[str, float]:
    """Learn the first batches, making them on the way, as in training."""
    batches = task.batches(0)
    start = time.perf_counter()
    for i in range(count):
        learnt = learner.learn([batches[i]], i + 1)
    return {"seconds": time.perf_counter() - start, "loss": learnt.loss / learnt.targets}


if __name__ == "__main__":
    with held:
        serve({"load": load, "write_batches": write_batches, "learn": learn})
