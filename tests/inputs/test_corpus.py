"""Ids on disk: the same as the tokenizer's, built once, whole or not at all, and visited by weight."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyhead.errors import ArgumentError, DataError, WriteError
from polyhead.inputs import corpus as module
from polyhead.inputs.corpus import Corpus
from polyhead.inputs.readers import Source
from polyhead.inputs.tokenizer import Tokenizer
from tests.inputs.samples import PAIRS, write
from tests.test_files import files_no_larger_than


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """The pairs in two files, the second with a repeat."""
    lines = [f"{zh}\t{en}\n" for zh, en in PAIRS]
    return [
        Source(path=write(tmp_path / "a.tsv.gz", "".join(lines[:50]))),
        Source(path=write(tmp_path / "b.tsv", "".join(lines[50:] + lines[-1:])), distinct=True, weight=0.2),
    ]


def files(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in sorted(cache.rglob("*")) if path.is_file()}


def test_a_corpus_holds_what_the_tokenizer_says(
    tmp_path: Path, sources: list[Source], bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 7)
    corpus = Corpus.build(sources, bpe, bpe, cache=tmp_path / "cache")
    assert len(corpus) == len(PAIRS)
    for i, (source, target) in enumerate(PAIRS):
        assert [side.tolist() for side in corpus[i]] == [bpe.encode(source), bpe.encode(target)]
        assert (corpus.source_lengths[i], corpus.target_lengths[i]) == tuple(map(len, corpus[i]))
    assert [part.skipped.reasons for part in corpus.parts] == [{}, {"repeated pair": 1}]
    for beyond in (-1, len(PAIRS)):
        with pytest.raises(IndexError):
            corpus[beyond]


def test_the_two_sides_may_have_their_own_vocabularies(tmp_path: Path, sources: list[Source], bpe: Tokenizer) -> None:
    english = Tokenizer.train([en for _, en in PAIRS], size=330)
    corpus = Corpus.build(sources, bpe, english, cache=tmp_path / "cache")
    assert [corpus[60][0].tolist(), corpus[60][1].tolist()] == [bpe.encode(PAIRS[60][0]), english.encode(PAIRS[60][1])]


def test_a_corpus_is_built_once(
    tmp_path: Path, sources: list[Source], bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = Corpus.build(sources, bpe, bpe, cache=cache)
    before = files(cache)
    monkeypatch.setattr(module, "read", None)  # nothing is read again, and a weight changes nothing on disk
    again = Corpus.build([sources[0], sources[1]], bpe, bpe, cache=cache)
    assert files(cache) == before
    assert [[side.tolist() for side in again[i]] for i in (0, 95)] == [[s.tolist() for s in first[i]] for i in (0, 95)]


def test_whatever_changes_the_ids_is_built_anew(tmp_path: Path, sources: list[Source], bpe: Tokenizer) -> None:
    cache, path = tmp_path / "cache", tmp_path / "b.tsv"
    ways = [
        Source(path=path),
        Source(path=path, columns=(2, 1)),
        Source(path=path, distinct=True),
        Source(path=path, where={1: (PAIRS[60][0],)}),
    ]
    for number, source in enumerate(ways):
        Corpus.build([source], bpe, bpe, cache=cache)
        assert len(list(cache.iterdir())) == number + 1
    Corpus.build(ways[:1], bpe, Tokenizer.train([en for _, en in PAIRS], size=330), cache=cache)
    path.write_text("甲\ta\n")
    os.utime(path, ns=(1, 1))
    assert len(Corpus.build(ways[:1], bpe, bpe, cache=cache)) == 1
    assert len(list(cache.iterdir())) == len(ways) + 2


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, sources: list[Source], bpe: Tokenizer) -> None:
    cache = tmp_path / "cache"
    broken = Source(path=write(tmp_path / "broken.tsv", "a\tb\n" * 9 + "one column\n"))
    with pytest.raises(DataError, match="line 10"):
        Corpus.build([broken], bpe, bpe, cache=cache)
    assert files(cache) == {}
    skipped = Corpus.build([broken], bpe, bpe, cache=cache, on_error="skip")
    assert len(skipped) == 9
    assert "1 x too few columns (first: " in str(skipped.parts[0].skipped)
    assert "broken.tsv line 10: has 1 column" in str(skipped.parts[0].skipped)

    with (
        files_no_larger_than(500),
        pytest.raises(WriteError, match=rf"{cache}/\w+ could not be written \(File too large\)"),
    ):
        Corpus.build(sources, bpe, bpe, cache=cache)
    assert len(list(cache.iterdir())) == 1


def test_the_faster_of_two_builds_wins(
    tmp_path: Path, sources: list[Source], bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, fill = tmp_path / "cache", module._fill

    def slow(folder: Path, *how: Any) -> None:
        fill(folder, *how)
        monkeypatch.setattr(module, "_fill", fill)
        Corpus.build(sources[:1], bpe, bpe, cache=cache)  # another process, meanwhile

    monkeypatch.setattr(module, "_fill", slow)
    assert len(Corpus.build(sources[:1], bpe, bpe, cache=cache)) == 50
    assert len(list(cache.iterdir())) == 1


def test_a_damaged_cache_is_named(tmp_path: Path, sources: list[Source], bpe: Tokenizer) -> None:
    cache = tmp_path / "cache"
    Corpus.build(sources[:1], bpe, bpe, cache=cache)
    ids = next(cache.rglob("ids.bin"))
    ids.write_bytes(ids.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"is damaged .*; delete that folder"):
        Corpus.build(sources[:1], bpe, bpe, cache=cache)


def test_an_epoch_visits_each_source_by_its_weight(tmp_path: Path, sources: list[Source], bpe: Tokenizer) -> None:
    corpus = Corpus.build(sources, bpe, bpe, cache=tmp_path / "cache")
    epochs = [corpus.epoch(5, epoch) for epoch in range(5)]
    for epoch in epochs:
        assert sorted(i for i in epoch if i < 50) == list(range(50))
    parts = [[i for i in epoch if i >= 50] for epoch in epochs]
    assert sorted(i for part in parts for i in part) == list(range(50, len(PAIRS)))  # a fifth each, all in five
    assert {len(part) for part in parts} <= {9, 10}
    assert [e.tolist() for e in epochs] == [corpus.epoch(5, epoch).tolist() for epoch in range(5)]
    assert corpus.epoch(6, 0).tolist() != epochs[0].tolist()


@pytest.mark.parametrize("weight", [0.01, 0.3, 1.0, 1.5, 3.0])
def test_over_many_epochs_no_pair_is_ahead_of_another(tmp_path: Path, bpe: Tokenizer, weight: float) -> None:
    path = write(tmp_path / "a.tsv", "".join(f"{zh}\t{en}\n" for zh, en in PAIRS[:30]))
    corpus = Corpus.build([Source(path=path, weight=weight)], bpe, bpe, cache=tmp_path / "cache")
    seen = Counter[int](dict.fromkeys(range(30), 0))
    for epoch in range(20):
        visited = corpus.epoch(0, epoch)
        assert abs(len(visited) - 30 * weight) <= 1
        seen.update(visited.tolist())
        assert max(seen.values()) - min(seen.values()) <= 1
    assert seen.total() == round(30 * weight * 20)


def test_large_ids_are_kept_whole(tmp_path: Path, sources: list[Source]) -> None:
    class Large:
        size = 100_000

        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
            return [[99_999 - len(text), 70_000] for text in texts]

        def fingerprint(self) -> str:
            return "large"

    corpus = Corpus.build(sources[:1], Large(), Large(), cache=tmp_path / "cache")
    assert corpus[3][0].tolist() == [99_999 - len(PAIRS[3][0]), 70_000]
    assert np.unique(corpus.source_lengths).tolist() == [2]


def test_what_is_not_there_is_refused(tmp_path: Path, bpe: Tokenizer) -> None:
    with pytest.raises(ArgumentError, match="at least one source"):
        Corpus.build([], bpe, bpe, cache=tmp_path)
    with pytest.raises(DataError, match=r"none\.tsv cannot be read \(No such file"):
        Corpus.build([Source(path=tmp_path / "none.tsv")], bpe, bpe, cache=tmp_path)
