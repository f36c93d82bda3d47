"""Times among words: a model that says when it hears what may say times only in an order that makes sense (Radford et
al. 2022, section 2.3).

<0.00> the cat sat <2.40> <2.40> on the mat <4.10> <end>
   |               |      |
   opens, at most  closes opens the next: not before the one that closed; a close is later than its opening
   `latest`
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Times:
    """Segments open and close with a time, and no time goes back; where times together are likelier than any word, a
    time comes next.

    start: the length of the prompt. first: the id of time zero, which later times follow. end: the end token; ids below
    it are words. silent: the sign that no times are told, which has no place here. latest: the most that the first time
    may be, in steps; None: any.
    """

    start: int
    first: int
    end: int
    silent: int
    latest: int | None = None

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        first, ids = self.first, torch.arange(scores.shape[1], device=scores.device)
        is_time = ids >= first  # [V]
        never = (ids == self.silent)[None]
        told = tokens[:, self.start :]  # [N, n]
        if told.shape[1] == 0:
            never = never | ~is_time
            if self.latest is not None:
                never = never | (ids > first + self.latest)
        else:
            times = told >= first
            last, before = times[:, -1:], times[:, -2:-1] if told.shape[1] > 1 else torch.ones_like(times)
            opened, closed = last & before, last & ~before  # [N, 1]
            never = never | (opened & is_time) | (closed & (ids < self.end))
            reached = told.where(times, first - 1).amax(1, keepdim=True)  # times rise, so the last is the largest
            never = never | (is_time & (ids < reached + (~closed).long()))
        scores = scores.masked_fill(never, -math.inf)
        likely = scores.float().log_softmax(-1)
        due = likely[:, first:].logsumexp(-1, keepdim=True) > likely[:, :first].amax(-1, keepdim=True)
        return scores.masked_fill(due & ~is_time, -math.inf)
