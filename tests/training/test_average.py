"""Averages against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polyhead.training.average import Last, Moving, Own, average_of, wearing
from polyhead.training.settings import Training


def model_at(value: float) -> nn.Linear:
    model = nn.Linear(2, 1).double()
    set_to(model, value)
    return model


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_the_moving_average_is_the_recurrence_with_its_ramp():
    model = model_at(1.0)
    average = Moving(model, 0.6)
    by_hand = 1.0
    for step, value in enumerate([3.0, -2.0, 5.0, 4.0, 0.5, 7.0, 7.5], start=1):
        set_to(model, value)
        average.stepped(model, step)
        decay = min(0.6, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * value
        assert float(average.weights()["bias"]) == pytest.approx(by_hand, rel=1e-12)


def test_the_last_evaluations_are_averaged_evenly():
    model = model_at(0.0)
    average = Last(3)
    assert average.weights() == {}
    for value, mean in [(1.0, 1.0), (2.0, 1.5), (6.0, 3.0), (7.0, 5.0)]:
        set_to(model, value)
        average.evaluated(model)
        assert float(average.weights()["bias"]) == pytest.approx(mean)


@pytest.mark.parametrize("kind", ["moving", "last"])
def test_an_average_loads_what_another_saved(kind: str):
    model = model_at(1.0)
    pair = [Moving(model, 0.5) if kind == "moving" else Last(2) for _ in range(2)]
    for step in (1, 2, 3):
        set_to(model, float(step))
        pair[0].stepped(model, step)
        pair[0].evaluated(model)
    pair[1].load({name: tensor.clone() for name, tensor in pair[0].tensors().items()})
    set_to(model, 9.0)
    for average in pair:
        average.stepped(model, 4)
        average.evaluated(model)
    assert float(pair[0].weights()["bias"]) == float(pair[1].weights()["bias"])


def test_settings_choose_the_average():
    model = model_at(1.0)
    assert isinstance(average_of(Training(epochs=1), model), Own)
    assert isinstance(average_of(Training(epochs=1, ema_decay=0.9), model), Moving)
    assert isinstance(average_of(Training(epochs=1, average_last=4), model), Last)


def test_worn_weights_compute_and_are_taken_off_again():
    model = model_at(1.0)
    own = [parameter.data_ptr() for parameter in model.parameters()]
    worn = {name: torch.full_like(tensor, 2.0) for name, tensor in model.named_parameters()}
    x = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="inside"), wearing(model, worn):
        assert model(x).item() == 6.0
        raise RuntimeError("inside")
    assert model(x).item() == 3.0
    assert [parameter.data_ptr() for parameter in model.parameters()] == own
