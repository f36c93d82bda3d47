"""Folders as people have them: a sentencepiece model enters, the methods of `Tokenizer` leave.

source.spm and target.spm of Marian folders cut the text, and vocab.json numbers the pieces; spiece.model of T5 folders
does both. Needs the extra `spm`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from polyhead.errors import CheckpointError, extra
from polyhead.files import write_bytes, write_text
from polyhead.inputs.tokenizer import SETTINGS, SPACE, Piece, Row, settings_of, special_names

Side = Literal["source", "target"]
PIECES = "spiece.model"


class SpmTokenizer:
    """One side of a Marian folder, with the ids and texts of `transformers.MarianTokenizer`.

    A leading language code, as in ">>fra<< How are you?", is one token. A special token that a person types ("</s>")
    is text, which is the one difference.
    """

    def __init__(self, model: bytes, ids: Mapping[str, int], config: Mapping[str, Any], side: Side) -> None:
        self.model, self.ids, self.config = model, dict(ids), dict(config)
        self.side: Side = side
        names = special_names(config)
        if missing := [name for name in names if name not in ids]:
            raise CheckpointError(f"The vocabulary of the {side} side lacks {', '.join(missing)}; see vocab.json.")
        self.pad_id, self.eos_id, self.unk_id = (ids[name] for name in names)
        self.numbers = {piece: id for piece, id in ids.items() if piece not in names}
        self.texts = {id: piece for piece, id in self.numbers.items()}
        self.inner: Any = extra("sentencepiece", "spm").SentencePieceProcessor(model_proto=model)

    @classmethod
    def load(cls, folder: str | Path, *, side: Side) -> SpmTokenizer:
        """Read one side of a folder."""
        folder = Path(folder)
        try:
            config = settings_of(folder)
            ids = json.loads((folder / _vocabulary(config, side)).read_text(encoding="utf-8"))
            return cls((folder / f"{side}.spm").read_bytes(), ids, config, side)
        except FileNotFoundError as wrong:
            name = Path(wrong.filename).name
            raise CheckpointError(f"{folder} has .spm vocabularies but no {name}; fetch the file anew.") from None
        except (ValueError, RuntimeError) as wrong:  # broken JSON; sentencepiece's own complaint
            raise CheckpointError(f"The {side} vocabulary of {folder} is damaged ({wrong}); fetch it anew.") from None

    def save(self, folder: str | Path) -> None:
        """Write the files of this side, as they were read. Raises WriteError."""
        folder = Path(folder)
        write_bytes(folder / f"{self.side}.spm", self.model)
        for name, content in {_vocabulary(self.config, self.side): self.ids, SETTINGS: self.config}.items():
            write_text(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def fingerprint(self) -> str:
        """Equal fingerprints, equal ids for every text."""
        return hashlib.sha256(self.model + json.dumps(self.ids).encode()).hexdigest()

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(self.ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, </s> at the end."""
        code, rest = self.code(text)
        pieces = [*code, *self.inner.encode(rest, out_type=str)]
        return [*(self.numbers.get(piece, self.unk_id) for piece in pieces), self.eos_id]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Row) -> str:
        """The text of ids, special tokens left out."""
        pieces = [self.texts[id] for id in ids if id in self.texts]
        return str(self.inner.decode_pieces(pieces)).replace(SPACE, " ").strip()

    def decode_batch(self, batch: Sequence[Row]) -> list[str]:
        """The texts of many rows of ids."""
        return [self.decode(ids) for ids in batch]

    def pieces(self, text: str) -> list[Piece]:
        """What `encode` gives, each id with its token and its place in `text`; </s> lies empty at the end."""
        code, rest = self.code(text)
        skip = len(text) - len(rest)
        found = self.inner.encode(rest, out_type="offset_mapping")
        places = [(skip + start, skip + end) for start, end in found["offsets"]]
        tokens = [*code, *found["pieces"], special_names(self.config)[1]]
        spans = [*([(0, skip)] if code else []), *places, (len(text), len(text))]
        return [Piece(id, token, *span) for id, token, span in zip(self.encode(text), tokens, spans, strict=True)]

    def token(self, id: int) -> str:
        """The token of an id, as the vocabulary spells it."""
        specials = (name for name in special_names(self.config) if self.ids[name] == id)
        return self.texts.get(id) or next(specials, "")

    def code(self, text: str) -> tuple[list[str], str]:
        """The language code at the head of a text, if there is one, and the rest."""
        end = text.find("<<") + 2 if text.startswith(">>") else 1
        return ([text[:end]], text[end:]) if end > 1 else ([], text)


class PieceTokenizer(SpmTokenizer):
    """Both sides of a T5 folder that has only spiece.model, which numbers its pieces itself.

    Ids and texts are those of `transformers.T5Tokenizer`, but that what a person types is never a special token.
    """

    def __init__(self, model: bytes, config: Mapping[str, Any]) -> None:
        pieces: Any = extra("sentencepiece", "spm").SentencePieceProcessor(model_proto=model)
        super().__init__(model, {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}, config, "source")

    @classmethod
    def load(cls, folder: str | Path) -> PieceTokenizer:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read spiece.model of a folder, and what tokenizer_config.json says about it."""
        try:
            return cls((Path(folder) / PIECES).read_bytes(), settings_of(folder))
        except (ValueError, RuntimeError) as wrong:  # broken JSON; sentencepiece's own complaint
            raise CheckpointError(f"The vocabulary of {folder} is damaged ({wrong}); fetch it anew.") from None

    def save(self, folder: str | Path) -> None:
        """Write the files, as they were read. Raises WriteError."""
        write_bytes(Path(folder) / PIECES, self.model)
        write_text(Path(folder) / SETTINGS, json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    def code(self, text: str) -> tuple[list[str], str]:
        """No language codes here."""
        return [], text


def _vocabulary(config: Mapping[str, Any], side: Side) -> str:
    """The file that numbers the pieces of one side."""
    return "target_vocab.json" if side == "target" and config.get("separate_vocabs") else "vocab.json"
