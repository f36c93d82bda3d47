"""Rows of ids, all of one length, go in, what transformers' generate writes after them comes out."""

from __future__ import annotations

import time
from typing import Any

import torch
from common import serve
from transformers import GPT2LMHeadModel

held: dict[str, Any] = {}


def load(model: str, threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    held["model"] = GPT2LMHeadModel.from_pretrained(model, dtype=kinds[precision]).eval()


@torch.inference_mode()
def decode(rows: list[list[int]], new: int) -> dict[str, Any]:
    start = time.perf_counter()
    ids = torch.tensor(rows)
    how = {"min_new_tokens": new, "max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    found = held["model"].generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
    return {"seconds": time.perf_counter() - start, "rows": found[:, ids.shape[1] :].tolist()}


if __name__ == "__main__":
    serve({"load": load, "decode": decode})
