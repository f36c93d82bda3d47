"""ELECTRA: words + places + kinds -> encoder that looks both ways, norms after -> which words were replaced (Clark et
al. 2020). A small generator fills hidden words in, as BERT does; the discriminator, which people use, finds them.

What differs from BERT: words may be narrower than the stack, into which they are then projected; nothing is pooled; the
label head bends by GELU; the generator's head narrows again before its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from polyhead.core import Recipe, Stack
from polyhead.core.mlp import bend_of
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
    """Sizes and kinds; the defaults are the small model of the paper."""

    vocab_size: int = 30522
    d_embed: int = 128  # width of words before they are projected
    d_model: int = 256
    n_layers: int = 12
    n_heads: int = 4
    d_ff: int = 1024
    max_len: int = 512
    n_kinds: int = 2  # of which sentence of a pair a word is
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float | None = None  # None: as dropout
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    pad_id: int | None = 0

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), norm_at="post", final_norm=False, activation=self.activation,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def head_p(self) -> float:
        return self.dropout if self.head_dropout is None else self.head_dropout


class Replaced(nn.Module):
    """Of every place [B, T], a score above 0 where the word is likelier another one's than the writer's."""

    def __init__(self, width: int, activation: str):
        super().__init__()
        self.dense, self.bend, self.out = nn.Linear(width, width), bend_of(activation), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.bend(self.dense(x)))[..., 0]


def build(head: Head, c: Config) -> Encoder:
    embed = Tokens(
        nn.Embedding(c.vocab_size, c.d_embed), positions=Learned(c.max_len, c.d_embed),
        kinds=nn.Embedding(c.n_kinds, c.d_embed), norm=nn.LayerNorm(c.d_embed, eps=c.norm_eps), p=c.dropout,
        project=None if c.d_embed == c.d_model else nn.Linear(c.d_embed, c.d_model),
    )  # fmt: skip
    return Encoder(c, embed, Stack(c.recipe()), head(c, embed.tokens))


KEYS = Keys(
    {
        "vocab_size": "vocab_size",
        "d_embed": "embedding_size",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "max_len": "max_position_embeddings",
        "n_kinds": "type_vocab_size",
        "activation": "hidden_act",
        "norm_eps": "layer_norm_eps",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "head_dropout": "classifier_dropout",
        "labels": LABELS,
        "pad_id": "pad_token_id",
    },
    only={
        "model_type": "electra", "is_decoder": False, "add_cross_attention": False,
        "position_embedding_type": "absolute", "tie_word_embeddings": True,
    },
    #  the summary is of a head that is not built here, which chooses among several texts
    ignore=(
        "initializer_range", "bos_token_id", "eos_token_id", "summary_activation", "summary_last_dropout",
        "summary_type", "summary_use_proj",
    ),
)  # fmt: skip


def trunk(theirs: str) -> dict[str, str]:
    ours, layer = "encoder.blocks.{i}", f"{theirs}encoder.layer.{{i}}"
    return {
        "embed.tokens": f"{theirs}embeddings.word_embeddings",
        "embed.positions": f"{theirs}embeddings.position_embeddings",
        "embed.kinds": f"{theirs}embeddings.token_type_embeddings",
        "embed.norm": f"{theirs}embeddings.LayerNorm",
        "embed.project": f"{theirs}embeddings_project",
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
    prefix: str = "electra.",
    copies: Mapping[str, str] | None = None,
) -> Family:
    names = Names(
        {**trunk(prefix), **modules}, copies=copies or {}, prefix=prefix, ignore=(r"embeddings\.position_ids$",)
    )
    return Family(architecture, "electra", does, Config, KEYS, lambda config: names, partial(build, head), "text")


FAMILIES = (
    kind("ElectraModel", "vectors", lambda c, tokens: Vectors(c.d_model, pooled=False), {}, prefix=""),
    kind(
        "ElectraForPreTraining", "replaced words", lambda c, tokens: Replaced(c.d_model, c.activation),
        {"head.dense": "discriminator_predictions.dense", "head.out": "discriminator_predictions.dense_prediction"},
    ),
    kind(
        "ElectraForMaskedLM", "hidden words",
        lambda c, tokens: HiddenWords(tokens, width=c.d_model, activation="gelu", eps=c.norm_eps),
        {
            "head.dense": "generator_predictions.dense", "head.norm": "generator_predictions.LayerNorm",
            "head.words": "generator_lm_head",
        },
        copies={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    ),
    kind(
        "ElectraForSequenceClassification", "labels",
        lambda c, tokens: Labels(c.d_model, len(c.labels), through="gelu", p=(c.head_p, c.head_p)),
        {"head.dense": "classifier.dense", "head.out": "classifier.out_proj"},
    ),
    kind(
        "ElectraForTokenClassification", "place labels",
        lambda c, tokens: PlaceLabels(c.d_model, len(c.labels), p=c.head_p), {"head": "classifier"},
    ),
    kind(
        "ElectraForQuestionAnswering", "spans", lambda c, tokens: PlaceLabels(c.d_model, 2), {"head": "qa_outputs"},
    ),
)  # fmt: skip
