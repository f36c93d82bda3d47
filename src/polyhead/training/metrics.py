"""Numbers by name go in, one JSON line a call comes out in metrics.jsonl, and TensorBoard if asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from polyhead.errors import extra
from polyhead.files import flush, writable


class Metrics(Protocol):
    """A place numbers go to."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """metrics.jsonl, cut back to `length` bytes at the start: lines that a killed run wrote after its last state
    are written again, not twice."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            self.file = path.open("r+b", buffering=0)
            self.file.truncate(min(length, path.stat().st_size))
            self.file.seek(0, 2)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with writable(self.path):
            self.file.write(json.dumps({"step": step, **values}).encode() + b"\n")

    def length(self) -> int:
        """Bytes, all of which have reached the disk."""
        with writable(self.path):
            flush(self.path)
            return self.file.tell()

    def close(self) -> None:
        self.file.close()


class TensorBoard:
    """The same numbers for TensorBoard; events after `step` that a killed run left are hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        extra("tensorboard", "train")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()
