"""Rows of source ids go in, polyhead's translations come out."""

from __future__ import annotations

from dataclasses import replace

import torch
from common import serve_translator

from polyhead.core.panels import wake
from polyhead.generation import Beam, Greedy, restore, sorted_batches
from polyhead.tasks.generation_settings import TokenRules
from polyhead.tasks.load import load as load_folder
from polyhead.tasks.text_to_text import BATCH_TOKENS, ROWS
from polyhead.tasks.translator import Translator

translator: Translator
rules: TokenRules


def load(model: str, threads: int, precision: str) -> None:
    global translator, rules
    torch.set_num_threads(threads)
    wake()
    translator = Translator(load_folder(model, precision=precision))  # pyright: ignore[reportArgumentType]
    rules = translator.rules


def translate(sources: list[list[int]], *, beams: int, new: int | None) -> list[list[int]]:
    translator.search = Beam(beams) if beams > 1 else Greedy()
    translator.max_new = new
    translator.rules = replace(rules, min_new=new) if new else rules
    batches = sorted_batches([len(row) for row in sources], budget=BATCH_TOKENS, rows=ROWS)
    answers = restore(batches, [translator.batch([sources[i] for i in batch]) for batch in batches])
    return [answer[0].tokens for answer in answers]


if __name__ == "__main__":
    serve_translator(load, translate)
