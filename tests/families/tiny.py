"""Every architecture of the registry, tiny, of odd sizes, every parameter random: theirs, in a folder, and ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.families import Family, family_of
from polyhead.operator import Dense
from polyhead.tasks.load import read_model
from polyhead.weights.config_keys import read_json

WORDS, PAD, END = 61, 0, 1
BERT: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": PAD,
}  # fmt: skip
ROBERTA = BERT | {"type_vocab_size": 1, "bos_token_id": 2, "eos_token_id": END}
DISTILBERT: dict[str, Any] = {
    "vocab_size": WORDS, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 20, "max_position_embeddings": 40,
    "dropout": 0.0, "attention_dropout": 0.0, "qa_dropout": 0.0, "seq_classif_dropout": 0.0,
}  # fmt: skip
ELECTRA = BERT | {"embedding_size": 16}
GPT2: dict[str, Any] = {
    "vocab_size": WORDS, "n_embd": 24, "n_layer": 3, "n_head": 3, "n_positions": 40, "resid_pdrop": 0.0,
    "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 2, "eos_token_id": END,
}  # fmt: skip
BLOOM: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 24, "n_layer": 3, "n_head": 3, "pad_token_id": PAD, "bos_token_id": 2,
    "eos_token_id": END,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 20, "max_position_embeddings": 40, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": END,
}  # fmt: skip
#  their kernel of experts wants a d_ff that is a multiple of 8 in bfloat16
MIXTRAL = LLAMA | {"num_local_experts": 3, "intermediate_size": 40}
T5: dict[str, Any] = {
    "vocab_size": WORDS, "d_model": 24, "d_kv": 5, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "dropout_rate": 0.0,
    "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD,
}  # fmt: skip
SWITCH: dict[str, Any] = {
    "vocab_size": WORDS, "d_model": 24, "d_kv": 5, "d_ff": 20, "num_layers": 4, "num_decoder_layers": 3, "num_heads": 4,
    "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 1, "num_experts": 3, "expert_capacity": 64,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "dropout_rate": 0.0,
    "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD,
}  # fmt: skip
VIT: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "image_size": [12, 8], "patch_size": 4,
}  # fmt: skip
CLIP_TEXT: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 40, "projection_dim": 14, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 7,
}  # fmt: skip
CLIP_IMAGE: dict[str, Any] = {
    "hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 28, "image_size": 12,
    "patch_size": 4, "projection_dim": 14,
}  # fmt: skip
CLIP: dict[str, Any] = {
    "text_config": CLIP_TEXT | {"projection_dim": 9}, "vision_config": CLIP_IMAGE | {"projection_dim": 11},
    "projection_dim": 14,
}  # fmt: skip
SIGLIP_TEXT: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 40, "projection_size": 36, "pad_token_id": PAD,
}  # fmt: skip
SIGLIP_IMAGE: dict[str, Any] = {key: value for key, value in CLIP_IMAGE.items() if key != "projection_dim"}
SIGLIP: dict[str, Any] = {"text_config": SIGLIP_TEXT, "vision_config": SIGLIP_IMAGE}
OTHERWISE = {"hidden_act": "gelu", "layer_norm_eps": 1e-3}
WHISPER: dict[str, Any] = {
    "vocab_size": WORDS, "num_mel_bins": 8, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 3, "decoder_attention_heads": 4, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28,
    "max_source_positions": 10, "max_target_positions": 20, "pad_token_id": PAD, "bos_token_id": END,
    "eos_token_id": END, "decoder_start_token_id": 2, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip
MARIAN: dict[str, Any] = {
    "vocab_size": WORDS, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 28, "decoder_ffn_dim": 20, "max_position_embeddings": 40,
    "activation_function": "swish", "scale_embedding": True, "pad_token_id": PAD, "eos_token_id": END,
    "decoder_start_token_id": PAD, "forced_eos_token_id": None, "dropout": 0.0,
}  # fmt: skip
BART = MARIAN | {
    "activation_function": "gelu", "scale_embedding": False, "pad_token_id": 5, "bos_token_id": 2,
    "decoder_start_token_id": END, "forced_eos_token_id": END,
}  # fmt: skip

LABELS = {"id2label": {0: "sad", 1: "glad", 2: "so so"}, "label2id": {"sad": 0, "glad": 1, "so so": 2}}
TWO = {"num_labels": 2}


def rope(kind: str, **words: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **words}}


#  architecture -> its settings, by name of the variant
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "MarianMTModel": {"": MARIAN},
    "BertModel": {"": BERT},
    "BertForMaskedLM": {"": BERT, "relu": BERT | {"hidden_act": "relu", "layer_norm_eps": 1e-3}},
    "BertForSequenceClassification": {"": BERT | LABELS},
    "BertForTokenClassification": {"": BERT | LABELS},
    "BertForQuestionAnswering": {"": BERT | TWO},
    "RobertaModel": {"": ROBERTA},
    "RobertaForMaskedLM": {"": ROBERTA, "pad": ROBERTA | {"pad_token_id": 5, "type_vocab_size": 2}},
    "RobertaForSequenceClassification": {"": ROBERTA | LABELS},
    "RobertaForTokenClassification": {"": ROBERTA | LABELS},
    "RobertaForQuestionAnswering": {"": ROBERTA | TWO},
    "DistilBertModel": {"": DISTILBERT},
    "DistilBertForMaskedLM": {"": DISTILBERT},
    "DistilBertForSequenceClassification": {"": DISTILBERT | LABELS},
    "DistilBertForTokenClassification": {"": DISTILBERT | LABELS},
    "DistilBertForQuestionAnswering": {"": DISTILBERT | TWO},
    "ElectraModel": {"": ELECTRA, "wide": ELECTRA | {"embedding_size": 24}},
    "ElectraForPreTraining": {"": ELECTRA, "relu": ELECTRA | {"hidden_act": "relu", "layer_norm_eps": 1e-3}},
    "ElectraForMaskedLM": {"": ELECTRA, "relu": ELECTRA | {"hidden_act": "relu"}},
    "ElectraForSequenceClassification": {"": ELECTRA | LABELS},
    "ElectraForTokenClassification": {"": ELECTRA | LABELS},
    "ElectraForQuestionAnswering": {"": ELECTRA | TWO},
    "GPT2Model": {"": GPT2},
    "GPT2LMHeadModel": {"": GPT2, "narrow": GPT2 | {"n_inner": 20, "activation_function": "relu"}},
    "BloomForCausalLM": {"": BLOOM, "eps": BLOOM | {"layer_norm_epsilon": 1e-3, "n_head": 4, "pretraining_tp": 2}},
    "LlamaForCausalLM": {
        "": LLAMA,
        "biased": LLAMA | {"attention_bias": True, "mlp_bias": True, "head_dim": 10, "num_key_value_heads": 1},
        "tied": LLAMA | {"tie_word_embeddings": True} | rope("default"),
        "linear": LLAMA | rope("linear", factor=3.0),
        "dynamic": LLAMA | {"max_position_embeddings": 5} | rope("dynamic", factor=2.0),
        "yarn": LLAMA | rope("yarn", factor=4.0, original_max_position_embeddings=10),
        "yarn all": LLAMA | rope(
            "yarn", factor=4.0, original_max_position_embeddings=10, beta_fast=8.0, beta_slow=2.0, mscale=0.7,
            mscale_all_dim=0.4, truncate=False,
        ),
        "longrope": LLAMA | rope(
            "longrope", factor=5.0, short_factor=[1.0, 1.5, 2.0], long_factor=[2.0, 3.0, 5.0],
            original_max_position_embeddings=8,
        ),
        "llama3": LLAMA | rope(
            "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=40,
        ),
    },
    "Qwen2ForCausalLM": {
        "": LLAMA,
        "windows": LLAMA | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    },
    "Qwen3ForCausalLM": {
        "": LLAMA | {"head_dim": 8},
        "biased": LLAMA | {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
    },
    "MistralForCausalLM": {"": LLAMA | {"sliding_window": 4}, "no window": LLAMA | {"sliding_window": None}},
    "MixtralForCausalLM": {
        "": MIXTRAL,
        "one": MIXTRAL | {
            "num_local_experts": 4, "num_experts_per_tok": 1, "sliding_window": 4, "rms_norm_eps": 1e-3,
            "tie_word_embeddings": True, "head_dim": 8, "hidden_act": "gelu",
        },
        "three": MIXTRAL | {"num_local_experts": 5, "num_experts_per_tok": 3} | rope("default"),
    },
    "BartForConditionalGeneration": {
        "": BART, "relu": BART | {"activation_function": "relu", "forced_eos_token_id": None},
        "scaled": BART | {"scale_embedding": True},
    },
    "T5ForConditionalGeneration": {
        "": T5, "v1.1": T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "silu": T5 | {"feed_forward_proj": "gated-silu"},
    },
    "MT5ForConditionalGeneration": {"": T5},
    "SwitchTransformersForConditionalGeneration": {
        "": SWITCH,
        "dropped": SWITCH | {"expert_capacity": 2, "router_bias": True, "num_experts": 2},
        "all sparse": SWITCH | {
            "num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 3, "num_experts": 2, "dense_act_fn": "silu",
            "layer_norm_epsilon": 1e-3,
        },
        "dense decoder": SWITCH | {"num_sparse_decoder_layers": 0},
    },
    "ViTModel": {"": VIT},
    "ViTForImageClassification": {
        "": VIT | LABELS, "bare": VIT | {"qkv_bias": False, "image_size": 8, "num_channels": 1},
    },
    "DeiTModel": {"": VIT},
    "DeiTForImageClassification": {"": VIT | LABELS},
    "DeiTForImageClassificationWithTeacher": {"": VIT | LABELS},
    "CLIPModel": {
        "": CLIP,
        "gelu": CLIP | {
            "text_config": CLIP_TEXT | OTHERWISE | {"eos_token_id": 2}, "vision_config": CLIP_IMAGE | OTHERWISE,
        },
    },
    "CLIPTextModelWithProjection": {
        "": CLIP_TEXT, "old": CLIP_TEXT | {"eos_token_id": 2}, "gelu": CLIP_TEXT | OTHERWISE,
    },
    "CLIPVisionModelWithProjection": {"": CLIP_IMAGE, "gelu": CLIP_IMAGE | OTHERWISE | {"num_channels": 1}},
    "SiglipModel": {
        "": SIGLIP,
        "gelu": {
            "text_config": SIGLIP_TEXT | OTHERWISE | {"hidden_size": 36, "projection_size": None},
            "vision_config": SIGLIP_IMAGE | OTHERWISE,
        },
    },
    "SiglipTextModel": {"": SIGLIP_TEXT, "gelu": SIGLIP_TEXT | OTHERWISE},
    "SiglipVisionModel": {"": SIGLIP_IMAGE, "gelu": SIGLIP_IMAGE | OTHERWISE | {"num_channels": 1}},
    "WhisperForConditionalGeneration": {"": WHISPER, "scaled": WHISPER | {"scale_embedding": True}},
}  # fmt: skip
CASES = [(architecture, variant) for architecture, variants in SHAPES.items() for variant in variants]


@dataclass
class Both:
    """Theirs and ours, of one saved folder."""

    theirs: Any
    ours: Any
    family: Family
    raw: dict[str, Any]
    folder: Path


def theirs_of(architecture: str, settings: dict[str, Any]) -> Any:
    """Their model with every parameter and buffer of weights random."""
    torch.manual_seed(0)
    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**settings)).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or "embed_positions" not in name or architecture.startswith("Whisper"):
            mean = float(name.endswith(("norm.weight", "LayerNorm.weight", "norm1.weight", "norm2.weight")))
            nn.init.normal_(parameter.data, mean=mean, std=0.3)
    for name, buffer in model.named_buffers():
        if name == "final_logits_bias":
            buffer.normal_()
    return model


def both(architecture: str, variant: str, folder: Path) -> Both:
    """Their model, saved to a folder, and ours, read from it."""
    theirs = theirs_of(architecture, SHAPES[architecture][variant])
    theirs.save_pretrained(folder)
    raw = read_json(folder / "config.json")
    family = family_of(raw)
    return Both(theirs, read_model(folder, raw, family).eval(), family, raw, folder)


def is_decoder(pair: Both) -> bool:
    return hasattr(pair.ours, "decode") and not hasattr(pair.ours, "encode")


def is_encoder_decoder(pair: Both) -> bool:
    return hasattr(pair.ours, "decode") and hasattr(pair.ours, "encode")


def some_ids(rows: int, n: int, seed: int = 1) -> Tensor:
    return torch.randint(6, WORDS, (rows, n), generator=torch.Generator().manual_seed(seed))


def some_inputs(pair: Both, rows: int = 2) -> Tensor:
    """What the model's source side reads."""
    generator = torch.Generator().manual_seed(2)
    c = pair.ours.config
    match pair.family.reads:
        case "image":
            return torch.randn(rows, c.channels, *c.image_size, generator=generator)
        case "sound":
            return torch.randn(rows, c.bands, 2 * c.n_frames, generator=generator)
        case _:
            ids = some_ids(rows, 9)
            if reads_a_space(pair) and not reads_padding(pair):  # its vector is read where the end sign first stands
                ids[:, 3:5] = getattr(c, "text", c).eos_id
            return ids


