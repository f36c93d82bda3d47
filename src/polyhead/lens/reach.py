"""How far values reach: their norms after a layer's last projection, which is worked out once however often it runs.

What a projection does to lengths is remembered as long as its model lives, from one watch to the next. Whether a weight
is still the one that was worked out is not taken on trust: its product with a fixed random vector is compared bit by
bit: at the first call of every watch, whenever its version has moved, another tensor may lie in its place, and at each
call of a pass that learns, between which optimisers write past the version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from polyhead.lens.recording import Norms
from polyhead.operator.norms import lengths, roots


@dataclass(eq=False)
class Root:
    """What one projection does to lengths, and by what it is known again."""

    mark: Tensor  # [D]
    roots: Tensor  # [H, K, K] float64
    storage: StorageWeakRef = field(init=False)  # of the weight whose mark was last taken, and its version
    version: int | None = None


Known = dict[tuple[int, int], Root]  # by the memory of a weight and its heads
KNOWN: WeakKeyDictionary[nn.Module, Known] = WeakKeyDictionary()


@dataclass(eq=False)
class Reach:
    """What the projections of a run do to lengths. known: those of earlier runs of the same model."""

    known: Known = field(default_factory=Known)
    sure: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    @classmethod
    def of_model(cls, model: nn.Module) -> Reach:
        """One that knows what earlier watches of a model worked out."""
        return cls(KNOWN.setdefault(model, {}))

    def norms(self, value: Tensor, weight: Tensor | None, heads: int) -> Norms:
        """Of value [B, G, S, K] after weight [D, H K]; the values' own, and said so, where there is no such weight."""
        if weight is not None and fits(weight, heads, value.shape[3]):
            return Norms(lengths(value, self.of(weight, heads, value.dtype)), after=True)
        wide = torch.promote_types(value.dtype, torch.float32)
        own = cast(Any, torch.linalg).vector_norm(value.detach(), dim=-1, dtype=wide)
        return Norms(own.repeat_interleave(heads // value.shape[1], 1), after=False)

    def of(self, weight: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        """The roots of a weight as it is now, [H, K, K]."""
        wide = torch.promote_types(torch.promote_types(dtype, weight.dtype), torch.float32)
        if torch.compiler.is_compiling():  # what is remembered is no part of a graph
            return roots(weight, heads).to(wide)
        place, version = (weight.data_ptr(), heads), None if weight.is_inference() else weight._version
        root, learns = self.known.get(place), weight.requires_grad and torch.is_grad_enabled()
        alive = root is not None and not root.storage.expired()
        if root is None or not alive or learns or place not in self.sure or version is None or version != root.version:
            mark = marked(weight.detach())
            if root is None or not torch.equal(mark, root.mark):
                root = Root(mark, roots(weight, heads))
            self.keep(place, root, weight)
            root.version = version
        return root.roots.to(wide)

    def keep(self, place: tuple[int, int], root: Root, weight: Tensor) -> None:
        """Remember the roots of a weight, and none of weights that are gone."""
        root.storage = StorageWeakRef(weight.untyped_storage())
        for other in [other for other, each in self.known.items() if each.storage.expired()]:
            self.known.pop(other, None)
        self.known[place] = root
        self.sure.add(place)


def fits(weight: Tensor, heads: int, width: int) -> bool:
    """Whether a weight [D, H K] can be that of the last projection."""
    return weight.dim() == 2 and weight.is_floating_point() and 0 < width and weight.shape[1] == heads * width


def marked(weight: Tensor) -> Tensor:
    """The product of a weight [D, N] with a random vector, [D]: one that differs differs here."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    with torch.autocast(weight.device.type, enabled=False):
        return weight.to(wide) @ vector(weight.shape[1]).to(weight.device, wide)


@cache
def vector(n: int) -> Tensor:
    """Between 1 and 2, so that each entry of a weight counts, [n]; its generator is its own."""
    return 1 + torch.rand(n, generator=torch.Generator().manual_seed(0), device="cpu")
