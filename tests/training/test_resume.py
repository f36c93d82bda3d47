"""A training that was stopped anywhere ends with the bits of one that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from polyhead.training.learner import Learnt
from polyhead.training.loop import Session, train
from polyhead.training.settings import Every, Training
from tests.training.kill_and_resume import lines
from tests.training.tiny import Spelling, everything, same_bits, saved_model

SETTINGS = Training(
    epochs=3,
    lr=2e-2,
    warmup=3,
    accumulate=3,
    evaluate_every=Every(4, "steps"),
    checkpoint_every=Every(1, "steps"),
    log_every=2,
)
STEPS = 9  # 8 batches an epoch, 3 a step


class Stopped(Exception):
    pass


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies when step `step` has been learnt and saved, as far as Python can show it."""
    saves = Session.save

    def save_and_die(session: Session) -> None:
        saves(session)
        if session.state.step == step:
            raise Stopped

    monkeypatch.setattr(Session, "save", save_and_die)


@pytest.mark.parametrize("average", [{}, {"ema_decay": 0.9}, {"average_last": 2}], ids=["own", "moving", "last"])
def test_stopped_at_any_step_it_ends_with_the_same_bits(tmp_path: Path, average: dict[str, float]):
    settings = replace(SETTINGS, **average)  # pyright: ignore[reportArgumentType]
    unbroken = Spelling(settings)
    expected = train(unbroken, settings, tmp_path / "unbroken")
    for step in range(1, STEPS + 1):
        out = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            stop_after(step, patch)
            train(Spelling(settings), settings, out)
        resumed = Spelling(settings, seed=step + 100)  # the seed of the task's first weights no longer matters...
        resumed.seed = unbroken.seed  # ...but that of its data does
        result = train(resumed, settings, out)
        assert same_bits(everything(resumed.model), everything(unbroken.model))
        assert same_bits(saved_model(out), saved_model(tmp_path / "unbroken"))
        assert (result.best, result.best_step, result.steps) == (expected.best, expected.best_step, STEPS)


def test_the_metrics_of_a_resumed_training_are_neither_doubled_nor_lost(tmp_path: Path):
    settings = replace(SETTINGS, checkpoint_every=Every(4, "steps"))
    train(Spelling(settings), settings, tmp_path / "unbroken")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        tells = Session.tell

        def tell_and_die(session: Session, learnt: Learnt) -> None:
            tells(session, learnt)
            if session.state.step == 7:  # lines of steps 5 to 7 are written, the state is that of step 4
                raise Stopped

        patch.setattr(Session, "tell", tell_and_die)
        train(Spelling(settings), settings, tmp_path / "out")
    assert lines(tmp_path / "out")[-1]["step"] == 6
    train(Spelling(settings), settings, tmp_path / "out")
    assert lines(tmp_path / "out") == lines(tmp_path / "unbroken")


def test_a_training_killed_again_and_again_ends_with_the_same_bits():
    """SIGKILL at random moments, in processes of their own; run the script by hand for twenty."""
    command = [sys.executable, "-m", "tests.training.kill_and_resume", "--kills", "4", "--seed", "1"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 kills: every bit is that of the unbroken training" in ended.stdout
