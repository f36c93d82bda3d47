"""Heads of our own families are turned down, replaced or looked at alone, while the model answers.

importance  a gate of 1 on each head's output, and how fast the loss changes with it: one backward for all heads
ablation    the loss where one head says its mean, or nothing: copies of an input, each with another head changed
copying     what a head alone writes, as scores of the words it could have looked at
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyhead.core.attention import Attention
from polyhead.core.run import watching
from polyhead.lens.recording import Call
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.tally import Numbers
from polyhead.lens.roles.trials import Trial
from polyhead.operator import Observe, attention
from polyhead.tasks.load import Loaded

Replaced = Literal["mean", "zero"]
Edit = Callable[[str, Tensor], Tensor]  # the name of a layer, what its heads say [B, H, T, K] -> what goes on
DIRECTIONS = 32  # random vectors, with which the change of a vector is multiplied: a head's length is off by an eighth
COPIES = 64  # of an input at once


@dataclass(frozen=True, eq=False)
class Hand:
    """The observer that lets `edit` see and change what the heads say, before they are joined."""

    names: Mapping[nn.Module, str]
    edit: Edit

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return self.edit(self.names[at], x) if place == "z" and at in self.names else x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        return attention(query, key, value, **how)


def layers(model: nn.Module) -> dict[str, Attention]:
    """The attention layers of one of our models, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Attention)}


@contextmanager
def hand_on(model: nn.Module, edit: Edit) -> Iterator[None]:
    token = watching.set(Hand({module: name for name, module in layers(model).items()}, edit))
    try:
        yield
    finally:
        watching.reset(token)


def importance(loaded: Loaded, trial: Trial, seed: int) -> dict[str, Numbers]:
    """|dL/dgate| of every head [H], by layer. Without a loss: how fast the vector moves, the length of its change by
    the gate, from products with a few random vectors (the root of their mean square)."""
    gates: dict[str, Tensor] = {}

    def gate(name: str, z: Tensor) -> Tensor:
        gates[name] = z.new_ones(z.shape[1], requires_grad=True)
        return z * gates[name][:, None, None]

    with torch.enable_grad(), hand_on(loaded.model, gate):
        found = trial.answer(1)
        if trial.loss is not None:
            aims = [trial.loss(found).sum()]
        else:
            chance = torch.Generator().manual_seed(seed)
            aims = [
                (found[0] * torch.randn(found.shape[1], generator=chance).to(found)).sum() for _ in range(DIRECTIONS)
            ]
    names, inputs = list(gates), list(gates.values())
    squares = {name: np.zeros(len(gate)) for name, gate in gates.items()}
    for i, each in enumerate(aims):
        slopes = torch.autograd.grad(each, inputs, retain_graph=i + 1 < len(aims), allow_unused=True)
        for name, slope in zip(names, slopes, strict=True):
            if slope is not None:
                squares[name] += slope.double().square().cpu().numpy()
    return {name: np.sqrt(x / len(aims)) for name, x in squares.items()}


@dataclass(eq=False)
class Means:
    """What each head says on the mean, over the places of all inputs [H, K]."""

    sums: dict[str, Tensor]
    counts: dict[str, int]

    @classmethod
    def none(cls) -> Means:
        return cls({}, {})

    def add(self, model: nn.Module, trial: Trial) -> None:
        def note(name: str, z: Tensor) -> Tensor:
            total = z.double().sum((0, 2))
            self.sums[name] = self.sums[name] + total if name in self.sums else total
            self.counts[name] = self.counts.get(name, 0) + z.shape[0] * z.shape[2]
            return z

        with torch.no_grad(), hand_on(model, note):
            trial.answer(1)

    def of(self, name: str) -> Tensor:
        return self.sums[name] / self.counts[name]


