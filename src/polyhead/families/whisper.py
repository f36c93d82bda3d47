"""Whisper: a log-mel picture of 30 seconds -> encoder -> memory; a decoder reads memory and its own past -> next word
(Radford et al. 2022). Norms before; keys are projected without a bias.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.core.recipe import Biases
from polyhead.embedding.frames import Frames
from polyhead.embedding.positions import Learned
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import EncoderDecoder
from polyhead.readout.words import Words
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the tiny model of the paper."""

    vocab_size: int = 51865
    bands: int = 80  # of the mel scale
    d_model: int = 384
    n_layers: int = 4
    n_decoder_layers: int = 4
    n_heads: int = 6
    n_decoder_heads: int = 6
    d_ff: int = 1536
    decoder_d_ff: int = 1536
    n_frames: int = 1500  # places of the memory, each of two columns of the picture
    max_len: int = 448
    activation: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    pad_id: int = 50256
    eos_id: int = 50256
    start_id: int = 50257

    @property
    def words(self) -> int:
        return self.vocab_size

    def encoder(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(1e-5), activation=self.activation, bias=Biases(key=False),
            dropout=self.dropout, attention_dropout=self.attention_dropout, activation_dropout=self.activation_dropout,
        )  # fmt: skip

    def decoder(self) -> Recipe:
        return replace(
            self.encoder(), n_layers=self.n_decoder_layers, n_heads=self.n_decoder_heads, d_ff=self.decoder_d_ff,
            causal=True, cross=True,
        )  # fmt: skip


def build(c: Config) -> EncoderDecoder:
    tokens = nn.Embedding(c.vocab_size, c.d_model)
    source = Frames(c.bands, c.d_model, Learned(c.n_frames, c.d_model), p=c.dropout)
    target = Tokens(tokens, positions=Learned(c.max_len, c.d_model), p=c.dropout)
    head = Words(c.d_model, c.vocab_size, tied=tokens)
    return EncoderDecoder(c, source, Stack(c.encoder()), target, Stack(c.decoder()), head)


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "bands": "num_mel_bins",
        "d_model": "d_model",
        "n_layers": ("encoder_layers", "num_hidden_layers"),
        "n_decoder_layers": "decoder_layers",
        "n_heads": "encoder_attention_heads",
        "n_decoder_heads": "decoder_attention_heads",
        "d_ff": "encoder_ffn_dim",
        "decoder_d_ff": "decoder_ffn_dim",
        "n_frames": "max_source_positions",
        "max_len": "max_target_positions",
        "activation": "activation_function",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "activation_dropout": "activation_dropout",
        "pad_id": "pad_token_id",
        "eos_id": "eos_token_id",
        "start_id": "decoder_start_token_id",
    },
    only={"model_type": "whisper", "is_encoder_decoder": True, "tie_word_embeddings": True},
    ignore=(
        "apply_spec_augment", "begin_suppress_tokens", "bos_token_id", "classifier_proj_size", "decoder_layerdrop",
        "encoder_layerdrop", "forced_decoder_ids", "init_std", "mask_feature_length", "mask_feature_min_masks",
        "mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob", "median_filter_width",
        "suppress_tokens", "use_weighted_layer_sum", "is_decoder",
        "scale_embedding",  # is in every file and scales nothing
    ),
)  # fmt: skip


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


NAMES = Names(
    {
        "source.first": "model.encoder.conv1",
        "source.second": "model.encoder.conv2",
        "source.positions": "model.encoder.embed_positions",
        **block("encoder.blocks.{i}", "model.encoder.layers.{i}"),
        "encoder.final_norm": "model.encoder.layer_norm",
        "target.tokens": "model.decoder.embed_tokens",
        "target.positions": "model.decoder.embed_positions",
        **block("decoder.blocks.{i}", "model.decoder.layers.{i}"),
        **attention("decoder.blocks.{i}.cross", "model.decoder.layers.{i}.encoder_attn"),
        "decoder.blocks.{i}.cross_norm": "model.decoder.layers.{i}.encoder_attn_layer_norm",
        "decoder.final_norm": "model.decoder.layer_norm",
    },
    copies={"proj_out.weight": "model.decoder.embed_tokens.weight"},
)
FAMILIES = (
    Family(
        "WhisperForConditionalGeneration", "whisper", "speech to text", Config, KEYS, lambda c: NAMES, build, "sound"
    ),
)
