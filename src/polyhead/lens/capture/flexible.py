"""FlexAttention: its functions of scores and of places are read as they are, and mapped over tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from polyhead.lens.capture.sighting import Sighting
from polyhead.operator import MaskMod, ScoreMod

OPERATION = "flex_attention"


def read(args: Sequence[Any], given: dict[str, Any], gave: Sequence[Any]) -> Sighting:
    """The call behind the operation, whose functions take what they read besides as further arguments."""
    names = (
        "query",
        "key",
        "value",
        "score_mod",
        "block_mask",
        "scale",
        "kernel_options",
        "scores_read",
        "places_read",
    )
    told = dict(zip(names, args, strict=False)) | given
    query, key, value = (told[name].detach() for name in names[:3])
    score = closed(told["score_mod"], told.get("scores_read", ()))
    place = closed(told["block_mask"][-1], told.get("places_read", ()))
    return Sighting(
        "flex", OPERATION, query, key, value, told["scale"],
        rule=None if name_of(place) in NONE else MaskMod(place),
        bias=None if name_of(score) in NONE else ScoreMod(score),
    )  # fmt: skip


NONE = ("noop_mask", "_identity")


def name_of(function: Callable[..., Tensor]) -> str:
    return getattr(function, "__name__", "")


def closed(function: Callable[..., Tensor], more: Sequence[Any]) -> Callable[..., Tensor]:
    """The function with what it reads besides."""
    return (lambda *places: function(*places, *more)) if more else function
