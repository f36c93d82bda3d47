"""The answers of `transformers` to a job: the model that its Auto classes choose, and `generate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from polyhead.benchmark.job import Job, verbs

Work = Callable[[Sequence[int]], Sequence[Any]]
CLASSES = {
    "translate": "AutoModelForSeq2SeqLM",
    "complete": "AutoModelForCausalLM",
    "embed": "AutoModel",
    "classify": "AutoModelForSequenceClassification",
    "look": "AutoModelForImageClassification",
    "hear": "AutoModelForSpeechSeq2Seq",
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load(job: Job, *, precision: str, threads: int, scratch: str) -> Work:
    torch.set_num_threads(threads)
    auto = getattr(transformers, CLASSES[job.kind])
    model = auto.from_pretrained(job.folder, dtype=TYPES[precision], local_files_only=True).eval()
    work = {"translate": translate, "complete": complete, "look": look, "hear": hear}.get(job.kind, read)
    return torch.inference_mode()(work(job, model))


def translate(job: Job, model: Any) -> Work:
    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, mask = filled(job, batch)
        found = model.generate(
            input_ids=ids, attention_mask=mask, num_beams=job.beams, do_sample=False, max_new_tokens=job.longest(batch)
        )
        return cut(job, found[:, 1:])

    return work


def complete(job: Job, model: Any) -> Work:
    how = plain(job, min_new_tokens=job.new)

    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, mask = filled(job, batch, left=True)
        return model.generate(input_ids=ids, attention_mask=mask, generation_config=how)[:, ids.shape[1] :].tolist()

    return work


def hear(job: Job, model: Any) -> Work:
    how = plain(job, suppress_tokens=list(job.never) or None, begin_suppress_tokens=list(job.never_first) or None)
    pictures = torch.from_numpy(np.load(job.arrays)).to(model.dtype)
    mixin: Any = transformers.GenerationMixin  # whose `generate` is the plain one: no windows, no second thoughts

    def work(batch: Sequence[int]) -> Sequence[Any]:
        prompt = torch.tensor([job.rows[i] for i in batch])
        found = mixin.generate(model, pictures[list(batch)], decoder_input_ids=prompt, generation_config=how)
        return cut(job, found[:, prompt.shape[1] :])

    return work


def read(job: Job, model: Any) -> Work:
    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, mask = filled(job, batch)
        found = model(input_ids=ids, attention_mask=mask)
        if job.kind == "classify":
            return found.logits.float().tolist()
        return ((found.last_hidden_state.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).tolist()

    return work


def look(job: Job, model: Any) -> Work:
    pixels = torch.from_numpy(np.load(job.arrays)).to(model.dtype)
    return lambda batch: model(pixel_values=pixels[list(batch)]).logits.float().tolist()


def plain(job: Job, **more: Any) -> Any:
    """Greedy, with no rules of the folder."""
    return transformers.GenerationConfig(
        max_new_tokens=job.new, do_sample=False, eos_token_id=list(job.end) or None, pad_token_id=job.pad,
        **more,
    )  # fmt: skip


def filled(job: Job, batch: Sequence[int], *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Rows filled up to the longest, and what of them is real."""
    longest = max(len(job.rows[i]) for i in batch)
    ids = torch.full((len(batch), longest), job.pad)
    mask = torch.zeros_like(ids)
    for n, i in enumerate(batch):
        row = job.rows[i]
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[n, place], mask[n, place] = torch.tensor(row), 1
    return ids, mask


def cut(job: Job, found: Tensor) -> list[list[int]]:
    """Rows up to the token that ends them."""
    rows: list[list[int]] = found.tolist()
    ends = [next((n for n, id in enumerate(row) if id in job.end), len(row)) for row in rows]
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


VERBS = verbs(load)
