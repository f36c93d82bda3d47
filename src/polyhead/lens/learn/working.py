"""What one layer met goes in; every stage of its formula, computed by our float64 reference, comes out; and again with
something broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from polyhead.lens.learn.caught import Caught
from polyhead.operator.kernels import reference
from polyhead.operator.kernels.reference import Array, Mask


@dataclass(frozen=True, kw_only=True)
class Breaks:
    """What is done to the layer. Words and positions are changed in the text itself, before the model reads it.

    scale        False: scores are not divided by the square root of the head's width.
    mask         False: nothing is hidden; True: what comes later is hidden; None: as the model does it.
    temperature  products of queries and keys are divided by it: below 1 sharper, above 1 flatter.
    heads_off    heads whose findings are thrown away.
    """

    scale: bool = True
    mask: bool | None = None
    temperature: float = 1.0
    heads_off: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Working:
    """Every stage of the layer, in its order; H heads, T words that look, S words looked at, K features a head.

    raw      [H, T, S] queries times keys.
    scaled   times the scale, and what the model adds by distance; before anything is hidden.
    weights  [H, T, S] shares of each row; 0 where hidden.
    found    [H, T, K] values times weights, added up.
    parts    [H, T, D] what each head writes after the output projection; zero for a head that is off.
    output   [T, D] all heads' parts, and the projection's bias.
    after    [T, D] the stream with the output added to it.
    """

    raw: Array
    scaled: Array
    visible: Mask  # [H, T, S]
    scale: float
    weights: Array
    found: Array
    parts: Array
    output: Array
    after: Array


def work(caught: Caught, breaks: Breaks | None = None) -> Working:
    """The formula, on what the model's layer really met."""
    breaks = breaks or Breaks()
    p, (T, S) = caught.projections, (len(caught.x), len(caught.memory))
    visible = caught.visible
    if breaks.mask is not None:
        visible = np.tril(np.ones((1, T, S), bool)) if breaks.mask else np.ones((1, T, S), bool)
    scale = (caught.scale if breaks.scale else 1.0) / breaks.temperature
    stages = reference.attention(
        reference.Inputs(
            query=caught.query[None], key=caught.key[None], value=caught.value[None], visible=visible[None],
            bias=None if caught.bias is None else caught.bias[None],
            scale=scale, softcap=caught.softcap,
        )
    )  # fmt: skip
    found = stages.output[0]  # [H, T, K]
    parts = np.stack([z @ w for z, w in zip(found, out_of(caught), strict=True)])
    parts[list(breaks.heads_off)] = 0
    output = parts.sum(0) + (0 if p.out_bias is None else p.out_bias)
    raw = stages.scores[0] / scale
    return Working(
        raw, stages.biased[0], stages.visible[0], scale, stages.weights[0], found, parts, output,
        caught.stream + output,
    )  # fmt: skip


def out_of(caught: Caught) -> Array:
    """The rows of the output projection that belong to each head: [H, K, D]."""
    p = caught.projections
    return p.out.reshape(p.heads, -1, p.out.shape[1])


def off(caught: Caught, working: Working) -> float:
    """How far our numbers are from the model's own: the largest difference of a weight or, relative to the largest, of
    a number of the output."""
    weights = np.abs(working.weights - caught.weights).max()
    output = np.abs(working.output - caught.output).max() / max(np.abs(caught.output).max(), 1e-30)
    return float(max(weights, output))


def one_by_one(caught: Caught) -> float:
    """How far a loop over the heads is from all heads in one array: the largest difference of a weight."""
    p, whole, apart = caught.projections, work(caught).weights, 0.0
    for h in range(p.heads):
        g = h // (p.heads // p.key_heads)
        one = reference.attention(
            reference.Inputs(
                query=caught.query[None, h : h + 1], key=caught.key[None, g : g + 1],
                value=caught.value[None, g : g + 1],
                visible=caught.visible[None, h if len(caught.visible) > 1 else 0][:, None],
                bias=None if caught.bias is None else caught.bias[None, h : h + 1],
                scale=caught.scale, softcap=caught.softcap,
            )
        )  # fmt: skip
        apart = max(apart, float(np.abs(one.weights[0, 0] - whole[h]).max()))
    return apart


@dataclass(frozen=True, eq=False)
class CutSentence:
    """What were lost if each part of the sentence were given to one head, and not each part of the features.

    groups   the numbers of the columns in each part.
    crosses  the share of the head's weight that goes from one part to another: all of it would be lost.
    lost     the row and the column of the largest weight among those.
    pairs, of  how many pairs of words could still meet, of how many.
    """

    groups: list[range]
    crosses: float
    lost: tuple[int, int]
    pairs: int
    of: int


def cut_sentence(
    caught: Caught, working: Working, head: int, parts: int, named: tuple[Sequence[int], Sequence[int]]
) -> CutSentence:
    """The words in so many equal parts, of which none can see another. named: rows, columns that `lost` may be of."""
    T, S = working.weights.shape[1:]
    bounds = np.linspace(0, S, min(parts, S) + 1).round().astype(int)
    groups = [range(a, b) for a, b in pairwise(bounds) if b > a]
    part = np.concatenate([[g] * len(group) for g, group in enumerate(groups)])
    of_row = part if T == S else part[(np.arange(T) * S // T)]
    same, visible = of_row[:, None] == part[None, :], working.visible[head]
    crossing = np.where(same, 0.0, working.weights[head])
    telling = np.zeros_like(crossing)
    telling[np.ix_(*named)] = crossing[np.ix_(*named)]
    row, column = divmod(int((telling if telling.any() else crossing).argmax()), S)
    return CutSentence(
        groups, float(crossing.sum() / T), (row, column), int((same & visible).sum()), int(visible.sum())
    )


@dataclass(frozen=True)
class Sum:
    """A number as the sum that it is: the largest terms written out, the others added up.

    terms  (number of the term, its factors, product), the largest first.
    rest   how many others there are, and what they add up to; `more` is added besides (a bias).
    """

    terms: list[tuple[int, tuple[float, float], float]]
    others: int
    rest: float
    more: float | None
    total: float


def summed(
    left: Sequence[float] | Array, right: Sequence[float] | Array, *, most: int = 6, more: float | None = None
) -> Sum:
    """left times right, number by number, added up."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    products = left * right
    first = np.argsort(-np.abs(products), kind="stable")[:most]
    rest = float(products.sum() - products[first].sum())
    terms = [(int(i), (float(left[i]), float(right[i])), float(products[i])) for i in first]
    return Sum(terms, len(products) - len(first), rest, more, float(products.sum() + (more or 0.0)))


def effective(weights: Array) -> Array:
    """Over how many keys each row is spread: e to the entropy of [..., S]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(weights > 0, np.log(weights), 0.0)
    return np.exp(-(weights * logs).sum(-1))
