"""A tiny translator with random weights, and what was recorded of a run of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyhead.core import Recipe, Stack
from polyhead.core.attention import CrossAttention, SelfAttention
from polyhead.core.norm import LayerNorm
from polyhead.core.position import Position
from polyhead.families.marian import Config, build
from polyhead.families.wiring import EncoderDecoder
from polyhead.lens.recording import LEVELS, Recording
from polyhead.lens.watch import watch
from polyhead.operator import Statistics
from polyhead.operator.statistics.gradient import tensors

NAMES = [
    *("encoder.blocks.0.attn", "encoder.blocks.1.attn"),
    *("decoder.blocks.0.attn", "decoder.blocks.0.cross", "decoder.blocks.1.attn", "decoder.blocks.1.cross"),
]
CROSS = "decoder.blocks.1.cross"
CONFIG = Config(
    vocab_size=31, d_model=24, n_layers=2, n_decoder_layers=2, n_heads=4, n_decoder_heads=3, d_ff=20, decoder_d_ff=28,
    max_len=16, dropout=0.0,
)  # fmt: skip
SOURCE, TARGET = torch.randint(0, 31, (2, 2, 9), generator=torch.Generator().manual_seed(1)).unbind()
LENGTHS = torch.tensor([9, 5])
each_level = pytest.mark.parametrize("level", LEVELS)


def marian(dtype: torch.dtype = torch.float32, **changes: Any) -> EncoderDecoder:
    """A tiny model with every parameter random."""
    torch.manual_seed(0)
    model = build(replace(CONFIG, **changes)).to(dtype).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=0.3)
    return model


def ran(model: nn.Module, **how: Any) -> tuple[Tensor, Recording]:
    with watch(model, **how) as recording, torch.no_grad():
        return model(SOURCE, TARGET[:, :7], LENGTHS), recording


def by_hand(model: EncoderDecoder) -> dict[str, Tensor]:
    """The softmax of every layer from the inputs that its own projections meet, in float64."""
    caught: dict[str, Tensor] = {}

    def catch(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda _, given: caught.update({name: given[0]}))

    double = model.double()
    for name, module in double.named_modules():
        if isinstance(module, nn.Linear):
            catch(name, module)
    with torch.no_grad():
        double(SOURCE, TARGET[:, :7], LENGTHS)
    found: dict[str, Tensor] = {}
    for name, layer in double.named_modules():
        if isinstance(layer, SelfAttention | CrossAttention):
            query = layer.split(layer.query(caught[f"{name}.query"]))
            key = layer.split(layer.key(caught[f"{name}.key"]))
            scores = query @ key.mT * query.shape[-1] ** -0.5
            if name.startswith("encoder") or name.endswith("cross"):
                scores = scores.masked_fill(torch.arange(scores.shape[-1]) >= LENGTHS[:, None, None, None], -torch.inf)
            else:
                scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
            found[name] = scores.softmax(-1)
    return found


def same(a: Statistics, b: Statistics, equal: Callable[[Tensor, Tensor], object]) -> None:
    found, wanted = tensors(a), tensors(b)
    assert found.keys() == wanted.keys() and found
    for name in found:
        assert equal(found[name], wanted[name]) is not False, name


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def stack_of(position: Position, **changes: Any) -> Stack:
    torch.manual_seed(0)
    recipe = Recipe(n_layers=2, d_model=24, n_heads=4, d_ff=20, norm=LayerNorm(), position=position, **changes)
    stack = Stack(recipe).eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.4)
    return stack
