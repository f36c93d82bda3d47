"""A tiny model that reads texts and images, every parameter random, in a folder as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from tests.tasks.words import piece_vocabulary

LINES = [
    "a red bicycle",
    "a photo of a cat.",
    "the dog ran in the garden",
    "two cats sat on the mat",
    "eine Straße, 我爱",
]
START, END = "<|startoftext|>", "<|endoftext|>"
SIZES: dict[str, Any] = {
    "num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 24, "intermediate_size": 20, "projection_dim": 10,
}  # fmt: skip
SIDE = 16


def clip_vocabulary() -> Any:
    """As CLIP's tokenizer is: small letters, pieces of bytes whose words end in </w>, signs around a text."""
    inner = transformers.CLIPTokenizer().backend_tokenizer
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    learned = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    learned.normalizer, learned.pre_tokenizer = inner.normalizer, inner.pre_tokenizer
    learned.train_from_iterator(LINES, trainer)
    model = json.loads(learned.to_str())["model"]
    words = dict(model["vocab"])
    for letter in tokenizers.pre_tokenizers.ByteLevel.alphabet():  # every byte also ends words
        words.setdefault(f"{letter}</w>", len(words))
    for sign in (START, END):
        words[sign] = len(words)
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return transformers.CLIPTokenizer(vocab=words, merges=merges, model_max_length=20)


def clip_in_folder(folder: Path, *, whole: bool = True, **changes: Any) -> Any:
    """The model, to ask it; its processor is saved as newer folders have it (whole) or as older ones do."""
    torch.manual_seed(3)
    words = clip_vocabulary()
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": 1}
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 20, **ids}
    image = {**SIZES, "image_size": SIDE, "patch_size": 4, "hidden_size": 36}
    sizes: dict[str, Any] = {"text_config": text, "vision_config": image, "projection_dim": 10, **changes}
    model = transformers.CLIPModel(transformers.CLIPConfig(**sizes)).eval()
    for name, parameter in model.named_parameters():
        norm = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(norm), std=0.1 if norm else 0.3)
    torch.nn.init.constant_(model.logit_scale, 2.0)
    model.save_pretrained(folder)
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE)
    if whole:
        transformers.CLIPProcessor(pictures, words).save_pretrained(folder)
    else:
        words.save_pretrained(folder)
        pictures.save_pretrained(folder)
    return model


FILLED = 24  # tokens of every text of SigLIP's kind


def siglip_in_folder(folder: Path, **changes: Any) -> tuple[Any, Any]:
    """The model that judges each pair by itself, and its tokenizer, which fills every text up; to ask them."""
    torch.manual_seed(4)
    words = piece_vocabulary()
    words.model_max_length = FILLED
    sizes: dict[str, Any] = {key: value for key, value in SIZES.items() if key != "projection_dim"}
    text = {**sizes, "vocab_size": len(words), "max_position_embeddings": FILLED, "projection_size": 36, **changes}
    image = {**sizes, "image_size": SIDE, "patch_size": 4, "hidden_size": 36}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=image)).eval()
    for name, parameter in model.named_parameters():
        norm = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(norm), std=0.1 if norm else 0.3)
    torch.nn.init.constant_(model.logit_scale, 1.5)
    torch.nn.init.constant_(model.logit_bias, -0.7)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return model, words


def picture(seed: int, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    """Noise of few colours, so that pictures differ."""
    chance = np.random.default_rng(seed)
    return (chance.integers(0, 4, (height, width, 3)) * chance.integers(20, 80, 3)).astype(np.uint8)


def pictures_in(folder: Path, n: int, *, start: int = 0) -> list[Path]:
    """So many different pictures, 0.png, 1.png ..., of several shapes; others from another start."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}.png" for i in range(n)]
    for i, file in enumerate(files, start):
        Image.fromarray(picture(i, 18 + i % 7, 34 - i % 9)).save(file)
    return files
