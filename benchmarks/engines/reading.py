"""How fast this machine's memory is read once: so many bytes, by the best of three ways that PyTorch has."""

from __future__ import annotations

import time
from typing import Any

import torch
from common import serve

held: dict[str, Any] = {}


def load(threads: int, bytes: int) -> None:
    torch.set_num_threads(threads)
    held["x"] = torch.ones(bytes // 4)
    held["v"] = torch.ones(bytes // 4 // 1024)


@torch.inference_mode()
def read(times: int) -> dict[str, float]:
    """The least seconds of reading all of it once."""
    x = held["x"]
    matrix = x[: len(held["v"]) * 1024].view(-1, 1024)
    ways = (x.sum, x.amax, lambda: matrix @ held["v"][:1024].new_ones(1024))
    seconds: list[float] = []
    for _ in range(times):
        for way in ways:
            start = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds)}


if __name__ == "__main__":
    serve({"load": load, "read": read})
