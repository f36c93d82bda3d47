"""A pool gives every sequence back what a plain list of its keys would hold, whoever shares its blocks with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator import Alibi, Causal, Pages, Pool, Table, Window, attention

CPU = torch.device("cpu")
LAYERS, GROUPS, K, VALUE = 2, 2, 3, 4


class Plain:
    """A pool, its sequences, and beside each the tokens and the numbers that it should hold."""

    def __init__(self, blocks: int, size: int, seed: int) -> None:
        self.pool, self.dice = Pool(blocks, size), torch.Generator().manual_seed(seed)
        self.tables: list[Table] = []
        self.rows: list[Tensor] = []  # tokens [t], of which keys and values are functions, as in a model

    def keys(self, layer: int, row: Tensor) -> Tensor:
        """Of each place what all tokens up to it make, [G, t, K]."""
        return (
            torch.outer((row + 1).cumsum(0).sin() + layer, torch.arange(1.0, GROUPS * K + 1))
            .view(-1, GROUPS, K)
            .transpose(0, 1)
        )

    def values(self, layer: int, row: Tensor) -> Tensor:
        return torch.cat((-self.keys(layer, row), torch.ones(GROUPS, len(row), 1)), -1)

    def add(self, which: list[int], new: list[int]) -> None:
        """Let these sequences grow by so many tokens, in one pass, and see what the layers get."""
        tables = [self.tables[i] for i in which]
        for i, table, n in zip(which, tables, new, strict=True):
            before, need = self.pool.open, self.pool.needed([table], n)
            self.pool.grow(table, n)
            assert self.pool.open == before - need
            more = torch.randint(0, 2, (n,), generator=self.dice)
            self.rows[i] = torch.cat((self.rows[i], more))
        pages, T = Pages(self.pool, tables, new, CPU), max(new)
        for layer in range(LAYERS):
            key, value = torch.full((len(which), GROUPS, T, K), 77.0), torch.full((len(which), GROUPS, T, VALUE), 77.0)
            for place, (i, n) in enumerate(zip(which, new, strict=True)):
                key[place, :, T - n :] = self.keys(layer, self.rows[i])[:, -n:]
                value[place, :, T - n :] = self.values(layer, self.rows[i])[:, -n:]
            keys, values = pages.extend(layer, key, value)
            assert keys.shape[2] == max(len(self.rows[i]) for i in which)
            for place, i in enumerate(which):
                t = len(self.rows[i])
                assert torch.equal(keys[place, :, -t:], self.keys(layer, self.rows[i]))
                assert torch.equal(values[place, :, -t:], self.values(layer, self.rows[i]))
        pages.advance(T)
        for i, table in zip(which, tables, strict=True):
            assert table.length == len(self.rows[i])
            self.pool.learn(table, self.rows[i])

    def check(self) -> None:
        """Every block is counted as often as it is held, and idle exactly where it is not."""
        held = [block for table in self.tables for block in table.blocks]
        assert [held.count(block) for block in range(self.pool.blocks)] == self.pool.holders
        assert set(self.pool.idle) == set(range(self.pool.blocks)) - set(held)


# of some sequences (a new one where the number is too high): grow by so many, fork, or leave
moves = st.lists(
    st.one_of(
        st.dictionaries(st.integers(0, 6), st.integers(1, 9), min_size=1, max_size=4),
        st.tuples(st.just("fork"), st.integers(0, 6)),
        st.tuples(st.just("leave"), st.integers(0, 6)),
    ),
    max_size=14,
)


@settings(max_examples=80, deadline=None)
@given(moves=moves, size=st.integers(1, 5), seed=st.integers(0, 1000))
def test_sequences_hold_what_concatenation_would(moves: list, size: int, seed: int) -> None:
    plain = Plain(400, size, seed)
    for move in moves:
        if isinstance(move, dict):
            for i in move:
                if i >= len(plain.tables):  # two tokens only, so that sequences often begin alike
                    row = torch.randint(0, 2, (11,), generator=plain.dice)
                    plain.tables.append(plain.pool.begun(row))
                    plain.rows.append(row[: plain.tables[-1].length])
                    assert plain.tables[-1].length in range(0, 11, size)
            grown = {min(i, len(plain.tables) - 1): n for i, n in move.items()}
            plain.add(list(grown), list(grown.values()))
        elif plain.tables and move[0] == "fork":
            i = move[1] % len(plain.tables)
            plain.tables.append(plain.pool.fork(plain.tables[i]))
            plain.rows.append(plain.rows[i])
        elif plain.tables:
            i = move[1] % len(plain.tables)
            plain.pool.free(plain.tables.pop(i))
            plain.rows.pop(i)
        plain.check()


def test_a_beginning_is_kept_once_and_found_again_when_its_sequence_has_left() -> None:
    plain = Plain(8, 4, 0)
    plain.tables, plain.rows = [Table()], [torch.zeros(0, dtype=torch.long)]
    plain.add([0], [11])
    row = plain.rows[0]
    second = plain.pool.begun(torch.cat((row[:9], 1 - row[9:])))
    assert second.length == 8 and second.blocks == plain.tables[0].blocks[:2]
    assert plain.pool.begun(row[:8]).length == 4  # a token must be left to read
    assert plain.pool.begun(torch.cat((1 - row[:1], row[1:]))).length == 0
    plain.pool.free(plain.tables[0])
    plain.pool.free(second)
    again = plain.pool.begun(row)
    assert again.length == 8
    plain.tables, plain.rows = [again], [row[:8]]
    plain.add([0], [3])


def test_a_known_block_is_forgotten_when_it_is_taken() -> None:
    plain = Plain(3, 4, 0)
    plain.tables, plain.rows = [Table()], [torch.zeros(0, dtype=torch.long)]
    plain.add([0], [8])
    first = plain.rows[0]
    plain.pool.free(plain.tables[0])
    plain.tables, plain.rows = [Table()], [torch.zeros(0, dtype=torch.long)]
    plain.add([0], [8])  # a block that was never held, then the end of the first sequence
    assert plain.pool.begun(torch.cat((first, first))).length == 4
    assert not torch.equal(first, plain.rows[0])


def test_two_that_compute_the_same_beginning_end_up_with_one_copy() -> None:
    plain = Plain(8, 4, 0)
    plain.tables, plain.rows = [Table(), Table()], 2 * [torch.zeros(0, dtype=torch.long)]
    plain.pool.grow(plain.tables[0], 6)
    plain.pool.grow(plain.tables[1], 6)
    row = torch.tensor([1, 0, 0, 1, 1, 0])
    pages = Pages(plain.pool, plain.tables, [6, 6], CPU)
    for layer in range(LAYERS):
        pages.extend(
            layer, plain.keys(layer, row).expand(2, -1, -1, -1), plain.values(layer, row).expand(2, -1, -1, -1)
        )
    pages.advance(6)
    for table in plain.tables:
        plain.pool.learn(table, row)
    assert plain.tables[0].blocks[0] == plain.tables[1].blocks[0] != plain.tables[1].blocks[1]
    assert plain.pool.open == 8 - 3


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("slopes", [None, torch.tensor([0.5, 0.25])])
def test_rows_of_unlike_lengths_attend_as_if_alone(window: int | None, slopes: Tensor | None) -> None:
    dice = torch.Generator().manual_seed(0)
    pool, lengths, new = Pool(20, 4), [3, 9, 4], [2, 1, 5]
    tables = [Table() for _ in lengths]
    rule = Causal() if window is None else Causal() & Window(window, 0)
    bias = None if slopes is None else Alibi(slopes)

    def random(n: int) -> Tensor:
        return torch.randn(1, 2, n, K, generator=dice)

    old = []
    for table, n in zip(tables, lengths, strict=True):
        pool.grow(table, n)
        pages = Pages(pool, [table], [n], CPU)
        assert pages.mask is None
        old.append((random(n), random(n)))
        pages.extend(0, *old[-1])
        pages.advance(n)
    for table, n in zip(tables, new, strict=True):
        pool.grow(table, n)
    query, key, value = (torch.cat([torch.nn.functional.pad(random(n), (0, 0, 5 - n, 0)) for n in new]) for _ in "qkv")
    pages = Pages(pool, tables, new, CPU)
    found = attention(query, *pages.extend(0, key, value), mask=rule & pages.mask, bias=bias)
    for i, n in enumerate(new):
        keys, values = (
            torch.cat((before, x[i : i + 1, :, -n:]), 2) for before, x in zip(old[i], (key, value), strict=True)
        )
        alone = attention(query[i : i + 1, :, -n:], keys, values, mask=rule, bias=bias)
        torch.testing.assert_close(found[i : i + 1, :, -n:], alone)
    assert pages.positions.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [4, 5, 6, 7, 8]]


def test_a_pool_of_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="blocks of a pool is 0"):
        Pool(0)
    with pytest.raises(ArgumentError, match="size of a pool is -1"):
        Pool(4, -1)


def test_what_is_no_number_in_one_sequence_reaches_no_other() -> None:
    pool, tables = Pool(20, 4), [Table(), Table()]
    for table, n in zip(tables, [3, 6], strict=True):
        pool.grow(table, n)
    pages = Pages(pool, tables, [3, 6], CPU)
    assert pages.finite
    query, key, value = torch.randn(3, 2, GROUPS, 6, K).unbind()
    alone = attention(query[1:], key[1:], value[1:], mask=Causal())
    key[0, :, 4], value[0, :, 5] = torch.nan, torch.inf
    keys, values = pages.extend(0, key, value)
    assert not pages.finite
    found = attention(query, keys, values, mask=Causal() & pages.mask, finite=pages.finite)
    torch.testing.assert_close(found[1:], alone)
    assert not found[0].isfinite().all()
