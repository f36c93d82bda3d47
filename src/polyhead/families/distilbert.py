"""DistilBERT: BERT with every second layer, taught by BERT (Sanh et al. 2019).

What differs from BERT: words have no kinds, nothing is pooled, the label head bends by ReLU, and every name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.embedding.positions import Learned
from polyhead.embedding.tokens import Tokens
from polyhead.families import Family
from polyhead.families.wiring import Encoder
from polyhead.readout.labels import Labels, PlaceLabels, Vectors
from polyhead.readout.words import HiddenWords
from polyhead.weights.config_keys import LABELS, Keys
from polyhead.weights.names import Names

Head = Callable[[Any, nn.Embedding], nn.Module]
EPS = 1e-12


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the model of the paper."""

    vocab_size: int = 30522
    d_model: int = 768
    n_layers: int = 6
    n_heads: int = 12
    d_ff: int = 3072
    max_len: int = 512
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.2
    span_dropout: float = 0.1
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    pad_id: int | None = 0

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(EPS), norm_at="post", final_norm=False, activation=self.activation,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
        )  # fmt: skip


def build(head: Head, c: Config) -> Encoder:
    embed = Tokens(
        nn.Embedding(c.vocab_size, c.d_model), positions=Learned(c.max_len, c.d_model),
        norm=nn.LayerNorm(c.d_model, eps=EPS), p=c.dropout,
    )  # fmt: skip
    return Encoder(c, embed, Stack(c.recipe()), head(c, embed.tokens))


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_model": "dim",
        "n_layers": "n_layers",
        "n_heads": "n_heads",
        "d_ff": "hidden_dim",
        "max_len": "max_position_embeddings",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "head_dropout": "seq_classif_dropout",
        "span_dropout": "qa_dropout",
        "labels": LABELS,
        "pad_id": "pad_token_id",
    },
    #  places that were computed as sines before training lie in the file like any others
    only={"model_type": "distilbert", "tie_word_embeddings": True},
    ignore=("initializer_range", "sinusoidal_pos_embds", "tie_weights_", "bos_token_id", "eos_token_id"),
)  # fmt: skip


def trunk(theirs: str) -> dict[str, str]:
    ours, layer = "encoder.blocks.{i}", f"{theirs}transformer.layer.{{i}}"
    return {
        "embed.tokens": f"{theirs}embeddings.word_embeddings",
        "embed.positions": f"{theirs}embeddings.position_embeddings",
        "embed.norm": f"{theirs}embeddings.LayerNorm",
        f"{ours}.attn.query": f"{layer}.attention.q_lin",
        f"{ours}.attn.key": f"{layer}.attention.k_lin",
        f"{ours}.attn.value": f"{layer}.attention.v_lin",
        f"{ours}.attn.out": f"{layer}.attention.out_lin",
        f"{ours}.attn_norm": f"{layer}.sa_layer_norm",
        f"{ours}.mlp.up": f"{layer}.ffn.lin1",
        f"{ours}.mlp.down": f"{layer}.ffn.lin2",
        f"{ours}.mlp_norm": f"{layer}.output_layer_norm",
    }


def kind(
    architecture: str,
    does: str,
    head: Head,
    modules: Mapping[str, str],
    *,
    prefix: str = "distilbert.",
    copies: Mapping[str, str] | None = None,
) -> Family:
    names = Names(
        {**trunk(prefix), **modules}, copies=copies or {}, prefix=prefix, ignore=(r"embeddings\.position_ids$",)
    )
    return Family(architecture, "distilbert", does, Config, KEYS, lambda config: names, partial(build, head), "text")


FAMILIES = (
    kind("DistilBertModel", "vectors", lambda c, tokens: Vectors(c.d_model, pooled=False), {}, prefix=""),
    kind(
        "DistilBertForMaskedLM", "hidden words",
        lambda c, tokens: HiddenWords(tokens, activation=c.activation, eps=EPS),
        {"head.dense": "vocab_transform", "head.norm": "vocab_layer_norm", "head.words": "vocab_projector"},
        copies={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ),
    kind(
        "DistilBertForSequenceClassification", "labels",
        lambda c, tokens: Labels(c.d_model, len(c.labels), through="relu", p=(0.0, c.head_dropout)),
        {"head.dense": "pre_classifier", "head.out": "classifier"},
    ),
    kind(
        "DistilBertForTokenClassification", "place labels",
        lambda c, tokens: PlaceLabels(c.d_model, len(c.labels), p=c.dropout), {"head": "classifier"},
    ),
    kind(
        "DistilBertForQuestionAnswering", "spans",
        lambda c, tokens: PlaceLabels(c.d_model, 2, p=c.span_dropout), {"head": "qa_outputs"},
    ),
)  # fmt: skip
