"""A whole model of `transformers`, BERT-base's sizes, in a process of its own: blind, watched or eager."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from common import serve
from engines.attend import peak, settled
from torch import Tensor

from polyhead.lens.watch import watch


class Bench:
    """One model, random weights, and one text of random words."""

    def prepare(self, way: str, length: int, layers: int, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"num_hidden_layers": layers, "max_position_embeddings": max(512, length)}
        sizes["attn_implementation"] = "eager" if way == "eager" else "sdpa"
        self.model: Any = transformers.BertModel(transformers.BertConfig(**sizes)).eval()
        self.words = torch.randint(5, 30_000, (1, length))
        self.way = WAYS[way]
        self.folder = tempfile.TemporaryDirectory()
        with torch.inference_mode():  # what is loaded at first use is no memory of the run
            self.way(self.model, self.words[:, :32], Path(self.folder.name) / "warm")

    def run(self) -> dict[str, float]:
        before = settled()
        start = time.perf_counter()
        with torch.inference_mode():
            output = self.way(self.model, self.words, Path(self.folder.name) / "run")
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "bytes": peak() - before, "sum": float(output.double().sum())}


Way = Callable[[Any, Tensor, Path], Tensor]


def blind(model: Any, words: Tensor, file: Path) -> Tensor:
    return model(words).last_hidden_state


def eager(model: Any, words: Tensor, file: Path) -> Tensor:
    return model(words, output_attentions=True).last_hidden_state


def rows(model: Any, words: Tensor, file: Path) -> Tensor:
    with watch(model) as recording:
        output = model(words).last_hidden_state
    assert not recording.missed and len(recording) == model.config.num_hidden_layers
    return output


def into(model: Any, words: Tensor, file: Path) -> Tensor:
    with watch(model, into=file):
        return model(words).last_hidden_state


def summary(model: Any, words: Tensor, file: Path) -> Tensor:
    with watch(model, level="summary"):
        return model(words).last_hidden_state


WAYS: dict[str, Way] = {"blind": blind, "rows": rows, "into": into, "summary": summary, "eager": eager}

if __name__ == "__main__":
    bench = Bench()
    serve({"prepare": bench.prepare, "run": bench.run})
