"""SigLIP: a text and an image, each through a tower of its own -> vectors in one space -> whether the two go together,
each pair by itself (Zhai et al. 2023).

What differs from CLIP: the text's tower looks both ways, over padding too, which every text is filled up with, and its
vector is read at the last place; the image's has no vector before its patches, but a probe that looks at all of them
after the last block. A score is the logarithm of odds, so that a bias is learned beside the scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from polyhead.core import Recipe, Stack
from polyhead.core.norm import LayerNorm
from polyhead.embedding.patches import Patches
from polyhead.embedding.positions import Learned
from polyhead.embedding.tokens import Tokens
from polyhead.errors import ArgumentError
from polyhead.families import Family
from polyhead.families.wiring import Tower, TwoTowers
from polyhead.readout.shared import AtLast, Probed, Similarity
from polyhead.weights.config_keys import Inner, Keys, side
from polyhead.weights.names import Names, Part


@dataclass(frozen=True)
class TextConfig:
    """The text's tower; the defaults are those of the base model."""

    vocab_size: int = 32000
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    max_len: int = 64
    activation: str = "gelu_pytorch_tanh"
    norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    shared: int | None = None  # of the space that texts and images share; None: as wide as the tower
    pad_id: int | None = 1
    start_id: int | None = 49406
    eos_id: int | None = 49407

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), activation=self.activation, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def d_shared(self) -> int:
        return self.d_model if self.shared is None else self.shared

    @property
    def filled(self) -> bool:
        """Whether every text is filled up to max_len, and what fills it is read."""
        return True


@dataclass(frozen=True)
class ImageConfig:
    """The image's tower; the defaults are those of the base model."""

    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    image_size: tuple[int, int] = (224, 224)  # height, width
    patch_size: tuple[int, int] = (16, 16)
    channels: int = 3
    activation: str = "gelu_pytorch_tanh"
    norm_eps: float = 1e-6
    attention_dropout: float = 0.0

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), activation=self.activation, attention_dropout=self.attention_dropout,
        )  # fmt: skip

    @property
    def d_shared(self) -> int:
        return self.d_model


@dataclass(frozen=True)
class Config:
    """Both towers; the space that they share is as wide as the image's."""

    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)

    @property
    def d_shared(self) -> int:
        return self.image.d_shared

    @property
    def filled(self) -> bool:
        return self.text.filled

    @property
    def vocab_size(self) -> int:
        return self.text.vocab_size

    @property
    def max_len(self) -> int:
        return self.text.max_len

    @property
    def image_size(self) -> tuple[int, int]:
        return self.image.image_size


def text_tower(c: TextConfig) -> Tower:
    embed = Tokens(nn.Embedding(c.vocab_size, c.d_model), positions=Learned(c.max_len, c.d_model))
    return Tower(c, embed, Stack(c.recipe()), AtLast(c.d_model, c.d_shared))


def image_tower(c: ImageConfig) -> Tower:
    embed = Patches(c.image_size, c.patch_size, c.channels, c.d_model, first=False, second=False, p=0.0, rows=True)
    return Tower(c, embed, Stack(c.recipe()), Probed(replace(c.recipe(), attention_dropout=0.0)))


def build(c: Config) -> TwoTowers:
    if c.text.d_shared != c.image.d_shared:
        raise ArgumentError(
            f"projection_size of text_config ({c.text.d_shared}) must be hidden_size of vision_config"
            f" ({c.image.d_shared}), the width of the space that they share"
        )
    return TwoTowers(c, text_tower(c.text), image_tower(c.image), Similarity(0.0, bias=0.0))


BLOCKS = {
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
    "attention_dropout": "attention_dropout",
}
UNUSED = ("initializer_factor", "initializer_range", "tie_word_embeddings", "gradient_checkpointing")
TEXT_KEYS = Keys(
    {
        **BLOCKS,
        "vocab_size": "vocab_size",
        "max_len": "max_position_embeddings",
        "shared": "projection_size",
        "pad_id": "pad_token_id",
        "start_id": "bos_token_id",
        "eos_id": "eos_token_id",
    },
    ignore=UNUSED,
)
IMAGE_KEYS = Keys(
    {
        **BLOCKS,
        "image_size": side("image_size"),
        "patch_size": side("patch_size"),
        "channels": "num_channels",
    },
    only={"vision_use_head": True},
    ignore=UNUSED,
)
KEYS = Keys(
    {"text": Inner(("text_config",), TEXT_KEYS), "image": Inner(("vision_config",), IMAGE_KEYS)},
    only={"model_type": "siglip"},
    ignore=UNUSED,
)


