"""Sizes go in, a Marian folder of random weights comes out, as transformers saves it: every engine reads the same one.

The words are w3, w4, ...; 0, 1 and 2 are <pad>, </s> and <unk>.
"""

from __future__ import annotations

import torch
from common import serve
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedTokenizerFast


def write(folder: str, *, d_model: int, layers: int, d_ff: int, heads: int, words: int, seed: int = 0) -> None:
    config = MarianConfig(
        vocab_size=words, d_model=d_model, max_position_embeddings=512, activation_function="relu",
        encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=d_ff, decoder_ffn_dim=d_ff,
        encoder_attention_heads=heads, decoder_attention_heads=heads, scale_embedding=True,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    model = MarianMTModel(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue  # positions
            # Plain random weights answer every sentence with one repeated word, and equal answers would prove little.
            # So words weigh more than positions, attention is sharp, and what an MLP adds has no part that is the
            # same for all. Sharper still, rounding alone would decide words.
            parameter.normal_(std=0.1 if parameter.dim() == 1 else parameter.shape[1] ** -0.5)
            if name.endswith("norm.weight"):
                parameter += 1
            elif name.endswith(("shared.weight", "q_proj.weight", "k_proj.weight")):
                parameter *= 3
            elif name.endswith(("out_proj.weight", "fc2.weight")):
                parameter *= 0.7
            if name.endswith("fc2.weight"):
                parameter -= parameter.mean(1, keepdim=True)
    model.generation_config = GenerationConfig(
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, bad_words_ids=[[0]], max_length=512
    )
    model.save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)


def tokenizer(words: int) -> PreTrainedTokenizerFast:
    names = ["<pad>", "</s>", "<unk>", *(f"w{id}" for id in range(3, words))]
    inner = Tokenizer(models.WordLevel({name: id for id, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


if __name__ == "__main__":
    serve({"write": write})
