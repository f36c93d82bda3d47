"""Writing to disk: a file or folder appears whole or not at all, and what the disk refuses is one sentence."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from polyhead.errors import WriteError

if TYPE_CHECKING:
    from torch import Tensor

PART, LOCK = ".part", "lock"


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, "utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """A file, whole or not at all."""
    with whole(path) as part:
        part.write_bytes(content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], words: Mapping[str, str] | None = None) -> None:
    """A safetensors file, with words for its head, whole or not at all."""
    with whole(path) as part:
        save_tensors(part, tensors, words)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], words: Mapping[str, str] | None = None) -> None:
    """A safetensors file inside a folder that is itself being written whole; raises OSError."""
    from safetensors import SafetensorError  # here, so that the command line starts without torch
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            path,
            metadata={"format": "pt", **(words or {})},
        )
    except SafetensorError as refused:
        raise OSError(str(refused)) from refused
    path.chmod(0o644)  # safetensors lets nobody else read what it writes


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what shall become `path`: a file, or a folder that is not there yet.

    When the block ends well, what was written reaches the disk and takes its place; otherwise `path` stays as it was.
    Until then it lies in a hidden folder beside `path`, which goes in either case; that of a process that was killed
    goes when `path` is written next. Raises WriteError.
    """
    with writable(path), _aside(path) as aside:
        part = aside / path.name
        yield part
        _take_place(part, path)
        flush(path.parent)


@contextmanager
def together(folder: Path, *, stale: Collection[str] = ()) -> Iterator[Path]:
    """Where to write files that shall all become files of `folder`, or none of them.

    Only when the block ends well and all have reached the disk do they take their places, one after the other; files
    named `stale` that are not among them go. Otherwise the folder stays as it was. Raises WriteError.
    """
    with writable(folder), _aside(folder / "files") as aside:
        new = aside / "files"
        new.mkdir()
        yield new
        names = sorted(path.name for path in new.iterdir())
        for name in names:
            flush(new / name)
        for name in names:
            _take_place(new / name, folder / name)
        for name in set(stale) - set(names):
            (folder / name).unlink(missing_ok=True)
        flush(folder)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn a disk that is full or refuses into one sentence that names `path`."""
    try:
        yield
    except OSError as refused:
        raise WriteError(path, refused.strerror or str(refused)) from refused
    except WriteError as refused:  # of a file inside what is written
        raise WriteError(path, refused.why) from refused


def hold(path: Path) -> BinaryIO:
    """Keep a file, made if need be, from all others until it is closed or the process ends, however it ends.

    Raises BlockingIOError while another holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def flush(path: Path) -> None:
    """Return only when a file, or a folder's list of names, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` that goes when the block ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_away(path)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent))
    try:
        with hold(aside / LOCK):
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _take_place(part: Path, path: Path) -> None:
    """Put what was written, once it has reached the disk, in the place of `path`; who may read that may read this."""
    if path.is_file():
        part.chmod(stat.S_IMODE(path.stat().st_mode))
    for written in (*part.rglob("*"), part):
        flush(written)
    os.replace(part, path)


def _clear_away(path: Path) -> None:
    """Remove what writers of `path` left when they were killed: nobody holds it any more."""
    for aside in path.parent.glob(f".{escape(path.name)}.*{PART}"):
        if (aside / LOCK).is_file():
            with suppress(OSError), hold(aside / LOCK):
                shutil.rmtree(aside, ignore_errors=True)
