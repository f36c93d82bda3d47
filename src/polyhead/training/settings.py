"""The [train] table of a recipe: how long, how fast, how exactly. Every number a training depends on stands here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from polyhead.errors import ConfigError
from polyhead.training.schedule import Constant, Cosine, Noam, Schedule, WarmupStableDecay

MOST_THREADS = 1024
COUNTED = 32  # epochs, whose batches are planned ahead: a second for 100,000 pairs


@dataclass(frozen=True)
class Every:
    """How often something happens: "500 steps", "1 epoch", "10 minutes"."""

    count: float
    unit: Literal["steps", "epochs", "minutes"]

    @classmethod
    def parse(cls, text: str) -> Every:
        count, _, unit = text.partition(" ")
        unit = unit.strip().removesuffix("s") + "s"
        whole = unit != "minutes"
        try:
            number = int(count) if whole else float(count)
        except ValueError:
            number = 0
        if not 0 < number < inf or unit not in ("steps", "epochs", "minutes"):
            raise ConfigError(f"must be like '500 steps', '1 epoch' or '10 minutes', found {text!r}")
        return cls(number, unit)  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        return f"{self.count:g} {self.unit}"

    def due(self, *, step: int, epochs: int | None, minutes: float) -> bool:
        """Whether it is time: `epochs` only when a step has just ended one, `minutes` since the last time."""
        if self.unit == "minutes":
            return minutes >= self.count
        at = step if self.unit == "steps" else epochs
        return at is not None and at % self.count == 0


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train. `epochs`, `steps` and `minutes` end it, whichever comes first; 0 is no limit, one must be set."""

    # how long
    epochs: int = 0
    steps: int = 0
    minutes: float = 0.0
    patience: int = 0  # evaluations without a better score; 0: never stop for it

    # how fast
    lr: float = 1e-3
    schedule: Literal["noam", "cosine", "wsd", "constant"] = "cosine"
    warmup: int | float = 0.05  # steps, or a share of the horizon
    horizon: int = 0  # the schedule's length in steps; 0: what `steps` or `epochs` come to
    decay: float = 0.2  # wsd: the share of the horizon in which the rate falls
    min_lr: float = 0.0

    # how a step is made
    seed: int = 0
    accumulate: int = 1  # batches a step
    label_smoothing: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.01
    clip: float = 1.0  # the longest gradient; 0: any
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    ema_decay: float = 0.0  # average the weights of all steps with this decay; 0: do not
    average_last: int = 0  # average the weights of this many last evaluations; 0: do not

    # what is watched, told and kept
    watch: str = "loss"  # the score that chooses the best weights; a loss or perplexity is better when lower
    evaluate_every: Every = Every(1, "epochs")
    checkpoint_every: Every = Every(10, "minutes")
    keep: int = 2  # training states
    log_every: int = 50  # steps a line of metrics
    tensorboard: bool = False
    threads: int = 0  # 0: as torch has it
    deterministic: bool = True

    FREE: ClassVar[frozenset[str]] = frozenset(
        "epochs steps minutes patience horizon evaluate_every checkpoint_every".split()
        + "keep log_every tensorboard threads deterministic".split()
    )
    """What a resumed run may change: it leaves the mathematics of the next step alone, or, like `epochs`, reaches it
    through the schedule, which is compared by itself. `watch` may not: the best so far was chosen by it. Sums of more
    threads may be added in another order, so exact resume is promised for the same number of them."""

    def __post_init__(self) -> None:
        wrong = [sentence for holds, sentence in self._rules() if not holds]
        if wrong:
            raise ConfigError("; ".join(wrong))

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """What must hold, and what to say if it does not."""
        yield bool(self.epochs or self.steps or self.minutes), "needs an end: set epochs, steps or minutes"
        for names, low, high in (
            ("seed epochs steps minutes patience warmup horizon min_lr weight_decay clip average_last", 0, inf),
            ("threads", 0, MOST_THREADS + 1),
            ("accumulate keep log_every", 1, inf),
            ("label_smoothing ema_decay", 0, 1),
        ):
            for name in names.split():
                value = getattr(self, name)
                wanted = f"at least {low}" if high == inf else f"at least {low} and below {high}"
                yield low <= value < high, f"{name} must be {wanted}, found {value}"
        yield self.lr > 0, f"lr must be above 0, found {self.lr}"
        yield (
            self.min_lr <= self.lr,
            f"min_lr must be at most lr ({self.lr}), to which the rate rises, found {self.min_lr}",
        )
        falls = self.schedule in ("cosine", "wsd")
        yield (
            falls or not self.min_lr,
            f"schedule '{self.schedule}' knows no min_lr: leave it out, or use cosine or wsd",
        )
        ignored = self.schedule != "wsd" and self.decay != Training.decay
        yield not ignored, f"schedule '{self.schedule}' knows no decay: leave it out, or use wsd"
        yield self.eps > 0, f"eps must be above 0, found {self.eps}"
        yield 0 < self.decay <= 1, f"decay must be above 0 and at most 1, found {self.decay}"
        yield all(0 <= beta < 1 for beta in self.betas), f"betas must be at least 0 and below 1, found {self.betas}"
        yield self.schedule != "noam" or self.warmup > 0, "schedule 'noam' needs a warmup of at least one step"
        yield (
            self.schedule not in ("cosine", "wsd") or bool(self.steps or self.epochs or self.horizon),
            f"schedule '{self.schedule}' must know its length in steps: set steps, epochs or horizon",
        )
        yield not (self.ema_decay and self.average_last), "ema_decay and average_last exclude each other: set one to 0"
        yield (
            self.evaluate_every.unit != "minutes",
            f"evaluate_every must be in steps or epochs, which repeat, found '{self.evaluate_every}'",
        )


def schedule_of(settings: Training, steps: int) -> Schedule:
    """The schedule that the settings name, told in steps; `steps` is what `steps_of` gave."""
    horizon = settings.horizon or steps
    warmup = settings.warmup
    if isinstance(warmup, float) and warmup < 1:
        if warmup and not horizon:
            raise ConfigError(
                f"[train] warmup = {warmup} is a share of an unknown length; set it in steps, or set horizon"
            )
        warmup = round(warmup * horizon)
    warmup = int(warmup)
    if settings.schedule == "constant":
        return Constant(peak=settings.lr, warmup=warmup)
    if settings.schedule == "noam":
        return Noam(peak=settings.lr, warmup=max(1, warmup))
    if warmup >= horizon:
        raise ConfigError(f"[train] warmup ({warmup} steps) must be shorter than the whole training ({horizon} steps)")
    if settings.schedule == "cosine":
        return Cosine(peak=settings.lr, warmup=warmup, horizon=horizon, floor=settings.min_lr)
    decay = max(1, min(round(settings.decay * horizon), horizon - warmup))
    return WarmupStableDecay(peak=settings.lr, warmup=warmup, decay=decay, horizon=horizon, floor=settings.min_lr)


def steps_of(settings: Training, steps_in: Callable[[int], int]) -> int:
    """The steps that `steps` and `epochs` allow; 0 when only the clock ends the training.

    `steps_in(epoch)` counts those of one epoch: its batches depend on its order, so no two need have as many. Of more
    than COUNTED epochs, the others are taken to be as those are on average.
    """
    total = 0
    for epoch in range(min(settings.epochs, COUNTED)):
        total += steps_in(epoch)
        if 0 < settings.steps <= total:
            return settings.steps
    if settings.epochs > COUNTED:
        total = total * settings.epochs // COUNTED
    return min(filter(None, (settings.steps, total)), default=0)
