"""Switch Transformer: a T5 in which some layers have many MLPs, and every word takes one (Fedus et al. 2021).

An expert takes only so many words of a text; from words that come too late it adds nothing, they pass through
unchanged. The router computes in float32. As the reference has it, room is counted anew in each call: a word that is
written with the others in a cache finds every expert empty, and padding takes room as words do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import RMSNorm
from polyhead.core.position import RelativeBias
from polyhead.core.recipe import Experts
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import EncoderDecoder
from polyhead.readout.words import ScaledWords
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are those of the reference.

    balance, small: what the reference multiplies `core.experts.balance_loss` and `z_loss` by, for whoever trains.
    """

    vocab_size: int = 32128
    d_model: int = 768
    head_dim: int = 64
    d_ff: int = 2048
    n_layers: int = 12
    n_decoder_layers: int | None = 12  # None: as n_layers
    n_sparse: int = 3  # layers of the encoder that have experts, spread evenly
    n_decoder_sparse: int = 3
    n_heads: int = 12
    n_experts: int = 8
    capacity: int = 64  # words of one text that an expert takes
    router_bias: bool = False
    jitter: float = 0.01
    balance: float = 0.001
    small: float = 0.001
    buckets: int = 32
    max_distance: int = 128
    activation: str = "relu"
    norm_eps: float = 1e-6
    dropout: float = 0.1
    tied: bool = True  # the head is the words' embedding
    pad_id: int = 0
    eos_id: int = 1
    start_id: int | None = 0

    @property
    def words(self) -> int:
        return self.vocab_size

    @property
    def max_len(self) -> int:
        """Buckets of distance tell places apart at any length; so many are read at most, so that memory suffices."""
        return 1 << 15

    @property
    def forced_end_id(self) -> None:
        return None

    def sparse(self, n_layers: int, n_sparse: int) -> tuple[Experts | None, ...]:
        """The experts of each layer: from the second on, every so many-th has some."""
        step = n_layers // n_sparse if n_sparse else n_layers
        experts = Experts(
            n=self.n_experts, capacity=self.capacity, bias=self.router_bias, exact=True, jitter=self.jitter
        )
        return tuple(experts if step == 1 or (step and i % step == 1) else None for i in range(n_layers))

    def encoder(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, head_dim=self.head_dim, d_ff=self.d_ff,
            norm=RMSNorm(self.norm_eps), position=RelativeBias(self.buckets, self.max_distance),
            activation=self.activation, experts=self.sparse(self.n_layers, self.n_sparse), bias=False, scale=1.0,
            dropout=self.dropout, attention_dropout=self.dropout, activation_dropout=self.dropout,
        )  # fmt: skip

    def decoder(self) -> Recipe:
        n_layers = self.n_decoder_layers or self.n_layers
        return replace(
            self.encoder(), n_layers=n_layers, experts=self.sparse(n_layers, self.n_decoder_sparse), causal=True,
            cross=True, position=RelativeBias(self.buckets, self.max_distance, bidirectional=False),
        )  # fmt: skip


def build(c: Config) -> EncoderDecoder:
    tokens = nn.Embedding(c.vocab_size, c.d_model)
    encoder, decoder = Stack(c.encoder()), Stack(c.decoder())
    head = ScaledWords(tokens, tied=c.tied, scaled=True)
    return EncoderDecoder(c, Tokens(tokens, p=c.dropout), encoder, Tokens(tokens, p=c.dropout), decoder, head)


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_model": ("d_model", "hidden_size"),
        "head_dim": "d_kv",
        "d_ff": "d_ff",
        "n_layers": ("num_layers", "num_hidden_layers"),
        "n_decoder_layers": "num_decoder_layers",
        "n_sparse": "num_sparse_encoder_layers",
        "n_decoder_sparse": "num_sparse_decoder_layers",
        "n_heads": ("num_heads", "num_attention_heads"),
        "n_experts": "num_experts",
        "capacity": "expert_capacity",
        "router_bias": "router_bias",
        "jitter": "router_jitter_noise",
        "balance": "router_aux_loss_coef",
        "small": "router_z_loss_coef",
        "buckets": "relative_attention_num_buckets",
        "max_distance": "relative_attention_max_distance",
        "activation": "dense_act_fn",
        "norm_eps": "layer_norm_epsilon",
        "dropout": "dropout_rate",
        "pad_id": "pad_token_id",
        "eos_id": "eos_token_id",
        "start_id": "decoder_start_token_id",
    },
    absent={"start_id": None},
    only={
        "model_type": "switch_transformers", "is_encoder_decoder": True, "tie_word_embeddings": True,
        "router_dtype": "float32", "num_selected_experts": 1, "feed_forward_proj": "relu", "is_gated_act": False,
    },
    #  the reference reads none of these: padding is sent to experts like words, steps follow from the numbers of layers
    ignore=(
        "router_ignore_padding_tokens", "encoder_sparse_step", "decoder_sparse_step", "add_router_probs",
        "router_type", "initializer_factor", "n_positions", "bos_token_id", "is_decoder", "add_cross_attention",
    ),
)  # fmt: skip


def attention(ours: str, theirs: str) -> dict[str, str]:
    parts = (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o"))
    return {f"{ours}.{part}": f"{theirs}.{name}" for part, name in parts}


def block(ours: str, theirs: str, mlp: str, n_experts: int) -> dict[str, str]:
    """The rows of a layer without experts and of one with them; a layer uses those that it has."""
    experts = {f"experts.{e}.": f"experts.expert_{e}." for e in range(n_experts)}
    return {
        **attention(f"{ours}.attn", f"{theirs}.layer.0.SelfAttention"),
        f"{ours}.attn_norm": f"{theirs}.layer.0.layer_norm",
        f"{ours}.mlp.router": f"{mlp}.mlp.router.classifier",
        **{f"{ours}.mlp.{one}up": f"{mlp}.mlp.{other}wi" for one, other in ({"": ""} | experts).items()},
        **{f"{ours}.mlp.{one}down": f"{mlp}.mlp.{other}wo" for one, other in ({"": ""} | experts).items()},
        f"{ours}.mlp_norm": f"{mlp}.layer_norm",
    }


def names(c: Config) -> Names:
    encoder, decoder = "encoder.block.{i}", "decoder.block.{i}"
    copies = {f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")}
    return Names(
        {
            "source.tokens": "shared",
            **block("encoder.blocks.{i}", encoder, f"{encoder}.layer.1", c.n_experts),
            "encoder.bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "encoder.final_norm": "encoder.final_layer_norm",
            **block("decoder.blocks.{i}", decoder, f"{decoder}.layer.2", c.n_experts),
            **attention("decoder.blocks.{i}.cross", f"{decoder}.layer.1.EncDecAttention"),
            "decoder.blocks.{i}.cross_norm": f"{decoder}.layer.1.layer_norm",
            "decoder.bias": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "decoder.final_norm": "decoder.final_layer_norm",
            "head.words": "lm_head",
        },
        copies={**copies, "lm_head.weight": "shared.weight"} if c.tied else copies,
        ignore=(r"EncDecAttention\.relative_attention_bias",),
    )


def settled(c: Config, tensor: Callable[[str], Tensor | None]) -> Config:
    """Whether the head is the embedding is for the tensors to say, whatever config.json does."""
    head, shared = tensor("lm_head.weight"), tensor("shared.weight")
    return replace(c, tied=head is None or shared is None or torch.equal(head, shared))


FAMILIES = (
    Family(
        "SwitchTransformersForConditionalGeneration", "switch_transformers", "text to text", Config, KEYS, names, build,
        "pair", settled,
    ),
)  # fmt: skip
