"""T5: words -> encoder -> memory; a decoder reads memory and its own past -> next word (Raffel et al. 2020).

Text to text: what is asked stands in the text. Places are a bias on the scores, by bucket of distance; norms come
before and centre nothing; scores are not scaled. What differs in v1.1, FLAN and mT5: a gated MLP, a head of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import RMSNorm
from polyhead.core.position import RelativeBias
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import EncoderDecoder
from polyhead.readout.words import ScaledWords
from polyhead.weights.config_keys import Form, Keys
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the small model of the paper."""

    vocab_size: int = 32128
    d_model: int = 512
    head_dim: int = 64
    d_ff: int = 2048
    n_layers: int = 6
    n_decoder_layers: int | None = None  # None: as n_layers
    n_heads: int = 8
    buckets: int = 32
    max_distance: int = 128
    mlp: str = "relu"  # an activation, "gated-" before it where a second product is a gate
    norm_eps: float = 1e-6
    dropout: float = 0.1
    tied: bool = True  # the head is the words' embedding
    scaled: bool = True  # by d_model^-0.5 before the head
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

    @property
    def gated(self) -> bool:
        return self.mlp.startswith("gated-")

    def encoder(self) -> Recipe:
        bend = self.mlp.removeprefix("gated-")
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, head_dim=self.head_dim, d_ff=self.d_ff,
            norm=RMSNorm(self.norm_eps), position=RelativeBias(self.buckets, self.max_distance),
            activation="gelu_new" if self.mlp == "gated-gelu" else bend, gated=self.gated, bias=False, scale=1.0,
            dropout=self.dropout, attention_dropout=self.dropout, activation_dropout=self.dropout,
        )  # fmt: skip

    def decoder(self) -> Recipe:
        return replace(
            self.encoder(), n_layers=self.n_decoder_layers or self.n_layers, causal=True, cross=True,
            position=RelativeBias(self.buckets, self.max_distance, bidirectional=False),
        )  # fmt: skip


def build(c: Config) -> EncoderDecoder:
    tokens = nn.Embedding(c.vocab_size, c.d_model)
    encoder, decoder = Stack(c.encoder()), Stack(c.decoder())
    head = ScaledWords(tokens, tied=c.tied, scaled=c.scaled)
    return EncoderDecoder(c, Tokens(tokens, p=c.dropout), encoder, Tokens(tokens, p=c.dropout), decoder, head)


def read_scaled(raw: Mapping[str, Any]) -> bool:
    """Newer files say it; in older ones a head of its own meant that nothing is scaled."""
    return bool(raw.get("scale_decoder_outputs", raw.get("tie_word_embeddings") is not False))


#  `transformers` takes tie_word_embeddings for the scale alone, and keeps it as it was read; so do we
SCALED = Form(
    ("scale_decoder_outputs", "tie_word_embeddings"), read_scaled, lambda scaled: {"scale_decoder_outputs": scaled}
)
TABLE: dict[str, str] = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "head_dim": "d_kv",
    "d_ff": "d_ff",
    "n_layers": "num_layers",
    "n_decoder_layers": "num_decoder_layers",
    "n_heads": "num_heads",
    "buckets": "relative_attention_num_buckets",
    "max_distance": "relative_attention_max_distance",
    "mlp": "feed_forward_proj",
    "norm_eps": "layer_norm_epsilon",
    "dropout": "dropout_rate",
    "pad_id": "pad_token_id",
    "eos_id": "eos_token_id",
    "start_id": "decoder_start_token_id",
}
IGNORED = (
    "initializer_factor", "n_positions", "dense_act_fn", "is_gated_act", "classifier_dropout", "bos_token_id",
    "is_decoder", "max_decoder_position_embeddings",
)  # fmt: skip
T5 = Keys(
    {**TABLE, "scaled": SCALED},
    absent={"start_id": None},
    only={"model_type": "t5", "is_encoder_decoder": True},
    ignore=IGNORED,
)
MT5 = Keys(
    TABLE,
    absent={"vocab_size": 250112, "d_ff": 1024, "n_layers": 8, "n_heads": 6, "mlp": "gated-gelu"},
    only={"model_type": "mt5", "is_encoder_decoder": True},
    ignore=(*IGNORED, "tie_word_embeddings", "scale_decoder_outputs"),
)


def attention(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}.query": f"{theirs}.q",
        f"{ours}.key": f"{theirs}.k",
        f"{ours}.value": f"{theirs}.v",
        f"{ours}.out": f"{theirs}.o",
    }


def block(ours: str, theirs: str, mlp: str, gated: bool) -> dict[str, str]:
    up = {f"{ours}.mlp.gate": f"{mlp}.DenseReluDense.wi_0", f"{ours}.mlp.up": f"{mlp}.DenseReluDense.wi_1"}
    return {
        **attention(f"{ours}.attn", f"{theirs}.layer.0.SelfAttention"),
        f"{ours}.attn_norm": f"{theirs}.layer.0.layer_norm",
        **(up if gated else {f"{ours}.mlp.up": f"{mlp}.DenseReluDense.wi"}),
        f"{ours}.mlp.down": f"{mlp}.DenseReluDense.wo",
        f"{ours}.mlp_norm": f"{mlp}.layer_norm",
    }


def names(c: Config) -> Names:
    encoder, decoder = "encoder.block.{i}", "decoder.block.{i}"
    copies = {f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")}
    return Names(
        {
            "source.tokens": "shared",
            **block("encoder.blocks.{i}", encoder, f"{encoder}.layer.1", c.gated),
            "encoder.bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "encoder.final_norm": "encoder.final_layer_norm",
            **block("decoder.blocks.{i}", decoder, f"{decoder}.layer.2", c.gated),
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


TASKS = {
    "summarization": {"prefix": "summarize: "},
    "translation_en_to_de": {"prefix": "translate English to German: "},
    "translation_en_to_fr": {"prefix": "translate English to French: "},
    "translation_en_to_ro": {"prefix": "translate English to Romanian: "},
}


def taught(c: Config) -> Mapping[str, Mapping[str, str]]:
    """The first models were taught these tasks beside their words; v1.1 and mT5, known by the gate, only words."""
    return {} if c.gated else TASKS


FAMILIES = tuple(
    Family(
        f"{name}ForConditionalGeneration", name.lower(), "text to text", config, keys, names, build, "pair", settled,
        taught,
    )
    for name, config, keys in (("T5", Config, T5), ("MT5", partial(Config, scaled=False), MT5))
)  # fmt: skip
