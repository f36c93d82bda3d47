"""A task and its settings go in, a trained model comes out: learn, tell, judge, save, until it is over.

A training killed at any moment and started again ends with the same bits: all that a step depends on is in the state
(`checkpoint.py`), and the order of the data is a function of (seed, epoch, index) alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from rich.console import Console

from polyhead.errors import ConfigError, did_you_mean
from polyhead.files import writable, write_text
from polyhead.training import checkpoint, progress, rng
from polyhead.training.average import wearing
from polyhead.training.card import Card, Cost, hardware, render
from polyhead.training.evidence import refuse
from polyhead.training.interrupt import Interrupt
from polyhead.training.learner import Learner, Learnt, NotFinite
from polyhead.training.machine import precision, prepared
from polyhead.training.metrics import JsonLines, Metrics, TensorBoard
from polyhead.training.recipe_file import changes, flat
from polyhead.training.settings import Training, schedule_of, steps_of
from polyhead.training.state import Facts, Group, State, Window, groups, steps_in
from polyhead.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a training ended: why, after how much, and with which scores the weights in `folder` were the best.

    settings: what it ran with, by dotted key: precision and schedule as they came to be, and no places of files.
    """

    why: str
    folder: Path
    steps: int
    epochs: int
    tokens: int
    seconds: float
    best: Mapping[str, float]
    best_step: int
    settings: Mapping[str, Any]


def train(
    task: Task,
    settings: Training,
    out: str | Path,
    *,
    resume: bool = True,
    recipe: Any = None,
    card: Card | None = None,
    console: Console | None = None,
    claimed: bool = False,
) -> Result:
    """Train `task.model` until the settings end it; `out` gets the best model, `out/training` the state.

    A training that was stopped goes on where it was; `resume=False` refuses a folder that holds one. `recipe` is the
    whole recipe, a dataclass, kept with the state so that a resumed run whose mathematics differ is refused by key.
    `card` is what the model card shall say. Progress goes to `console`, standard error by default. `claimed` says that
    the caller has claimed the folder (`checkpoint.claim`), which is done here otherwise.

    Raises ConfigError for settings that cannot be honoured and while another training runs in the folder, WriteError
    and CheckpointError when a state cannot be written or read, NonFiniteLoss, with the batch saved, when the loss or
    its gradient is not a number.
    """
    with (
        nullcontext() if claimed else checkpoint.claim(Path(out)),
        closing(progress.screen(console or Console(stderr=True))) as screen,
        prepared(settings),
        Interrupt() as interrupt,
    ):
        with closing(Session(task, settings, Path(out), recipe=recipe, card=card, screen=screen)) as session:
            session.begin(resume=resume)
            coming = groups(task, session.state, settings.accumulate)
            while not (why := session.over(interrupt)):
                group = next(coming)
                learnt = session.learn(group)
                session.tell(learnt)
                if session.evaluation_due(group):
                    session.judge()
                if session.checkpoint_due(group):
                    session.save()
            session.end(interrupt)
            return session.result(why)


