"""Writing to disk: a file or folder appears whole or not at all, and what the disk refuses is one sentence."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_away(path)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent))
        try:
            with hold(aside / LOCK):
                part = aside / path.name
                yield part
                for written in (*part.rglob("*"), part):
                    flush(written)
                os.replace(part, path)
                flush(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


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


def _clear_away(path: Path) -> None:
    """Remove what writers of `path` left when they were killed: nobody holds it any more."""
    for aside in path.parent.glob(f".{escape(path.name)}.*{PART}"):
        if (aside / LOCK).is_file():
            with suppress(OSError), hold(aside / LOCK):
                shutil.rmtree(aside, ignore_errors=True)
