"""Padded batches go in, the speed of a plain loop around torch.nn.Transformer comes out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from baseline import PAD, PlainTransformer, step
from common import serve

model: PlainTransformer
optimizer: torch.optim.AdamW
batches: list[tuple[torch.Tensor, torch.Tensor]]
start_id: int
bf16: bool


def load(sizes: dict[str, Any], path: str, threads: int, precision: str) -> None:
    global model, optimizer, batches, start_id, bf16
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    assert sizes["pad_id"] == PAD
    model = PlainTransformer(
        sizes["vocab_size"], sizes["d_model"], sizes["n_layers"], sizes["n_heads"], sizes["d_ff"], sizes["dropout"],
        sizes["max_len"],
    ).train()  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98))
    arrays = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    batches = [(arrays[f"source{i}"], arrays[f"target{i}"]) for i in range(len(arrays) // 2)]
    start_id, bf16 = sizes["start_id"], precision == "bf16"


def learn(count: int) -> dict[str, float]:
    start = time.perf_counter()
    for source, target in batches[:count]:
        loss = step(model, optimizer, source, target, start_id, bf16)
    return {"seconds": time.perf_counter() - start, "loss": loss}


if __name__ == "__main__":
    serve({"load": load, "learn": learn})
