"""BLOOM: words, normed -> causal stack, norms before, scores fall with distance -> next word (Le Scao et al. 2022).

What differs from GPT-2: there is no table of places, every head has a fixed slope instead (ALiBi); words are normed
before the first block; in the file query, key and value lie side by side head by head, and untransposed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.core.position import LinearBias
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import Decoder
from polyhead.readout.words import Words
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names, Part


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are those of the reference, which are a toy: sizes.py has the real ones."""

    vocab_size: int = 250880
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 8
    norm_eps: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    pad_id: int | None = None
    start_id: int | None = 1
    eos_id: int | None = 2

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=4 * self.d_model,
            norm=LayerNorm(self.norm_eps), position=LinearBias(), activation="gelu_new", causal=True,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def words(self) -> int:
        return self.vocab_size

    @property
    def max_len(self) -> int:
        """Slopes go on at any length, though it learned from 2,048 words at once; so many are read at most, so that
        memory suffices."""
        return 1 << 15


def build(c: Config) -> Decoder:
    embed = Tokens(nn.Embedding(c.vocab_size, c.d_model), norm=LayerNorm(c.norm_eps).make(c.d_model))
    return Decoder(c, embed, Stack(c.recipe()), Words(c.d_model, c.vocab_size, tied=embed.tokens))


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_model": ("hidden_size", "n_embed"),  # the released files have the second
        "n_layers": ("n_layer", "num_hidden_layers"),
        "n_heads": ("n_head", "num_attention_heads"),
        "norm_eps": "layer_norm_epsilon",
        "dropout": "hidden_dropout",
        "attention_dropout": "attention_dropout",
        "pad_id": "pad_token_id",
        "start_id": "bos_token_id",
        "eos_id": "eos_token_id",
    },
    only={
        "model_type": "bloom", "apply_residual_connection_post_layernorm": False, "tie_word_embeddings": True,
        "slow_but_exact": False,  # where true, the reference leaves two biases out
    },
    ignore=(
        "initializer_range", "pretraining_tp", "seq_length", "offset_alibi", "attention_softmax_in_fp32",
        "masked_softmax_fusion", "bias_dropout_fusion", "skip_bias_add", "skip_bias_add_qkv", "unk_token_id",
    ),
)  # fmt: skip


def names(c: Config) -> Names:
    ours, layer = "decoder.blocks.{i}", "transformer.h.{i}"
    joined = f"{layer}.self_attention.query_key_value"
    return Names(
        {
            "embed.tokens": "transformer.word_embeddings",
            "embed.norm": "transformer.word_embeddings_layernorm",
            f"{ours}.attn_norm": f"{layer}.input_layernorm",
            f"{ours}.attn.query": Part(joined, 0, 3, groups=c.n_heads),
            f"{ours}.attn.key": Part(joined, 1, 3, groups=c.n_heads),
            f"{ours}.attn.value": Part(joined, 2, 3, groups=c.n_heads),
            f"{ours}.attn.out": f"{layer}.self_attention.dense",
            f"{ours}.mlp_norm": f"{layer}.post_attention_layernorm",
            f"{ours}.mlp.up": f"{layer}.mlp.dense_h_to_4h",
            f"{ours}.mlp.down": f"{layer}.mlp.dense_4h_to_h",
            "decoder.final_norm": "transformer.ln_f",
        },
        copies={"lm_head.weight": "transformer.word_embeddings.weight"},
        prefix="transformer.",
    )


FAMILIES = (Family("BloomForCausalLM", "bloom", "next word", Config, KEYS, names, build, "text"),)
