"""Marian: source words -> encoder -> memory; a decoder reads memory and its own past -> next word, norms after.

The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017) in the format of Marian NMT (Junczys-Dowmunt et
al. 2018). What differs from the paper: sines and cosines lie in halves of the position vector, not side by side; the
decoder starts from the padding token; an optional fixed bias is added to the scores of the words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.init import quieten
from polyhead.core.norm import LayerNorm
from polyhead.embedding.positions import Sinusoidal
from polyhead.embedding.tokens import Tokens
from polyhead.errors import ConfigError
from polyhead.families import Family
from polyhead.families.wiring import EncoderDecoder
from polyhead.readout.words import FixedBiasWords
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the base model of the paper (table 3)."""

    vocab_size: int = 37000
    target_vocab_size: int | None = None  # None: as the source's
    joint: bool = True  # source and target share one vocabulary and one embedding
    tied: bool = True  # the readout is the target's embedding
    d_model: int = 512
    n_layers: int = 6
    n_decoder_layers: int = 6
    n_heads: int = 8
    n_decoder_heads: int = 8
    d_ff: int = 2048
    decoder_d_ff: int = 2048
    max_len: int = 512
    activation: str = "relu"
    scaled: bool = True  # embeddings are multiplied by sqrt(d_model)
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    pad_id: int = 0
    eos_id: int = 1
    start_id: int = 0  # what a translation starts from
    forced_end_id: int | None = None  # the last token of a translation that reaches max_len

    def __post_init__(self) -> None:
        if self.joint and not self.tied:
            raise ConfigError(
                "joint = true shares one embedding with the readout, so tied must be true as well; an untied model has "
                "two vocabularies (in a recipe: tokenizer.joint = false)"
            )
        for name, words in (("pad_id", self.vocab_size), ("eos_id", self.words), ("start_id", self.words)):
            if not 0 <= getattr(self, name) < words:
                raise ConfigError(f"{name} must be one of the model's {words} words, found {getattr(self, name)}")

    @property
    def words(self) -> int:
        return self.target_vocab_size or self.vocab_size

    def encoder(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(1e-5), norm_at="post", final_norm=False, activation=self.activation,
            dropout=self.dropout, attention_dropout=self.attention_dropout, activation_dropout=self.activation_dropout,
        )  # fmt: skip

    def decoder(self) -> Recipe:
        return replace(
            self.encoder(), n_layers=self.n_decoder_layers, n_heads=self.n_decoder_heads, d_ff=self.decoder_d_ff,
            causal=True, cross=True,
        )  # fmt: skip


def build(c: Config) -> EncoderDecoder:
    source = nn.Embedding(c.vocab_size, c.d_model)
    target = source if c.joint else nn.Embedding(c.words, c.d_model)
    encoder, decoder = Stack(c.encoder()), Stack(c.decoder())
    head = FixedBiasWords(c.d_model, c.words, tied=target if c.tied else None)

    positions = Sinusoidal(c.max_len, c.d_model, layout="halves")

    def embed(tokens: nn.Embedding) -> Tokens:
        return Tokens(tokens, scale=math.sqrt(c.d_model) if c.scaled else 1.0, positions=positions, p=c.dropout)

    model = EncoderDecoder(c, embed(source), encoder, embed(target), decoder, head)
    quieten(encoder, c.n_layers)
    quieten(decoder, c.n_decoder_layers)
    return model


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "target_vocab_size": "decoder_vocab_size",
        "joint": "share_encoder_decoder_embeddings",
        "tied": "tie_word_embeddings",
        "d_model": "d_model",
        "n_layers": ("encoder_layers", "num_hidden_layers"),
        "n_decoder_layers": "decoder_layers",
        "n_heads": "encoder_attention_heads",
        "n_decoder_heads": "decoder_attention_heads",
        "d_ff": "encoder_ffn_dim",
        "decoder_d_ff": "decoder_ffn_dim",
        "max_len": "max_position_embeddings",
        "activation": "activation_function",
        "scaled": "scale_embedding",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "activation_dropout": "activation_dropout",
        "pad_id": "pad_token_id",
        "eos_id": "eos_token_id",
        "start_id": "decoder_start_token_id",
        "forced_end_id": "forced_eos_token_id",
    },
    absent={
        "vocab_size": 58101, "max_len": 1024, "n_layers": 12, "n_decoder_layers": 12, "n_heads": 16,
        "n_decoder_heads": 16, "d_ff": 4096, "decoder_d_ff": 4096, "d_model": 1024, "activation": "gelu",
        "scaled": False, "pad_id": 58100, "eos_id": 0, "start_id": 58100, "forced_end_id": 0,
    },
    only={
        "model_type": "marian",
        "is_encoder_decoder": True,
        "is_decoder": False,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "add_bias_logits": False,
        "static_position_embeddings": True,
    },
    ignore=(
        "bos_token_id", "init_std", "classif_dropout", "classifier_dropout", "decoder_layerdrop", "encoder_layerdrop",
        "gradient_checkpointing", "force_bos_token_to_be_generated",
        #  of models that once shared Marian's code: an offset into learned positions, a place of norms, a step
        "extra_pos_embeddings", "do_blenderbot_90_layernorm", "save_step",
    ),
)  # fmt: skip


def names(config: Config) -> Names:
    def attention(ours: str, theirs: str) -> dict[str, str]:
        return {
            f"{ours}.query": f"{theirs}.q_proj",
            f"{ours}.key": f"{theirs}.k_proj",
            f"{ours}.value": f"{theirs}.v_proj",
            f"{ours}.out": f"{theirs}.out_proj",
        }

    def block(ours: str, theirs: str) -> dict[str, str]:
        return {
            **attention(f"{ours}.attn", f"{theirs}.self_attn"),
            f"{ours}.attn_norm": f"{theirs}.self_attn_layer_norm",
            f"{ours}.mlp.up": f"{theirs}.fc1",
            f"{ours}.mlp.down": f"{theirs}.fc2",
            f"{ours}.mlp_norm": f"{theirs}.final_layer_norm",
        }

    encoder, decoder = "model.encoder.layers.{i}", "model.decoder.layers.{i}"
    source = "model.shared" if config.joint else "model.encoder.embed_tokens"
    target = "model.shared" if config.joint else "model.decoder.embed_tokens"
    copies = {"lm_head.weight": f"{target}.weight"} if config.tied else {}
    if config.joint:
        copies |= {f"model.{side}.embed_tokens.weight": "model.shared.weight" for side in ("encoder", "decoder")}
    return Names(
        {
            "source.tokens": source,
            "target.tokens": target,
            **block("encoder.blocks.{i}", encoder),
            **block("decoder.blocks.{i}", decoder),
            **attention("decoder.blocks.{i}.cross", f"{decoder}.encoder_attn"),
            "decoder.blocks.{i}.cross_norm": f"{decoder}.encoder_attn_layer_norm",
            "head": "lm_head",
        },
        tensors={"head.fixed_bias": "final_logits_bias"},
        copies=copies,
        ignore=(r"embed_positions\.weight$",),
    )


FAMILIES = (
    Family("MarianMTModel", "marian", "translation", Config, KEYS, names, build, "pair"),
)  # fmt: skip
