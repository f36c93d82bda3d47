"""A model's folder enters, the tokenizers of its two sides leave: one and the same, or one each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyhead.inputs.tokenizer import Tokenizer

TARGET = "target_tokenizer.json"


@dataclass(frozen=True)
class Pair:
    """The tokenizers of the source and of the target side; the same object when the vocabulary is joint."""

    source: Tokenizer
    target: Tokenizer


def load_pair(folder: str | Path) -> Pair:
    """Read the tokenizers of a folder."""
    source = Tokenizer.load(folder)
    separate = (Path(folder) / TARGET).exists()
    return Pair(source, Tokenizer.load(folder, file=TARGET) if separate else source)


def save_pair(pair: Pair, folder: str | Path) -> None:
    """Write tokenizer.json, its tokenizer_config.json and, for separate vocabularies, target_tokenizer.json."""
    pair.source.save(folder)
    if pair.target is not pair.source:
        pair.target.save(folder, file=TARGET)
