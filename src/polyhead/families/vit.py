"""ViT and DeiT: patches + places -> encoder, norms before -> what the image shows (Dosovitskiy et al. 2021; Touvron et
al. 2021).

What differs in DeiT: a second vector before the patches has learned from a teacher, and may have a head of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.core.recipe import Biases
from polyhead.embedding.patches import Patches
from polyhead.families import Family
from polyhead.families.wiring import Encoder
from polyhead.readout.labels import Labels, Vectors
from polyhead.weights.config_keys import LABELS, Keys, side
from polyhead.weights.names import Names


@dataclass(frozen=True)
class Config:
    """Sizes and kinds; the defaults are the base model of the paper."""

    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    image_size: tuple[int, int] = (224, 224)  # height, width
    patch_size: tuple[int, int] = (16, 16)
    channels: int = 3
    qkv_bias: bool = True
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

    def recipe(self) -> Recipe:
        here = self.qkv_bias
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), activation=self.activation, bias=Biases(query=here, key=here, value=here),
            dropout=self.dropout, attention_dropout=self.attention_dropout,
        )  # fmt: skip


class TaughtLabels(nn.Module):
    """The mean of what the first vector says and of what the one that had a teacher says."""

    def __init__(self, width: int, n_labels: int):
        super().__init__()
        self.own, self.taught = nn.Linear(width, n_labels), nn.Linear(width, n_labels)

    def forward(self, x: Tensor) -> Tensor:
        return (self.own(x[:, 0]) + self.taught(x[:, 1])) / 2


def build(head: Callable[[Config], nn.Module], second: bool, c: Config) -> Encoder:
    embed = Patches(c.image_size, c.patch_size, c.channels, c.d_model, second=second, p=c.dropout)
    return Encoder(c, embed, Stack(c.recipe()), head(c))


def keys(model_type: str) -> Keys:
    return Keys(
        {
            "d_model": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "d_ff": "intermediate_size",
            "image_size": side("image_size"),
            "patch_size": side("patch_size"),
            "channels": "num_channels",
            "qkv_bias": "qkv_bias",
            "activation": "hidden_act",
            "norm_eps": "layer_norm_eps",
            "dropout": "hidden_dropout_prob",
            "attention_dropout": "attention_probs_dropout_prob",
            "labels": LABELS,
        },
        only={"model_type": model_type},
        ignore=("initializer_range", "encoder_stride", "pooler_output_size", "pooler_act"),
    )


def kind(
    architecture: str,
    does: str,
    head: Callable[[Config], nn.Module],
    modules: Mapping[str, str],
    *,
    model_type: str,
    second: bool = False,
    prefix: bool = True,
) -> Family:
    theirs = f"{model_type}." if prefix else ""
    ours, layer = "encoder.blocks.{i}", f"{theirs}encoder.layer.{{i}}"
    names = Names(
        {
            "embed.project": f"{theirs}embeddings.patch_embeddings.projection",
            f"{ours}.attn_norm": f"{layer}.layernorm_before",
            f"{ours}.attn.query": f"{layer}.attention.attention.query",
            f"{ours}.attn.key": f"{layer}.attention.attention.key",
            f"{ours}.attn.value": f"{layer}.attention.attention.value",
            f"{ours}.attn.out": f"{layer}.attention.output.dense",
            f"{ours}.mlp_norm": f"{layer}.layernorm_after",
            f"{ours}.mlp.up": f"{layer}.intermediate.dense",
            f"{ours}.mlp.down": f"{layer}.output.dense",
            "encoder.final_norm": f"{theirs}layernorm",
            **modules,
        },
        tensors={
            "embed.first": f"{theirs}embeddings.cls_token",
            "embed.second": f"{theirs}embeddings.distillation_token",
            "embed.positions": f"{theirs}embeddings.position_embeddings",
        },
        prefix=theirs,
        ignore=(rf"^({model_type}\.)?pooler\.",) if prefix else (),
    )
    return Family(
        architecture, model_type, does, Config, keys(model_type), lambda c: names, partial(build, head, second), "image"
    )


def labels(c: Config) -> nn.Module:
    return Labels(c.d_model, len(c.labels))


def pooled(c: Config) -> nn.Module:
    return Vectors(c.d_model, pooled=True)


OUT, POOLED = {"head.out": "classifier"}, {"head.dense": "pooler.dense"}
TAUGHT = {"head.own": "cls_classifier", "head.taught": "distillation_classifier"}
FAMILIES = (
    kind("ViTForImageClassification", "image labels", labels, OUT, model_type="vit"),
    kind("ViTModel", "image vectors", pooled, POOLED, model_type="vit", prefix=False),
    kind("DeiTForImageClassification", "image labels", labels, OUT, model_type="deit", second=True),
    kind(
        "DeiTForImageClassificationWithTeacher", "image labels", lambda c: TaughtLabels(c.d_model, len(c.labels)),
        TAUGHT, model_type="deit", second=True,
    ),
    kind("DeiTModel", "image vectors", pooled, POOLED, model_type="deit", second=True, prefix=False),
)  # fmt: skip
