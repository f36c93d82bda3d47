"""How far values reach: their norms after a layer's last projection, which is looked at once however often it runs."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from polyhead.lens.recording import Norms
from polyhead.operator.norms import lengths, roots


class Reach:
    """What the projections of a run do to lengths, by the memory of their weights."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], tuple[StorageWeakRef, int | None, Tensor]] = {}

    def norms(self, value: Tensor, weight: Tensor | None, heads: int) -> Norms:
        """Of value [B, G, S, K] after weight [D, H K]; the values' own, and said so, where there is no such weight."""
        if weight is not None and fits(weight, heads, value.shape[3]):
            return Norms(lengths(value, self.of(weight, heads, value.dtype)), after=True)
        wide = torch.promote_types(value.dtype, torch.float32)
        own = cast(Any, torch.linalg).vector_norm(value.detach(), dim=-1, dtype=wide)
        return Norms(own.repeat_interleave(heads // value.shape[1], 1), after=False)

    def of(self, weight: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        """The roots of a weight as it is now."""
        place = weight.data_ptr(), heads
        version = None if weight.is_inference() else weight._version
        held, then, found = self.known.get(place, (None, None, None))
        if held is None or held.expired() or found is None or version is None or then != version:
            found = roots(weight, heads)
            self.known[place] = StorageWeakRef(weight.untyped_storage()), version, found
        return found.to(torch.promote_types(torch.promote_types(dtype, weight.dtype), torch.float32))


def fits(weight: Tensor, heads: int, width: int) -> bool:
    """Whether a weight [D, H K] can be that of the last projection."""
    return weight.dim() == 2 and weight.is_floating_point() and 0 < width and weight.shape[1] == heads * width
