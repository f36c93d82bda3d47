"""Rows of BPE ids enter; by chance some tokens leave as the two they were merged from, and those perhaps again.

A model trained on such rows sees words in many spellings (as with BPE-dropout, Provilkov et al. 2020). Undoing merges
of the finished rows costs no new tokenisation and draws from a generator that is handed in, so that training resumes
bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import ArgumentError
from polyhead.inputs.pair import TextTokenizer
from polyhead.inputs.tokenizer import Tokenizer

Ids = NDArray[np.int64]


def merge_table(tokenizer: TextTokenizer) -> Ids:
    """[size, 2]: the two ids that each token was merged from, -1 where it was not merged."""
    model = json.loads(tokenizer.inner.to_str())["model"] if isinstance(tokenizer, Tokenizer) else {}
    if (kind := model.get("type", ".spm")) != "BPE":
        raise ArgumentError(f"Merges can be undone in a BPE vocabulary, but this one is {kind}; train a BPE.")
    ids: dict[str, int] = model["vocab"]
    table = np.full((tokenizer.size, 2), -1, np.int64)
    for left, right in reversed(model["merges"]):  # the first of several ways to the same token is the one that counts
        table[ids[left + right]] = ids[left], ids[right]
    return table


def split_pieces(
    rows: Sequence[NDArray[np.integer]], table: Ids, *, p: float, random: np.random.Generator
) -> list[Ids]:
    """The rows, with each merge undone with probability p, from the last merge of a token to the first.

    A merge below one that was kept is kept. p = 0 gives the rows themselves, p = 1 gives single characters.
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"p ({p}) is a probability and must lie between 0 and 1.")
    ids = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)
    row = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    asked = np.arange(len(ids))  # positions of tokens that may still be undone
    while len(asked := asked[table[ids[asked], 0] >= 0]) and len(undone := asked[random.random(len(asked)) < p]):
        count = np.ones(len(ids), np.int64)
        count[undone] = 2
        pairs = table[ids[undone]]
        ids, row = np.repeat(ids, count), np.repeat(row, count)
        left = undone + np.arange(len(undone))  # each split before has moved what follows by one
        ids[left], ids[left + 1] = pairs.T
        asked = np.stack([left, left + 1], 1).ravel()
    return np.split(ids, np.cumsum(np.bincount(row, minlength=len(rows))))[:-1]
