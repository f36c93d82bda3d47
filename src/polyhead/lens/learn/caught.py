"""A model reads, and all that one of its attention layers met leaves as float64 arrays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from polyhead.core.attention import Attention, CrossAttention
from polyhead.core.position import Position
from polyhead.core.run import Run
from polyhead.core.stack import Stack
from polyhead.errors import ArgumentError
from polyhead.lens.passes import vectors
from polyhead.lens.recording import Call, Part
from polyhead.lens.watch import Watcher, shown, watch
from polyhead.operator.kernels import reference
from polyhead.operator.kernels.reference import Array, Mask

PLACES = {"encoder": "encoder.blocks.{}.attn", "decoder": "decoder.blocks.{}.attn", "cross": "decoder.blocks.{}.cross"}


@dataclass(frozen=True, eq=False)
class Projections:
    """The four products of a layer, x W + b, as in the paper; b is None where there is none."""

    query: Array  # W_q [D, H K]
    key: Array  # [Dm, G K]
    value: Array  # [Dm, G K]
    out: Array  # [H K, D]
    query_bias: Array | None
    key_bias: Array | None
    value_bias: Array | None
    out_bias: Array | None
    heads: int
    key_heads: int


@dataclass(frozen=True, eq=False)
class Caught:
    """One pass of a model, seen at one attention layer; B is 1 and left out.

    x, memory    [T, D], [S, Dm] what looks and what is looked at: the same rows in self-attention.
    stream       [T, D] what the layer's output is added to.
    asked, offered  [H, T, K], [G, S, K] queries and keys as projected; query, key: as they are multiplied, which is the
                 same unless the model turns or norms them.
    value        [G, S, K].
    visible      [H or 1, T, S] who may look at whom; bias: what is added to the scores, None for nothing.
    weights, output  [H, T, S], [T, D] as the model itself computed them.
    """

    x: Array
    memory: Array
    stream: Array
    asked: Array
    offered: Array
    query: Array
    key: Array
    value: Array
    visible: Mask
    bias: Array | None
    scale: float
    softcap: float | None
    weights: Array
    output: Array
    projections: Projections
    post: bool  # whether the norm comes after the sum


@dataclass(eq=False)
class Catcher(Watcher):
    """Keeps what some modules show, by the place."""

    wanted: set[nn.Module] = field(default_factory=set[nn.Module])
    found: dict[tuple[nn.Module, str], Tensor] = field(default_factory=dict[tuple[nn.Module, str], Tensor])

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        if at in self.wanted:
            self.found[at, place] = x.detach()
        return x


def stack_of(model: nn.Module, part: Part) -> Stack | None:
    """The blocks that hold a part of the model; None where it has none."""
    stack = getattr(model, "encoder" if part == "encoder" else "decoder", None)
    if not isinstance(stack, Stack) or (part == "cross" and not cast(Any, stack.blocks[0]).crosses):
        return None
    return stack


def parts_of(model: nn.Module) -> list[Part]:
    every: tuple[Part, ...] = ("encoder", "decoder", "cross")
    return [part for part in every if stack_of(model, part) is not None]


def place_of(part: Part, layer: int) -> str:
    """The name of the layer's attention in the model."""
    return PLACES[part].format(layer)


def caught(model: nn.Module, given: tuple[list[int], ...], part: Part, layer: int) -> Caught:
    """The layer's numbers while the model reads these ids: one row, or a source and a target."""
    stack = stack_of(model, part)
    assert stack is not None
    block: Any = stack.blocks[layer]
    attention: Attention = block.cross if part == "cross" else block.attn
    catcher = Catcher({}, lambda call: None, wanted={block, attention})
    device = next(model.parameters()).device
    with shown(catcher), watch(model, layers=place_of(part, layer)) as recording, torch.inference_mode():
        vectors(model, [torch.tensor([ids], device=device) for ids in given])
    seen = {place: x for (at, place), x in catcher.found.items() if at is attention}
    of_block = {place: x for (at, place), x in catcher.found.items() if at is block}
    post = block.add == block.post
    x, memory = seen["x"], seen.get("memory", seen["x"])
    stream = x if post else of_block["in"] + (of_block["attn"] if part == "cross" else 0)
    call = recording[place_of(part, layer)]
    return worked(attention, call, arrayed(x), arrayed(memory), arrayed(stream), arrayed(seen["out"]), post)


