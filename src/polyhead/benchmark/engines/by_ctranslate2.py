"""The answers of CTranslate2 to a job, from the folder that `polyhead convert --to ct2` writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ctranslate2
import numpy as np

from polyhead.benchmark.job import Job, verbs
from polyhead.errors import ArgumentError
from polyhead.tasks.export.convert import convert

Work = Callable[[Sequence[int]], Sequence[Any]]
TYPES = {"fp32": "float32", "int8": "int8", "bf16": "bfloat16"}


def load(job: Job, *, precision: str, threads: int, scratch: str) -> Work:
    if job.kind not in WORKS:
        raise ArgumentError("gives no labels")
    kind, work = WORKS[job.kind]
    with TemporaryDirectory(dir=scratch) as place:
        folder = Path(place) / "model"
        convert(job.folder, folder, to="ct2", dtype=TYPES[precision])
        model = kind(str(folder), compute_type=TYPES[precision], intra_threads=threads, inter_threads=1)
        names = {file.stem: json.loads(file.read_text("utf-8")) for file in folder.glob("*vocabulary.json")}
    return work(job, model, names)


def translate(job: Job, model: Any, names: dict[str, list[str]]) -> Work:
    source, target = (names.get(f"{side}_vocabulary") or names["shared_vocabulary"] for side in ("source", "target"))
    ids = {name: id for id, name in enumerate(target)}
    never = [[target[id]] for id in job.never] or None

    def work(batch: Sequence[int]) -> Sequence[Any]:
        found = model.translate_batch(
            [[source[id] for id in job.rows[i]] for i in batch], beam_size=job.beams,
            max_decoding_length=job.longest(batch), max_input_length=0, suppress_sequences=never,
        )  # fmt: skip
        return [[ids[name] for name in answer.hypotheses[0]] for answer in found]

    return work


def complete(job: Job, model: Any, names: dict[str, list[str]]) -> Work:
    words = names["vocabulary"]

    def work(batch: Sequence[int]) -> Sequence[Any]:
        found = model.generate_batch(
            [[words[id] for id in job.rows[i]] for i in batch], beam_size=1, sampling_topk=1, min_length=job.new,
            max_length=job.new, include_prompt_in_result=False, end_token=[words[id] for id in job.end] or None,
        )  # fmt: skip
        return [list(answer.sequences_ids[0]) for answer in found]

    return work


def embed(job: Job, model: Any, names: dict[str, list[str]]) -> Work:
    def work(batch: Sequence[int]) -> Sequence[Any]:
        found = np.array(model.forward_batch([list(job.rows[i]) for i in batch]).last_hidden_state)
        return [vectors[: len(job.rows[i])].mean(0).tolist() for i, vectors in zip(batch, found, strict=True)]

    return work


def hear(job: Job, model: Any, names: dict[str, list[str]]) -> Work:
    pictures = np.load(job.arrays)

    def work(batch: Sequence[int]) -> Sequence[Any]:
        some = ctranslate2.StorageView.from_array(np.ascontiguousarray(pictures[list(batch)]))
        rows = [list(job.rows[i]) for i in batch]
        found = model.generate(some, rows, beam_size=1, max_length=2 * (job.new or 1))  # of which it writes half
        return [list(answer.sequences_ids[0]) for answer in found]

    return work


WORKS: dict[str, tuple[Any, Callable[[Job, Any, dict[str, list[str]]], Work]]] = {
    "translate": (ctranslate2.Translator, translate),
    "complete": (ctranslate2.Generator, complete),
    "embed": (ctranslate2.Encoder, embed),
    "hear": (ctranslate2.models.Whisper, hear),
}
VERBS = verbs(load)
