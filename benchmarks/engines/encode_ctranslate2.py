"""Rows of ids and batches go in, the means of CTranslate2's vectors come out; the folder is converted first."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from common import serve

from polyhead.tasks.export.convert import convert

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    with tempfile.TemporaryDirectory() as aside:
        convert(model, Path(aside) / "model", to="ct2")
        held["model"] = ctranslate2.Encoder(
            str(Path(aside) / "model"), compute_type=precision, intra_threads=threads, inter_threads=1
        )


def encode(rows: list[list[int]], batches: list[list[int]]) -> dict[str, Any]:
    start = time.perf_counter()
    found: list[Any] = [None] * len(rows)
    for places in batches:
        x = np.array(held["model"].forward_batch([rows[i] for i in places]).last_hidden_state)
        for i, each in zip(places, x, strict=True):
            found[i] = each[: len(rows[i])].mean(0)[:8].tolist()
    return {"seconds": time.perf_counter() - start, "vectors": found}


if __name__ == "__main__":
    serve({"load": load, "encode": encode})
