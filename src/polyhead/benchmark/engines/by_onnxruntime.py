"""The answers of ONNX Runtime to a job, from the graphs that `polyhead convert --to onnx` writes.

It runs graphs and no searches: where tokens are written, a plain greedy loop here asks for one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from polyhead.benchmark.job import Job, verbs
from polyhead.errors import ArgumentError
from polyhead.tasks.export.convert import convert

Work = Callable[[Sequence[int]], Sequence[Any]]
Arrays = dict[str, NDArray[Any]]


def load(job: Job, *, precision: str, threads: int, scratch: str) -> Work:
    if job.beams > 1:
        raise ArgumentError("searches by no beam: --beam 1")
    with TemporaryDirectory(dir=scratch) as place:
        convert(job.folder, Path(place) / "model", to="onnx")
        graphs = {file.stem: Graph(file, threads) for file in (Path(place) / "model").glob("*.onnx")}
    if job.kind == "embed" and "last_hidden_state" not in graphs["model"].outputs:
        raise ArgumentError("has no vectors: the graph ends in the model's head")
    make = {"translate": translate, "complete": complete, "look": look, "hear": hear}.get(job.kind, read)
    return make(job, graphs)


class Graph:
    """A session, called with arrays by name; those that the graph does not read are left out."""

    def __init__(self, file: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each.shape for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]

    def __call__(self, **given: NDArray[Any]) -> Arrays:
        found: Any = self.session.run(None, {name: x for name, x in given.items() if name in self.inputs})
        return dict(zip(self.outputs, found, strict=True))


def translate(job: Job, graphs: dict[str, Graph]) -> Work:
    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, mask = filled(job, batch)
        memory = graphs["encoder_model"](input_ids=ids, attention_mask=mask)["last_hidden_state"]
        seen = {"encoder_hidden_states": memory, "encoder_attention_mask": mask}
        return written(job, graphs, np.full((len(batch), 1), job.start), seen, job.longest(batch))

    return work


def hear(job: Job, graphs: dict[str, Graph]) -> Work:
    pictures = np.load(job.arrays)

    def work(batch: Sequence[int]) -> Sequence[Any]:
        memory = graphs["encoder_model"](input_features=pictures[list(batch)])["last_hidden_state"]
        prompt = np.array([job.rows[i] for i in batch])
        return written(job, graphs, prompt, {"encoder_hidden_states": memory}, job.new or 1)

    return work


def written(job: Job, graphs: dict[str, Graph], prompt: NDArray[Any], seen: Arrays, longest: int) -> list[list[int]]:
    """What an encoder-decoder writes: the first step makes the keys and values of the memory, the others keep them."""
    found = graphs["decoder_model"](input_ids=prompt, **seen)
    held = past(found)

    def step(tokens: NDArray[Any]) -> NDArray[Any]:
        found = graphs["decoder_with_past_model"](input_ids=tokens, **seen, **held)
        held.update(past(found))
        return found["logits"]

    return greedy(job, found["logits"], step, longest)


def complete(job: Job, graphs: dict[str, Graph]) -> Work:
    graph = graphs["model"]

    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, mask = filled(job, batch, left=True)
        held = {  # of nothing read so far; all sizes but those of the batch and the past are the graph's
            name: np.zeros((len(batch), shape[1], 0, shape[3]), np.float32)
            for name, shape in graph.inputs.items() if name.startswith("past_key_values")
        }  # fmt: skip

        def step(tokens: NDArray[Any]) -> NDArray[Any]:
            nonlocal mask
            if held[next(iter(held))].shape[2]:
                mask = np.concatenate([mask, np.ones_like(tokens)], 1)
            places = (mask.cumsum(1) - 1).clip(0)[:, -tokens.shape[1] :]
            found = graph(input_ids=tokens, attention_mask=mask, position_ids=places, **held)
            held.update(past(found))
            return found["logits"]

        return greedy(job, step(ids), step, job.new or 1, ends=False)

    return work


def read(job: Job, graphs: dict[str, Graph]) -> Work:
    def work(batch: Sequence[int]) -> Sequence[Any]:
        ids, mask = filled(job, batch)
        found = graphs["model"](input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))
        if job.kind == "classify":
            return found["logits"].tolist()
        return ((found["last_hidden_state"] * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)).tolist()

    return work


def look(job: Job, graphs: dict[str, Graph]) -> Work:
    pixels = np.load(job.arrays)
    return lambda batch: graphs["model"](pixel_values=pixels[list(batch)])["logits"].tolist()


def greedy(
    job: Job, logits: NDArray[Any], step: Callable[[NDArray[Any]], NDArray[Any]], longest: int, *, ends: bool = True
) -> list[list[int]]:
    """The likeliest token again and again, until every row has ended, or without an end."""
    rows: list[list[int]] = [[] for _ in logits]
    done = np.zeros(len(rows), bool)
    for n in range(longest):
        last = logits[:, -1].copy()
        last[:, [*job.never, *(job.never_first if n == 0 else ()), *(() if ends else job.end)]] = -np.inf
        tokens = last.argmax(-1)
        done |= np.isin(tokens, job.end)
        for row, token, ended in zip(rows, tokens.tolist(), done, strict=True):
            row += [] if ended else [token]
        if done.all() or n + 1 == longest:
            break
        logits = step(tokens[:, None])
    return rows


def past(found: Arrays) -> Arrays:
    """What a step gives of keys and values, by the names of what the next one reads."""
    return {name.replace("present", "past_key_values"): x for name, x in found.items() if name.startswith("present")}


def filled(job: Job, batch: Sequence[int], *, left: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows filled up to the longest, and what of them is real."""
    longest = max(len(job.rows[i]) for i in batch)
    ids = np.full((len(batch), longest), job.pad)
    mask = np.zeros_like(ids)
    for n, i in enumerate(batch):
        row = job.rows[i]
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[n, place], mask[n, place] = row, 1
    return ids, mask


VERBS = verbs(load)