@torch.no_grad()
def ablation(loaded: Loaded, trial: Trial, means: Means | None) -> dict[str, Numbers]:
    """The loss with one head replaced, by its mean or by zeros, less the loss as it is: of every head [H], by layer.
    Without a loss: how far the vector moves, 1 - its cosine with what it was."""
    plain = trial.answer(1)
    before = None if trial.loss is None else trial.loss(plain)
    found: dict[str, Numbers] = {}
    for layer, module in layers(loaded.model).items():
        heads = module.query.out_features // module.width
        parts: list[NDArray[np.float64]] = []
        for start in range(0, heads, COPIES):
            some = range(start, min(start + COPIES, heads))

            def replaced(name: str, z: Tensor, layer: str = layer, some: range = some) -> Tensor:
                if name != layer:
                    return z
                z = z.clone()
                for row, head in enumerate(some):
                    z[row, head] = 0.0 if means is None else means.of(name)[head].to(z.dtype)
                return z

            with hand_on(loaded.model, replaced):
                after = trial.answer(len(some))
            change = 1 - (after * plain).sum(-1) if trial.loss is None or before is None else trial.loss(after) - before
            parts.append(change.double().cpu().numpy())
        found[layer] = np.concatenate(parts)
    return found


def unembedding(loaded: Loaded) -> Tensor | None:
    """The vectors of words [V, D] that the readout multiplies with; None where it gives no words."""
    head: Any = getattr(loaded.model, "head", None)
    head = getattr(head, "words", head)  # where a layer stands before the words
    if loaded.family.does not in ("next word", "hidden words", "translation", "text to text", "speech to text"):
        return None
    weight = getattr(head, "weight", None)
    wide = isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[1] == loaded.config.d_model
    return weight if wide else None


@torch.no_grad()
def copying(
    loaded: Loaded, trial: Trial, calls: Mapping[str, Call], axes: Mapping[str, tuple[Axis, Axis]], words: Tensor
) -> dict[str, tuple[Numbers, float]]:
    """Of each layer's heads [H] how much they raise what they look at most, and what chance gives.

    calls: of one run of the trial. axes: of each call, whose keys hold tokens that the readout knows. words: [V, D].
    """
    said: dict[str, Tensor] = {}

    def note(name: str, z: Tensor) -> Tensor:
        said[name] = z
        return z

    with hand_on(loaded.model, note):
        trial.one.vectors()
    found: dict[str, tuple[Numbers, float]] = {}
    modules = layers(loaded.model)
    for name, (rows, columns) in axes.items():
        z, out = said[name][0], modules[name].out.weight  # [H, T, K], [D, H K]
        assert columns.ids is not None
        ids = torch.tensor(columns.ids, device=z.device)
        plain = torch.tensor([i not in columns.special for i in range(columns.count)], device=z.device)
        candidates = ids[plain].unique()
        links = calls[name].observe(Observe(links=1)).links
        assert links is not None
        best = links.keys[0, ..., 0]  # [H, T]
        counted = plain[best.clamp(min=0)] & (best >= 0)
        counted &= torch.tensor([i not in rows.silent for i in range(rows.count)], device=z.device)
        pieces = out.unflatten(1, (z.shape[0], -1))  # [D, H, K]
        scores = torch.einsum("htk,dhk,cd->htc", z.double(), pieces.double(), words[candidates].double())
        rise = (scores - scores.mean(-1, keepdim=True)).clamp(min=0)
        whole = rise.sum(-1)
        at = torch.searchsorted(candidates, ids[best.clamp(min=0)]).clamp(max=len(candidates) - 1)
        share = rise.gather(-1, at[..., None])[..., 0] / whole.masked_fill(whole == 0, torch.nan)
        counted &= ~share.isnan()
        n = counted.sum(-1).double()
        mean = share.masked_fill(~counted, 0.0).sum(-1) / n.masked_fill(n == 0, torch.nan)
        found[name] = (2 * mean - 1).cpu().numpy(), 2 / len(candidates) - 1
    return found
