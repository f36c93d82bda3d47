"""Whether a head moves on as the text does, and how far its strongest links are from given word alignments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.errors import DataError

LINK = re.compile(r"(\d+)([-p])(\d+)")
Pair = tuple[int, int]  # a word of the source, a word of the target


@dataclass(frozen=True)
class Alignment:
    """Which words go with which, both sides counted from 0: those that are sure, and those that may be."""

    sure: frozenset[Pair]
    possible: frozenset[Pair]  # the sure ones too

    @classmethod
    def read(cls, line: str, where: str = "the alignment") -> Alignment:
        """`0-0 1-2 3p4`: pairs of source and target, sure (-) or possible (p), as Pharaoh and its heirs write them."""
        found = [LINK.fullmatch(part) for part in line.split()]
        wrong = next((part for part, link in zip(line.split(), found, strict=True) if link is None), None)
        if wrong is not None:
            raise DataError(f"{where}: '{wrong}' is no link; write pairs of source and target as 0-0, or 0p0")
        links = [((int(link[1]), int(link[3])), link[2]) for link in found if link is not None]
        sure = frozenset(pair for pair, sign in links if sign == "-")
        return cls(sure, sure | frozenset(pair for pair, _ in links))


def aer(found: Sequence[Pair], gold: Alignment) -> float:
    """The alignment error rate of some links (Och and Ney 2003)."""
    links = set(found)
    both = len(links & gold.sure) + len(links & gold.possible)
    return 1 - both / (len(links) + len(gold.sure)) if links or gold.sure else 0.0


def spearman(place: Tensor, counted: Tensor) -> Tensor:
    """Spearman's correlation [B, H] of where rows look [B, H, T] with where they stand, over the rows that count; NaN
    for fewer than three rows, and where all look at one place."""
    B, H, _ = place.shape
    found = place.new_full((B, H), torch.nan)
    for b in range(B):
        some = counted[b, 0]
        if int(some.sum()) < 3:
            continue
        x = ranks(place[b, :, some])  # [H, t]
        y = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
        x, y = x - x.mean(-1, keepdim=True), y - y.mean()
        size = (x.square().sum(-1) * y.square().sum()).sqrt()
        found[b] = (x * y).sum(-1) / size.masked_fill(size == 0, torch.nan)
    return found


def ranks(x: Tensor) -> Tensor:
    """Ranks along the last axis, float64; equal numbers share the mean of theirs. Numbers closer than rounding are
    equal."""
    x = x.double()
    x = (x * 1e6).round() / 1e6
    order = x.sort(-1).values
    left, right = (torch.searchsorted(order, x.contiguous(), right=side).double() for side in (False, True))
    return (left + right - 1) / 2
