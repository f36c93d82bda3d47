"""Files of images become their vectors, those that were made before out of a file that is kept, which leaves as it is
then: of each image its name, its size, when it was changed, and its vector."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from polyhead.errors import DataError
from polyhead.files import write_tensors
from polyhead.tasks.space import Progress, Space

FORMAT = "polyhead images 1"


@dataclass(frozen=True, eq=False)
class Entry:
    """What was known of a file of an image when its vector [E] was made: its bytes, and its time in nanoseconds."""

    size: int
    changed: int
    vector: NDArray[np.float32]

    def fits(self, path: Path) -> bool:
        """Whether the file is still as it was."""
        there = path.stat()
        return (there.st_size, there.st_mtime_ns) == (self.size, self.changed)


@dataclass
class PictureIndex:
    """The vectors of images, by their files' paths as they are from the folder of the index, so that both can be moved
    together; of a model with this fingerprint."""

    path: Path
    model: str
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    changed: bool = False

    @classmethod
    def load(cls, path: Path, model: str, width: int) -> PictureIndex:
        """What the file holds, or nothing where there is none yet. width: of vectors. Raises DataError for a file that
        is no index, or is one of another model."""
        if not path.exists():
            return cls(path, model, changed=True)
        try:
            with safe_open(path, framework="np") as file:
                told = file.metadata() or {}
                if told.get("kind") != FORMAT:
                    raise ValueError(f"it says {told.get('kind')!r}, expected {FORMAT!r}")
                names: Any = json.loads(bytes(file.get_tensor("names")).decode())
                vectors, numbers = file.get_tensor("vectors"), file.get_tensor("files")
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
            raise no_index(path, str(wrong)) from None
        if told.get("model") != model:
            raise DataError(
                f"{path} was made by another model, in another precision, or from images that were shown to it"
                " otherwise; name another file, or delete it, and it is made anew."
            )
        if (wrong := misshapen(names, vectors, numbers, width)) is not None:
            raise no_index(path, wrong)
        rows = zip(names, *numbers.tolist(), vectors, strict=True)
        return cls(path, model, {name: Entry(size, time, vector) for name, size, time, vector in rows})

    def save(self) -> None:
        """Write the file, whole or not at all. Raises WriteError."""
        vectors = np.stack([each.vector for each in self.entries.values()])
        files = [[each.size for each in self.entries.values()], [each.changed for each in self.entries.values()]]
        names = np.frombuffer(json.dumps([*self.entries]).encode(), np.uint8)
        tensors = {"vectors": vectors, "files": np.array(files, np.int64), "names": names}
        write_tensors(
            self.path, {name: torch.from_numpy(x.copy()) for name, x in tensors.items()},
            {"kind": FORMAT, "model": self.model},
        )  # fmt: skip
        self.changed = False

    @property
    def folder(self) -> Path:
        """Where the file truly lies: a way up from a link's name is not one from the folder that it leads to."""
        return self.path.parent.resolve()

    def key(self, path: Path) -> str:
        return Path(os.path.relpath(path.parent.resolve() / path.name, self.folder)).as_posix()

    def place(self, key: str) -> Path:
        """Where an image is, from here."""
        return Path(os.path.relpath(self.folder / key))

    def put(self, path: Path, there: os.stat_result, vector: NDArray[np.float32]) -> None:
        """Keep a vector beside what was known of the file before it was read, lest a change in between go unseen."""
        self.entries[self.key(path)] = Entry(there.st_size, there.st_mtime_ns, vector)
        self.changed = True

    def drop(self, path: Path) -> None:
        self.prune([self.key(path)])

    def prune(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.changed |= self.entries.pop(key, None) is not None

    def absent(self) -> list[str]:
        """Those whose files are not there now: deleted, or on a drive that is."""
        folder = self.folder
        return [key for key in self.entries if not os.path.isfile(folder / key)]  # which no broken drive makes raise

    @contextmanager
    def kept(self) -> Iterator[PictureIndex]:
        """Whatever ends the block, what was found until then is written."""
        try:
            yield self
        finally:
            if self.changed and self.entries:
                self.save()


def no_index(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no index of images ({why}); delete it, or name another file, and it is made anew.")


def misshapen(names: Any, vectors: NDArray[Any], numbers: NDArray[Any], width: int) -> str | None:
    """What of a file's content is not as `save` writes it, or None: it may have come from anywhere."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "its names are no list of texts"
    n = len(names)
    for what, found, kind, shape in (
        ("vectors", vectors, np.float32, (n, width)),
        ("files", numbers, np.int64, (2, n)),
    ):
        if (found.dtype, found.shape) != (kind, shape):
            wanted = f"{np.dtype(kind)} {list(shape)}"
            return f"its {what} are {found.dtype} {list(found.shape)}, expected {wanted}"
    return None if np.isfinite(vectors).all() else "its vectors are no finite numbers"


@dataclass(frozen=True, eq=False)
class Looked:
    """Files that were read or known, and their vectors [n, E]; why others cannot be read; and which an index holds that
    are not there now."""

    paths: list[Path]
    vectors: NDArray[np.float32]
    left_out: list[str]
    absent: list[Path] = field(default_factory=list[Path])


def vectors_of(
    space: Space, paths: Sequence[Path], kept: Path | None, progress: Progress | None = None, *, prune: bool = False
) -> Looked:
    """The vectors of those images that can be read.

    kept: a file of vectors that were made before; images that it does not hold, or that have changed, are read, and it
    is written again. No paths: all the images that it holds and that are there. prune: whether it shall drop those that
    are not; else it keeps them, since a drive that is away comes back.
    """
    if kept is None:
        vectors, wrong = space.readable(paths, progress)
        return Looked([path for place, path in enumerate(paths) if place not in wrong], vectors, [*wrong.values()])
    if not paths and not kept.is_file():
        raise DataError(f"There is no index {kept} yet; say which images it shall hold.")
    index = PictureIndex.load(kept, space.fingerprint(), space.width)
    away = index.absent() if prune or not paths else []
    if not paths and away and len(away) == len(index.entries):
        raise DataError(
            f"None of the {len(away):,} images that {kept} holds is there now ({index.place(away[0])}, ...); bring back"
            " the drive or the folder that they are on, or delete the index."
        )
    absent = [index.place(key) for key in away]
    if not paths:
        gone = set(away)
        paths = [index.place(key) for key in index.entries if key not in gone]
    if prune:
        index.prune(away)
    new = [path for path in paths if not (path.is_file() and (old := known(index, path)) and old.fits(path))]
    if progress and len(paths) > len(new):
        progress(len(paths) - len(new))
    left, before = list[str](), [path.stat() if path.is_file() else None for path in new]
    with index.kept():
        for places, vectors, wrong in space.batches(new, progress):
            left += wrong.values()
            for place in wrong:
                if before[place] is not None:  # what is not there may be there again
                    index.drop(new[place])
            for place, vector in zip(places, vectors, strict=True):
                if (there := before[place]) is not None:
                    index.put(new[place], there, vector)
    missing = {path for path, there in zip(new, before, strict=True) if there is None}
    found = [path for path in paths if path not in missing and known(index, path)]
    rows = [index.entries[index.key(path)].vector for path in found]
    return Looked(found, np.stack(rows) if rows else np.zeros((0, space.width), np.float32), left, absent)


def known(index: PictureIndex, path: Path) -> Entry | None:
    return index.entries.get(index.key(path))
