"""A mask that somebody wrote out becomes the smallest rule that says the same; what is no mask stays a bias."""

from __future__ import annotations

import torch
from torch import Tensor

from polyhead.operator.rules import Bias, Causal, Dense, DenseBias, Lengths, Rule, Window, four

ROWS = 512  # that are compared together
LOWEST = -6e4  # what nobody means as a number, whatever else stands there
FAR = -1e4  # what hides: people write so much, and more, for minus infinity


def read(
    mask: Tensor | None, *, causal: bool, queries: int, keys: int, batch: int, device: torch.device
) -> tuple[Rule | None, Bias | None]:
    """PyTorch's `attn_mask` and `is_causal` as a rule and a bias.

    Of a float mask, -inf hides, and so do numbers of which no softmax leaves anything: a row in which everything is
    hidden is told as one that looks nowhere, though with such numbers in the place of -inf it looks everywhere alike.
    `is_causal` is anchored top-left.
    """
    if mask is None:
        return (top_left(queries, keys, batch, device) if causal else None), None
    mask = four(mask.detach())
    past = torch.ones(queries, keys, dtype=torch.bool, device=device).tril() if causal else None
    if mask.dtype == torch.bool:
        return visible_as_rule(mask if past is None else mask & past, queries, keys), None
    hidden = far(mask) if past is None else far(mask) | ~past
    if bool(mask.masked_fill(hidden, 0.0).any()):
        return None, DenseBias(mask.masked_fill(hidden, -torch.inf))
    return visible_as_rule(~hidden, queries, keys), None


def far(mask: Tensor) -> Tensor:
    """Where a float mask hides: by one number that people write for minus infinity, or by numbers far below it.

    Numbers between that differ from place to place are a bias, such as that of distance in a long text.
    """
    found = mask <= FAR
    highest = mask.masked_fill(~found, -torch.inf).max() if found.any() else None
    differ = highest is not None and bool(highest > LOWEST) and bool(mask.min() != highest)
    return mask <= LOWEST if differ else found


def merged(one: Rule | None, other: Rule | None) -> Rule | None:
    return other if one is None else one & other


def top_left(queries: int, keys: int, batch: int, device: torch.device) -> Rule:
    """Query i sees key j if j <= i, wherever the last query stands."""
    if queries == keys:
        return Causal()
    if queries < keys:
        count = torch.full((batch,), queries, device=device)
        return Causal() & Lengths(count, count)
    return Dense(torch.ones(queries, keys, dtype=torch.bool, device=device).tril())


def visible_as_rule(visible: Tensor, queries: int, keys: int) -> Rule | None:
    """The smallest rule that hides the same of visible [B or 1, H or 1, T or 1, S or 1]; None if nothing is hidden."""
    if bool(visible.all()):
        return None
    for axis in (0, 1):  # what says the same of all sequences or heads is said once
        first = visible.narrow(axis, 0, 1)
        visible = first if torch.equal(first.expand_as(visible), visible) else visible
    rows, columns = visible.shape[2:]
    if rows == 1 or columns == 1 or visible.shape[1] > 1:
        return Dense(visible)
    seen = visible.any(2, keepdim=True)  # [B, 1, 1, S]: by some query
    kept = None if bool(seen.all()) else Dense(seen)
    if same(visible, seen, None, keys - queries):
        return kept
    if same(visible, seen, (None, 0), keys - queries):
        return merged(kept, Causal())
    for left, right in windows(visible, keys - queries):
        if same(visible, seen, (left, right), keys - queries):
            return merged(kept, Causal() & Window(left, None) if right == 0 else Window(left, right))
    return Dense(visible)


def windows(visible: Tensor, diagonal: int) -> list[tuple[int, int]]:
    """How far before and after its place the first sequence's queries look at most."""
    first = visible[0, 0]
    place = torch.arange(first.shape[0], device=first.device) + diagonal
    some = first.any(-1)
    if not bool(some.any()):
        return []
    left = place - first.int().argmax(-1)
    right = first.shape[1] - 1 - first.flip(-1).int().argmax(-1) - place
    return [(max(0, int(left[some].max())), max(0, int(right[some].max())))]


def same(visible: Tensor, seen: Tensor, window: tuple[int | None, int | None] | None, diagonal: int) -> bool:
    """Whether keys that are seen at all, within a window, are just what is visible."""
    T, S = visible.shape[2:]
    column = torch.arange(S, device=visible.device)
    for start in range(0, T, ROWS):
        tile = seen
        if window is not None:
            place = torch.arange(start, min(start + ROWS, T), device=visible.device)[:, None] + diagonal
            left, right = window
            if left is not None:
                tile = tile & (column >= place - left)
            if right is not None:
                tile = tile & (column <= place + right)
        if not torch.equal(tile.expand(visible[:, :, start : start + ROWS].shape), visible[:, :, start : start + ROWS]):
            return False
    return True
