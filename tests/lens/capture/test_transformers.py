"""Models of `transformers` are seen as they are loaded, on SDPA or eager, with the weights that eager tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from polyhead.lens.recording import Recording
from polyhead.lens.watch import watch

SIZES: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
BART: dict[str, Any] = {
    "vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "pad_token_id": 0, "eos_token_id": None,
    "bos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
IDS = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(0))
RIGHT, LEFT = torch.ones(2, 7, dtype=torch.long), torch.ones(2, 7, dtype=torch.long)
RIGHT[0, 5:], LEFT[0, :3] = 0, 0
TEXT = {"input_ids": IDS, "attention_mask": RIGHT}
PAIR = {**TEXT, "decoder_input_ids": IDS[:, :4]}
PICTURE = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
SOUND = {"input_features": torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(1))}

BERT_SIZES = {k: SIZES[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
DISTIL = {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40}
GPT2 = {
    "vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}
WHISPER = {**BART, "max_source_positions": 20, "num_mel_bins": 8, "eos_token_id": 2}
EYES = {**BERT_SIZES, "image_size": 32, "patch_size": 8}
LEFT_TEXT = {**TEXT, "attention_mask": LEFT}
SPOKEN = {**SOUND, "decoder_input_ids": IDS[:, :4]}

MODELS: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Tensor]]] = {
    "bert": (hf.BertModel, hf.BertConfig, SIZES, TEXT),
    "roberta": (hf.RobertaModel, hf.RobertaConfig, SIZES, TEXT),
    "distilbert": (hf.DistilBertModel, hf.DistilBertConfig, DISTIL, TEXT),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config, GPT2, LEFT_TEXT),
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, GROUPED, LEFT_TEXT),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, {**GROUPED, "sliding_window": 3}, TEXT),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, {**GROUPED, "head_dim": 8}, TEXT),
    "t5": (hf.T5ForConditionalGeneration, hf.T5Config, T5, PAIR),
    "bart": (hf.BartForConditionalGeneration, hf.BartConfig, BART, PAIR),
    "marian": (hf.MarianMTModel, hf.MarianConfig, BART, PAIR),
    "whisper": (hf.WhisperForConditionalGeneration, hf.WhisperConfig, WHISPER, SPOKEN),
    "vit": (hf.ViTModel, hf.ViTConfig, EYES, PICTURE),
    "clip": (hf.CLIPVisionModel, hf.CLIPVisionConfig, EYES, PICTURE),
}


def made(name: str, way: str) -> Any:
    kind, config, sizes, _ = MODELS[name]
    torch.manual_seed(3)
    model = kind(config(**sizes, attn_implementation=way)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def first(output: Any) -> Tensor:
    return output["logits"] if "logits" in output else output["last_hidden_state"]


def told(output: Any) -> dict[str, list[Tensor]]:
    """The weights that eager attention tells, by part."""
    names = {
        "attentions": "self",
        "encoder_attentions": "encoder",
        "decoder_attentions": "decoder",
        "cross_attentions": "cross",
    }
    return {part: list(output[name]) for name, part in names.items() if output.get(name)}


def part_of(name: str, kind: str, parts: Any) -> str:
    if "self" in parts:
        return "self"
    return "cross" if kind == "cross" else "encoder" if "encoder." in f".{name}".replace("decoder", "") else "decoder"


def rows_there(weights: Tensor, mask: Tensor | None) -> Tensor:
    """Which rows belong to words: what a padding position looks at is nobody's business, and the ways differ in it."""
    there = torch.ones(weights.shape[0], weights.shape[2], dtype=torch.bool)
    if mask is not None and mask.shape == there.shape:
        there = mask.bool()
    return there[:, None, :, None].expand_as(weights)


@pytest.mark.parametrize("way", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(MODELS))
def test_weights_are_those_that_eager_tells_and_outputs_keep_their_bits(name: str, way: str) -> None:
    model, given = made(name, way), MODELS[name][3]
    eager = made(name, "eager")
    with torch.no_grad():
        alone = first(model(**given))
        with watch(model) as recording:
            output = first(model(**given))
        wanted = told(eager(**given, output_attentions=True))
    assert torch.equal(output, alone) and not recording.missed
    found: dict[str, list[Tensor]] = {part: [] for part in wanted}
    for call in recording:
        assert call.route == ("fused" if way == "sdpa" else "explicit")
        assert call.norms.after, "the projection after it was found"
        found[part_of(call.name, call.kind, wanted)].append(call.weights())
    for part, layers in wanted.items():
        assert len(found[part]) == len(layers) == 2
        for one, other in zip(found[part], layers, strict=True):
            there = rows_there(one, given.get("attention_mask") if part != "decoder" and part != "cross" else None)
            torch.testing.assert_close(one[there], other[there], rtol=0, atol=2e-6)


DECODERS = {
    "llama": {}, "mistral": {}, "qwen3": {}, "gpt2": {}, "marian": {}, "bart": {},
    "marian with a beam": {"num_beams": 3},
    "llama in a cache of fixed size": {"cache_implementation": "static"},
    "mistral in a cache of fixed size": {"cache_implementation": "static"},
}  # fmt: skip


def steps(recording: Recording, output: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """The weights of each step and layer, ours and theirs, where some query is a word."""
    names = [name for name in recording.names() if recording[name].kind == "self" and "encoder.layers" not in name]
    cross = [name for name in recording.names() if recording[name].kind == "cross"]
    theirs = output.get("decoder_attentions") or output.get("attentions")
    for step, layers in enumerate(theirs):
        for name, weights in zip(names, layers, strict=True):
            found = recording.calls(name)[step].weights()
            yield found, weights[..., : found.shape[3]]
    for step, layers in enumerate(output.get("cross_attentions") or ()):
        for name, weights in zip(cross, layers, strict=True):
            yield recording.calls(name)[step].weights(), weights


@pytest.mark.parametrize("name", list(DECODERS))
def test_each_step_of_a_generation_is_a_call_and_its_cache_is_kept_as_it_was(name: str) -> None:
    family = name.split()[0]
    pair = family in ("marian", "bart")
    model, eager = made(family, "sdpa"), made(family, "eager")
    how: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, **DECODERS[name]}
    given = {"input_ids": IDS, "attention_mask": RIGHT if pair else LEFT}
    alone = model.generate(**given, **how)
    with watch(model) as recording:
        tokens = model.generate(**given, **how)
    output = eager.generate(**given, **how, output_attentions=True, return_dict_in_generate=True)
    assert torch.equal(tokens, alone) and torch.equal(tokens, output.sequences) and not recording.missed
    compared = 0
    for ours, theirs in steps(recording, output):
        there = rows_there(ours, None if pair else LEFT)
        torch.testing.assert_close(ours[there], theirs[there], rtol=0, atol=2e-6)
        compared += 1
    assert compared == (16 if pair else 8)


def test_gemmas_scores_with_a_cap_are_seen() -> None:
    torch.manual_seed(0)
    kind: Any = hf.Gemma2Config
    config = kind(**GROUPED, head_dim=8, sliding_window=4, attn_logit_softcapping=2.0, attn_implementation="eager")
    model: Any = hf.Gemma2ForCausalLM(config).eval()
    with torch.no_grad(), watch(model) as recording:
        output = model(**TEXT, output_attentions=True)
    for call, weights in zip(recording, output.attentions, strict=True):
        torch.testing.assert_close(call.weights(), weights, rtol=0, atol=2e-6)
