"""RoBERTa: BERT trained longer (Liu et al. 2019).

What differs from BERT: places are counted from the padding id + 1 on, words are of one kind, and the label head has a
layer of its own instead of the pooler that pretraining left.
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


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the base model of the paper."""

    vocab_size: int = 50265
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    table_len: int = 514  # places in the file's table, of which the first pad_id + 1 are never looked at
    n_kinds: int = 1
    activation: str = "gelu"
    norm_eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float | None = None  # None: as dropout
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    pad_id: int = 1

    @property
    def max_len(self) -> int:
        return self.table_len - self.pad_id - 1

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), norm_at="post", final_norm=False, activation=self.activation,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def head_p(self) -> float:
        return self.dropout if self.head_dropout is None else self.head_dropout


def build(head: Head, c: Config) -> Encoder:
    embed = Tokens(
        nn.Embedding(c.vocab_size, c.d_model), positions=Learned(c.max_len, c.d_model, offset=c.pad_id + 1),
        kinds=nn.Embedding(c.n_kinds, c.d_model), norm=nn.LayerNorm(c.d_model, eps=c.norm_eps), p=c.dropout,
    )  # fmt: skip
    return Encoder(c, embed, Stack(c.recipe()), head(c, embed.tokens))


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "table_len": "max_position_embeddings",
        "n_kinds": "type_vocab_size",
        "activation": "hidden_act",
        "norm_eps": "layer_norm_eps",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "head_dropout": "classifier_dropout",
        "labels": LABELS,
        "pad_id": "pad_token_id",
    },
    absent={"table_len": 512, "n_kinds": 2, "norm_eps": 1e-12},
    only={
        "model_type": "roberta", "is_decoder": False, "add_cross_attention": False,
        "position_embedding_type": "absolute", "tie_word_embeddings": True,
    },
    ignore=("initializer_range", "gradient_checkpointing", "bos_token_id", "eos_token_id"),
)  # fmt: skip


def trunk(theirs: str) -> dict[str, str]:
    ours, layer = "encoder.blocks.{i}", f"{theirs}encoder.layer.{{i}}"
    return {
        "embed.tokens": f"{theirs}embeddings.word_embeddings",
        "embed.positions": f"{theirs}embeddings.position_embeddings",
        "embed.kinds": f"{theirs}embeddings.token_type_embeddings",
        "embed.norm": f"{theirs}embeddings.LayerNorm",
        f"{ours}.attn.query": f"{layer}.attention.self.query",
        f"{ours}.attn.key": f"{layer}.attention.self.key",
        f"{ours}.attn.value": f"{layer}.attention.self.value",
        f"{ours}.attn.out": f"{layer}.attention.output.dense",
        f"{ours}.attn_norm": f"{layer}.attention.output.LayerNorm",
        f"{ours}.mlp.up": f"{layer}.intermediate.dense",
        f"{ours}.mlp.down": f"{layer}.output.dense",
        f"{ours}.mlp_norm": f"{layer}.output.LayerNorm",
    }


def kind(
    architecture: str,
    does: str,
    head: Head,
    modules: Mapping[str, str],
    *,
    prefix: str = "roberta.",
    tensors: Mapping[str, str] | None = None,
    copies: Mapping[str, str] | None = None,
) -> Family:
    names = Names(
        {**trunk(prefix), **modules},
        tensors=tensors or {},
        copies=copies or {},
        prefix=prefix,
        ignore=(r"embeddings\.position_ids$", *([r"^(roberta\.)?pooler\."] if prefix else [])),
    )
    return Family(architecture, "roberta", does, Config, KEYS, lambda config: names, partial(build, head), "text")


WORDS = "roberta.embeddings.word_embeddings.weight"
FAMILIES = (
    kind(
        "RobertaModel", "vectors", lambda c, tokens: Vectors(c.d_model, pooled=True), {"head.dense": "pooler.dense"},
        prefix="",
    ),
    kind(
        "RobertaForMaskedLM", "hidden words",
        lambda c, tokens: HiddenWords(tokens, activation="gelu", eps=c.norm_eps),
        {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm"},
        tensors={"head.words.bias": "lm_head.bias"},
        copies={"lm_head.decoder.weight": WORDS, "lm_head.decoder.bias": "lm_head.bias"},
    ),
    kind(
        "RobertaForSequenceClassification", "labels",
        lambda c, tokens: Labels(c.d_model, len(c.labels), through="tanh", p=(c.head_p, c.head_p)),
        {"head.dense": "classifier.dense", "head.out": "classifier.out_proj"},
    ),
    kind(
        "RobertaForTokenClassification", "place labels",
        lambda c, tokens: PlaceLabels(c.d_model, len(c.labels), p=c.head_p), {"head": "classifier"},
    ),
    kind(
        "RobertaForQuestionAnswering", "spans", lambda c, tokens: PlaceLabels(c.d_model, 2), {"head": "qa_outputs"},
    ),
)  # fmt: skip
