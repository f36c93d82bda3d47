"""Sources of pairs enter, token ids in memory-mapped files leave: built once, in bounded memory, found by a key.

A part is one source under one pair of tokenizers, in a folder named by the hash of everything that went into it:
ids.bin (source, target, source, target ...), ends.bin (int64, where each side ends) and part.json.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import ArgumentError, DataError, WriteError
from polyhead.files import whole
from polyhead.inputs.readers import OnError, Skipped, Source, read

CHUNK = 4096  # examples tokenised at a time
LAYOUT = 3  # of the files; a cache of another layout is not looked at
Ids = NDArray[np.integer]


class Encoder(Protocol):
    """What a corpus asks of a tokenizer."""

    @property
    def size(self) -> int: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """The tokenised pairs of one source."""

    source: Source
    ids: Ids  # [tokens], memory-mapped
    ends: NDArray[np.int64]  # [2 * pairs], memory-mapped
    skipped: Skipped  # lines left out when it was built, by reason

    def __len__(self) -> int:
        return len(self.ends) // 2

    def __getitem__(self, i: int) -> tuple[Ids, Ids]:
        start = self.ends[2 * i - 1] if i else 0
        middle, end = self.ends[2 * i : 2 * i + 2]
        return self.ids[start:middle], self.ids[middle:end]


class Corpus:
    """Pairs of ids from one or several sources, one after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *map(len, parts)])  # [parts + 1]
        both = [np.diff(part.ends, prepend=0).astype(np.int32) for part in parts]
        self.source_lengths = np.concatenate([lengths[0::2] for lengths in both])  # [pairs]
        self.target_lengths = np.concatenate([lengths[1::2] for lengths in both])  # [pairs]

    @classmethod
    def build(
        cls,
        sources: Sequence[Source],
        source_tokenizer: Encoder,
        target_tokenizer: Encoder,
        *,
        cache: str | Path,
        scratch: str | Path | None = None,
        on_error: OnError = "stop",
    ) -> Corpus:
        """Tokenise what the folder `cache` does not hold yet, and open it. With `scratch`, that goes there instead.

        A killed build leaves nothing that a later one could mistake for its result. The key is made of the files'
        names, sizes and times, the way they are read, and the tokenizers; the weight is not part of it.
        """
        if not sources:
            raise ArgumentError("A corpus needs at least one source.")
        folders = Path(cache), Path(scratch or cache)
        return cls([_part(s, source_tokenizer, target_tokenizer, folders, on_error) for s in sources])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, i: int) -> tuple[Ids, Ids]:
        """The ids (source, target) of pair i."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        part = int(np.searchsorted(self.starts, i, side="right")) - 1
        return self.parts[part][int(i - self.starts[part])]

    def epoch(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The pairs that epoch number `epoch` visits, by the weights of their sources, determined by (seed, epoch).

        A source of weight 1 gives each pair once. One of weight w gives the next w parts of an endless row of
        shufflings, so that a fifth at a time every pair is seen once in five epochs.
        """
        chosen = [
            start + stretch(len(part), epoch * part.source.weight, (epoch + 1) * part.source.weight, (seed, number))
            for number, (part, start) in enumerate(zip(self.parts, self.starts[:-1], strict=True))
        ]
        return np.concatenate(chosen)


def stretch(n: int, start: float, end: float, seed: tuple[int, int]) -> NDArray[np.int64]:
    """Numbers from `start` to `end`, counted in rounds, of an endless row of shufflings of range(n)."""
    first, last = round(start * n), round(end * n)
    rounds = [np.random.default_rng((*seed, i)).permutation(n) for i in range(first // n, -(-last // n))]
    whole = np.concatenate(rounds) if rounds else np.empty(0, np.int64)
    return whole[first - first // n * n :][: last - first]


def _part(source: Source, left: Encoder, right: Encoder, folders: tuple[Path, Path], on_error: OnError) -> Part:
    """One source, from the first of the folders or built into the second."""
    key = _key(source, left, right, on_error)
    folder = next((place / key for place in folders if (place / key).exists()), folders[1] / key)
    if not folder.exists():
        _write(source, left, right, folder, on_error)
    try:
        about = json.loads((folder / "part.json").read_text(encoding="utf-8"))
        ids = np.memmap(folder / "ids.bin", dtype=about["dtype"], mode="r")
        ends = np.memmap(folder / "ends.bin", dtype=np.int64, mode="r")
        if (len(ends), int(ends[-1])) != (2 * about["pairs"], len(ids)):
            raise ValueError("files of the wrong size")
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise DataError(f"The cached corpus {folder} is damaged ({wrong}); delete that folder and run again.") from None
    return Part(source, ids, ends, Skipped(Counter(about["skipped"]), about["first"]))


def _key(source: Source, left: Encoder, right: Encoder, on_error: str) -> str:
    """Equal keys, equal arrays."""
    try:
        files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in source.paths]
    except OSError as wrong:
        raise DataError(f"{wrong.filename} cannot be read ({wrong.strerror}); check the path.") from None
    how = [
        source.kind,
        source.columns,
        sorted((str(k), list(v)) for k, v in source.where.items()),
        source.distinct,
        source.lone,
    ]
    text = json.dumps([LAYOUT, files, how, on_error, left.fingerprint(), right.fingerprint()])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(source: Source, left: Encoder, right: Encoder, folder: Path, on_error: OnError) -> None:
    """Tokenise a source into a folder that appears whole or not at all."""
    try:
        with whole(folder) as work:
            work.mkdir()
            _fill(work, source, left, right, on_error)
    except WriteError:
        if not folder.exists():  # else another process was faster, and its result is equal
            raise


def _fill(folder: Path, source: Source, left: Encoder, right: Encoder, on_error: OnError) -> None:
    """Tokenise a source, so many examples at a time."""
    dtype = np.uint16 if max(left.size, right.size) <= 1 << 16 else np.int32
    skipped = Skipped()
    with (folder / "ids.bin").open("wb") as ids, (folder / "ends.bin").open("wb") as ends:
        written = pairs = 0
        examples = read(source, on_error=on_error, report=skipped)
        while chunk := list(islice(examples, CHUNK)):
            sides = zip(
                left.encode_batch([example.source for example in chunk]),
                right.encode_batch([example.target for example in chunk]),
                strict=True,
            )
            rows = [row for pair in sides for row in pair]
            stops = written + np.cumsum([len(row) for row in rows], dtype=np.int64)
            ids.write(np.concatenate(rows).astype(dtype).tobytes())
            ends.write(stops.tobytes())
            written, pairs = int(stops[-1]), pairs + len(chunk)
    about = {"dtype": np.dtype(dtype).name, "pairs": pairs, "skipped": skipped.reasons, "first": skipped.first}
    (folder / "part.json").write_text(json.dumps(about), encoding="utf-8")
