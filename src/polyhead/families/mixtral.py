"""Mixtral: a decoder of Mistral's kind whose MLPs are eight each, of which every word takes two (Jiang et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import RMSNorm
from polyhead.core.recipe import Experts
from polyhead.core.rotary import Rotary
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.rope import ROTARY
from polyhead.families.wiring import Decoder
from polyhead.readout.words import Words
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names

SLOW = Rotary(1_000_000.0)


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the 8x7B model of the paper.

    balance: what the reference multiplies `core.experts.balance_loss` by, for whoever trains.
    """

    vocab_size: int = 32000
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = 8
    head_dim: int | None = None  # None: d_model / n_heads
    d_ff: int = 14336
    n_experts: int = 8
    experts_per_token: int = 2
    jitter: float = 0.0
    balance: float = 0.001
    max_len: int = 131072
    activation: str = "silu"
    norm_eps: float = 1e-5
    rotary: Rotary = SLOW
    window: int | None = None
    attention_dropout: float = 0.0
    tied: bool = False
    pad_id: int | None = None
    start_id: int | None = 1
    eos_id: int | list[int] | None = 2

    def recipe(self) -> Recipe:
        experts = Experts(
            n=self.n_experts, per_token=self.experts_per_token, renormalise=True, jitter=self.jitter, jitter_all=True
        )
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim, d_ff=self.d_ff, norm=RMSNorm(self.norm_eps), position=self.rotary,
            activation=self.activation, gated=True, experts=experts, causal=True, window=self.window, bias=False,
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
        "n_experts": ("num_local_experts", "num_experts"),
        "experts_per_token": "num_experts_per_tok",
        "jitter": "router_jitter_noise",
        "balance": "router_aux_loss_coef",
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
    only={"model_type": "mixtral"},
    ignore=("initializer_range", "output_router_logits"),
)


def names(c: Config) -> Names:
    ours, layer = "decoder.blocks.{i}", "model.layers.{i}"
    experts = {
        f"{ours}.mlp.experts.{e}.{part}": f"{layer}.block_sparse_moe.experts.{e}.{theirs}"
        for e in range(c.n_experts)
        for part, theirs in (("gate", "w1"), ("down", "w2"), ("up", "w3"))
    }
    return Names(
        {
            "embed.tokens": "model.embed_tokens",
            f"{ours}.attn_norm": f"{layer}.input_layernorm",
            f"{ours}.attn.query": f"{layer}.self_attn.q_proj",
            f"{ours}.attn.key": f"{layer}.self_attn.k_proj",
            f"{ours}.attn.value": f"{layer}.self_attn.v_proj",
            f"{ours}.attn.out": f"{layer}.self_attn.o_proj",
            f"{ours}.mlp_norm": f"{layer}.post_attention_layernorm",
            f"{ours}.mlp.router": f"{layer}.block_sparse_moe.gate",
            **experts,
            "decoder.final_norm": "model.norm",
            "head": "lm_head",
        },
        copies={"lm_head.weight": "model.embed_tokens.weight"} if c.tied else {},
        ignore=(r"rotary_emb\.inv_freq$",),
    )


FAMILIES = (Family("MixtralForCausalLM", "mixtral", "next word", Config, KEYS, names, build, "text"),)
