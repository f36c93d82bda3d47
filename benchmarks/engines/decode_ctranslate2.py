"""Rows of ids go in, what CTranslate2 writes after them comes out; the folder is converted when it is loaded."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import ctranslate2
from common import serve
from transformers import AutoTokenizer

from polyhead.tasks.export.convert import convert

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    ids = AutoTokenizer.from_pretrained(model).get_vocab()
    held["ids"], held["names"] = ids, sorted(ids, key=ids.__getitem__)
    with tempfile.TemporaryDirectory() as aside:
        convert(model, Path(aside) / "model", to="ct2")
        held["model"] = ctranslate2.Generator(
            str(Path(aside) / "model"), compute_type=precision, intra_threads=threads, inter_threads=1
        )


def decode(rows: list[list[int]], new: int) -> dict[str, Any]:
    start = time.perf_counter()
    found = held["model"].generate_batch(
        [[held["names"][id] for id in row] for row in rows], beam_size=1, sampling_topk=1, min_length=new,
        max_length=new, include_prompt_in_result=False,
    )  # fmt: skip
    answers = [[held["ids"][name] for name in each.sequences[0]] for each in found]
    return {"seconds": time.perf_counter() - start, "rows": answers}


if __name__ == "__main__":
    serve({"load": load, "decode": decode})
