"""A model's folder enters, the tokenizers of its two sides leave: one and the same, or one each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from polyhead.errors import CheckpointError
from polyhead.inputs.spm import SpmTokenizer
from polyhead.inputs.tokenizer import Piece, Row, Tokenizer

TARGET = "target_tokenizer.json"


class TextTokenizer(Protocol):
    """What `Tokenizer` and `SpmTokenizer` have in common, and all that others ask of a tokenizer."""

    config: dict[str, Any]
    pad_id: int
    eos_id: int
    unk_id: int

    @property
    def size(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Row) -> str: ...
    def decode_batch(self, batch: Sequence[Row]) -> list[str]: ...
    def pieces(self, text: str) -> list[Piece]: ...
    def fingerprint(self) -> str: ...
    def save(self, folder: str | Path) -> None: ...


@dataclass(frozen=True)
class Pair:
    """The tokenizers of the source and of the target side; the same object when one serves both."""

    source: TextTokenizer
    target: TextTokenizer


def load_pair(folder: str | Path) -> Pair:
    """Read the tokenizers of a folder, of whichever kind it holds.

    tokenizer.json serves both sides, or the source side alone when target_tokenizer.json stands beside it; else
    source.spm and target.spm with their vocab.json are read (extra `spm`).
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").exists():
        source = Tokenizer.load(folder)
        return Pair(source, Tokenizer.load(folder, file=TARGET) if (folder / TARGET).exists() else source)
    if (folder / "source.spm").exists():
        return Pair(SpmTokenizer.load(folder, side="source"), SpmTokenizer.load(folder, side="target"))
    raise CheckpointError(
        f"{folder} holds no tokenizer, expected tokenizer.json, or source.spm, target.spm and vocab.json; "
        "give the folder of a saved translation model."
    )


def save_pair(pair: Pair, folder: str | Path) -> None:
    """Write the tokenizers in the files they are read from."""
    pair.source.save(folder)
    if isinstance(pair.target, Tokenizer) and pair.target is not pair.source:
        pair.target.save(folder, file=TARGET)
    else:
        pair.target.save(folder)
