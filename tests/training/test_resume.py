"""A training that was stopped anywhere ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyhead.training.loop import Session, train
from polyhead.training.settings import Every, Training
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
    settings = Training(**{**vars(SETTINGS), **average})
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
