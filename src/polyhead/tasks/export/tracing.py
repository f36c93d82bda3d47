"""A model enters; the same, sharing its weights, leaves in a shape that can be traced for any number of words.

A pass of ours asks its tensors questions: how long is the longest text, is every number finite? A trace has no numbers
to answer with. So tables are made beforehand of what depends on places alone, and attention is computed by an observer,
who may put its own in the place of the kernels'.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.core import Run, Stack
from polyhead.core.position import RelativeBias
from polyhead.core.rotary import Rotary, Searched
from polyhead.core.run import watching
from polyhead.errors import ArgumentError
from polyhead.operator import Bias, Dense, Rule
from polyhead.operator.rules import Frame


def traceable(model: nn.Module) -> Any:
    """The model with its tables made. Raises ArgumentError for places whose table depends on the text."""
    tensors = (*model.parameters(), *model.buffers())
    memo = {id(tensor): tensor for tensor in tensors if tensor.device.type == "cpu"}
    twin = copy.deepcopy(model, memo).cpu()  # modules are new, tensors are shared
    for module in twin.modules():
        if isinstance(getattr(module, "positions", None), nn.Module):
            setattr(module, "positions", Table(module.positions))  # noqa: B010
        if isinstance(module, Stack):
            if isinstance(module.position, RelativeBias):
                module.bias = Distances(module.bias, module.position.max_distance)
            if isinstance(module.position, Rotary):
                module.position = Turning(module.position, module.width)  # pyright: ignore[reportAttributeAccessIssue]
    return twin.eval()


class Table(nn.Module):
    """The vectors of places, looked up without looking whether there are so many."""

    rows: Tensor

    def __init__(self, positions: Any):
        super().__init__()
        rows = positions.table if hasattr(positions, "table") else positions.weight[positions.offset :]
        self.register_buffer("rows", rows.detach())

    def forward(self, places: Tensor | slice) -> Tensor:
        if isinstance(places, slice):  # which would be cut short beyond the table, where an index is refused
            places = torch.arange(places.start, places.stop, device=self.rows.device)[None]
        return self.rows[places]


class Turning(nn.Module):
    """Rotary positions whose speeds are numbers: how fast each pair turns in short texts, and in longer ones."""

    speeds: Tensor

    def __init__(self, rotary: Rotary, width: int):
        super().__init__()
        kind = rotary.speeds
        if kind.grows and not isinstance(kind, Searched):
            raise ArgumentError(
                f"Rotary positions of the kind {type(kind).__name__} turn otherwise with every length, which no graph"
                " of fixed tables computes; polyhead runs such a model itself"
            )
        here = torch.device("cpu")
        self.gain, self.trained = kind.gain, kind.trained if isinstance(kind, Searched) else None
        lengths = (0,) if self.trained is None else (self.trained, self.trained + 1)
        speeds = [kind.of(rotary.theta, width, here, length) for length in lengths]
        self.register_buffer("speeds", torch.stack(speeds))  # [1 or 2, K/2]

    def turns(self, run: Run, n: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        places = run.places(n, device)
        speeds = self.speeds[0]
        if self.trained is not None:
            speeds = torch.where(places.max() < self.trained, speeds, self.speeds[1])
        angle = places[:, None, :, None].float() * speeds
        return angle.cos() * self.gain, angle.sin() * self.gain


class Distances(nn.Module):
    """The bias of every head at each distance up to the farthest that differs: buckets have their borders from the
    rounding of logarithms, which another engine may do otherwise."""

    table: Tensor

    def __init__(self, buckets: Any, farthest: int):
        super().__init__()
        self.register_buffer("table", buckets().along(torch.arange(-farthest, farthest + 1)).detach())  # [H, n]

    def forward(self) -> AtDistance:
        return AtDistance(self.table)


@dataclass(frozen=True, eq=False)
class AtDistance(Bias):
    table: Tensor  # [H, n]: of keys so far left of their query, ..., at it, ..., so far right

    @property
    def weights(self) -> Tensor:
        return self.table

    def tile(self, weights: Tensor, frame: Frame, rows: Any, columns: Any) -> Tensor:
        farthest = weights.shape[1] // 2
        return weights[:, frame.distance(rows, columns)[0, 0].clamp(-farthest, farthest) + farthest]  # [H, t, s]


class Plain:
    """An observer that computes attention by its definition, in operations that every engine has.

    Masks and biases are those of all layers, and are written out once.
    """

    def __init__(self) -> None:
        self.made: dict[int, tuple[object, Tensor]] = {}

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return x

    def attend(
        self,
        at: nn.Module,
        query: Tensor,  # [B, H, T, K]
        key: Tensor,  # [B, G, S, K]
        value: Tensor,  # [B, G, S, Kv]
        *,
        mask: Rule | Tensor | None = None,
        bias: Any = None,
        scale: float | None = None,
        softcap: float | None = None,
        **rest: Any,
    ) -> Tensor:  # [B, H, T, Kv]
        B, H, T, K = query.shape
        G, S = key.shape[1], key.shape[2]
        frame = Frame(B, H, T, S, S - T, query.device)
        rows, columns = torch.arange(T), torch.arange(S)
        query = query * (K**-0.5 if scale is None else scale)
        if G == H:
            scores = query @ key.mT
        else:  # query heads that share a key head lie side by side
            scores = (query.unflatten(1, (G, H // G)) @ key.unsqueeze(2).mT).flatten(1, 2)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if bias is not None:
            scores = scores + self.once(bias, lambda: bias.tile(bias.weights, frame, rows, columns)).to(scores.dtype)
        if mask is not None:
            rule = Dense(mask) if isinstance(mask, Tensor) else mask
            seen = self.once(mask, lambda: written(rule, frame, rows, columns))
            #  a number and not -inf, so that a query that may look nowhere (of padding) stays finite
            scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        if G == H:
            return weights @ value
        return (weights.unflatten(1, (G, H // G)) @ value.unsqueeze(2)).flatten(1, 2)

    def once(self, what: object, make: Callable[[], Tensor]) -> Tensor:
        if id(what) not in self.made:
            self.made[id(what)] = what, make()
        return self.made[id(what)][1]


@contextmanager
def plainly() -> Iterator[None]:
    """Passes that begin within the block compute attention by `Plain`."""
    before = watching.set(Plain())
    try:
        yield
    finally:
        watching.reset(before)


def written(rule: Rule, frame: Frame, rows: Tensor, columns: Tensor) -> Tensor:
    """Who may look at whom, as a boolean tensor that broadcasts to [B, H, T, S]."""
    seen = torch.ones((), dtype=torch.bool)
    for part in rule.parts():
        tile = part.mask if isinstance(part, Dense) else part.visible(frame, rows, columns)
        seen = seen if tile is None else seen & tile
    return seen


class Past:
    """A cache that holds the keys and values that were handed in, and shows what is there after the pass.

    own: of each layer's own past [B, G, P, K]. memory: of what the decoder reads, made already. Either may be empty.
    """

    finite = True  # a trace cannot search them for what is not

    def __init__(self, own: list[tuple[Tensor, Tensor]], memory: list[tuple[Tensor, Tensor]]):
        self.own, self.memory = dict(enumerate(own)), dict(enumerate(memory))
        self.length = own[0][0].shape[2] if own else 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self.own:
            before = self.own[layer]
            key, value = torch.cat((before[0], key), 2), torch.cat((before[1], value), 2)
        self.own[layer] = key, value
        return key, value

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool]:
        if layer not in self.memory:
            self.memory[layer] = make()
        return *self.memory[layer], True

    def advance(self, n: int) -> None:
        pass
