"""The schedules against their papers' formulas."""

from __future__ import annotations

import math

import pytest

from polyhead.errors import ConfigError
from polyhead.training.schedule import Constant, Cosine, Noam, WarmupStableDecay
from polyhead.training.settings import COUNTED, Training, schedule_of, steps_of


@pytest.mark.parametrize(("d_model", "warmup"), [(512, 4000), (256, 700), (64, 1)])
def test_noam_is_equation_3_of_attention_is_all_you_need(d_model: int, warmup: int):
    schedule = Noam(peak=(d_model * warmup) ** -0.5, warmup=warmup)
    for step in (1, 2, warmup, warmup + 1, 3 * warmup, 100_000):
        published = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert schedule.lr(step) == pytest.approx(published, rel=1e-12)


def test_cosine_is_equation_5_of_sgdr():
    schedule = Cosine(peak=0.3, warmup=10, horizon=110, floor=0.02)
    for step in range(10, 111):
        published = 0.02 + 0.5 * (0.3 - 0.02) * (1 + math.cos(math.pi * (step - 10) / 100))
        assert schedule.lr(step) == pytest.approx(published, rel=1e-12)
    assert [schedule.lr(step) for step in (1, 5, 10)] == pytest.approx([0.03, 0.15, 0.3])
    assert schedule.lr(500) == schedule.lr(110) == pytest.approx(0.02)


def test_wsd_rises_stays_and_falls_as_one_minus_the_root():
    schedule = WarmupStableDecay(peak=2.0, warmup=4, decay=16, horizon=100, floor=0.5)
    assert [schedule.lr(step) for step in (1, 2, 4, 5, 84)] == pytest.approx([0.5, 1.0, 2.0, 2.0, 2.0])
    for step in range(84, 101):
        assert schedule.lr(step) == pytest.approx(0.5 + 1.5 * (1 - math.sqrt((step - 84) / 16)))
    assert schedule.lr(1000) == pytest.approx(0.5)


def test_constant_rises_and_stays():
    assert [Constant(peak=3.0, warmup=3).lr(step) for step in (1, 2, 3, 4, 99)] == pytest.approx([1, 2, 3, 3, 3])
    assert Constant(peak=3.0).lr(1) == 3.0


def test_settings_become_schedules_told_in_steps():
    share = Training(epochs=10, schedule="cosine", warmup=0.05, lr=0.1, min_lr=0.01)
    assert schedule_of(share, 200) == Cosine(peak=0.1, warmup=10, horizon=200, floor=0.01)
    fewer = Training(epochs=10, steps=120, schedule="cosine", warmup=7, lr=0.1)
    assert schedule_of(fewer, 120) == Cosine(peak=0.1, warmup=7, horizon=120)
    told = Training(minutes=5, horizon=400, schedule="wsd", warmup=10, decay=0.25, lr=0.1)
    assert schedule_of(told, 0) == WarmupStableDecay(peak=0.1, warmup=10, decay=100, horizon=400)
    endless = Training(minutes=5, schedule="noam", warmup=4000, lr=0.1)
    assert schedule_of(endless, 0) == Noam(peak=0.1, warmup=4000)
    assert schedule_of(Training(steps=9, schedule="constant", warmup=0), 9) == Constant(peak=1e-3)


def test_the_steps_of_epochs_are_counted_one_by_one():
    lengths = [5, 4, 4, 5] * (COUNTED // 4)
    assert steps_of(Training(epochs=3), lengths.__getitem__) == 13
    assert steps_of(Training(epochs=3, steps=20), lengths.__getitem__) == 13
    assert steps_of(Training(epochs=10**6, steps=9, warmup=0), [5, 4].__getitem__) == 9  # no further than needed
    assert steps_of(Training(minutes=5, schedule="constant"), [].__getitem__) == 0
    assert steps_of(Training(epochs=2 * COUNTED), lengths.__getitem__) == 9 * COUNTED  # 4.5 on average


def test_a_warmup_that_cannot_be_is_refused():
    with pytest.raises(
        ConfigError, match=r"warmup \(500 steps\) must be shorter than the whole training \(200 steps\)"
    ):
        schedule_of(Training(epochs=10, warmup=500), 200)
    with pytest.raises(ConfigError, match=r"warmup = 0.05 is a share of an unknown length; set it in steps"):
        schedule_of(Training(minutes=5, schedule="constant"), 0)
