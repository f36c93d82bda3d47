"""A recipe of any task goes in, a trained model in a standard folder comes out: read, prepare, train, test, tell."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from polyhead.errors import ConfigError, PolyheadError, did_you_mean
from polyhead.files import write_text
from polyhead.tasks.learning.recipe import USUAL, Recipe
from polyhead.tasks.load import Loaded, find, load
from polyhead.training.card import Card, Cost, Score, hardware, render
from polyhead.training.checkpoint import claim, unclaim
from polyhead.training.loop import Result
from polyhead.training.loop import train as run
from polyhead.training.plan import describe, plan
from polyhead.training.recipe_file import written
from polyhead.training.task import Task


class Prepared(Task, Protocol):
    """A task ready to be trained, that can also say what the model card asks."""

    def card(self) -> Card:
        """What the card says beyond the training's own facts."""
        ...

    def tested(self, best: Loaded) -> list[Score]:
        """The scores of the best model on the recipe's test files, which nothing was chosen by."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of task that recipes can name: how its recipe is read, and how a recipe becomes a task.

    prepare: a recipe, the folder that keeps what is made once, and scratch= for what must leave no trace.
    """

    read: Callable[[str | Path, Sequence[tuple[str, str]]], Any]
    prepare: Callable[..., Prepared]


#  a recipe's `task` -> the module beside this one that holds its `KIND`
KINDS = {USUAL: "translation", "classify": "classification"}


def kind_of(recipe: str | Path, overrides: Sequence[tuple[str, str]]) -> Kind:
    """The kind of task that a recipe names."""
    task = str(written(recipe, Recipe, overrides).get("task", USUAL))
    if task not in KINDS:
        raise ConfigError(
            f"task = '{task}' is none that can be trained; known: {', '.join(KINDS)}.{did_you_mean(task, KINDS)}"
        )
    return importlib.import_module(f"polyhead.tasks.learning.{KINDS[task]}").KIND


def train(
    recipe: str | Path,
    *,
    overrides: Sequence[tuple[str, str]] = (),
    out: str | Path | None = None,
    plan_only: bool = False,
    resume: bool = True,
) -> Result | None:
    """Train what a recipe describes; `out` (default runs/<name>) gets a standard Hugging Face folder.

    overrides: dotted keys and their values, ("train.lr", "3e-4"). plan_only: print what it will take, and change
    nothing. resume: go on with a training found in `out`, or refuse to. Raises ConfigError, DataError, CheckpointError,
    WriteError, NonFiniteLoss.
    """
    kind = kind_of(recipe, overrides)
    settings = kind.read(recipe, overrides)
    folder = Path(out) if out else Path("runs") / settings.name
    if settings.start and find(settings.start).resolve() == folder.resolve():
        raise ConfigError(f"{folder} cannot be both start and --out; choose another folder for the new model")
    if plan_only:
        print(f"The plan is made aside; {folder} and {settings.data.cache} stay as they are", file=sys.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            print(describe(plan(kind.prepare(settings, folder, scratch=Path(scratch)), settings.train)))
        return None
    with claim(folder):
        try:
            task = kind.prepare(settings, folder)
        except PolyheadError:
            unclaim(folder)
            raise
        result = run(task, settings.train, folder, resume=resume, recipe=settings, card=task.card(), claimed=True)
        if settings.data.test and result.best and result.why != "interrupted":
            write_text(folder / "README.md", tested_card(task, result))
        return result


def tested_card(task: Prepared, result: Result) -> str:
    """The model card with the best model's scores on the test files."""
    card = task.card()
    scores = [*card.scores(result.best), *task.tested(load(result.folder))]
    cost = Cost(
        hours=result.seconds / 3600, steps=result.steps, epochs=result.epochs, tokens=result.tokens,
        hardware=hardware(),
    )  # fmt: skip
    return render(card, settings=result.settings, scores=scores, cost=cost)
