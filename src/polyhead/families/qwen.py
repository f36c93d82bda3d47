"""Qwen2 and Qwen3: decoders of Llama's kind (Yang et al. 2024, 2025).

What differs from Llama: Qwen2 adds biases to queries, keys and values alone; Qwen3 has none, and norms every query and
key of every head. In both, some layers may see a sliding window.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import RMSNorm
from polyhead.core.recipe import Biases
from polyhead.core.rotary import Rotary
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.rope import PLAIN, ROTARY, WINDOWS
from polyhead.families.wiring import Decoder
from polyhead.readout.words import Words
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are those of a config.json that says nothing."""

    vocab_size: int = 151936
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = 32
    head_dim: int | None = None  # None: d_model / n_heads
    d_ff: int = 22016
    max_len: int = 32768
    activation: str = "silu"
    norm_eps: float = 1e-6
    rotary: Rotary = PLAIN
    windows: tuple[int | None, ...] = ()  # of each layer; none at all if empty
    attention_bias: bool = False
    attention_dropout: float = 0.0
    tied: bool = False
    pad_id: int | None = None
    start_id: int | None = None
    eos_id: int | list[int] | None = None

    def recipe(self, bias: Biases, head_norm: RMSNorm | None) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim, d_ff=self.d_ff, norm=RMSNorm(self.norm_eps), head_norm=head_norm,
            position=self.rotary, activation=self.activation, gated=True, causal=True, window=self.windows or None,
            bias=bias, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def words(self) -> int:
        return self.vocab_size


def build(c: Config, recipe: Recipe) -> Decoder:
    tokens = nn.Embedding(c.vocab_size, c.d_model)
    head = Words(c.d_model, c.vocab_size, tied=tokens if c.tied else None)
    return Decoder(c, Tokens(tokens), Stack(recipe), head)


def qwen2(c: Config) -> Decoder:
    return build(c, c.recipe(Biases(out=False, mlp=False), None))


def qwen3(c: Config) -> Decoder:
    b = c.attention_bias
    return build(c, c.recipe(Biases(query=b, key=b, value=b, out=b, mlp=False), RMSNorm(c.norm_eps)))


TABLE = {
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
    "windows": WINDOWS,
    "attention_dropout": "attention_dropout",
    "tied": "tie_word_embeddings",
    "pad_id": "pad_token_id",
    "start_id": "bos_token_id",
    "eos_id": "eos_token_id",
}
QWEN2 = Keys(
    {ours: key for ours, key in TABLE.items() if ours != "head_dim"},
    only={"model_type": "qwen2"},
    ignore=("initializer_range",),
)
QWEN3 = Keys(
    {**TABLE, "attention_bias": "attention_bias"},
    absent={"head_dim": 128},
    only={"model_type": "qwen3"},
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
            f"{ours}.attn.query_norm": f"{layer}.self_attn.q_norm",
            f"{ours}.attn.key_norm": f"{layer}.self_attn.k_norm",
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


FAMILIES = (
    Family("Qwen2ForCausalLM", "qwen2", "next word", Config, QWEN2, names, qwen2, "text"),
    Family("Qwen3ForCausalLM", "qwen3", "next word", Config, QWEN3, names, qwen3, "text"),
)
