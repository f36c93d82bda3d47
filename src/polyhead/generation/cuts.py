"""Which tokens may be drawn: scores [N, K], best first, go in, and come out with -inf where a token is cut.

A score that was -inf before stays so. `least`: so many tokens of a row are never cut; the likeliest, under `typical_p`
those whose surprise is nearest to the entropy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_H = 100  # tokens whose entropy `top_h` looks at


def top_p(scores: Tensor, mass: float, least: int) -> Tensor:
    """The fewest tokens that hold the share `mass` of the probability."""
    share = scores.softmax(-1)
    return kept(scores, share.cumsum(-1) - share < mass, least)


def min_p(scores: Tensor, factor: float, least: int) -> Tensor:
    """Tokens at least `factor` times as likely as the likeliest."""
    share = scores.softmax(-1)
    return kept(scores, share >= factor * share[:, :1], least)


def epsilon(scores: Tensor, probability: float, least: int) -> Tensor:
    """Tokens of at least this probability."""
    return kept(scores, scores.softmax(-1) >= probability, least)


def eta(scores: Tensor, probability: float, least: int) -> Tensor:
    """Tokens of at least this probability, or of sqrt(probability) * exp(-entropy) where that is less."""
    bound = (math.sqrt(probability) * torch.exp(-entropy(scores))).clamp(max=probability)  # [N, 1]
    return kept(scores, scores.softmax(-1) >= bound, least)


def typical_p(scores: Tensor, mass: float, least: int) -> Tensor:
    """The fewest tokens that hold the share `mass`, of those whose surprise is nearest to the entropy."""
    surprise = -scores.log_softmax(-1)
    distance, order = (surprise - entropy(scores)).abs().sort(dim=-1, stable=True)
    reached = scores.softmax(-1).gather(1, order).cumsum(-1)
    last = (reached < mass).sum(-1, keepdim=True).clamp(max=scores.shape[1] - 1)
    near = distance <= distance.gather(1, last)  # [N, K], in that order
    near[:, :least] = True
    return scores.masked_fill(~near.scatter(1, order, near), -math.inf)


def top_h(scores: Tensor, part: float) -> Tensor:
    """The best tokens whose terms of the entropy add up to at most this part of it; the likeliest always."""
    likely = scores.log_softmax(-1)
    terms = -(likely.exp() * likely).nan_to_num(0.0)
    within = terms.cumsum(-1) <= part * terms.sum(-1, keepdim=True)
    return kept(scores, within, 1)


def entropy(scores: Tensor) -> Tensor:
    """The entropy of softmax(scores) in nats, [N, 1]."""
    likely = scores.log_softmax(-1)
    return -(likely.exp() * likely).nansum(-1, keepdim=True)


def kept(scores: Tensor, stays: Tensor, least: int) -> Tensor:
    """The scores where `stays`, and of those that are left the `least` best."""
    bound = scores.topk(min(least, scores.shape[1])).values[:, -1:]
    return scores.masked_fill(~(stays | (scores >= bound)), -math.inf)
