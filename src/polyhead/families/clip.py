"""CLIP: a text and an image, each through a tower of its own -> vectors in one space -> how well the two go together
(Radford et al. 2021).

What differs: the text's tower is GPT-2's stack, which sees its past only, and its vector is read at the end sign; the
image's is ViT's with a norm more before the first block and the last norm on the one vector that is read. Both bend by
a cheap likeness of GELU, and both vectors are projected into the space that they share.
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
from polyhead.families import Family
from polyhead.families.wiring import Tower, TwoTowers
from polyhead.readout.shared import AtEnd, AtFirst, Similarity
from polyhead.weights.config_keys import Inner, Keys, side
from polyhead.weights.names import Names

OLD_END = 2  # as the end sign's id in old files, where it is none: the largest id of a text is its end there


@dataclass(frozen=True)
class TextConfig:
    """The text's tower; the defaults are those of the model with patches of 32 pixels."""

    vocab_size: int = 49408
    d_model: int = 512
    n_layers: int = 12
    n_heads: int = 8
    d_ff: int = 2048
    max_len: int = 77
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    d_shared: int = 512  # of the space that texts and images share
    pad_id: int | None = 1
    start_id: int | None = 49406
    eos_id: int = 49407

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), activation=self.activation, causal=True,
            attention_dropout=self.attention_dropout,
        )  # fmt: skip


@dataclass(frozen=True)
class ImageConfig:
    """The image's tower; the defaults are those of the model with patches of 32 pixels."""

    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    image_size: tuple[int, int] = (224, 224)  # height, width
    patch_size: tuple[int, int] = (32, 32)
    channels: int = 3
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    d_shared: int = 512

    def recipe(self) -> Recipe:
        return Recipe(
            n_layers=self.n_layers, d_model=self.d_model, n_heads=self.n_heads, d_ff=self.d_ff,
            norm=LayerNorm(self.norm_eps), final_norm=False, activation=self.activation,
            attention_dropout=self.attention_dropout,
        )  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Both towers, the space that they share, and the logarithm of the scale that learning begins with."""

    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    d_shared: int = 512
    scale: float = 2.6592

    def __post_init__(self) -> None:
        for name in ("text", "image"):  # the towers' own number is of towers by themselves
            object.__setattr__(self, name, replace(getattr(self, name), d_shared=self.d_shared))

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
    head = AtEnd(c.d_model, c.d_shared, end_id=None if c.eos_id == OLD_END else c.eos_id)
    return Tower(c, embed, Stack(c.recipe()), head)


def image_tower(c: ImageConfig) -> Tower:
    embed = Patches(
        c.image_size, c.patch_size, c.channels, c.d_model, second=False, p=0.0, bias=False,
        norm=nn.LayerNorm(c.d_model, eps=c.norm_eps), rows=True,
    )  # fmt: skip
    head = AtFirst(c.d_model, c.d_shared, norm=nn.LayerNorm(c.d_model, eps=c.norm_eps))
    return Tower(c, embed, Stack(c.recipe()), head)


def build(c: Config) -> TwoTowers:
    return TwoTowers(c, text_tower(c.text), image_tower(c.image), Similarity(c.scale))


BLOCKS = {
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
    "attention_dropout": "attention_dropout",
}
TEXT = {
    **BLOCKS,
    "vocab_size": "vocab_size",
    "max_len": "max_position_embeddings",
    "pad_id": "pad_token_id",
    "start_id": "bos_token_id",
    "eos_id": "eos_token_id",
}
IMAGE = {
    **BLOCKS,
    "image_size": side("image_size"),
    "patch_size": side("patch_size"),
    "channels": "num_channels",
}
ALONE = {"d_shared": "projection_dim"}  # inside the whole model's file, this key says nothing
UNUSED = (
    "initializer_range", "initializer_factor", "dropout", "gradient_checkpointing", "tie_word_embeddings",
    "add_cross_attention", "is_decoder", "is_encoder_decoder", "tie_encoder_decoder", "forced_bos_token_id",
    "forced_eos_token_id", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
TEXT_KEYS, IMAGE_KEYS = (
    Keys({**table, **ALONE}, only={"model_type": f"clip_{name}_model"}, ignore=UNUSED)
    for name, table in (("text", TEXT), ("vision", IMAGE))
)
KEYS = Keys(
    {
        "text": Inner(("text_config_dict", "text_config"), Keys(TEXT, ignore=(*UNUSED, *ALONE.values()))),
        "image": Inner(("vision_config_dict", "vision_config"), Keys(IMAGE, ignore=(*UNUSED, *ALONE.values()))),
        "d_shared": "projection_dim",
        "scale": "logit_scale_init_value",
    },
    only={"model_type": "clip"},
    ignore=UNUSED,
)


def blocks(ours: str, theirs: str) -> dict[str, str]:
    own, layer = f"{ours}encoder.blocks.{{i}}", f"{theirs}.encoder.layers.{{i}}"
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


def text_names(ours: str = "") -> dict[str, str]:
    return {
        **blocks(ours, "text_model"),
        f"{ours}embed.tokens": "text_model.embeddings.token_embedding",
        f"{ours}embed.positions": "text_model.embeddings.position_embedding",
        f"{ours}encoder.final_norm": "text_model.final_layer_norm",
        f"{ours}head.project": "text_projection",
    }


def image_names(ours: str = "") -> dict[str, str]:
    return {
        **blocks(ours, "vision_model"),
        f"{ours}embed.project": "vision_model.embeddings.patch_embedding",
        f"{ours}embed.norm": "vision_model.pre_layrnorm",  # so spelt
        f"{ours}head.norm": "vision_model.post_layernorm",
        f"{ours}head.project": "visual_projection",
    }


def image_tensors(ours: str = "") -> dict[str, str]:
    return {
        f"{ours}embed.first": "vision_model.embeddings.class_embedding",
        f"{ours}embed.positions": "vision_model.embeddings.position_embedding.weight",
    }


def named(modules: Mapping[str, str], tensors: Mapping[str, str] | None = None) -> Names:
    return Names(modules, tensors=tensors or {}, ignore=(r"embeddings\.position_ids$",))


BOTH = named({**text_names("text."), **image_names("image.")}, {**image_tensors("image."), "head.scale": "logit_scale"})
READ, SEEN = named(text_names()), named(image_names(), image_tensors())
TOWERS = {"text": "CLIPTextModelWithProjection", "image": "CLIPVisionModelWithProjection"}
FAMILIES = (
    Family("CLIPModel", "clip", "similarity", Config, KEYS, lambda c: BOTH, build, "text or image", towers=TOWERS),
    Family(
        TOWERS["text"], "clip_text_model", "shared vector", TextConfig, TEXT_KEYS, lambda c: READ, text_tower, "text"
    ),
    Family(
        TOWERS["image"], "clip_vision_model", "shared vector", ImageConfig, IMAGE_KEYS, lambda c: SEEN, image_tower,
        "image",
    ),
)  # fmt: skip
