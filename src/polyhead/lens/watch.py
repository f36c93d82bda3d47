"""`with watch(model) as recording: model(...)`: the same kernels compute the same bits, and their calls are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from polyhead.core.run import watching
from polyhead.lens.recording import Call, Recording
from polyhead.operator import attend, attention


class Watcher:
    """The observer behind `watch`: it names each call by the module that made it and keeps its record."""

    def __init__(self, model: nn.Module):
        self.names = {module: name for name, module in model.named_modules()}
        self.recording = Recording()

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        name = self.names.get(getattr(at, "original", at))
        if name is None:  # another model's
            return attention(query, key, value, **how)
        output, record = attend(query, key, value, **how)
        self.recording.calls.append(Call(name, record.detached()))
        return output


@contextmanager
def watch(model: nn.Module) -> Iterator[Recording]:
    """Record every attention call of a polyhead model, or of its packed twin, that runs inside the block.

    Yields the Recording, filled as the model runs. Outputs, gradients and random state are bit for bit those of an
    unwatched run.
    """
    watcher = Watcher(model)
    token = watching.set(watcher)
    try:
        yield watcher.recording
    finally:
        watching.reset(token)
