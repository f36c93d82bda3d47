"""The files of a recipe and its tokenizers enter, corpora leave; what is too long is counted, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import DataError
from polyhead.inputs.batch import short
from polyhead.inputs.corpus import Corpus
from polyhead.inputs.pair import Pair
from polyhead.inputs.readers import Example, read
from polyhead.tasks.learning.recipe import TableSource
from polyhead.tasks.learning.translation_recipe import Data


class Pairs:
    """What a recipe's files hold: `train` and `valid` as ids, `valid_lines` and `test_lines` as text to translate.

    Learned, and looked at for the validation loss, are pairs of at most `data.max_length` tokens on either side.
    Translated are lines of at most `max_len` tokens, the most that the model reads. Raises DataError for a file that
    cannot be read, and for one of which nothing is short enough.
    """

    def __init__(self, data: Data, tokenizer: Pair, *, max_len: int, scratch: Path | None = None):
        self.data, self.max_len = data, max_len

        def tokenised(sources: Sequence[TableSource]) -> Corpus:
            readable = [data.read(source) for source in sources]
            where = {"cache": data.cache, "scratch": scratch}
            return Corpus.build(readable, tokenizer.source, tokenizer.target, **where, on_error=data.on_error)

        self.train, self.valid = tokenised(data.train), tokenised(data.valid)
        self.tests = [tokenised([source]) for source in data.test]
        for name, corpus in (("train", self.train), ("valid", self.valid)):
            if not self.learned(corpus).any():
                raise DataError(
                    f"No pair of data.{name} has at most data.max_length = {data.max_length} tokens on either side; "
                    "raise it, or give shorter lines"
                )
        self.valid_lines = self.lines(data.valid, self.valid)
        self.test_lines = [self.lines([source], corpus) for source, corpus in zip(data.test, self.tests, strict=True)]

    def learned(self, corpus: Corpus) -> NDArray[np.bool_]:
        """Which pairs are short enough to be learned."""
        return short(corpus.source_lengths, corpus.target_lengths, self.data.max_length)

    def translated(self, corpus: Corpus) -> NDArray[np.bool_]:
        """Which pairs have a source that the model can read."""
        return corpus.source_lengths <= self.max_len

    def lines(self, sources: Sequence[TableSource], corpus: Corpus) -> list[Example]:
        """The pairs that can be translated, as text."""
        pairs = [pair for source in sources for pair in read(self.data.read(source), on_error=self.data.on_error)]
        fitting = [pair for pair, fits in zip(pairs, self.translated(corpus), strict=True) if fits]
        if not fitting:
            raise DataError(
                f"No line of {corpus.parts[0].source.name} has at most model.max_len = {self.max_len} tokens, the most "
                "that the model reads; split its lines into sentences"
            )
        return fitting

    def left_out(self) -> Iterator[str]:
        """What the files hold and nothing is done with, a sentence for each reason."""
        for part in (part for corpus in (self.train, self.valid, *self.tests) for part in corpus.parts):
            if part.skipped.total:
                yield f"{part.source.name}: {part.skipped.total:,} lines left out: {part.skipped}"
        for what, corpus in (("pairs", self.train), ("valid pairs", self.valid)):
            if long := np.count_nonzero(~self.learned(corpus)):
                limit = f"longer than data.max_length = {self.data.max_length}"
                yield f"{long:,} of {len(corpus):,} {what} left out ({limit})"
        for part in (part for corpus in (self.valid, *self.tests) for part in corpus.parts):
            if long := np.count_nonzero(~self.translated(Corpus([part]))):
                limit = f"longer than model.max_len = {self.max_len}"
                yield f"{part.source.name}: {long:,} of {len(part):,} lines are not translated ({limit})"
