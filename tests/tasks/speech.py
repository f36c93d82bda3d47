"""Tiny models of speech with random weights in folders as people have them, and sounds for them."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from tests.tasks.words import LINES

RATE, SECONDS = 16_000, 2  # of one window
LANGUAGES = ["en", "zh", "de", "ja", "yue"]
STEPS = 100  # of time in a window, and places of the memory
END, START = "<|endoftext|>", "<|startoftranscript|>"
SIGNS = [
    END, START, *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
]  # fmt: skip
SIZES: dict[str, Any] = {
    "num_mel_bins": 80, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 3,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28, "max_source_positions": STEPS,
    "max_target_positions": 40,
}  # fmt: skip


def vocabulary() -> Any:
    """As the tokenizers of speech models: pieces of bytes, then signs, then times, which are words that are added."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
    inner.add_special_tokens([tokenizers.AddedToken(sign, special=True, normalized=False) for sign in SIGNS])
    inner.add_tokens([tokenizers.AddedToken(f"<|{0.02 * n:.2f}|>", normalized=False) for n in range(STEPS + 1)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END, unk_token=END)


def speech_in_folder(
    folder: Path, *, seed: int = 0, english: bool = False, heads: bool = True, std: float = 0.3, **said: Any
) -> Any:
    """A tiny model of theirs, every parameter random, saved with its tokenizer and settings; the model, to ask it.

    english: whether it knows one language. heads: whether the folder names those that follow the speech. said: more of
    its generation settings.
    """
    torch.manual_seed(seed)
    words = vocabulary()
    id = words.convert_tokens_to_ids
    ends: dict[str, Any] = {"pad_token_id": id(END), "bos_token_id": id(END), "eos_token_id": id(END)}
    ends["decoder_start_token_id"] = id(START)
    none: dict[str, Any] = {"suppress_tokens": None, "begin_suppress_tokens": None}
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(vocab_size=len(words), **SIZES, **ends, **none)
    ).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter.data, mean=float(name.endswith("norm.weight")), std=std)
    several = {
        "lang_to_id": {f"<|{code}|>": id(f"<|{code}|>") for code in LANGUAGES},
        "task_to_id": {task: id(f"<|{task}|>") for task in ("transcribe", "translate")},
    }
    signs = [id(sign) for sign in SIGNS if sign not in (END, "<|notimestamps|>")]
    settings: dict[str, Any] = {
        **ends,
        "is_multilingual": not english,
        "no_timestamps_token_id": id("<|notimestamps|>"),
        "suppress_tokens": [3, 5, *signs],
        "begin_suppress_tokens": [*range(7), id(END)],
        "max_initial_timestamp_index": 50,
        "max_length": SIZES["max_target_positions"],
        "return_timestamps": False,
        **({} if english else several),
        **({"alignment_heads": [[1, 0], [2, 3], [2, 1]]} if heads else {}),
        **said,
    }
    model.generation_config = transformers.GenerationConfig(**settings)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=SECONDS).save_pretrained(folder)
    return model


def change(folder: Path, **said: Any) -> None:
    """Put other generation settings into a folder; None takes one away."""
    file = folder / "generation_config.json"
    settings = {**json.loads(file.read_text("utf-8")), **said}
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}), "utf-8")


def sound(seconds: float, seed: int = 0) -> Tensor:
    """Tones that come and go, and noise, [samples]."""
    dice = np.random.default_rng(seed)
    n = int(seconds * RATE)
    at = np.arange(n) / RATE
    tones = [np.sin(2 * np.pi * f * at) * (np.sin(2 * np.pi * g * at + p) > 0) for f, g, p in
             zip(dice.uniform(100, 4000, 6), dice.uniform(0.5, 4, 6), dice.uniform(0, 6, 6), strict=True)]  # fmt: skip
    return torch.from_numpy(0.1 * np.sum(tones, 0) + 0.01 * dice.standard_normal(n)).float()


def write_wave(path: Path, samples: Tensor, rate: int = RATE) -> Path:
    """A WAV file of 16 bits, of samples [samples] or [channels, samples]."""
    numbers = (samples.clamp(-1, 1) * 32767).short().numpy()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(numbers) if numbers.ndim == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(numbers.T.tobytes())
    return path