class Session:
    """One run of the loop: what it works on, and the verbs it is made of."""

    def __init__(
        self, task: Task, settings: Training, out: Path, *, recipe: Any, card: Card | None, screen: progress.Screen
    ) -> None:
        if settings.watch not in task.scores:
            raise ConfigError(
                f"[train] watch = '{settings.watch}' is no score of this task, which has {', '.join(task.scores)}."
                f"{did_you_mean(settings.watch, task.scores)}"
            )
        self.task, self.settings, self.out, self.card, self.screen = task, settings, out, card, screen
        self.training = out / "training"
        self.steps = steps_of(settings, partial(steps_in, task, settings.accumulate))
        schedule = schedule_of(settings, self.steps)
        exact = precision(settings.precision, next(task.model.parameters()).device)
        self.learner = Learner(task, settings, schedule, exact)
        self.state = State()
        self.recipe = flat(settings, prefix="train.") | (flat(recipe) if recipe else {})
        self.fixed = {
            **flat(settings, fixed=True, prefix="train."),
            **(flat(recipe, fixed=True) if recipe else {}),
            **{f"schedule.{name}": value for name, value in asdict(schedule).items()},
            "train.precision": exact,
        }
        self.told = {**self.fixed, **flat(settings, prefix="train."), "train.precision": exact}
        self.sinks: list[Metrics] = []
        self.then = self.saved_at = monotonic()
        self.began: tuple[int, float] = (0, 0.0)
        self.saved: int | None = None

    def begin(self, *, resume: bool) -> None:
        """Start from the seed, or go on from the newest whole state; random states last, before the first batch."""
        found = checkpoint.latest(self.training, self.screen.say, parts=self.learner.parts(), read=Facts.of)
        if found and not resume:
            raise ConfigError(
                f"{self.out} holds a training at step {found.step}; go on with it (--resume), or choose another folder"
            )
        if found:
            self._agree(found.facts)
            self.learner.load({part: found.tensors(part) for part in self.learner.parts()})
            self.state = found.facts.state
            self.saved = found.step
            self.screen.say(f"going on from step {found.step:,}, epoch {self.state.epoch}, in {found.folder}")
        self.lines = JsonLines(self.training / "metrics.jsonl", found.facts.metrics_length if found else 0)
        self.sinks = [self.lines]
        if self.settings.tensorboard:
            self.sinks.append(TensorBoard(self.training / "tensorboard", self.state.step))
        count = sum(parameter.numel() for parameter in self.task.model.parameters())
        threads = torch.get_num_threads()
        self.screen.say(f"{count:,} parameters, {self.learner.precision}, {threads} thread{'s' * (threads > 1)}")
        self.began = self.state.step, self.state.seconds
        self.then = self.saved_at = monotonic()
        if found:
            rng.restore(found.facts.rng)
        else:
            rng.seed_everything(self.settings.seed)

    def over(self, interrupt: Interrupt) -> str:
        """Why to stop before the next step; empty to go on."""
        state, settings = self.state, self.settings
        reasons = {
            "interrupted": interrupt.asked,
            f"{settings.epochs} epochs": 0 < settings.epochs <= state.epoch,
            f"{settings.steps} steps": 0 < settings.steps <= state.step,
            f"{settings.minutes:g} minutes": 0 < 60 * settings.minutes <= state.seconds,
            f"{settings.patience} evaluations without a better {settings.watch}": 0 < settings.patience <= state.stale,
        }
        return next((why for why, holds in reasons.items() if holds), "")

    def learn(self, group: Group) -> Learnt:
        """One step, on batches in training mode; every number must be finite."""
        self.task.model.train()
        try:
            learnt = self.learner.learn(group.batches, self.state.step)
        except NotFinite as met:
            raise refuse(met, step=self.state.step, group=group, model=self.task.model, training=self.training) from met
        self.state.tokens += learnt.tokens
        self.state.window.add(learnt, self._tick())
        return learnt

    def tell(self, learnt: Learnt) -> None:
        """The bar after every step; a line of metrics every `log_every`, as means over the steps since the last."""
        state, window, settings = self.state, self.state.window, self.settings
        values = {
            "epoch": state.epoch,
            "train/loss": window.loss / window.targets,
            "lr": learnt.lr,
            "grad_norm": learnt.norm,
            "tokens_per_second": round(window.tokens / window.seconds, 1),
            "seconds": round(state.seconds, 2),
        }
        first_step, first_second = self.began
        share, left = progress.share_and_left(
            step=state.step,
            steps=self.steps,
            seconds=state.seconds,
            limit=60 * settings.minutes,
            pace=(state.seconds - first_second) / (state.step - first_step),
        )
        line = progress.line(state.step, values, state.scores, left)
        self.screen.move(share, line)
        if state.step % settings.log_every == 0:
            self._write(values)
            self.screen.log(line)
            state.window = Window()

    def evaluation_due(self, group: Group) -> bool:
        epochs = self.state.epoch if group.ends_epoch else None
        return self.settings.evaluate_every.due(step=self.state.step, epochs=epochs, minutes=0)

    def checkpoint_due(self, group: Group) -> bool:
        epochs, minutes = self.state.epoch if group.ends_epoch else None, (monotonic() - self.saved_at) / 60
        return self.settings.checkpoint_every.due(step=self.state.step, epochs=epochs, minutes=minutes)

    def judge(self) -> None:
        """Evaluate the (averaged) weights, and save the model if it has never been better."""
        state, model, average = self.state, self.task.model, self.learner.average
        average.evaluated(model)
        model.eval()
        with wearing(model, average.weights()), torch.no_grad():
            with rng.kept():
                scores = {name: float(value) for name, value in self.task.evaluate(model).items()}
            state.scores, state.evaluated = scores, state.step
            if self._better(scores):
                state.best, state.best_step, state.stale = scores, state.step, 0
                with writable(self.out):
                    self.task.save(self.out, model, self._card())
            else:
                state.stale += 1
        self._tick()
        self._write({f"valid/{name}": value for name, value in scores.items()})
        told = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
        self.screen.say(f"step {state.step}  {told}{'' if state.stale else '  (the best so far)'}")

    def save(self) -> None:
        """Write the state of now."""
        facts = Facts(
            fixed=self.fixed,
            recipe=self.recipe,
            state=self.state,
            metrics_length=self.lines.length(),
            rng=rng.capture(),
        )
        parts = self.learner.parts()
        checkpoint.save(self.training, self.state.step, parts=parts, facts=asdict(facts), keep=self.settings.keep)
        self.saved, self.saved_at = self.state.step, monotonic()
        self._tick()

    def end(self, interrupt: Interrupt) -> None:
        """Judge the last weights, unless somebody is waiting for us to stop, save, and finish the card."""
        if self.state.evaluated != self.state.step and not interrupt.asked:
            self.judge()
            self.saved = None
        if self.saved != self.state.step:
            self.save()
        if self.state.best:
            write_text(self.out / "README.md", self._card())

    def result(self, why: str) -> Result:
        state = self.state
        return Result(
            why=why,
            folder=self.out,
            steps=state.step,
            epochs=state.epoch,
            tokens=state.tokens,
            seconds=state.seconds,
            best=state.best,
            best_step=state.best_step,
            settings=self.told,
        )

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()

    def _agree(self, found: Facts) -> None:
        """Refuse to go on with other mathematics than the state was made with, or with another idea of the best.

        A state from when fewer settings were fixed tells the others in its recipe.
        """
        before = {key: value for key, value in found.recipe.items() if key in self.fixed} | found.fixed
        differing, horizon = changes(before, self.fixed), before.get("schedule.horizon")
        keep, anew = "", f" (--start {self.out} takes these weights along)" if "start" in self.recipe else ""
        if horizon and horizon != self.fixed.get("schedule.horizon"):
            rate = f"the rate is {self.settings.min_lr:g} after those steps"
            keep = f" (--train.horizon {horizon} keeps its schedule; {rate})"
        if differing:
            raise ConfigError(
                f"{self.out} was trained with other settings: {'; '.join(differing)}; "
                f"put them back to go on{keep}, or choose another folder to start anew{anew}"
            )

    def _better(self, scores: Mapping[str, float]) -> bool:
        """By the watched score; a loss or perplexity is better when lower, anything else when higher."""
        watch = self.settings.watch
        if not self.state.best:
            return True
        new, old = scores[watch], self.state.best[watch]
        return new < old if watch.endswith(("loss", "perplexity")) else new > old

    def _write(self, values: Mapping[str, float]) -> None:
        for sink in self.sinks:
            sink.write(self.state.step, values)

    def _card(self) -> str:
        """The model card as it stands; a card is written even when nobody said anything about the model."""
        state = self.state
        cost = Cost(
            hours=state.seconds / 3600, steps=state.step, epochs=state.epoch, tokens=state.tokens, hardware=hardware()
        )
        card = self.card or Card(name=self.out.name)
        return render(card, settings=self.told, scores=card.scores(state.best), cost=cost)

    def _tick(self) -> float:
        """Seconds since the last tick, added to the time the training has taken."""
        now = monotonic()
        passed, self.then = now - self.then, now
        self.state.seconds += passed
        return passed
