"""A folder goes in: how long it takes to read its weights once, to load it, and to make it ready to answer."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from common import serve


def read(model: str, threads: int) -> dict[str, float]:
    """The file, read once into memory that is there."""
    room = bytearray(1 << 24)
    start = time.perf_counter()
    with (Path(model) / "model.safetensors").open("rb", buffering=0) as file:
        while file.readinto(room):
            pass
    return {"seconds": time.perf_counter() - start}


def polyhead(model: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    from polyhead.tasks.load import load

    start = time.perf_counter()
    loaded = load(model)
    after = time.perf_counter()
    _ = loaded.packed
    return {"seconds": after - start, "ready": time.perf_counter() - start}


def transformers(model: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    from transformers import AutoModel, AutoTokenizer

    start = time.perf_counter()
    AutoTokenizer.from_pretrained(model)
    AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "ready": seconds}


if __name__ == "__main__":
    serve({"read": read, "polyhead": polyhead, "transformers": transformers})
