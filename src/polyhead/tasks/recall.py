"""Pairs of an image and a text, and a model that reads both, become scores: how far ahead of all others each finds its
own (Karpathy and Fei-Fei 2015, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import ArgumentError, DataError
from polyhead.tasks.load import Loaded
from polyhead.tasks.space import Space, called, named

BLOCK = 1024  # texts whose cosines with all images are held at once
Ranks = NDArray[np.int64]  # 1 where the own one is first


@dataclass(frozen=True)
class Recall:
    """Of n that are asked, the share whose own is among the first 1, 5 and 10, and the median of its rank, from 1."""

    n: int
    r1: float
    r5: float
    r10: float
    median_rank: float

    @classmethod
    def of(cls, ranks: Ranks) -> Recall:
        r1, r5, r10 = (float((ranks <= k).mean()) for k in (1, 5, 10))
        return cls(len(ranks), r1, r5, r10, float(np.median(ranks)))


@dataclass(frozen=True)
class RecallScores:
    """How n pairs find each other: a text its image among all images, an image any of its texts among all texts."""

    n: int
    text_to_image: Recall
    image_to_text: Recall


def ranks(texts: NDArray[np.float32], images: NDArray[np.float32], own: Sequence[int]) -> tuple[Ranks, Ranks]:
    """The rank of each text's own image, and of the best text of each image, from vectors [n, E] and [m, E] of length 1
    and the number of each text's image: how many others are nearer, and 1."""
    of = np.asarray(own)
    theirs = np.concatenate([(texts[i : i + BLOCK] * images[of[i : i + BLOCK]]).sum(1) for i in starts(texts)])
    best = np.full(len(images), -np.inf, np.float32)
    np.maximum.at(best, of, theirs)
    of_texts, of_images = np.ones(len(texts), np.int64), np.ones(len(images), np.int64)
    for i in starts(texts):
        some = slice(i, i + BLOCK)
        rows = np.arange(len(of[some]))
        cosines = texts[some] @ images.T  # [block, m]
        cosines[rows, of[some]] = theirs[some]  # as they were rounded above, so that none is nearer than itself
        of_texts[some] += (cosines > theirs[some, None]).sum(1)
        of_images += (cosines > best).sum(0)
    return of_texts, of_images


def starts(texts: NDArray[np.float32]) -> range:
    return range(0, len(texts), BLOCK)


def recall(
    loaded: Loaded, pairs: Sequence[Any], *, file: str, progress: Callable[[int], None] | None
) -> tuple[RecallScores, list[str]]:
    """Score how images and texts find each other; beside it, of each text the image that it lies nearest to. An image
    may stand in several pairs."""
    for place, pair in enumerate(pairs, 1):
        if not (isinstance(pair, tuple | list) and len(pair) >= 2 and isinstance(pair[1], str)):
            raise ArgumentError(f"Pair {place} must be (image, text), found {pair!r:.80}.")
    if not pairs:
        raise DataError("There is nothing to score; expected at least one pair of an image and its text.")
    numbers: dict[Any, int] = {}
    keys = [str(pair[0]) if named(pair[0]) else id(pair[0]) for pair in pairs]
    own = [numbers.setdefault(key, len(numbers)) for key in keys]
    given = dict(zip(keys, (pair[0] for pair in pairs), strict=True))
    space = Space(loaded, "evaluate")
    images, of_each = [given[key] for key in numbers], np.bincount(own)
    done = 0

    def tell(count: int) -> None:  # images take the time
        nonlocal done
        if progress:
            progress(int(of_each[done : done + count].sum()))
        done += count

    seen, read = space.images(images, tell), space.texts([pair[1] for pair in pairs])
    of_texts, of_images = ranks(read, seen, own)
    nearest = np.concatenate([(read[i : i + BLOCK] @ seen.T).argmax(1) for i in starts(read)])
    scores = RecallScores(len(pairs), Recall.of(of_texts), Recall.of(of_images))
    return scores, [called(images[i], int(i)) for i in nearest]
