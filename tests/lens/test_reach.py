"""What a projection does to lengths is worked out once for a model, and again when its weights are others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from polyhead.lens import reach
from polyhead.lens.reach import Reach
from polyhead.lens.watch import watch
from polyhead.operator.norms import value_norms

HEADS, WIDTH = 4, 8


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(HEADS * WIDTH, 24)


def told(layer: nn.Linear, values: Tensor) -> Tensor:
    """As a new watch of the layer tells it."""
    return Reach.of_model(layer).norms(values, layer.weight, HEADS).values


def test_a_second_watch_works_nothing_out_again(layer: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(2, HEADS, 5, WIDTH)
    first = told(layer, values)

    def never(*_: object) -> Tensor:
        raise AssertionError("it was worked out again")

    monkeypatch.setattr(reach, "roots", never)
    assert torch.equal(told(layer, values), first)


def step(layer: nn.Linear) -> None:
    layer(torch.randn(3, HEADS * WIDTH, dtype=layer.weight.dtype)).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()


def turned(layer: nn.Linear) -> None:
    layer.weight.data[:] = layer.weight.data.unflatten(1, (HEADS, WIDTH)).flip(1).flatten(1)


def smallest(layer: nn.Linear) -> None:
    layer.weight.data[3, 5] += 1e-3


def loaded(layer: nn.Linear) -> None:
    layer.load_state_dict(nn.Linear(HEADS * WIDTH, 24).state_dict())


@pytest.mark.parametrize("change", [step, turned, smallest, loaded])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_that_were_changed_by_whatever_way_are_seen(
    layer: nn.Linear, change: Callable[[nn.Linear], None], dtype: torch.dtype
) -> None:
    """By an optimiser, by their data behind PyTorch's back, heads in another order, one number, from a file."""
    layer.to(dtype)
    values = torch.randn(1, HEADS, 5, WIDTH, dtype=dtype)
    told(layer, values)
    change(layer)
    found, wanted = told(layer, values), value_norms(values, layer.weight)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("change", [step, turned, smallest, loaded])
def test_within_one_watch_of_training_they_are_seen_too(layer: nn.Linear, change: Callable[[nn.Linear], None]) -> None:
    looking, values = Reach.of_model(layer), torch.randn(1, HEADS, 5, WIDTH)
    looking.norms(values, layer.weight, HEADS)
    change(layer)
    found = looking.norms(values, layer.weight, HEADS).values
    assert torch.equal(found, value_norms(values, layer.weight))


def test_a_weight_that_lies_where_another_lay_is_another() -> None:
    """Of casts, of weights that are put together for each call, of layers that are brought in one by one."""
    looking, values, places = Reach(), torch.randn(1, HEADS, 5, WIDTH), set[int]()
    for _ in range(20):
        weight = torch.randn(24, HEADS * WIDTH)
        places.add(weight.data_ptr())
        assert torch.equal(looking.norms(values, weight, HEADS).values, value_norms(values, weight))
        del weight
    assert len(places) < 20  # else nothing was shown
    assert len(looking.known) == 1


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(HEADS * WIDTH, HEADS * WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        read = x.unflatten(2, (HEADS, WIDTH)).transpose(1, 2)  # [B, H, T, K]
        return self.out(nn.functional.scaled_dot_product_attention(read, read, read).transpose(1, 2).flatten(2))


def test_layers_of_a_frozen_model_under_autocast_keep_their_own_norms() -> None:
    """Their weights are cast anew for each call, and lie in one another's places."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Layer() for _ in range(6))).requires_grad_(False)
    x = torch.randn(2, 7, HEADS * WIDTH)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16), watch(model) as recording:
            for layer in model:
                layer(x)
        value = x.bfloat16().unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
        for n, weight in enumerate(model.parameters()):
            norms = recording[f"{n}"].norms
            assert norms.after
            assert torch.equal(norms.values, value_norms(value, weight.bfloat16()))
    assert len(reach.KNOWN[model]) <= 6


def test_nothing_is_remembered_of_a_model_that_is_gone(layer: nn.Linear) -> None:
    before = len(reach.KNOWN)
    other = nn.Linear(HEADS * WIDTH, 24)
    told(other, torch.randn(1, HEADS, 5, WIDTH))
    assert len(reach.KNOWN) == before + 1
    del other
    assert len(reach.KNOWN) == before
