"""polyhead's own answers to a job, by the tasks that its verbs call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyhead.benchmark.job import Job, verbs
from polyhead.core import Run
from polyhead.core.panels import wake
from polyhead.generation import EndToken, Forbid, ForbidFirst, Greedy, generate
from polyhead.inputs.batch import pad
from polyhead.operator import Lengths
from polyhead.tasks.asking import Asking
from polyhead.tasks.decoder import Decoder, DecoderStep
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.generation_settings import TokenRules
from polyhead.tasks.load import Loaded
from polyhead.tasks.load import load as load_folder
from polyhead.tasks.translator import Translator

Work = Callable[[Sequence[int]], Sequence[Any]]


def load(job: Job, *, precision: str, threads: int, scratch: str) -> Work:
    torch.set_num_threads(threads)
    wake()
    loaded = load_folder(job.folder, precision=precision)  # pyright: ignore[reportArgumentType]
    make = {"translate": translate, "complete": complete, "look": look, "hear": hear}.get(job.kind, read)
    return make(job, loaded)


def translate(job: Job, loaded: Loaded) -> Work:
    search = Greedy() if job.beams == 1 else chosen_search(loaded, None, job.beams)
    translator = Translator(loaded, search=search, said=Asking())  # the rows say already what is asked

    def work(batch: Sequence[int]) -> Sequence[Any]:
        translator.max_new = job.longest(batch)  # as all engines
        return [list(one[0].tokens) for one in translator.batch([job.rows[i] for i in batch])]

    return work


def complete(job: Job, loaded: Loaded) -> Work:
    decoder = Decoder(loaded, "bench", search=Greedy(), max_new=job.new)
    decoder.rules = TokenRules(tuple(job.end), min_new=job.new or 0)
    return lambda batch: [list(one[0].tokens) for one in decoder([job.rows[i] for i in batch])]


def read(job: Job, loaded: Loaded) -> Work:
    model = loaded.packed

    @torch.inference_mode()
    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, lengths = pad([job.rows[i] for i in batch], job.pad)
        mask = None if int(lengths.min()) == ids.shape[1] else Lengths(lengths)
        x = model.encode(ids, Run(mask=mask))
        return listed(mean(x, lengths) if job.kind == "embed" else model.head(x))

    return work


def look(job: Job, loaded: Loaded) -> Work:
    model, pixels = loaded.packed, arrays(job, loaded)

    @torch.inference_mode()
    def work(batch: Sequence[int]) -> Sequence[Any]:
        return listed(model.head(model.encode(pixels[list(batch)])))

    return work


def hear(job: Job, loaded: Loaded) -> Work:
    model, pictures = loaded.packed, arrays(job, loaded)

    @torch.inference_mode()
    def work(batch: Sequence[int]) -> Sequence[Any]:
        prompt = torch.tensor([job.rows[i] for i in batch])
        rules = [ForbidFirst(prompt.shape[1], job.never_first), Forbid(job.never)]
        found = generate(
            DecoderStep(model, memory=model.encode(pictures[list(batch)])), prompt, search=Greedy(), rules=rules,
            stop=EndToken(job.end), max_new=job.new or 1,
        )  # fmt: skip
        return [list(one[0].tokens) for one in found]

    return work


def arrays(job: Job, loaded: Loaded) -> Tensor:
    return torch.from_numpy(np.load(job.arrays)).to(next(loaded.model.parameters()).dtype)


def mean(x: Tensor, lengths: Tensor) -> Tensor:
    """Vectors [B, T, D] of texts of these lengths -> [B, D]."""
    real = torch.arange(x.shape[1]) < lengths[:, None]
    return x.float().masked_fill(~real[..., None], 0.0).sum(1) / lengths[:, None]


def listed(x: Tensor) -> Any:
    return x.float().tolist()


VERBS = verbs(load)
