"""Rows of ids, all of one length, go in, what ONNX Runtime writes after them comes out, keys and values handed on."""

from __future__ import annotations

import json
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
        held["end"] = json.loads((Path(aside) / "model" / "config.json").read_text("utf-8"))["eos_token_id"]
        held["session"] = onnxruntime.InferenceSession(
            str(Path(aside) / "model" / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )


def decode(rows: list[list[int]], new: int) -> dict[str, Any]:
    start = time.perf_counter()
    session, ids = held["session"], np.array(rows, np.int64)
    takes = {each.name: each for each in session.get_inputs()}
    gives = [each.name for each in session.get_outputs()]
    past = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(
            np.zeros((len(rows), each.shape[1], 0, each.shape[3]), np.float32)
        )
        for name, each in takes.items()
        if name.startswith("past")
    }
    written: list[Any] = []
    for step in range(new):
        length = len(rows[0]) + step
        places = np.arange(length - ids.shape[1], length)[None].repeat(len(rows), 0)
        given = {"input_ids": ids, "attention_mask": np.ones((len(rows), length), np.int64), "position_ids": places}
        values = {k: onnxruntime.OrtValue.ortvalue_from_numpy(v) for k, v in given.items() if k in takes}
        found = dict(zip(gives, session.run_with_ort_values(gives, values | past), strict=True))
        past = {name: found[name.replace("past_key_values", "present")] for name in past}
        scores = found["logits"].numpy()[:, -1]
        scores[:, held["end"]] = -np.inf
        ids = scores.argmax(-1)[:, None]
        written.append(ids)
    return {"seconds": time.perf_counter() - start, "rows": np.concatenate(written, 1).tolist()}


if __name__ == "__main__":
    serve({"load": load, "decode": decode})
