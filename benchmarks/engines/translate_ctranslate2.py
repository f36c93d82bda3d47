"""Rows of source ids go in, CTranslate2's translations come out; the folder is converted when it is loaded."""

from __future__ import annotations

import tempfile

import ctranslate2
import torch
from common import serve_translator
from ctranslate2.converters import Converter
from ctranslate2.converters.transformers import BartLoader
from transformers import AutoTokenizer, MarianMTModel

translator: ctranslate2.Translator
names: list[str]
ids: dict[str, int]


class Marian(Converter):
    """CTranslate2's own converter wants padding to be the last word and its vector zero, as in OPUS-MT; ours may be
    anything, so the general encoder-decoder loader is used, with Marian's two settings."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def _load(self):
        with torch.no_grad():
            model = MarianMTModel.from_pretrained(self.folder, dtype=torch.float32)
            model.config.normalize_before = model.config.normalize_embedding = False
            model.final_logits_bias[0, model.config.pad_token_id] = -1e9  # what bad_words_ids says, at no cost
            spec = BartLoader()(model, AutoTokenizer.from_pretrained(self.folder))
            spec.config.bos_token = spec.config.eos_token  # there is none, and none is read
            return spec


def load(model: str, threads: int, compute_type: str, workers: int = 1) -> None:
    global translator, names, ids
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer.get_vocab()
    names = sorted(ids, key=ids.__getitem__)
    with tempfile.TemporaryDirectory() as folder:
        Marian(model).convert(folder, quantization=compute_type, force=True)
        translator = ctranslate2.Translator(
            folder, compute_type=compute_type, intra_threads=threads // workers, inter_threads=workers
        )


def translate(sources: list[list[int]], *, beams: int, new: int | None, batch_tokens: int) -> list[list[int]]:
    """CTranslate2 sorts and cuts by itself. `new` tokens exactly, or as many as the model likes."""
    longest = 2 * max(map(len, sources)) + 30
    found = translator.translate_batch(
        [[names[id] for id in row] for row in sources],
        beam_size=beams,
        max_batch_size=batch_tokens,
        batch_type="tokens",
        min_decoding_length=new or 1,
        max_decoding_length=new or longest,
    )
    return [[ids[name] for name in answer.hypotheses[0]] for answer in found]


if __name__ == "__main__":
    serve_translator(load, translate)
