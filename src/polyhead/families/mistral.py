"""Mistral: a decoder of Llama's kind in which every layer sees a sliding window (Jiang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import RMSNorm
from polyhead.core.rotary import Rotary
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.rope import PLAIN, ROTARY
from polyhead.families.wiring import Decoder
from polyhead.readout.words import Words
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the 7B model of the paper."""

    vocab_size: int = 32000
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = 8
    head_dim: int | None = None  # None: d_model / n_heads
    d_ff: int = 14336
    max_len: int = 131072
    activation: str = "silu"
    norm_eps: float = 1e-6
    rotary: Rotary = PLAIN
    window: int | None = 4096
    attention_dropout: float = 0.0
    tied: bool = False
    pad_id: int | None = None
    start_id: int | None = 1
    eos_id: int | list[int] | None = 2

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim, d_ff=self.d_ff, norm=RMSNorm(self.norm_eps), position=self.rotary,
            activation=self.activation, gated=True, causal=True, window=self.window, bias=False,
            attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def words(self) -> int:
        return self.vocab_size


def build(c: Config) -> Decoder:
    tokens = nn.Embedding(c.vocab_size, c.d_model)
    head = Words(c.d_model, c.vocab_size, tied=tokens if c.tied else None)
    return Decoder(c, Tokens(tokens), Stack(c.recipe()), head)


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "d_ff": "intermediate_size",
        "max_len": "max_position_embeddings",
        "activation": "hidden_act",
        "norm_eps": "rms_norm_eps",
        "rotary": ROTARY,
        "window": "sliding_window",
        "attention_dropout": "attention_dropout",
        "tied": "tie_word_embeddings",
        "pad_id": "pad_token_id",
        "start_id": "bos_token_id",
        "eos_id": "eos_token_id",
    },
    only={"model_type": "mistral"},
    ignore=("initializer_range",),
)


def names(c: Config) -> Names:
    ours, layer = "decoder.blocks.{i}", "model.layers.{i}"
    return Names(
        {
            "embed.tokens": "model.embed_tokens",
            f"{ours}.attn_norm": f"{layer}.input_layernorm",
            f"{ours}.attn.query": f"{layer}.self_attn.q_proj",
            f"{ours}.attn.key": f"{layer}.self_attn.k_proj",
            f"{ours}.attn.value": f"{layer}.self_attn.v_proj",
            f"{ours}.attn.out": f"{layer}.self_attn.o_proj",
            f"{ours}.mlp_norm": f"{layer}.post_attention_layernorm",
            f"{ours}.mlp.gate": f"{layer}.mlp.gate_proj",
            f"{ours}.mlp.up": f"{layer}.mlp.up_proj",
            f"{ours}.mlp.down": f"{layer}.mlp.down_proj",
            "decoder.final_norm": "model.norm",
            "head": "lm_head",
        },
        copies={"lm_head.weight": "model.embed_tokens.weight"} if c.tied else {},
        ignore=(r"rotary_emb\.inv_freq$",),
    )


FAMILIES = (Family("MistralForCausalLM", "mistral", "next word", Config, KEYS, names, build, "text"),)
