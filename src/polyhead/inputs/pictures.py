"""Labelled pictures enter (a table of files, a folder of folders, a pair of IDX files), a sequence of them leaves.

table    a TSV or JSONL file: the picture's file, beside the table, and its label
folder   cats/1.png, dogs/2.jpg: the folder's name is the label
idx      two files of MNIST's format, pictures and labels (gz too)
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.listing import below
from polyhead.inputs.readers import Column, OnError, Skipped, Source, read

Format = Literal["table", "folder", "idx"]
MOST_BYTES = 1 << 34  # of an IDX file, unpacked


@dataclass(frozen=True, kw_only=True)
class Album:
    """Where labelled pictures are.

    path: a table or a folder, or two IDX files. format: None goes by what is there. columns: (picture, label) of a
    table, as in `readers.Source`, and so is skip. rows: only these, [first, behind the last), counted from 0.
    """

    path: str | Path | Sequence[str | Path]
    format: Format | None = None
    columns: Sequence[Column] = (1, 2)
    rows: tuple[int, int] | None = None
    skip: str = Source.skip

    @property
    def paths(self) -> tuple[Path, ...]:
        return (Path(self.path),) if isinstance(self.path, str | Path) else tuple(map(Path, self.path))

    @property
    def name(self) -> str:
        return " + ".join(map(str, self.paths))

    @property
    def kind(self) -> Format:
        if self.format is not None:
            return self.format
        return "idx" if len(self.paths) == 2 else "folder" if self.paths[0].is_dir() else "table"


@dataclass(frozen=True)
class Labelled:
    """Pictures, as `image.open_image` takes them, the labels they came with, and where each is from, for messages."""

    pictures: Sequence[Any]
    labels: Sequence[str]
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)


def read_album(album: Album, *, on_error: OnError = "stop", report: Skipped | None = None) -> Labelled:
    """All of an album; pictures in files are not opened yet. Raises DataError for what is missing or damaged."""
    if len(album.paths) != (2 if album.kind == "idx" else 1):
        wanted = "two files, pictures and labels" if album.kind == "idx" else "one path"
        raise ArgumentError(f"Format '{album.kind}' reads {wanted}, but path names {len(album.paths)}.")
    match album.kind:
        case "idx":
            all_of = _idx_pair(*album.paths)
        case "folder":
            all_of = _folder(album.paths[0])
        case "table":
            all_of = _table(album, on_error, report)
    if album.rows is None:
        return all_of
    first, last = album.rows
    if not 0 <= first < last <= len(all_of):
        raise DataError(f"rows = [{first}, {last}] is not within the {len(all_of):,} pictures of {album.name}.")
    return Labelled(all_of.pictures[first:last], all_of.labels[first:last], all_of.places[first:last])


def _table(album: Album, on_error: OnError, report: Skipped | None) -> Labelled:
    path = album.paths[0]
    rows = list(read(Source(path=path, columns=album.columns, skip=album.skip), on_error=on_error, report=report))
    files = [path.parent / row.source for row in rows]
    return Labelled(files, [row.target for row in rows], [f"{path} line {row.line}" for row in rows])


def _folder(path: Path) -> Labelled:
    if not path.is_dir():
        raise DataError(f"{path} is no folder; expected one that holds a folder of pictures for each label.")
    files = [
        file
        for label in sorted(path.iterdir())
        if label.is_dir() and not label.name.startswith(".")
        for file in below(label, "image")
    ]
    if not files:
        raise DataError(f"{path} holds no folders of pictures; expected {path / 'LABEL' / 'picture.png'}.")
    return Labelled(files, [file.relative_to(path).parts[0] for file in files], [str(file) for file in files])


def _idx_pair(pictures: Path, labels: Path) -> Labelled:
    values, numbers = read_idx(pictures), read_idx(labels)
    if values.ndim not in (3, 4) or numbers.ndim != 1:
        raise DataError(
            f"{pictures} holds {values.ndim} dimensions and {labels} {numbers.ndim}; expected pictures [n, height, "
            "width] and labels [n], in this order."
        )
    if len(values) != len(numbers):
        raise DataError(f"{pictures} holds {len(values):,} pictures, but {labels} {len(numbers):,} labels.")
    return Labelled(
        list(values), [str(n) for n in numbers.tolist()], [f"{pictures} picture {i}" for i in range(len(values))]
    )


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """An IDX file of bytes (LeCun, Cortes & Burges 1998): 0, 0, 8, dimensions, each one's size, the bytes; gz too."""
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            unpacked = zlib.decompressobj(wbits=31)
            data = unpacked.decompress(data, MOST_BYTES)
            if not unpacked.eof:
                raise EOFError("it ends too early or is enormous")
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong)
        raise DataError(f"{path} cannot be read ({why}); check the path and the file.") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path} is no IDX file of bytes; expected one that begins with 0, 0, 8.")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", data[3], 4))
    begins = 4 + 4 * data[3]
    if len(data) - begins != int(np.prod(shape, dtype=object)):
        raise DataError(f"{path} says it holds {' x '.join(map(str, shape))} bytes, but holds {len(data) - begins:,}.")
    return np.frombuffer(data, np.uint8, offset=begins).reshape(shape)
