"""Undoing merges by chance: the same text in smaller pieces, and the same again from the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyhead.errors import ArgumentError
from polyhead.inputs.splitting import merge_table, split_pieces
from polyhead.inputs.tokenizer import Tokenizer
from tests.inputs.samples import TEXTS


def rows_of(tokenizer: Tokenizer) -> list[np.ndarray]:
    return [np.array(ids, np.uint16) for ids in tokenizer.encode_batch([*TEXTS[:40], ""])]


def token(tokenizer: Tokenizer, id: int) -> str:
    text = tokenizer.inner.id_to_token(int(id))
    assert text is not None
    return text


@given(p=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_text_stays_and_the_seed_decides(bpe: Tokenizer, p: float, seed: int) -> None:
    rows, table = rows_of(bpe), merge_table(bpe)
    split = split_pieces(rows, table, p=p, random=np.random.default_rng(seed))
    assert bpe.decode_batch(split) == bpe.decode_batch(rows)
    assert all(new[-1] == bpe.eos_id and len(new) >= len(old) for new, old in zip(split, rows, strict=True))
    again = split_pieces(rows, table, p=p, random=np.random.default_rng(seed))
    assert [row.tolist() for row in again] == [row.tolist() for row in split]


def test_nothing_is_split_at_zero_and_everything_at_one(bpe: Tokenizer) -> None:
    rows, table, random = rows_of(bpe), merge_table(bpe), np.random.default_rng(0)
    assert [row.tolist() for row in split_pieces(rows, table, p=0, random=random)] == [row.tolist() for row in rows]
    for row in split_pieces(rows, table, p=1, random=random):
        assert all(len(token(bpe, id)) == 1 for id in row[:-1])


def test_each_merge_is_undone_with_its_probability(bpe: Tokenizer) -> None:
    table = merge_table(bpe)
    depth_two = next(id for id in range(bpe.size) if (table[id] >= 0).all() and (table[table[id][0]] >= 0).all())
    rows = [np.array([depth_two])] * 4000
    whole = sum(len(row) == 1 for row in split_pieces(rows, table, p=0.3, random=np.random.default_rng(1)))
    assert abs(whole / 4000 - 0.7) < 0.03


def test_the_table_holds_every_merge(bpe: Tokenizer) -> None:
    table = merge_table(bpe)
    for id, (left, right) in enumerate(table):
        if left >= 0:
            joined = token(bpe, left) + token(bpe, right)
            assert joined == token(bpe, id)
    assert (table[:259] == -1).all()  # special tokens and bytes
    assert {len(token(bpe, id)) for id in range(259, bpe.size) if table[id, 0] < 0} == {1}


def test_no_rows_give_no_rows(bpe: Tokenizer) -> None:
    assert split_pieces([], merge_table(bpe), p=0.5, random=np.random.default_rng(0)) == []


def test_the_table_survives_the_file(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    assert np.array_equal(merge_table(Tokenizer.load(tmp_path)), merge_table(bpe))


def test_what_cannot_be_split_is_refused(bpe: Tokenizer) -> None:
    with pytest.raises(ArgumentError, match="this one is Unigram"):
        merge_table(Tokenizer.train(TEXTS, kind="unigram", size=400))
    with pytest.raises(ArgumentError, match=r"p \(1\.5\) is a probability"):
        split_pieces([], merge_table(bpe), p=1.5, random=np.random.default_rng(0))