def blocks(ours: str, theirs: str) -> dict[str, str]:
    own, layer = f"{ours}encoder.blocks.{{i}}", f"{theirs}encoder.layers.{{i}}"
    return {
        f"{own}.attn_norm": f"{layer}.layer_norm1",
        f"{own}.attn.query": f"{layer}.self_attn.q_proj",
        f"{own}.attn.key": f"{layer}.self_attn.k_proj",
        f"{own}.attn.value": f"{layer}.self_attn.v_proj",
        f"{own}.attn.out": f"{layer}.self_attn.out_proj",
        f"{own}.mlp_norm": f"{layer}.layer_norm2",
        f"{own}.mlp.up": f"{layer}.mlp.fc1",
        f"{own}.mlp.down": f"{layer}.mlp.fc2",
    }


def text_names(ours: str = "", theirs: str = "") -> dict[str, str]:
    return {
        **blocks(ours, theirs),
        f"{ours}embed.tokens": f"{theirs}embeddings.token_embedding",
        f"{ours}embed.positions": f"{theirs}embeddings.position_embedding",
        f"{ours}encoder.final_norm": f"{theirs}final_layer_norm",
        f"{ours}head.project": f"{theirs}head",
    }


def image_names(ours: str = "", theirs: str = "") -> dict[str, str]:
    return {
        **blocks(ours, theirs),
        f"{ours}embed.project": f"{theirs}embeddings.patch_embedding",
        f"{ours}encoder.final_norm": f"{theirs}post_layernorm",
        f"{ours}head.attn.out": f"{theirs}head.attention.out_proj",
        f"{ours}head.norm": f"{theirs}head.layernorm",
        f"{ours}head.mlp.up": f"{theirs}head.mlp.fc1",
        f"{ours}head.mlp.down": f"{theirs}head.mlp.fc2",
    }


def image_tensors(ours: str = "", theirs: str = "") -> dict[str, str | Part]:
    """The places, the probe, and its products, which lie joined under names that end otherwise."""
    joined = {
        f"{ours}head.attn.{product}.{kind}": Part(f"{theirs}head.attention.in_proj_{kind}", i, 3)
        for i, product in enumerate(("query", "key", "value"))
        for kind in ("weight", "bias")
    }
    places = {f"{ours}embed.positions": f"{theirs}embeddings.position_embedding.weight"}
    return {**places, f"{ours}head.probe": f"{theirs}head.probe", **joined}


def named(modules: Mapping[str, str], tensors: Mapping[str, str | Part] | None = None) -> Names:
    return Names(modules, tensors=tensors or {}, ignore=(r"embeddings\.position_ids$",))


AT = {"text": ("text.", "text_model."), "image": ("image.", "vision_model.")}
BOTH = named(
    {**text_names(*AT["text"]), **image_names(*AT["image"])},
    {**image_tensors(*AT["image"]), "head.scale": "logit_scale", "head.bias": "logit_bias"},
)
READ, SEEN = named(text_names()), named(image_names(), image_tensors())
TOWERS = {"text": "SiglipTextModel", "image": "SiglipVisionModel"}
FAMILIES = (
    Family("SiglipModel", "siglip", "similarity", Config, KEYS, lambda c: BOTH, build, "text or image", towers=TOWERS),
    Family(
        TOWERS["text"], "siglip_text_model", "shared vector", TextConfig, TEXT_KEYS, lambda c: READ, text_tower, "text"
    ),
    Family(
        TOWERS["image"], "siglip_vision_model", "shared vector", ImageConfig, IMAGE_KEYS, lambda c: SEEN, image_tower,
        "image",
    ),
)  # fmt: skip
