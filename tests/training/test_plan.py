"""What is said before a training starts."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from polyhead.core.linear import Linear
from polyhead.training.plan import ON_CPU, describe, parts, plan
from polyhead.training.settings import Training
from tests.training.tiny import LETTERS, WIDTH, Spelling, everything, same_bits

SETTINGS = Training(epochs=5, accumulate=3, warmup=2, ema_decay=0.9)


def test_the_parameters_are_those_of_the_model():
    task = Spelling(SETTINGS)
    count = parts(task.model)
    assert sum(count.values()) == sum(parameter.numel() for parameter in task.model.parameters())
    assert count == {"letters": LETTERS * WIDTH, "mix": WIDTH * WIDTH + WIDTH, "norm": 2 * WIDTH, "out": LETTERS}


def test_layers_of_a_stack_are_told_together():
    layer = torch.nn.Linear(3, 2)
    model = torch.nn.ModuleDict({"stack": torch.nn.ModuleList([layer, torch.nn.Linear(3, 2)])})
    assert parts(model) == {"stack": 16}


def test_flops_are_six_a_weight_of_a_matrix_and_position():
    task = Spelling(SETTINGS, count=1)  # of one batch, 3 x 5
    found = plan(task, Training(epochs=1, warmup=0), rate=1e9)
    assert found.flops_per_step == 6 * 15 * (WIDTH * WIDTH + WIDTH * LETTERS)
    assert found.seconds == pytest.approx(found.flops_per_step / 1e9)
    assert found.source == "from the stated rate"


def test_attention_is_counted_on_a_processor_too():
    query = torch.randn(2, 3, 5, 8, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        scaled_dot_product_attention(query, query, query).sum().backward()
    forward = 2 * 2 * (2 * 3 * 5 * 5 * 8)  # two products, of a multiplication and an addition
    assert counter.get_total_flops() == forward + 2.5 * forward  # backward makes the scores again


def test_a_plan_leaves_the_task_as_it_was():
    task = Spelling(SETTINGS)
    task.model.eval()
    before = everything(task.model)
    states = random.getstate(), np.random.get_state()[1].sum(), torch.get_rng_state()  # pyright: ignore
    plan(task, SETTINGS, seconds=0.01)
    assert same_bits(before, everything(task.model))
    assert not task.model.training
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
    assert np.random.get_state()[1].sum() == states[1]  # pyright: ignore


def test_a_plan_is_measured_and_told():
    found = plan(Spelling(SETTINGS), SETTINGS, seconds=0.01)
    size = 4 * sum(found.parameters.values())
    assert found.steps == 15  # 8 batches an epoch, 3 a step
    assert {use: found.memory[use] for use in ("weights", "gradients", "AdamW", "averaged weights")} == {
        "weights": size,
        "gradients": size,
        "AdamW": 2 * size,
        "averaged weights": size,
    }
    assert found.memory["activations"] > 3 * 8 * LETTERS * 4  # the logits alone
    assert found.seconds is not None and found.seconds > 0
    page = describe(found)
    for words in ("letters", "187", "activations", "MiB", "steps      15", "measured", "without evaluations"):
        assert words in page


def test_the_clock_limits_the_steps_of_a_plan():
    task = Spelling(SETTINGS)
    both = plan(task, Training(epochs=10**6, minutes=1, warmup=0), rate=1e6)
    assert both.steps is not None and both.seconds == pytest.approx(60, rel=1e-2)
    assert both.steps == pytest.approx(60 * 1e6 / both.flops_per_step, rel=1e-3)


def test_products_are_counted_whoever_multiplies():
    layer, x = Linear(40, 200), torch.randn(300, 40, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 300 * 40 * 200
