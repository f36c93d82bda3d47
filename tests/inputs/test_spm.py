"""A T5 folder with nothing but spiece.model gives the ids and the texts of `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyhead.errors import CheckpointError
from polyhead.inputs.pair import Pair, load_pair, save_pair
from polyhead.inputs.spm import PieceTokenizer

pytestmark = pytest.mark.parity
LINES = [
    "the cat sat on the mat",
    "a small dog ran over the big hill",
    "the sun and the moon",
    "我爱吃苹果。",
    "a, b; c!",
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PieceTokenizer]:
    import sentencepiece
    from transformers import T5Tokenizer

    folder = tmp_path_factory.mktemp("t5")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20), model_prefix=str(folder / "spiece"), vocab_size=70, minloglevel=2,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    pair = load_pair(folder)
    assert isinstance(pair.source, PieceTokenizer) and pair.target is pair.source
    return T5Tokenizer.from_pretrained(folder), pair.source


@settings(max_examples=150, deadline=None)
@given(text=st.text("abcdeht 我爱。, !>é", max_size=30))
def test_ids_and_texts_are_theirs(both: tuple[Any, PieceTokenizer], text: str) -> None:
    theirs, ours = both
    ids = theirs(text)["input_ids"]
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True).strip()
    pieces = ours.pieces(text)
    assert [piece.id for piece in pieces] == ids and pieces[-1][2:] == (len(text), len(text))


def test_special_tokens_have_their_places(both: tuple[Any, PieceTokenizer]) -> None:
    theirs, ours = both
    assert (ours.pad_id, ours.eos_id, ours.unk_id) == (0, 1, 2)
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 1, 2)
    assert ours.encode("") == [1] and 1 not in ours.encode("a </s> b")[:-1]


def test_it_is_saved_as_it_was_read(both: tuple[Any, PieceTokenizer], tmp_path: Path) -> None:
    ours = both[1]
    save_pair(Pair(ours, ours), tmp_path)
    again = load_pair(tmp_path).source
    assert again.fingerprint() == ours.fingerprint()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spiece.model", "tokenizer_config.json"]


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"The vocabulary of .* is damaged .*; fetch it anew"):
        load_pair(tmp_path)
