"""Files of images become their vectors, those that were made before out of a file that is kept, which leaves as it is
then: of each image its name, its size, when it was changed, and its vector."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
    def load(cls, path: Path, model: str) -> PictureIndex:
        """What the file holds, or nothing where there is none yet. Raises DataError for a file that is no index, or is
        one of another model."""
        if not path.exists():
            return cls(path, model, changed=True)
        try:
            with safe_open(path, framework="np") as file:
                told = file.metadata() or {}
                if told.get("kind") != FORMAT:
                    raise ValueError(f"it says {told.get('kind')!r}, expected {FORMAT!r}")
                names = json.loads(bytes(file.get_tensor("names")).decode())
                vectors, numbers = file.get_tensor("vectors"), file.get_tensor("files")
            sizes, times = numbers.tolist()
            rows = zip(names, sizes, times, vectors, strict=True)
            entries = {name: Entry(size, time, vector) for name, size, time, vector in rows}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise DataError(
                f"{path} is no index of images ({wrong}); delete it, or name another file, and it is made anew."
            ) from None
        if told.get("model") != model:
            raise DataError(
                f"{path} was made by another model, in another precision, or from images that were shown to it"
                " otherwise; name another file, or delete it, and it is made anew."
            )
        return cls(path, model, entries)

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
        self.changed |= self.entries.pop(self.key(path), None) is not None

    def forget(self) -> None:
        """Drop images whose files are gone."""
        gone = [key for key in self.entries if not (self.folder / key).is_file()]
        for key in gone:
            del self.entries[key]
        self.changed |= bool(gone)

    @contextmanager
    def kept(self) -> Iterator[PictureIndex]:
        """Whatever ends the block, what was found until then is written."""
        try:
            yield self
        finally:
            if self.changed and self.entries:
                self.save()


def vectors_of(
    space: Space, paths: Sequence[Path], kept: Path | None, progress: Progress | None = None
) -> tuple[list[Path], NDArray[np.float32], list[str]]:
    """Those images that can be read, their vectors [n, E], and why the others cannot.

    kept: a file of vectors that were made before; images that it does not hold, or that have changed, are read, and it
    is written again. No paths: all the images that it holds.
    """
    if kept is None:
        vectors, wrong = space.readable(paths, progress)
        return [path for place, path in enumerate(paths) if place not in wrong], vectors, [*wrong.values()]
    if not paths and not kept.is_file():
        raise DataError(f"There is no index {kept} yet; say which images it shall hold.")
    index = PictureIndex.load(kept, space.fingerprint())
    index.forget()
    paths = paths or [index.place(key) for key in index.entries]
    new = [path for path in paths if not (path.is_file() and (old := known(index, path)) and old.fits(path))]
    if progress and len(paths) > len(new):
        progress(len(paths) - len(new))
    left, before = list[str](), [path.stat() if path.is_file() else None for path in new]
    with index.kept():
        for places, vectors, wrong in space.batches(new, progress):
            left += wrong.values()
            for place in wrong:
                index.drop(new[place])
            for place, vector in zip(places, vectors, strict=True):
                if (there := before[place]) is not None:
                    index.put(new[place], there, vector)
    there = [path for path in paths if known(index, path)]
    found = [index.entries[index.key(path)].vector for path in there]
    return there, np.stack(found) if found else np.zeros((0, space.width), np.float32), left


def known(index: PictureIndex, path: Path) -> Entry | None:
    return index.entries.get(index.key(path))