def reads_a_space(pair: Both) -> bool:
    """Whether a text or an image becomes one vector, by a head that knows what was read."""
    return pair.family.does in ("shared vector", "similarity")


def reads_padding(pair: Both) -> bool:
    """Whether a text is filled up, and what fills it has a part in its vector."""
    return getattr(pair.ours.config, "filled", False)


def one_image(pair: Both, like: Tensor) -> Tensor:
    """What the other tower reads beside texts."""
    c = pair.ours.config.image
    kind = next(pair.ours.image.parameters()).dtype
    pixels = torch.randn(1, c.channels, *c.image_size, generator=torch.Generator().manual_seed(4))
    return pixels.to(like.device, kind)


def out_of(answer: Any) -> Tensor:
    """The one tensor of their answer that ours is."""
    for name in ("logits_per_text", "text_embeds", "image_embeds"):
        if hasattr(answer, name):
            return getattr(answer, name)
    if hasattr(answer, "start_logits"):
        return torch.stack((answer.start_logits, answer.end_logits), -1)
    return answer.logits if hasattr(answer, "logits") else answer.last_hidden_state


def some_target(rows: int = 2) -> Tensor:
    return some_ids(rows, 6, seed=3)


def ours_of(pair: Both, x: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Our answer, in which `mask` [B, T] says what is no padding; words count their places from the first real one."""
    rule = None if mask is None else Dense(mask[:, None, None])
    places = None if mask is None or reads_padding(pair) else (mask.long().cumsum(1) - 1).clamp(min=0)
    if is_encoder_decoder(pair):
        memory = pair.ours.encode(x, Run(mask=rule, positions=places))
        return pair.ours.head(pair.ours.decode(target, Run(memory=memory, memory_mask=rule)))
    run = Run(mask=rule, positions=places)
    if reads_a_space(pair):
        tower = getattr(pair.ours, "text", pair.ours)
        vectors = tower.head(tower.encode(x, run), x)
        return vectors if tower is pair.ours else pair.ours.head(vectors, pair.ours.image(one_image(pair, x)))
    return pair.ours.head((pair.ours.decode if is_decoder(pair) else pair.ours.encode)(x, run))


def theirs_for(pair: Both, x: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Their answer to the same; padding stands on the right."""
    more: dict[str, Tensor] = {} if lengths is None else {"attention_mask": real(x, lengths).long()}
    more |= {"decoder_input_ids": target} if is_encoder_decoder(pair) else {}
    more |= {"pixel_values": one_image(pair, x)} if pair.family.towers else {}
    name = {"image": "pixel_values", "sound": "input_features"}.get(pair.family.reads, "input_ids")
    answer = pair.theirs(**{name: x}, **more)
    if pair.family.does == "shared vector" and hasattr(answer, "pooler_output"):
        return answer.pooler_output
    return out_of(answer)


def real(x: Tensor, lengths: Tensor) -> Tensor:
    """Which places of rows that are padded on the right hold something."""
    return torch.arange(x.shape[1]) < lengths[:, None]


def kept(x: Tensor, real: Tensor) -> Tensor:
    """What stands on padding means nothing."""
    if x.shape[:2] != real.shape:  # an answer of the whole
        return x
    return x.masked_fill(~(real if x.dim() == 2 else real[..., None]), 0.0)


def difference(ours: Tensor, expected: Tensor) -> float:
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    return float((ours - expected).abs().max() / expected.abs().max())
