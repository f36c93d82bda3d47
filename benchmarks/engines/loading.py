"""A folder goes in: how long it takes to read its weights once, to load it and touch every weight, and to load it and
make it ready to answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from common import serve


def read(model: str, threads: int) -> dict[str, float]:
    """The file, read once into a new buffer of its size, whose bytes are added up then."""
    torch.set_num_threads(threads)
    path = Path(model) / "model.safetensors"
    start = time.perf_counter()
    room = torch.empty(path.stat().st_size // 4 * 4, dtype=torch.uint8)
    left = memoryview(cast(Any, room.numpy()))
    with path.open("rb", buffering=0) as file:
        while left and (n := file.readinto(left)):
            left = left[n:]
    seconds = time.perf_counter() - start
    float(room.view(torch.float32).sum())
    return {"seconds": seconds, "touched": time.perf_counter() - start}


def polyhead(model: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    from polyhead.tasks.load import load

    return timed(lambda: load(model), lambda loaded: loaded.packed, lambda loaded: loaded.model)


def transformers(model: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    from transformers import AutoModel, AutoTokenizer

    def load() -> Any:
        AutoTokenizer.from_pretrained(model)
        return AutoModel.from_pretrained(model, dtype=torch.float32).eval()

    return timed(load, lambda loaded: loaded, lambda loaded: loaded)


def timed(load: Callable[[], Any], ready: Callable[[Any], Any], module: Callable[[Any], Any]) -> dict[str, float]:
    """Seconds of loading, until it is ready, and, loaded once more, until every weight was read."""
    start = time.perf_counter()
    loaded = load()
    seconds = time.perf_counter() - start
    _ = ready(loaded)
    until_ready = time.perf_counter() - start
    del loaded, _
    start = time.perf_counter()
    for weight in module(load()).parameters():
        float(weight.detach().sum())
    return {"seconds": seconds, "ready": until_ready, "touched": time.perf_counter() - start}


if __name__ == "__main__":
    serve({"read": read, "polyhead": polyhead, "transformers": transformers})
