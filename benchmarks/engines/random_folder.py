"""A kind of model and its sizes go in, a folder of random weights comes out, as transformers saves it."""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
import transformers
from common import serve
from engines.random_marian import tokenizer

SIGNS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
KINDS: dict[str, tuple[Any, Any]] = {
    "bert": (transformers.BertConfig, transformers.BertModel),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "whisper": (transformers.WhisperConfig, transformers.WhisperForConditionalGeneration),
}


def write(folder: str, *, kind: str, seed: int = 0, **sizes: Any) -> None:
    """kind: one of KINDS; sizes: in the words of its config.json."""
    config, model = KINDS[kind]
    torch.manual_seed(seed)
    made = model(config(**sizes))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() == 1 and parameter.requires_grad:  # norms and biases, of which fresh ones are 1 and 0
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif kind != "bert" and "embed" not in name and "wte" not in name:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    words = speech(made) if kind == "whisper" else tokenizer(made.config.vocab_size)
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    if kind == "whisper":
        transformers.WhisperFeatureExtractor().save_pretrained(folder)


def speech(model: Any) -> Any:
    """A tokenizer of words and the signs that a model of speech is told by, which its settings are given too."""
    count = model.config.vocab_size
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{n}": n for n in range(count - len(SIGNS))}, "w0"))
    inner.add_special_tokens([tokenizers.AddedToken(sign, special=True, normalized=False) for sign in SIGNS])
    ids = {sign: inner.token_to_id(sign) for sign in SIGNS}
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], is_multilingual=True,
        no_timestamps_token_id=ids["<|notimestamps|>"], lang_to_id={"<|en|>": ids["<|en|>"], "<|zh|>": ids["<|zh|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}, max_length=448,
    )  # fmt: skip
    end = "<|endoftext|>"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, pad_token=end, unk_token=end)


if __name__ == "__main__":
    serve({"write": write})
