"""What one attention layer read, kept in place of its queries and keys: enough to run that layer alone again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from polyhead.core.attention import Attention, CrossAttention
from polyhead.core.run import Observer, Run
from polyhead.operator import Bias, Rule, ScoreMod

SUMS = 8


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a layer read, and by what its output is known again.

    tensors   "x" [B, T, D], and what else the layer read of its run, such as "memory" [M, S, D], by its name there.
    rule      who may look at whom.
    bias      what was added to the scores, or the function that stood in its place.
    dropout   the share of weights that was dropped.
    earlier   how many of its keys came out of a cache.
    autocast  the dtype that autocast computed in, None without it.
    sums      [B, T, 8] of the layer's output, see `signed_sums`.
    """

    tensors: Mapping[str, Tensor]
    rule: Rule | None
    bias: Bias | ScoreMod | None
    dropout: float
    earlier: int
    autocast: torch.dtype | None
    sums: Tensor

    def through(self, layer: Attention, observer: Observer) -> Tensor:
        """What the layer makes of them now, while someone watches."""
        read = dict(self.tensors)
        x = read.pop("x")
        mask = "memory_mask" if isinstance(layer, CrossAttention) else "mask"
        run = Run(observer=observer, **cast(Any, read | {"bias": self.bias, mask: self.rule}))
        with torch.no_grad(), torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return layer(x, run)


def signed_sums(output: Tensor) -> Tensor:
    """Eight sums of each row of an output [B, T, D], with random signs: [B, T, 8] float64.

    The sums of two rows differ, in the root mean square, by about as much as the rows (Achlioptas 2003): so a few
    numbers a row tell how far one output is from another.
    """
    chance = np.random.RandomState(0)  # the one generator whose stream its makers promise never to change
    signs = torch.from_numpy(2.0 * chance.randint(0, 2, (output.shape[-1], SUMS)) - 1).to(output.device)
    return output.detach().double() @ signs


def apart(found: Tensor, kept: Tensor) -> float:
    """How far an output is from the one that was kept, by their sums: the largest difference of a row, relative to the
    largest row."""
    if found.shape != kept.shape:
        return torch.inf
    if not kept.numel():
        return 0.0
    off, size = ((x.square().mean(-1).sqrt().max()) for x in (found - kept, kept))
    return float(off / size) if size else float(off)


def settled(bias: Bias | None) -> Bias | None:
    """The bias apart from the model: a table that learns would go on learning."""
    if bias is None:
        return None
    learned = {
        f.name: x.detach().clone()
        for f in fields(cast(Any, bias))
        if isinstance(x := getattr(bias, f.name), nn.Parameter) or (isinstance(x, Tensor) and x.requires_grad)
    }
    return replace(cast(Any, bias), **learned) if learned else bias
