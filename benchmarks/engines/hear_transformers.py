"""Pictures of sound go in, what transformers' generate writes down comes out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common import serve
from transformers import WhisperForConditionalGeneration
from transformers.generation import GenerationMixin

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    held["model"] = WhisperForConditionalGeneration.from_pretrained(model, dtype=kinds[precision]).eval()


@torch.inference_mode()
def hear(path: str, prompt: list[int], new: int, beams: int, end: int) -> dict[str, Any]:
    """The plain loop of all its models: Whisper's own adds what the others do not do."""
    pictures = torch.from_numpy(np.load(path))
    start = time.perf_counter()
    found = GenerationMixin.generate(
        held["model"], pictures, decoder_input_ids=torch.tensor([prompt] * len(pictures)), min_new_tokens=new,
        max_new_tokens=new, num_beams=beams, do_sample=False,
    )  # fmt: skip
    return {"seconds": time.perf_counter() - start, "rows": found[:, len(prompt) :].tolist()}


if __name__ == "__main__":
    serve({"load": load, "hear": hear})
