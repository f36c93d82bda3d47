"""Rows of ids go in, what polyhead writes after them comes out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from common import serve

from polyhead.core.panels import wake
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


if __name__ == "__main__":
    serve({"load": load, "decode": decode})
