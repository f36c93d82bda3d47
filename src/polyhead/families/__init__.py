"""The models people know, one file each: sizes, recipe, wiring, names. Listing them imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from polyhead.errors import ConfigError
from polyhead.weights.config_keys import Keys
from polyhead.weights.names import Names

if TYPE_CHECKING:  # listing the models loads no torch
    from torch import Tensor, nn

#  config.json's `architectures` entry -> the module of this package that builds it
ARCHITECTURES = {
    "MarianMTModel": "marian",
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "BertForSequenceClassification": "bert",
    "BertForTokenClassification": "bert",
    "BertForQuestionAnswering": "bert",
    "RobertaModel": "roberta",
    "RobertaForMaskedLM": "roberta",
    "RobertaForSequenceClassification": "roberta",
    "RobertaForTokenClassification": "roberta",
    "RobertaForQuestionAnswering": "roberta",
    "DistilBertModel": "distilbert",
    "DistilBertForMaskedLM": "distilbert",
    "DistilBertForSequenceClassification": "distilbert",
    "DistilBertForTokenClassification": "distilbert",
    "DistilBertForQuestionAnswering": "distilbert",
    "ElectraModel": "electra",
    "ElectraForPreTraining": "electra",
    "ElectraForMaskedLM": "electra",
    "ElectraForSequenceClassification": "electra",
    "ElectraForTokenClassification": "electra",
    "ElectraForQuestionAnswering": "electra",
    "GPT2Model": "gpt2",
    "GPT2LMHeadModel": "gpt2",
    "BloomForCausalLM": "bloom",
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen",
    "Qwen3ForCausalLM": "qwen",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "BartForConditionalGeneration": "bart",
    "T5ForConditionalGeneration": "t5",
    "MT5ForConditionalGeneration": "t5",
    "SwitchTransformersForConditionalGeneration": "switch",
    "ViTModel": "vit",
    "ViTForImageClassification": "vit",
    "DeiTModel": "vit",
    "DeiTForImageClassification": "vit",
    "DeiTForImageClassificationWithTeacher": "vit",
    "CLIPModel": "clip",
    "CLIPTextModelWithProjection": "clip",
    "CLIPVisionModelWithProjection": "clip",
    "SiglipModel": "siglip",
    "SiglipTextModel": "siglip",
    "SiglipVisionModel": "siglip",
    "WhisperForConditionalGeneration": "whisper",
}
TRANSLATOR = "MarianMTModel"  # what a translation recipe trains unless it says otherwise


@dataclass(frozen=True)
class Family:
    """What loading, saving and asking need to know of one kind of model.

    does: what its head gives, such as "next word" or "labels". reads: what goes in, "text", "image" or "sound"; "pair"
    is one text read and another written, with one vocabulary or two; "text or image" is either, each by a tower of its
    own. settle: a config, and a way to tensors of the file by name -> the config that they fit, where config.json alone
    does not say. taught: a config -> what such a model was taught to be asked, as config.json's task_specific_params
    would have it. towers: what a tower reads -> the architecture that it is by itself.
    """

    architecture: str
    model_type: str
    does: str
    config: Callable[[], Any]
    keys: Keys
    names: Callable[[Any], Names]
    build: Callable[[Any], nn.Module]
    reads: Literal["text", "pair", "image", "sound", "text or image"]
    settle: Callable[[Any, Callable[[str], Tensor | None]], Any] = lambda config, tensor: config
    taught: Callable[[Any], Mapping[str, Mapping[str, Any]]] = lambda config: {}
    towers: Mapping[str, str] = field(default_factory=dict[str, str])


def family(architecture: str) -> Family:
    """The family that builds a model named so in config.json's `architectures`."""
    if architecture not in ARCHITECTURES:
        near = get_close_matches(architecture, ARCHITECTURES, n=1)
        raise ConfigError(
            f"The architecture '{architecture}' is not built here{f', the nearest is {near[0]!r}' if near else ''}; a"
            " new one is one file in polyhead/families (see docs/new-family.md), beside those of"
            f" {', '.join(dict.fromkeys(ARCHITECTURES.values()))}"
        )
    module = importlib.import_module(f"polyhead.families.{ARCHITECTURES[architecture]}")
    return next(kind for kind in module.FAMILIES if kind.architecture == architecture)


def sibling(kind: Family, does: str) -> Family | None:
    """The model of the same family, on the same stack, whose head gives something else; None where there is none."""
    module = importlib.import_module(f"polyhead.families.{ARCHITECTURES[kind.architecture]}")
    alike = (other for other in module.FAMILIES if other.model_type == kind.model_type and other.does == does)
    return next(alike, None)


def family_of(raw: Mapping[str, Any]) -> Family:
    """The family of a config.json's dict."""
    architectures = raw.get("architectures") or []
    if not (isinstance(architectures, list) and len(architectures) == 1 and isinstance(architectures[0], str)):
        raise ConfigError(f"config.json must name one architecture, but `architectures` is {architectures!r}")
    return family(architectures[0])
