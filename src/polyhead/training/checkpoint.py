"""A training's state goes into a folder that is whole or absent, and comes back bit for bit, or is passed over.

    training/step-00001200/   weights.safetensors, optimizer.safetensors ..., state.json, manifest.json

A kill at any moment leaves either the new state or none of it (`files.whole`). The manifest holds every file's sha256,
so that damage is seen before use.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from polyhead.errors import CheckpointError, ConfigError
from polyhead.files import hold, save_tensors, whole, writable

MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A state on disk whose every file has been found as it was written; `facts` as `latest` was told to read them."""

    folder: Path
    step: int
    facts: Any

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One of the parts given to `save`."""
        return load_file(self.folder / _file(part))


def claim(out: Path) -> BinaryIO:
    """The right to train in a folder, until it is closed or the process ends, however it ends.

    Raises ConfigError while another process has it.
    """
    lock = out / "training" / "lock"
    with writable(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            return hold(lock)
        except BlockingIOError:
            raise ConfigError(
                f"another training is running in {out}; wait for its end, stop it, or choose another folder"
            ) from None


def unclaim(out: Path) -> None:
    """Leave no trace of a claim, where nothing else was written."""
    training = out / "training"
    if [path.name for path in training.iterdir()] == ["lock"]:
        (training / "lock").unlink()
        with suppress(OSError):  # the folder was there before, with something in it
            training.rmdir()
            out.rmdir()


def save(
    training: Path, step: int, *, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any], keep: int
) -> Path:
    """Write the state of one step and drop all but the last `keep`. Returns its folder.

    Raises WriteError when the disk is full or refuses; what was there before is then still there.
    """
    final = training / f"step-{step:08d}"
    before = final.with_suffix(".old")  # of the same step, found as long as the new one is not in its place
    with whole(final) as writing:
        writing.mkdir()
        for part, tensors in parts.items():
            save_tensors(writing / _file(part), tensors)
        (writing / STATE).write_text(json.dumps(facts), encoding="utf-8")
        manifest = {path.name: _sha256(path) for path in sorted(writing.iterdir())}
        (writing / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if final.exists():
            _remove(before)
            os.rename(final, before)
    _remove(before)
    newer = [folder for folder in states(training) if _step(folder) > step]  # damaged ones, passed over
    older = [folder for folder in states(training) if _step(folder) <= step][keep:]
    for folder in (*newer, *older):
        _remove(folder)
    return final


def latest(
    training: Path,
    say: Callable[[str], None],
    *,
    parts: Collection[str] = (),
    read: Callable[[dict[str, Any]], Any] = dict,
) -> Saved | None:
    """The newest state that is whole, or None when there is none at all. `say` is told of every one passed over.

    A state is whole if every file is as it was written, those of `parts` among them, and `read` takes its facts: it
    raises ValueError, TypeError, KeyError or RuntimeError for facts that nobody can go on from. Raises CheckpointError
    when there are states and all are damaged: starting over should be a person's decision.
    """
    damaged: list[str] = []
    for folder in states(training):
        try:
            saved = _read(folder, parts, read)
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
    found = [path for path in training.glob("step-*") if re.fullmatch(r"step-\d+(\.old)?", path.name)]
    return sorted(found, key=lambda folder: (_step(folder), not folder.suffix), reverse=True)


def _read(folder: Path, parts: Collection[str], read: Callable[[dict[str, Any]], Any]) -> Saved:
    """Check every file against the manifest, then read the facts."""
    tensors = list(map(_file, parts))
    try:
        manifest: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            if _sha256(folder / name) != expected:
                raise CheckpointError(f"the training state {folder} is damaged: {name} is not as it was written")
        if missing := {STATE, *tensors} - manifest.keys():
            raise ValueError(f"{MANIFEST} does not name {', '.join(sorted(missing))}")
        for name in tensors:
            safe_open(folder / name, framework="pt")
        facts = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise ValueError(f"{STATE} holds a {type(facts).__name__}, expected an object")
        return Saved(folder=folder, step=_step(folder), facts=read(facts))
    except OSError as wrong:
        what = f"{Path(wrong.filename or STATE).name} cannot be read ({wrong.strerror})"
        raise CheckpointError(f"the training state {folder} is damaged: {what}") from wrong
    except (SafetensorError, ValueError, AttributeError, TypeError, KeyError, RuntimeError) as wrong:
        raise CheckpointError(f"the training state {folder} is damaged: {wrong}") from wrong


def _remove(path: Path) -> None:
    """A folder, or whatever lies in its place."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _file(part: str) -> str:
    return f"{part}.safetensors"


def _step(folder: Path) -> int:
    return int(folder.stem.removeprefix("step-"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
