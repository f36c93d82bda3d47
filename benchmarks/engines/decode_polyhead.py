"""Rows of ids go in, what polyhead writes after them comes out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from common import serve

from polyhead.core.packed import PackedLinear
from polyhead.core.panels import Panels, wake
from polyhead.generation import Greedy
from polyhead.tasks.decoder import Decoder
from polyhead.tasks.load import load as load_folder

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    wake()
    held["decoder"] = Decoder(load_folder(model, precision=precision), "decode", search=Greedy(), max_new=1)  # pyright: ignore[reportArgumentType]


def decode(rows: list[list[int]], new: int) -> dict[str, Any]:
    decoder = held["decoder"]
    decoder.most = decoder.max_new = new
    decoder.rules = replace(decoder.rules, min_new=new)
    start = time.perf_counter()
    found = held["decoder"](rows)
    return {"seconds": time.perf_counter() - start, "rows": [list(each[0].tokens) for each in found]}


@torch.inference_mode()
def read(times: int) -> dict[str, float]:
    """The least seconds of reading every matrix of the model once, where it lies, by the best of two ways."""
    held_by = [module.weight for module in packed_products(held["decoder"].model)]
    matrices = [each.panels.view(-1) for each in held_by if isinstance(each, Panels)]
    assert len(matrices) == len(held_by), "the matrices are not laid out for few rows yet; decode first"
    seconds: list[float] = []
    for _ in range(times):
        for way in (torch.sum, torch.amax):
            start = time.perf_counter()
            for each in matrices:
                way(each)
            seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds)}


def packed_products(model: Any) -> list[PackedLinear]:
    """Every product of a packed model; that of queries, keys and values is no child of its layer."""
    joined = [whole.whole for module in model.modules() if (whole := module.__dict__.get("projected"))]
    return [*joined, *(module for module in model.modules() if isinstance(module, PackedLinear))]


if __name__ == "__main__":
    serve({"load": load, "decode": decode, "read": read})
