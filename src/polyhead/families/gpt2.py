"""GPT-2: words + places -> causal stack, norms before -> next word (Radford et al. 2019).

GPT-3, Megatron-LM and Turing-NLG are the same model in other sizes (sizes.py); GPT-3 also makes every second layer
sparse, which its paper does not describe to the letter and which is not built here.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.embedding.positions import Learned
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import Decoder
from polyhead.readout.labels import Vectors
from polyhead.readout.words import Words
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names, Part


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the smallest model of the paper."""

    vocab_size: int = 50257
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int | None = None  # None: 4 d_model
    max_len: int = 1024
    activation: str = "gelu_new"
    norm_eps: float = 1e-5
    dropout: float = 0.1
    embed_dropout: float = 0.1
    attention_dropout: float = 0.1
    pad_id: int | None = None
    start_id: int | None = 50256
    eos_id: int | None = 50256

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff or 4 * self.d_model,
            norm=LayerNorm(self.norm_eps), activation=self.activation, causal=True,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def words(self) -> int:
        return self.vocab_size


def build(c: Config) -> Decoder:
    embed = Tokens(nn.Embedding(c.vocab_size, c.d_model), positions=Learned(c.max_len, c.d_model), p=c.embed_dropout)
    return Decoder(c, embed, Stack(c.recipe()), Words(c.d_model, c.vocab_size, tied=embed.tokens))


def without_head(c: Config) -> Decoder:
    model = build(c)
    model.head = Vectors(c.d_model, pooled=False)
    return model


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_model": "n_embd",
        "n_layers": "n_layer",
        "n_heads": "n_head",
        "d_ff": "n_inner",
        "max_len": ("n_positions", "n_ctx"),
        "activation": "activation_function",
        "norm_eps": "layer_norm_epsilon",
        "dropout": "resid_pdrop",
        "embed_dropout": "embd_pdrop",
        "attention_dropout": "attn_pdrop",
        "pad_id": "pad_token_id",
        "start_id": "bos_token_id",
        "eos_id": "eos_token_id",
    },
    only={
        "model_type": "gpt2", "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False, "tie_word_embeddings": True,
    },
    ignore=(
        "initializer_range", "gradient_checkpointing", "reorder_and_upcast_attn", "summary_activation",
        "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "id2label", "label2id",
    ),
)  # fmt: skip


def names(theirs: str) -> Names:
    ours, layer = "decoder.blocks.{i}", f"{theirs}h.{{i}}"
    joined, turned = f"{layer}.attn.c_attn", {"transposed": True}
    return Names(
        {
            "embed.tokens": f"{theirs}wte",
            "embed.positions": f"{theirs}wpe",
            f"{ours}.attn_norm": f"{layer}.ln_1",
            f"{ours}.attn.query": Part(joined, 0, 3, **turned),
            f"{ours}.attn.key": Part(joined, 1, 3, **turned),
            f"{ours}.attn.value": Part(joined, 2, 3, **turned),
            f"{ours}.attn.out": Part(f"{layer}.attn.c_proj", **turned),
            f"{ours}.mlp_norm": f"{layer}.ln_2",
            f"{ours}.mlp.up": Part(f"{layer}.mlp.c_fc", **turned),
            f"{ours}.mlp.down": Part(f"{layer}.mlp.c_proj", **turned),
            "decoder.final_norm": f"{theirs}ln_f",
        },
        copies={"lm_head.weight": f"{theirs}wte.weight"},
        prefix=theirs,
        ignore=(r"\.attn\.(masked_)?bias$",),
    )


FAMILIES = (
    Family("GPT2LMHeadModel", "gpt2", "next word", Config, KEYS, lambda c: names("transformer."), build, "text"),
    Family("GPT2Model", "gpt2", "vectors", Config, KEYS, lambda c: names(""), without_head, "text"),
)
