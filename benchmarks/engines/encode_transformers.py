"""Rows of ids and the batches to make of them go in, the means of transformers' vectors come out."""

from __future__ import annotations

import time
from typing import Any

import torch
from common import serve
from transformers import BertModel

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    held["model"] = BertModel.from_pretrained(model, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    held["model"].eval()


@torch.inference_mode()
def encode(rows: list[list[int]], batches: list[list[int]]) -> dict[str, Any]:
    start = time.perf_counter()
    found: list[Any] = [None] * len(rows)
    for places in batches:
        longest = max(len(rows[i]) for i in places)
        ids = torch.tensor([rows[i] + [0] * (longest - len(rows[i])) for i in places])
        real = torch.tensor([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in places])
        x = held["model"](input_ids=ids, attention_mask=real).last_hidden_state.float()
        means = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        for i, mean in zip(places, means, strict=True):
            found[i] = mean[:8].tolist()
    return {"seconds": time.perf_counter() - start, "vectors": found}


if __name__ == "__main__":
    serve({"load": load, "encode": encode})
