"""Small vocabularies, and tiny models with random weights in folders as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

WORDS = (
    "the a cat dog sat on mat who where is was it in house garden and ran to of red blue big small not good bad".split()
)
PIECES = ["##s", "##ed", "##ing", ".", ",", "?", "!"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 24, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
}  # fmt: skip


def vocabulary() -> Any:
    """As the tokenizers of BERT: small letters, word pieces, [CLS] and [SEP] around one text or two."""
    ids = {token: id for id, token in enumerate([*SPECIALS, *WORDS, *PIECES])}
    inner = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.add_special_tokens(SPECIALS)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def in_folder(folder: Path, architecture: str, **changes: Any) -> Any:
    """A tiny model of theirs with every parameter random, saved with its tokenizer; the model, to ask it."""
    torch.manual_seed(0)
    kind = getattr(transformers, architecture)
    words = vocabulary()
    model = kind(kind.config_class(vocab_size=len(words), **SIZES, **changes)).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.3)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


LINES = [
    "the cat sat on the mat, and the dog ran.", "我爱吃苹果。你好吗？", "Über den Wolken, naïve café!", "a 🍎 b 🍎🍎",
    "def f(x): return x + 1",
]  # fmt: skip
DECODER: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 20, "max_position_embeddings": 64,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}  # fmt: skip
BLOOM: dict[str, Any] = {"hidden_size": 24, "n_layer": 2, "n_head": 3}
END, PAD = "<|end|>", "<|pad|>"
CHATML = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def byte_vocabulary() -> Any:
    """As the tokenizers of GPT-2: pieces of bytes, of which several may make one character."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=[END, PAD], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(LINES, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=PAD, bos_token=END)


def chat_vocabulary() -> Any:
    """Of bytes too, with control tokens for turns, two others that are added and not special, and a template."""
    words = byte_vocabulary()
    words.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    words.add_tokens(["<think>", "</think>"])
    words.chat_template = CHATML
    return words


def decoder_in_folder(folder: Path, architecture: str, *, chats: bool = False, **changes: Any) -> Any:
    """A tiny decoder of theirs, every parameter random, whose answers sometimes end; saved with its tokenizer."""
    torch.manual_seed(1)
    kind, words = getattr(transformers, architecture), chat_vocabulary() if chats else byte_vocabulary()
    sizes = next((own for start, own in (("GPT2", GPT2), ("Bloom", BLOOM)) if architecture.startswith(start)), DECODER)
    ids = {"bos_token_id": words.eos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    model = kind(kind.config_class(vocab_size=len(words), **ids, **(sizes | changes))).eval()
    for name, parameter in model.named_parameters():
        norm = "norm" in name or ".ln_" in name
        torch.nn.init.normal_(parameter, mean=float(norm and name.endswith("weight")), std=0.1 if norm else 0.4)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


STORY = (
    "The dog ran to the garden. Dr. Smith sat in the big red house and read a book. Was it good? It was not bad! The "
    "cat sat on the mat, where it sleeps. 我爱吃苹果。你好吗？他说她没来，因为下雨。 "
    "A small blue house is in the garden. "
)
T5: dict[str, Any] = {
    "d_model": 24, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "dropout_rate": 0.0, "n_positions": 40,
    "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
BART: dict[str, Any] = {
    "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 28, "decoder_ffn_dim": 20, "max_position_embeddings": 40, "dropout": 0.0, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": 1,
}  # fmt: skip


def piece_vocabulary() -> Any:
    """As the tokenizers of T5: pieces of words by a unigram model, the same every time; an end sign behind a text."""
    text = " ".join([*LINES, STORY, "summarize: translate English to German: {}!"])
    whole = sorted({word for word in text.split() if word.isascii() and word.isalpha() and len(word) > 2})
    letters = sorted(set(text) - {" "})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *((letter, -5.0) for letter in letters)]
    inner = tokenizers.Tokenizer(models.Unigram([*pieces, *((f"▁{word}", -6.0) for word in whole[::2])], unk_id=2))
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=40
    )


def asked_in_folder(folder: Path, architecture: str = "T5ForConditionalGeneration", **changes: Any) -> Any:
    """A tiny model of theirs that is asked in words, every parameter random, saved with its tokenizer."""
    torch.manual_seed(2)
    kind, words = getattr(transformers, architecture), piece_vocabulary()
    sizes = BART if architecture.startswith(("Bart", "Marian")) else T5
    model = kind(kind.config_class(vocab_size=len(words), **(sizes | changes))).eval()
    for name, parameter in model.named_parameters():
        norm = name.endswith(("layer_norm.weight", "layernorm_embedding.weight"))
        torch.nn.init.normal_(parameter, mean=float(norm), std=0.4)
    for buffer in model.buffers():
        buffer.normal_()  # a fixed bias of words
    model.generation_config.bad_words_ids = [[0]]  # padding is no word, here and there
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    model.name_or_path = str(folder)  # as one that was loaded from there
    return model
