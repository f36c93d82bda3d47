"""A training's state goes into a folder that is whole or absent, and comes back bit for bit, or is passed over.

    training/step-00001200/   weights.safetensors, optimizer.safetensors ..., state.json, manifest.json

Everything is written into a hidden folder beside it, flushed to the disk, and renamed: a kill at any moment leaves
either the new state or none of it. The manifest holds every file's sha256, so that damage is seen before use.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyhead.errors import CheckpointError

MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A state on disk whose every file has been read and found as it was written."""

    folder: Path
    step: int
    facts: dict[str, Any]

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One of the parts given to `save`."""
        return load_file(self.folder / f"{part}.safetensors")


def save(
    training: Path, step: int, *, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any], keep: int
) -> Path:
    """Write the state of one step and drop all but the last `keep`. Returns its folder.

    Raises CheckpointError when the disk is full or refuses; what was there before is then still there.
    """
    final, writing = training / _name(step), training / ".writing"
    try:
        with writable(f"the training state of step {step}", training):
            shutil.rmtree(writing, ignore_errors=True)  # left by a run that was killed
            writing.mkdir(parents=True)
            for part, tensors in parts.items():
                plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
                save_file(plain, writing / f"{part}.safetensors")
            (writing / STATE).write_text(json.dumps(facts), encoding="utf-8")
            manifest = {path.name: _sha256(path) for path in sorted(writing.iterdir())}
            (writing / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for path in (*writing.iterdir(), writing):
                flush_to_disk(path)
            _put(writing, final)
            flush_to_disk(training)
    finally:
        shutil.rmtree(writing, ignore_errors=True)  # there only if something went wrong
    newer = [folder for folder in states(training) if _step(folder) > step]  # damaged ones, passed over
    older = [folder for folder in states(training) if _step(folder) <= step][keep:]
    for folder in (*newer, *older):
        shutil.rmtree(folder, ignore_errors=True)
    return final


def latest(training: Path, say: Callable[[str], None]) -> Saved | None:
    """The newest state that is whole, or None when there is none at all. `say` is told of every one passed over.

    Raises CheckpointError when there are states and all are damaged: starting over should be a person's decision.
    """
    damaged: list[str] = []
    for folder in states(training):
        try:
            saved = _read(folder)
        except CheckpointError as wrong:
            damaged.append(str(wrong))
            continue
        for sentence in damaged:
            say(f"{sentence}; going on from step {saved.step} instead")
        return saved
    if damaged:
        raise CheckpointError(
            f"no training state in {training} can be used: {'; '.join(damaged)}; remove that folder to start over"
        )
    return None


def states(training: Path) -> list[Path]:
    """The folders of all states, newest first, damaged ones included; of one step, the whole before its `.old`."""
    return sorted(training.glob("step-[0-9]*"), key=lambda folder: (_step(folder), not folder.suffix), reverse=True)


@contextmanager
def writable(what: str, where: Path) -> Iterator[None]:
    """Turn a disk that is full or refuses into one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as wrong:
        why = wrong.strerror or str(wrong) if isinstance(wrong, OSError) else str(wrong)
        raise CheckpointError(
            f"{what} could not be written to {where}: {why}; "
            "make room there and run the same command again, it goes on from the last whole state"
        ) from wrong


def flush_to_disk(path: Path) -> None:
    """Return only when the file, or the folder's list of names, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(folder: Path) -> Saved:
    """Check every file against the manifest, then read the facts."""
    try:
        manifest: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            if _sha256(folder / name) != expected:
                raise CheckpointError(f"the training state {folder} is damaged: {name} is not as it was written")
        facts = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return Saved(folder=folder, step=_step(folder), facts=facts)
    except (OSError, ValueError, AttributeError) as wrong:
        what = f"{Path(wrong.filename).name} is missing" if isinstance(wrong, FileNotFoundError) else str(wrong)
        raise CheckpointError(f"the training state {folder} is damaged: {what}") from wrong


def _put(writing: Path, final: Path) -> None:
    """Rename into place. A state of the same step makes room first, and is still found if we are killed in between."""
    if final.exists():
        aside = final.with_suffix(".old")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(final, aside)
        os.rename(writing, final)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(writing, final)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.stem.removeprefix("step-"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
