"""Tokenizers trained once for all tests of this folder."""

from __future__ import annotations

import pytest

from polyhead.inputs.tokenizer import Tokenizer
from tests.inputs.samples import TEXTS


@pytest.fixture(scope="session", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A joint vocabulary that reads traditional Chinese too, of either kind."""
    return Tokenizer.train(TEXTS, kind=request.param, size=400, simplify=True, coverage=1.0)


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """A joint BPE vocabulary."""
    return Tokenizer.train(TEXTS, size=400, coverage=1.0)
