"""A model's folder enters, the tokenizers of its two sides leave: one and the same, or one each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from polyhead.errors import CheckpointError
from polyhead.inputs.spm import PIECES, PieceTokenizer, SpmTokenizer
from polyhead.inputs.tokenizer import Piece, Row, Tokenizer

TARGET = "target_tokenizer.json"


class TextTokenizer(Protocol):
    """What `Tokenizer` and `SpmTokenizer` have in common, and all that others ask of a tokenizer."""

    config: dict[str, Any]

    @property
    def pad_id(self) -> int: ...
    @property
    def eos_id(self) -> int: ...
    @property
    def unk_id(self) -> int: ...
    @property
    def size(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Row) -> str: ...
    def decode_batch(self, batch: Sequence[Row]) -> list[str]: ...
    def pieces(self, text: str) -> list[Piece]: ...
    def token(self, id: int) -> str: ...
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
    source.spm and target.spm with their vocab.json, or spiece.model for both, are read (extra `spm`).
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").exists():
        source = whole(Tokenizer.load(folder))
        return Pair(source, whole(Tokenizer.load(folder, file=TARGET)) if (folder / TARGET).exists() else source)
    if (folder / "source.spm").exists():
        return Pair(SpmTokenizer.load(folder, side="source"), SpmTokenizer.load(folder, side="target"))
    if (folder / PIECES).exists():
        both = PieceTokenizer.load(folder)
        return Pair(both, both)
    raise CheckpointError(
        f"{folder} holds no tokenizer, expected tokenizer.json, or source.spm, target.spm and vocab.json, or {PIECES}; "
        "give the folder of a saved translation model."
    )


def whole(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, if it has what a translator needs."""
    for role in ("pad", "eos", "unk"):
        tokenizer.special(role)
    return tokenizer


def spelled(tokenizer: TextTokenizer, ids: Sequence[int]) -> tuple[str, list[Piece]]:
    """The text of ids, and each id with its token and the characters that it spells: `pieces`, from the other end.

    What spells nothing alone, such as the first bytes of a character, lies where that which completes it lies. Special
    tokens spell nothing and lie empty where they stand.
    """
    text = tokenizer.decode(ids)
    agreed = (_agreed(text, tokenizer.decode(ids[:count])) for count in range(len(ids) + 1))
    reached = list(accumulate(agreed, max))  # how much of the text the first 0, 1, ... ids have spelled
    pieces: list[Piece] = []
    for place, id in enumerate(ids):
        start = end = reached[place]
        if id not in (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id):
            end = next((later for later in reached[place + 1 :] if later > start), start)
        pieces.append(Piece(id, tokenizer.token(id), start, end))
    return text, pieces


def save_pair(pair: Pair, folder: str | Path) -> None:
    """Write the tokenizers in the files they are read from. Raises WriteError."""
    pair.source.save(folder)
    if isinstance(pair.target, Tokenizer) and pair.target is not pair.source:
        pair.target.save(folder, file=TARGET)
    else:
        pair.target.save(folder)
        (Path(folder) / TARGET).unlink(missing_ok=True)  # of an older save, which would be another truth


def _agreed(one: str, other: str) -> int:
    """How many characters two texts have in common before they differ."""
    differ = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))
