"""Pictures of sound go in, what polyhead writes down comes out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common import serve

from polyhead.core.panels import wake
from polyhead.generation import Beam, Forbid, Greedy, generate
from polyhead.tasks.decoder import DecoderStep
from polyhead.tasks.load import load as load_folder

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    wake()
    held["loaded"] = load_folder(model, precision=precision)  # pyright: ignore[reportArgumentType]


@torch.inference_mode()
def hear(path: str, prompt: list[int], new: int, beams: int, end: int) -> dict[str, Any]:
    pictures = torch.from_numpy(np.load(path))
    model = held["loaded"].packed
    start = time.perf_counter()
    step = DecoderStep(model, memory=model.encode(pictures.to(next(held["loaded"].model.parameters()).dtype)))
    found = generate(
        step, torch.tensor([prompt] * len(pictures)), search=Beam(beams) if beams > 1 else Greedy(), max_new=new,
        rules=[Forbid([end])],
    )  # fmt: skip
    return {"seconds": time.perf_counter() - start, "rows": [each[0].tokens for each in found]}


if __name__ == "__main__":
    serve({"load": load, "hear": hear})
