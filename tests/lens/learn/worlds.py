"""Tiny models of every kind that a lesson is worked on, in folders, with every parameter random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from polyhead.lens.learn.caught import Part
from tests.cli.conftest import write_model
from tests.tasks.words import asked_in_folder, decoder_in_folder, in_folder

#  its name -> what makes its folder
KINDS: dict[str, Callable[[Path], object]] = {
    "translator": lambda folder: (folder.mkdir(exist_ok=True), write_model(folder)),
    "bert": partial(in_folder, architecture="BertModel"),
    "gpt2": partial(decoder_in_folder, architecture="GPT2LMHeadModel"),  # norms before
    "llama": partial(decoder_in_folder, architecture="LlamaForCausalLM"),  # few key heads, rotary
    "qwen3": partial(decoder_in_folder, architecture="Qwen3ForCausalLM"),  # queries and keys are normed
    "bloom": partial(decoder_in_folder, architecture="BloomForCausalLM"),  # a bias by distance
    "t5": asked_in_folder,  # no division, a bias that is learned, three parts
}
TEXTS = {"translator": "我爱 吃 苹果 。", "bert": "the cat sat on the mat."}
PARTS: list[tuple[str, Part]] = [
    ("translator", "encoder"), ("translator", "decoder"), ("translator", "cross"),
    ("t5", "encoder"), ("t5", "decoder"), ("t5", "cross"),
    ("bert", "encoder"), ("gpt2", "decoder"), ("llama", "decoder"), ("qwen3", "decoder"), ("bloom", "decoder"),
]  # fmt: skip


def text_of(kind: str) -> str:
    return TEXTS.get(kind, "the cat sat.")
