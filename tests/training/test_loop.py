"""What a training writes, says, keeps and refuses."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from polyhead.errors import ConfigError, DataError, MissingExtra, NonFiniteLoss
from polyhead.training import checkpoint
from polyhead.training.card import Card
from polyhead.training.loop import Result, train
from polyhead.training.machine import precision
from polyhead.training.settings import Every, Training
from polyhead.training.task import Loss
from tests.training.tiny import Letters, Spelling, everything, same_bits, saved_model

SETTINGS = Training(epochs=3, lr=2e-2, warmup=3, log_every=4, checkpoint_every=Every(5, "steps"))


def silent(task: Spelling, settings: Training, out: Path, **how) -> Result:
    return train(task, settings, out, console=Console(file=StringIO()), **how)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]


class Scripted(Spelling):
    """A task whose evaluations give the scores that a test wrote down."""

    script: tuple[float, ...] = ()
    name = "chrf"

    @property
    def scores(self) -> tuple[str]:
        return (self.name,)

    def evaluate(self, model: torch.nn.Module) -> Mapping[str, float]:
        self.evaluations += 1
        return {self.name: self.script[min(self.evaluations, len(self.script)) - 1]}


def test_training_learns(tmp_path: Path):
    settings = Training(epochs=40, lr=5e-2, warmup=20, label_smoothing=0.0)
    task = Spelling(settings)
    result = silent(task, settings, tmp_path)
    assert result.best["right"] > 0.9
    assert (result.why, result.steps, result.epochs) == ("40 epochs", 320, 40)


@pytest.mark.parametrize(
    ("limits", "why", "steps"),
    [
        ({"epochs": 2}, "2 epochs", 16),
        ({"epochs": 0, "steps": 5}, "5 steps", 5),
        ({"epochs": 9, "steps": 9}, "9 steps", 9),
    ],
)
def test_a_training_ends_where_its_settings_say(tmp_path: Path, limits: dict, why: str, steps: int):
    settings = replace(SETTINGS, **limits)
    result = silent(Spelling(settings), settings, tmp_path)
    assert (result.why, result.steps) == (why, steps)
    assert metrics(tmp_path)[-1]["step"] == steps and "valid/loss" in metrics(tmp_path)[-1]


def test_the_clock_ends_a_training_too(tmp_path: Path):
    settings = replace(SETTINGS, epochs=0, minutes=1e-3, schedule="constant", warmup=0)
    result = silent(Spelling(settings), settings, tmp_path)
    assert result.why == "0.001 minutes" and result.steps >= 1 and result.best_step >= 1


def test_the_metrics_are_means_over_targets_since_the_line_before(tmp_path: Path):
    class Noted(Spelling):
        seen: list[tuple[float, int]]

        def loss(self, batch: Letters) -> Loss:
            loss = super().loss(batch)
            self.seen.append((loss.total.item(), loss.targets))
            return loss

    task = Noted(SETTINGS)
    task.seen = []
    silent(task, SETTINGS, tmp_path)
    lines = [line for line in metrics(tmp_path) if "train/loss" in line]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
    for i, line in enumerate(lines):
        window = task.seen[4 * i : 4 * i + 4]
        assert line["train/loss"] == pytest.approx(sum(w[0] for w in window) / sum(w[1] for w in window), rel=1e-12)
        assert line.keys() == {"step", "epoch", "train/loss", "lr", "grad_norm", "tokens_per_second", "seconds"}
    assert [line["step"] for line in metrics(tmp_path) if "valid/loss" in line] == [8, 16, 24]


def test_the_best_weights_are_saved_and_the_last_are_trained(tmp_path: Path):
    task = Scripted(SETTINGS)
    task.script = (20.0, 30.0, 25.0)
    weights: list[dict] = []

    def note(folder: Path, model: torch.nn.Module, card: str) -> None:
        weights.append(everything(model))
        Spelling.save(task, folder, model, card)

    task.save = note
    settings = replace(SETTINGS, watch="chrf")
    result = silent(task, settings, tmp_path)
    assert (result.best, result.best_step) == ({"chrf": 30.0}, 16)
    assert len(weights) == 2 and same_bits(saved_model(tmp_path), weights[1])
    assert not same_bits(saved_model(tmp_path), everything(task.model))


@pytest.mark.parametrize(
    ("watch", "script", "best"),
    [("chrf", (1.0, 3.0, 2.0), 3.0), ("loss", (3.0, 1.0, 2.0), 1.0), ("valid_perplexity", (3.0, 1.0, 2.0), 1.0)],
)
def test_a_loss_is_better_when_lower_and_a_score_when_higher(tmp_path: Path, watch: str, script: tuple, best: float):
    task = Scripted(SETTINGS)
    task.script, task.name = script, watch
    assert silent(task, replace(SETTINGS, watch=watch), tmp_path).best == {watch: best}


def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path):
    settings = replace(SETTINGS, epochs=20, watch="chrf", patience=3)
    task = Scripted(settings)
    task.script = (1.0, 5.0, 4.0, 5.0, 4.0, 9.0)
    result = silent(task, settings, tmp_path)
    assert (result.why, result.epochs) == ("3 evaluations without a better chrf", 5)
    again = Scripted(settings)
    again.script = task.script
    assert silent(again, settings, tmp_path).epochs == 5 and again.evaluations == 0


@pytest.mark.parametrize("average", [{"ema_decay": 0.9}, {"average_last": 2}], ids=["moving", "last"])
def test_averaged_weights_are_judged_and_saved(tmp_path: Path, average: dict):
    settings = replace(SETTINGS, watch="chrf", **average)
    task = Scripted(settings)
    task.script = (1.0, 2.0, 3.0)
    snapshots: list[dict] = []

    def evaluate(model: torch.nn.Module) -> dict[str, float]:
        snapshots.append(everything(model))
        return {"chrf": float(len(snapshots))}

    task.evaluate = evaluate
    silent(task, settings, tmp_path)
    saved = saved_model(tmp_path)
    assert same_bits(saved, snapshots[-1])
    own = everything(task.model)
    assert not same_bits(saved, own)
    if "average_last" in average:  # the snapshots before the last are themselves means: 1, (1 + 2) / 2, (2 + 3) / 2
        second = 2 * snapshots[1]["mix.bias"] - snapshots[0]["mix.bias"]
        torch.testing.assert_close(saved["mix.bias"], (second + own["mix.bias"]) / 2)


def test_evaluating_more_often_trains_the_same_weights(tmp_path: Path):
    often = replace(SETTINGS, evaluate_every=Every(1, "steps"), checkpoint_every=Every(1e-9, "minutes"), log_every=1)
    seldom = replace(SETTINGS, evaluate_every=Every(3, "epochs"), checkpoint_every=Every(3, "epochs"))
    tasks = Spelling(often), Spelling(seldom)
    silent(tasks[0], often, tmp_path / "often")
    silent(tasks[1], seldom, tmp_path / "seldom")
    assert (tasks[0].evaluations, tasks[1].evaluations) == (24, 1)
    assert same_bits(everything(tasks[0].model), everything(tasks[1].model))


def test_a_finished_training_run_again_does_nothing_but_finish_its_card(tmp_path: Path):
    silent(Spelling(SETTINGS), SETTINGS, tmp_path)
    before = metrics(tmp_path), saved_model(tmp_path)
    (tmp_path / "README.md").unlink()
    task = Spelling(SETTINGS, seed=77)
    result = silent(task, SETTINGS, tmp_path)
    assert result.steps == 24 and task.evaluations == 0
    assert metrics(tmp_path) == before[0] and same_bits(saved_model(tmp_path), before[1])
    assert "24 steps over 3 epochs" in (tmp_path / "README.md").read_text()


def test_the_card_says_what_was_handed_in_and_what_the_training_found(tmp_path: Path):
    @dataclass(frozen=True)
    class Recipe:
        train: Training
        name: str = "a recipe"

    card = Card(name="speller", license="apache-2.0", languages=("en",))
    silent(Spelling(SETTINGS), SETTINGS, tmp_path, card=card, recipe=Recipe(SETTINGS))
    text = (tmp_path / "README.md").read_text()
    for words in (
        "# speller",
        'license: "apache-2.0"',
        "| validation | loss |",
        'name = "a recipe"',
        "train.lr = 0.02",
    ):
        assert words in text


def test_a_step_at_the_end_of_an_epoch_takes_what_is_left(tmp_path: Path):
    settings = replace(SETTINGS, epochs=2, accumulate=3, log_every=1)
    task = Spelling(settings)
    result = silent(task, settings, tmp_path)
    assert result.steps == 6  # 3 + 3 + 2 batches, twice
    assert [line["epoch"] for line in metrics(tmp_path) if "lr" in line] == [0, 0, 1, 1, 1, 2]


def test_no_batches_are_an_error(tmp_path: Path):
    settings = Training(steps=3, warmup=0)
    with pytest.raises(DataError, match="epoch 0 has no batches: the training data is empty"):
        silent(Spelling(settings, count=0), settings, tmp_path)


def test_a_score_that_is_not_there_cannot_be_watched(tmp_path: Path):
    settings = replace(SETTINGS, watch="rigth")
    task = Spelling(settings)
    with pytest.raises(
        ConfigError, match=r"watch = 'rigth' is no score of this task, which has loss, right, noise\. Did"
    ):
        silent(task, settings, tmp_path)
    assert not task.fetched  # found out before anything was learnt


def test_the_schedule_ends_with_the_training_though_epochs_differ_in_length(tmp_path: Path):
    class Uneven(Spelling):
        def batches(self, epoch: int) -> Sequence[Letters]:
            self.count = 8 - epoch % 2
            return super().batches(epoch)

    settings = replace(SETTINGS, log_every=1)
    result = silent(Uneven(settings), settings, tmp_path)
    rates = [line["lr"] for line in metrics(tmp_path) if "lr" in line]
    assert (result.steps, rates[-1]) == (23, 0.0) and rates[-2] > 0


# Stopping and going on


def test_an_interrupt_saves_and_the_training_goes_on_with_the_same_bits(tmp_path: Path):
    unbroken = Spelling(SETTINGS)
    silent(unbroken, SETTINGS, tmp_path / "unbroken")

    class Interrupted(Spelling):
        def loss(self, batch: Letters) -> Loss:
            if int(self.model.get_buffer("steps_seen")) == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(batch)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = silent(Interrupted(SETTINGS), SETTINGS, tmp_path / "out")
    assert (result.why, result.steps) == ("interrupted", 7)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = Spelling(SETTINGS)
    silent(resumed, SETTINGS, tmp_path / "out")
    assert same_bits(everything(resumed.model), everything(unbroken.model))


def test_a_folder_that_holds_a_training_is_not_overwritten(tmp_path: Path):
    silent(Spelling(SETTINGS), SETTINGS, tmp_path)
    with pytest.raises(ConfigError, match=r"holds a training at step 24; go on with it \(--resume\), or choose"):
        silent(Spelling(SETTINGS), SETTINGS, tmp_path, resume=False)


def test_two_trainings_never_run_in_one_folder(tmp_path: Path):
    class Disturbed(Spelling):
        def evaluate(self, model: torch.nn.Module) -> Mapping[str, float]:
            with pytest.raises(ConfigError, match=f"another training is running in {tmp_path}; wait for its end"):
                silent(Spelling(SETTINGS), SETTINGS, tmp_path)
            return super().evaluate(model)

    undisturbed = Spelling(SETTINGS)
    silent(undisturbed, SETTINGS, tmp_path / "alone")
    disturbed = Disturbed(SETTINGS)
    assert silent(disturbed, SETTINGS, tmp_path).steps == 24
    assert same_bits(everything(disturbed.model), everything(undisturbed.model))


def test_a_folder_claimed_by_the_caller_is_not_claimed_again(tmp_path: Path):
    with checkpoint.claim(tmp_path):
        assert silent(Spelling(SETTINGS), SETTINGS, tmp_path, claimed=True).steps == 24


def test_a_schedule_that_would_be_stretched_says_how_to_keep_it(tmp_path: Path):
    first = replace(SETTINGS, min_lr=1e-3)
    silent(Spelling(first), first, tmp_path)
    longer = replace(first, epochs=4)
    with pytest.raises(ConfigError) as refused:
        silent(Spelling(longer), longer, tmp_path)
    assert "(--train.horizon 24 keeps its schedule; the rate is 0.001 after those steps)" in str(refused.value)
    kept = replace(longer, horizon=24)
    assert silent(Spelling(kept), kept, tmp_path).steps == 32
    assert {line["lr"] for line in metrics(tmp_path) if line["step"] > 24 and "lr" in line} == {1e-3}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"lr": 1e-3}, "train.lr was 0.02 and is now 0.001"),
        ({"seed": 4}, "train.seed was 0 and is now 4"),
        (
            {"clip": 0.5, "weight_decay": 0.0},
            "train.clip was 1.0 and is now 0.5; train.weight_decay was 0.01 and is now",
        ),
        ({"epochs": 4}, "schedule.horizon was 24 and is now 32"),
        ({"ema_decay": 0.5}, "train.ema_decay was 0.0 and is now 0.5"),
        ({"watch": "right"}, "train.watch was loss and is now right"),
    ],
)
def test_other_mathematics_are_refused_by_key(tmp_path: Path, changed: dict, sentence: str):
    silent(Spelling(SETTINGS), SETTINGS, tmp_path)
    settings = replace(SETTINGS, **changed)
    with pytest.raises(ConfigError) as refused:
        silent(Spelling(settings), settings, tmp_path)
    assert sentence in str(refused.value)


def test_a_state_from_when_fewer_settings_were_fixed_goes_on_and_tells_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as before:
        before.setattr(Training, "FREE", Training.FREE | {"watch"})
        silent(Spelling(SETTINGS), SETTINGS, tmp_path)
    assert silent(Spelling(SETTINGS), SETTINGS, tmp_path).steps == 24
    other = replace(SETTINGS, watch="right")
    with pytest.raises(ConfigError, match=r"train\.watch was loss and is now right"):
        silent(Spelling(other), other, tmp_path)


def test_other_recipes_are_refused_by_key(tmp_path: Path):
    @dataclass(frozen=True)
    class Recipe:
        width: int

    silent(Spelling(SETTINGS), SETTINGS, tmp_path, recipe=Recipe(8))
    with pytest.raises(ConfigError, match="width was 8 and is now 9"):
        silent(Spelling(SETTINGS), SETTINGS, tmp_path, recipe=Recipe(9))


def test_what_is_free_may_change_and_a_longer_training_equals_one_that_was_long_from_the_start(tmp_path: Path):
    short = replace(SETTINGS, schedule="noam", epochs=2)
    long = replace(short, epochs=3, patience=9, keep=1, log_every=2, checkpoint_every=Every(1, "minutes"), minutes=9.0)
    silent(Spelling(short), short, tmp_path / "out")
    resumed, unbroken = Spelling(long), Spelling(long)
    silent(resumed, long, tmp_path / "out")
    silent(unbroken, long, tmp_path / "long")
    assert same_bits(everything(resumed.model), everything(unbroken.model))


# Precision


def test_auto_takes_bf16_where_the_processor_multiplies_in_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cpu = torch.device("cpu")
    for able, taken in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda able=able: able)
        assert precision("auto", cpu) == taken
        assert [precision(word, cpu) for word in ("fp32", "bf16")] == ["fp32", "bf16"]
        said = StringIO()
        settings = replace(SETTINGS, steps=1, warmup=0, precision="auto")
        train(Spelling(settings), settings, tmp_path / taken, console=Console(file=said))
        assert f"187 parameters, {taken}" in said.getvalue()
    with pytest.raises(ConfigError, match="precision was bf16 and is now fp32"):
        silent(Spelling(settings), settings, tmp_path / "bf16")


def test_bf16_trains_and_resumes_with_the_same_bits(tmp_path: Path):
    settings = replace(SETTINGS, precision="bf16", schedule="noam")
    task = Spelling(settings)
    silent(task, settings, tmp_path / "unbroken")
    assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}
    first = replace(settings, steps=11)
    silent(Spelling(first), first, tmp_path / "out")
    resumed = Spelling(settings)
    silent(resumed, settings, tmp_path / "out")
    assert same_bits(everything(resumed.model), everything(task.model))
    exact = replace(settings, precision="fp32")
    other = Spelling(exact)
    silent(other, exact, tmp_path / "fp32")
    assert not same_bits(everything(other.model), everything(task.model))


# Numbers that are none


def test_a_loss_that_is_no_number_stops_with_its_batch_saved(tmp_path: Path):
    task = Spelling(SETTINGS, broken=12)  # batches are counted from 1: the first infinite loss is that of step 13
    with pytest.raises(NonFiniteLoss) as stopped:
        silent(task, SETTINGS, tmp_path)
    folder = tmp_path / "training" / "not-finite-step-00000013"
    assert f"the loss is inf at step 13 (epoch 1, batch 4); the batch and the weights it met are in {folder}" in str(
        stopped.value
    )
    where = json.loads((folder / "where.json").read_text())
    assert where == {"step": 13, "epoch": 1, "index": 4, "what": "loss", "value": "inf"}
    again = Spelling(SETTINGS, seed=50, broken=12)
    assert torch.isfinite(again.loss(Letters(**load_file(folder / "batch-4.safetensors"))).total)
    again.model.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    assert again.loss(Letters(**load_file(folder / "batch-4.safetensors"))).total.item() == torch.inf
    assert [state.name for state in checkpoint.states(tmp_path / "training")] == ["step-00000010", "step-00000005"]


def test_a_gradient_that_is_no_number_stops_with_all_batches_of_its_step(tmp_path: Path):
    class Steep(Spelling):
        def loss(self, batch: Letters) -> Loss:
            loss = super().loss(batch)
            steep = (0 * self.model.mix.bias).abs().sqrt().sum()  # 0, and its slope 0 * inf
            return replace(loss, total=loss.total + steep)

    settings = replace(SETTINGS, accumulate=2)
    task = Steep(settings)
    before = everything(task.model)
    with pytest.raises(NonFiniteLoss, match="the gradient is nan at step 1"):
        silent(task, settings, tmp_path)
    folder = tmp_path / "training" / "not-finite-step-00000001"
    assert sorted(path.name for path in folder.iterdir()) == [
        "batch-0.safetensors",
        "batch-1.safetensors",
        "weights.safetensors",
        "where.json",
    ]
    assert torch.equal(everything(task.model)["mix.weight"], before["mix.weight"])


# What is told


def test_lines_are_plain_where_there_is_no_terminal(tmp_path: Path):
    said = StringIO()
    train(Spelling(SETTINGS), SETTINGS, tmp_path, console=Console(file=said, width=40))
    lines = said.getvalue().splitlines()
    assert "\x1b" not in said.getvalue()
    assert lines[0].startswith("187 parameters, fp32, ")
    told = next(line for line in lines if "step 12 " in line)
    for words in ("epoch 1", "loss ", "lr ", "tokens/s", "right ", "left 0:00:0"):
        assert words in told


def test_a_terminal_shows_a_bar(tmp_path: Path):
    said = StringIO()
    train(Spelling(SETTINGS), SETTINGS, tmp_path, console=Console(file=said, force_terminal=True, width=150))
    assert "\x1b[" in said.getvalue() and "step 24" in said.getvalue() and "the best so far" in said.getvalue()


def test_tensorboard_gets_the_same_numbers(tmp_path: Path):
    settings = replace(SETTINGS, tensorboard=True)
    silent(Spelling(settings), settings, tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "training" / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert losses == pytest.approx({line["step"]: line["train/loss"] for line in metrics(tmp_path) if "lr" in line})
    assert [event.step for event in events.Scalars("valid/loss")] == [8, 16, 24]


def test_tensorboard_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    settings = replace(SETTINGS, tensorboard=True)
    with pytest.raises(MissingExtra, match=r"pip install 'polyhead\[train\]'"):
        silent(Spelling(settings), settings, tmp_path)


def test_threads_and_determinism_are_put_back(tmp_path: Path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    inside: list[tuple[int, bool]] = []

    class Curious(Spelling):
        def loss(self, batch: Letters) -> Loss:
            inside.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
            return super().loss(batch)

    settings = replace(SETTINGS, steps=1, warmup=0, threads=2)
    silent(Curious(settings), settings, tmp_path)
    assert inside == [(2, True)]
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize("fails", [{"broken": 1}, {"count": 0}], ids=["in a step", "before the first"])
def test_the_terminal_is_given_back_when_a_training_fails(tmp_path: Path, fails: dict):
    said = StringIO()
    settings = Training(steps=3, warmup=0)
    with pytest.raises((NonFiniteLoss, DataError)):
        train(Spelling(settings, **fails), settings, tmp_path, console=Console(file=said, force_terminal=True))
    hidden, shown = said.getvalue().count("\x1b[?25l"), said.getvalue().count("\x1b[?25h")
    assert hidden == shown == 1  # the cursor


def test_a_recipe_that_cannot_be_gives_the_terminal_back_too(tmp_path: Path):
    said = StringIO()
    settings = Training(steps=3, warmup=9)
    with pytest.raises(ConfigError, match="must be shorter than the whole training"):
        train(Spelling(settings), settings, tmp_path, console=Console(file=said, force_terminal=True))
    assert said.getvalue().count("\x1b[?25l") == said.getvalue().count("\x1b[?25h")
