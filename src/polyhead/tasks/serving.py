"""Many requests of a decoder, at any time, are answered together; texts go in, and come out as they are written."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from polyhead.core import Run
from polyhead.operator import Pages


class PagedDecoderStep:
    """What `Engine` asks of a model that reads its own past."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, tokens: Tensor, pages: Pages) -> Tensor:
        run = Run(cache=pages, mask=pages.mask, positions=pages.positions)
        return self.model.head(self.model.decode(tokens, run)[:, -1])