def worked(
    attention: Attention, call: Call, x: Array, memory: Array, stream: Array, output: Array, post: bool
) -> Caught:
    """The layer's own arithmetic in float64, up to the queries, keys and values that are multiplied."""
    p = projections(attention)
    asked = heads(x @ p.query, p.query_bias, p.heads)
    offered = heads(memory @ p.key, p.key_bias, p.key_heads)
    value = heads(memory @ p.value, p.value_bias, p.key_heads)
    turned: Callable[[Tensor, Run], Tensor] = attention.position.rotated
    if isinstance(attention, CrossAttention):
        turned = Position().rotated
    request = call.record.request
    frame, rows, columns = request.frame, range(len(x)), range(len(memory))
    visible = np.ones((1, len(x), len(memory)), bool)
    if request.rule is not None:
        rule = request.rule.visible(frame, rows, columns)
        visible = visible if rule is None else (rule.cpu().numpy() & np.ones((1, *visible.shape), bool))[0]
    bias = None
    if request.bias is not None and request.weights is not None:
        shape = (frame.batch, frame.heads, len(x), len(memory))
        bias = arrayed(request.bias.tile(request.weights, frame, rows, columns).expand(shape))
    return Caught(
        x, memory, stream, asked, offered,
        query=again(attention.query_norm, turned, asked),
        key=again(attention.key_norm, turned, offered),
        value=value,
        visible=visible,
        bias=bias,
        scale=request.scale,
        softcap=request.softcap,
        weights=arrayed(call.weights()),
        output=output,
        projections=p,
        post=post,
    )  # fmt: skip


def again(norm: nn.Module, turned: Callable[[Tensor, Run], Tensor], projected: Array) -> Array:
    """Queries or keys normed and turned, as the layer does before it multiplies them."""
    with torch.inference_mode():
        heads = copy.deepcopy(norm).cpu().double()(torch.from_numpy(projected)[None])
        return arrayed(turned(heads, Run(observer=None)))


def projections(attention: Attention) -> Projections:
    def product(linear: nn.Linear) -> tuple[Array, Array | None]:
        bias = cast(Tensor | None, linear.bias)
        return reference.array(linear.weight).T, None if bias is None else reference.array(bias)

    four = [product(each) for each in (attention.query, attention.key, attention.value, attention.out)]
    (q, k, v, o), (q_bias, k_bias, v_bias, o_bias) = ([each[i] for each in four] for i in (0, 1))
    assert q is not None and k is not None and v is not None and o is not None
    width = attention.width
    return Projections(
        q, k, v, o, q_bias, k_bias, v_bias, o_bias, heads=q.shape[1] // width, key_heads=k.shape[1] // width
    )


def heads(product: Array, bias: Array | None, count: int) -> Array:
    """[T, H K] -> [H, T, K]."""
    return reference.split((product if bias is None else product + bias)[None], count)[0]


def arrayed(x: Tensor) -> Array:
    """Without its batch of one."""
    return reference.array(x)[0]


def without_places(model: nn.Module) -> nn.Module:
    """The same model, in which no word knows where it stands. Raises ArgumentError where none knows it anyway."""
    bare, found = copy.deepcopy(model), 0
    for module in bare.modules():
        if isinstance(getattr(module, "positions", None), nn.Module):
            cast(Any, module).positions = Nowhere()
            found += 1
        if isinstance(module, Attention | Stack) and module.position != Position():
            module.position = Position()
            found += 1
        if isinstance(module, Stack):
            module.bias = None
    if not found:
        raise ArgumentError("This model knows no positions, so there are none to take away.")
    return bare


class Nowhere(nn.Module):
    """No position at all: nothing is added to any word."""

    def forward(self, places: Tensor | slice) -> Tensor:
        return torch.zeros(1, device=places.device if isinstance(places, Tensor) else None)
