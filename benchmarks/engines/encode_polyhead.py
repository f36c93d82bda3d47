"""Rows of ids go in, the means of polyhead's vectors come out."""

from __future__ import annotations

import time
from typing import Any

import torch
from common import serve
from torch import Tensor

from polyhead.core.panels import wake
from polyhead.tasks.load import load as load_folder
from polyhead.tasks.windows import Window, through

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    wake()
    held["model"] = load_folder(model, precision=precision).packed  # pyright: ignore[reportArgumentType]


def encode(rows: list[list[int]]) -> dict[str, Any]:
    start = time.perf_counter()
    windows = [Window(row, [0] * len(row), i, list(range(len(row)))) for i, row in enumerate(rows)]
    found = through(held["model"], windows, 0, means)
    return {"seconds": time.perf_counter() - start, "vectors": [x[:8].tolist() for x in found]}


def means(x: Tensor, lengths: Tensor) -> list[Tensor]:
    real = torch.arange(x.shape[1]) < lengths[:, None]
    return list(x.float().masked_fill(~real[..., None], 0.0).sum(1) / lengths[:, None])


if __name__ == "__main__":
    serve({"load": load, "encode": encode})
