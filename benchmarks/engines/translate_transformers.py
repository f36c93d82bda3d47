"""Rows of source ids and the batches to make of them go in, the translations of transformers' generate come out."""

from __future__ import annotations

import torch
from common import serve_translator
from transformers import MarianMTModel

marian: MarianMTModel


def load(model: str, threads: int) -> None:
    global marian
    torch.set_num_threads(threads)
    marian = MarianMTModel.from_pretrained(model, dtype=torch.float32).eval()


@torch.inference_mode()
def translate(
    sources: list[list[int]], *, beams: int, new: int | None, batches: list[list[int]] | None = None
) -> list[list[int]]:
    """Without `batches`, all sources are one. `new` tokens exactly, or as many as the model likes."""
    pad, end = marian.config.pad_token_id, marian.config.eos_token_id
    rows: list[list[int]] = [[] for _ in sources]
    for places in batches or [list(range(len(sources)))]:
        length = max(len(sources[i]) for i in places)
        ids = torch.tensor([sources[i] + [pad] * (length - len(sources[i])) for i in places])
        limit = {"min_new_tokens": new, "max_new_tokens": new} if new else {"max_new_tokens": 2 * length + 30}
        found = marian.generate(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids=ids, attention_mask=(ids != pad).long(), num_beams=beams, **limit
        )
        for i, row in zip(places, found.tolist(), strict=True):
            rows[i] = [id for id in row[1:] if id not in (pad, end)]
    return rows


if __name__ == "__main__":
    serve_translator(load, translate)
