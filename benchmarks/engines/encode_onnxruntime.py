"""Rows of ids and batches go in, the means of ONNX Runtime's vectors come out; the folder is converted first."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from common import serve

from polyhead.tasks.export.convert import convert

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    assert precision == "float32"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as aside:
        convert(model, Path(aside) / "model", to="onnx")
        held["session"] = onnxruntime.InferenceSession(
            str(Path(aside) / "model" / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
    held["takes"] = [each.name for each in held["session"].get_inputs()]


def encode(rows: list[list[int]], batches: list[list[int]]) -> dict[str, Any]:
    start = time.perf_counter()
    found: list[Any] = [None] * len(rows)
    for places in batches:
        longest = max(len(rows[i]) for i in places)
        ids = np.array([rows[i] + [0] * (longest - len(rows[i])) for i in places], np.int64)
        real = np.array([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in places], np.int64)
        given = {"input_ids": ids, "attention_mask": real, "token_type_ids": np.zeros_like(ids)}
        [x, *_] = held["session"].run(None, {name: given[name] for name in held["takes"]})
        for i, each in zip(places, x, strict=True):
            found[i] = each[: len(rows[i])].mean(0)[:8].tolist()
    return {"seconds": time.perf_counter() - start, "vectors": found}


if __name__ == "__main__":
    serve({"load": load, "encode": encode})
