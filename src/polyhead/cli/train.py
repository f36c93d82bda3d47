"""`polyhead train`: a recipe goes in, its keys changed from the command line; a trained model folder comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from polyhead.cli.screen import safe
from polyhead.errors import ArgumentError

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}  # the keys of the recipe


def train(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to train, and how.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the model goes; runs/NAME unless given.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print parameters, memory, FLOPs and expected time; train and write nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with a training found in the folder, or refuse to.")
    ] = True,
) -> None:
    """Train a model from a recipe.

    Every key of the recipe can be changed with --section.key value; a number leads into a list. A training that was
    stopped, at whatever moment, goes on where it was when the same command is given again. --start MODEL begins from a
    saved model instead of from chance. Sentences as numbers are kept in data.cache, runs/cache unless set.

    **Examples**

        polyhead train recipes/own.toml --plan
        polyhead train recipes/own.toml --out runs/mine --train.epochs 5 --model.n_layers 2 --data.train.0.weight 0.5
        polyhead train my.toml --start zh-en --train.lr 3e-4
    """
    if str(recipe).startswith("-"):
        raise ArgumentError(f"The recipe comes first, then its keys: polyhead train RECIPE.toml {recipe} ...")

    from polyhead.tasks.learning.train import train as run

    result = run(recipe, overrides=overrides(context.args), out=out, plan_only=plan, resume=resume)
    if result is None:
        return
    if result.best:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in result.best.items())
        print(safe(f"The best model, of step {result.best_step:,} ({scores}), is in {result.folder}"))
    if result.why == "interrupted":
        typer.echo(f"Stopped at step {result.steps:,}; the same command goes on from there.", err=True)
        raise typer.Exit(130)


def overrides(words: Sequence[str]) -> list[tuple[str, str]]:
    """`--train.lr 3e-4 --model.n_layers=2 --train.tensorboard` as pairs; a key alone means true."""
    pairs: list[tuple[str, str]] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            raise ArgumentError(f"'{word}' is neither a key of the recipe nor its value; keys are --section.key value.")
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            value = left.pop(0) if left and not left[0].startswith("--") else "true"
        pairs.append((key, value))
    return pairs
