"""One pass of a loaded model, ready to be run: what goes in and what stands at each place; a recording comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Ruler
from polyhead.lens.watch import watch
from polyhead.tasks.load import Loaded


@dataclass(frozen=True, eq=False)
class Pass:
    """What a loaded model reads at once.

    given    what its forward takes: ids [1, T]; ids of a source [1, S] and of what its decoder reads [1, T]; an image
             [1, channels, height, width]; the picture of a sound [1, bands, frames] and ids [1, T].
    kinds    [1, T] which of two texts each token is of, for an encoder that asks.
    rulers   what stands along the axes of its maps, by the part of the model; "chosen": the words that the decoder
             chose at each of its places.
    ids      the tokens on the rulers of words, by the same names.
    first    the first place of "chosen" that the model chose by itself; those before were given to it.
    source   what is read, in words; target: what is written, None where nothing is.
    notes    what a person should know of it.
    """

    loaded: Loaded
    given: tuple[Tensor, ...]
    rulers: Mapping[str, Ruler]
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    kinds: Tensor | None = None
    first: int = 0
    source: str = ""
    target: str | None = None
    notes: tuple[str, ...] = ()

    def vectors(self, copies: int = 1) -> Tensor:
        """What the layers make of so many copies, [copies, T, D]."""
        return vectors(self.loaded.model, [repeated(x, copies) for x in self.given], repeated(self.kinds, copies))

    def scores(self, copies: int = 1) -> Tensor:
        """What the model says of so many copies: scores of words [copies, T, V], of labels [copies, L]."""
        model: Any = self.loaded.model
        return model(*(repeated(x, copies) for x in self.given), **about(repeated(self.kinds, copies)))

    def watched(self, **how: Any) -> Recording:
        """The recording of it, with its rulers. how: as `watch` takes it."""
        with watch(self.loaded.named, **how) as recording, torch.inference_mode():
            self.vectors()
        recording.rulers = dict(self.rulers)
        return recording


def vectors(model: nn.Module, given: Sequence[Tensor], kinds: Tensor | None = None) -> Tensor:
    """What a model's layers make of an input [B, T, D]; of a source alone, what its encoder does.

    All attention runs, and no word is scored, which of a long text would take more room than everything else.
    """
    own: Any = model
    read, *answer = given
    if not hasattr(own, "encode"):
        return own.decode(read, Run())
    memory = own.encode(read, Run(), **about(kinds))
    return own.decode(answer[0], Run(memory=memory)) if answer else memory


def precise(x: Tensor) -> Tensor:
    """In float32 at least, for numbers that are made of what the model said."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def about(kinds: Tensor | None) -> dict[str, Tensor]:
    return {} if kinds is None else {"kinds": kinds}


def repeated(x: Any, copies: int) -> Any:
    """So many copies of a batch of one, which take no room."""
    return x if x is None else x.expand(copies, *x.shape[1:])
