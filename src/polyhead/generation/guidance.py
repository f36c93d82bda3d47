"""Guidance: a model reads the same answer after two prompts, and what the prompt adds to it is made stronger or weaker.

prompt + answer so far    log-probabilities c  ┐
negative + answer so far  log-probabilities u  ┴─►  u + scale * (c - u)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.loop import Step


class Guided:
    """Two steps as one, for `generate` (Sanchez et al., 2023). `scale` 1 is the first alone.

    step: reads the prompts of the call, [B, start]. other: reads `negative` [B, u] in their place, and has its own
    cache. Under a beam what comes out is made log-probabilities again.
    """

    def __init__(self, step: Step, other: Step, *, negative: Tensor, start: int, scale: float) -> None:
        if not math.isfinite(scale):
            raise ArgumentError(f"scale is {scale}, but must be a finite number; 1 changes nothing.")
        self.step, self.other, self.negative, self.start, self.scale = step, other, negative, start, scale
        if hasattr(step, "hidden"):
            self.hidden = step.hidden  # pyright: ignore

    def __call__(self, tokens: Tensor) -> Tensor:
        rows = len(tokens) // len(self.negative)
        without = torch.cat((self.negative.repeat_interleave(rows, 0), tokens[:, self.start :]), 1)
        given, other = self.step(tokens).float().log_softmax(-1), self.other(without).float().log_softmax(-1)
        return other + self.scale * (given - other)

    def keep(self, rows: Tensor, sources: Tensor | None) -> None:
        self.step.keep(rows, sources)
        self.other.keep(rows, sources)
        if sources is not None:
            self.negative = self.negative[sources]
