"""Rows of source ids go in, the translations of several workers of polyhead come out, with the model's own ends."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch
from common import serve_translator

from polyhead.core.panels import wake
from polyhead.generation import Beam, Greedy, restore, sorted_batches
from polyhead.tasks.load import Loaded
from polyhead.tasks.load import load as load_folder
from polyhead.tasks.text_to_text import BATCH_TOKENS, ROWS
from polyhead.tasks.translator import Translator
from polyhead.tasks.workers import Workers

loaded: Loaded
count: int


def load(model: str, threads: int, precision: str, workers: int) -> None:
    global loaded, count
    torch.set_num_threads(threads)
    wake()
    loaded, count = load_folder(model, precision=precision), workers  # pyright: ignore[reportArgumentType]


@cache
def translator(beams: int) -> Translator:
    """One whose helpers are at work, and stay until this process ends, which they notice."""
    crew = Workers(count).__enter__()
    found = Translator(loaded, search=Beam(beams) if beams > 1 else Greedy(), workers=crew)
    answered(found, [[found.config.eos_id]])
    while any(not helper.jobs.empty() for helper in crew.helpers):  # what is asked lies there until one has loaded
        time.sleep(0.01)
    return found


def answered(translator: Translator, sources: list[list[int]]) -> list[Any]:
    batches = sorted_batches([len(row) for row in sources], budget=BATCH_TOKENS, rows=ROWS)
    asked = [{"ids": [sources[i] for i in batch], "numbers": batch} for batch in batches]
    found = dict(translator.workers.each(asked, translator.batch))
    return restore(batches, [found[place] for place in range(len(batches))])


def translate(sources: list[list[int]], *, beams: int, new: int | None) -> list[list[int]]:
    assert new is None, "how many words come out is not said to helpers"
    return [answer[0].tokens for answer in answered(translator(beams), sources)]


if __name__ == "__main__":
    serve_translator(load, translate)
