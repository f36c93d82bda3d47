"""BART: a text -> encoder -> memory; a decoder reads memory and its own past -> next word (Lewis et al. 2019).

What differs from Marian: places are learned, in tables that begin with two rows that are never looked at, one for each
side; words and places together are normed; both sides share one vocabulary and one embedding; the MLP bends by GELU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.embedding.positions import Learned
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import EncoderDecoder
from polyhead.readout.words import FixedBiasWords
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the large model of the paper."""

    vocab_size: int = 50265
    d_model: int = 1024
    n_layers: int = 12
    n_decoder_layers: int = 12
    n_heads: int = 16
    n_decoder_heads: int = 16
    d_ff: int = 4096
    decoder_d_ff: int = 4096
    max_len: int = 1024
    activation: str = "gelu"
    scaled: bool = False  # embeddings are multiplied by sqrt(d_model)
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    pad_id: int = 1
    eos_id: int = 2
    start_id: int = 2
    forced_end_id: int | None = 2  # the last token of an answer that reaches its limit

    @property
    def words(self) -> int:
        return self.vocab_size

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
    tokens = nn.Embedding(c.vocab_size, c.d_model)

    def embed() -> Tokens:
        return Tokens(
            tokens, scale=math.sqrt(c.d_model) if c.scaled else 1.0,
            positions=Learned(c.max_len, c.d_model, offset=2), norm=nn.LayerNorm(c.d_model, eps=1e-5), p=c.dropout,
        )  # fmt: skip

    head = FixedBiasWords(c.d_model, c.vocab_size, tied=tokens)
    return EncoderDecoder(c, embed(), Stack(c.encoder()), embed(), Stack(c.decoder()), head)


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
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
    only={
        "model_type": "bart", "is_encoder_decoder": True, "is_decoder": False, "tie_word_embeddings": True,
        "normalize_before": False, "normalize_embedding": True, "add_final_layer_norm": False,
        "add_bias_logits": False, "static_position_embeddings": False, "extra_pos_embeddings": 2,
        "do_blenderbot_90_layernorm": False,
    },
    ignore=(
        "bos_token_id", "init_std", "classif_dropout", "classifier_dropout", "decoder_layerdrop", "encoder_layerdrop",
        "gradient_checkpointing",
        "forced_bos_token_id", "force_bos_token_to_be_generated",  # how to decode
        "save_step", "replacing_rate", "student_decoder_layers", "student_encoder_layers",  # how it was trained
    ),
)  # fmt: skip


def attention(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}.query": f"{theirs}.q_proj",
        f"{ours}.key": f"{theirs}.k_proj",
        f"{ours}.value": f"{theirs}.v_proj",
        f"{ours}.out": f"{theirs}.out_proj",
    }


def side(embed: str, stack: str, theirs: str) -> dict[str, str]:
    ours, layer = f"{stack}.blocks.{{i}}", f"{theirs}.layers.{{i}}"
    return {
        f"{embed}.positions": f"{theirs}.embed_positions",
        f"{embed}.norm": f"{theirs}.layernorm_embedding",
        **attention(f"{ours}.attn", f"{layer}.self_attn"),
        f"{ours}.attn_norm": f"{layer}.self_attn_layer_norm",
        f"{ours}.mlp.up": f"{layer}.fc1",
        f"{ours}.mlp.down": f"{layer}.fc2",
        f"{ours}.mlp_norm": f"{layer}.final_layer_norm",
    }


SHARED = "model.shared.weight"
NAMES = Names(
    {
        "source.tokens": "model.shared",
        **side("source", "encoder", "model.encoder"),
        **side("target", "decoder", "model.decoder"),
        **attention("decoder.blocks.{i}.cross", "model.decoder.layers.{i}.encoder_attn"),
        "decoder.blocks.{i}.cross_norm": "model.decoder.layers.{i}.encoder_attn_layer_norm",
    },
    tensors={"head.fixed_bias": "final_logits_bias"},
    copies={
        "lm_head.weight": SHARED,
        "model.encoder.embed_tokens.weight": SHARED,
        "model.decoder.embed_tokens.weight": SHARED,
    },
)
FAMILIES = (
    Family("BartForConditionalGeneration", "bart", "text to text", Config, KEYS, lambda c: NAMES, build, "pair"),
)
