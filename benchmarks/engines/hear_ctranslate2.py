"""Pictures of sound go in, what CTranslate2 writes down comes out; the folder is converted when it is loaded."""

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
        held["model"] = ctranslate2.models.Whisper(
            str(Path(aside) / "model"), compute_type=precision, intra_threads=threads, inter_threads=1
        )


def hear(path: str, prompt: list[int], new: int, beams: int, end: int) -> dict[str, Any]:
    pictures = np.load(path)
    start = time.perf_counter()
    found = held["model"].generate(
        # it writes at most half of max_length
        ctranslate2.StorageView.from_array(pictures), [prompt] * len(pictures), beam_size=beams, suppress_tokens=[end],
        max_length=2 * new, suppress_blank=False,
    )  # fmt: skip
    return {"seconds": time.perf_counter() - start, "rows": [each.sequences_ids[0] for each in found]}


if __name__ == "__main__":
    serve({"load": load, "hear": hear})
