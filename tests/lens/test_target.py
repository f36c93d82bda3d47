"""Gradients towards what a model answered are those that `transformers` and autograd find of the same answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Words, rulers_of
from polyhead.lens.see import see
from polyhead.lens.target import followed
from polyhead.tasks.load import load
from tests.lens.test_looking import EAGER, asked, vision
from tests.tasks.speech import sound, speech_in_folder
from tests.tasks.words import asked_in_folder, decoder_in_folder, in_folder

TEXT = "the cat sat on the big red mat."
NAMES: dict[str, Any] = {"id2label": {0: "sad", 1: "glad"}, "label2id": {"sad": 0, "glad": 1}}


def near(recording: Recording, part: str, score: Tensor, attentions: Any) -> None:
    """Weight times gradient of every layer of a part, against their attentions [B, H, T, S] a layer."""
    slopes = torch.autograd.grad(score, attentions, retain_graph=True)
    calls = [call for call in recording if call.part == part]
    assert len(calls) == len(attentions)
    for call, p, slope in zip(calls, attentions, slopes, strict=True):
        wanted = (p * slope).detach()
        assert float(wanted.abs().max()) > 0
        found = call.weights_times_gradients()
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(("target", "number", "name"), [("sad", 0, "sad"), ("glad", 1, "glad"), ("answer", None, None)])
def test_a_label_of_a_text(tmp_path: Path, target: str, number: int | None, name: str | None) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", **NAMES)
    theirs: Any = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, **EAGER)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")
    wanted = theirs(**read, output_attentions=True)
    number = int(wanted.logits.argmax()) if number is None else number
    name = name or ("sad", "glad")[number]
    recording = see(TEXT, model=tmp_path, target=target).recording
    near(recording, "encoder", wanted.logits[0, number], wanted.attentions)
    assert recording.target is not None
    assert recording.target.en == f"the score of the label “{name}”" and name in recording.target.zh


def test_labels_of_every_place(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertForTokenClassification", **NAMES)
    theirs: Any = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path, **EAGER)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")
    wanted = theirs(**read, output_attentions=True)
    recording = see(TEXT, model=tmp_path, target="answer").recording
    near(recording, "encoder", wanted.logits.amax(-1).sum(), wanted.attentions)
    recording = see(TEXT, model=tmp_path, target="glad").recording
    near(recording, "encoder", wanted.logits[..., 1].sum(), wanted.attentions)


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_words_of_a_text_that_a_decoder_reads(tmp_path: Path, architecture: str) -> None:
    decoder_in_folder(tmp_path, architecture)
    theirs: Any = getattr(transformers, architecture).from_pretrained(tmp_path, **EAGER)
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)("the cat sat", return_tensors="pt")["input_ids"]
    wanted = theirs(ids, output_attentions=True)
    logs = wanted.logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    near(see("the cat sat", model=tmp_path, target="answer").recording, "decoder", logs.sum(), wanted.attentions)
    seen = see("the cat sat", model=tmp_path, target="sat")
    words = rulers_of(seen.recording.rulers)["decoder"]
    assert isinstance(words, Words)
    pieces = [i for i, (start, end) in enumerate(words.places) if start < 11 and end > 8 and end > start]
    near(seen.recording, "decoder", logs[[i - 1 for i in pieces]].sum(), wanted.attentions)
    assert seen.recording.target is not None and "“sat”" in seen.recording.target.en
    by_number = see("the cat sat", model=tmp_path, target=2).recording
    assert by_number.target == seen.recording.target


@pytest.mark.parametrize("architecture", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_words_that_a_model_wrote(tmp_path: Path, architecture: str) -> None:
    """Towards what it wrote, of all three parts."""
    task = {"summarization": {"prefix": "summarize: ", "max_length": 9}}
    asked_in_folder(tmp_path, architecture, task_specific_params=task)
    seen = see("the cat sat.", model=tmp_path, target="answer")
    theirs: Any = getattr(transformers, architecture).from_pretrained(tmp_path, **EAGER)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)(seen.source, return_tensors="pt")
    given = asked(seen, tmp_path)
    loaded = load(tmp_path)
    translated = rulers_of(seen.recording.rulers)["chosen"]
    found = theirs(**read, decoder_input_ids=torch.tensor([given]), output_attentions=True)
    chosen = torch.tensor([*given[1:], end_of(found, loaded, len(given))])
    assert translated.count == len(chosen)
    score = found.logits[0].log_softmax(-1).gather(1, chosen[:, None]).sum()
    near(seen.recording, "encoder", score, found.encoder_attentions)
    near(seen.recording, "decoder", score, found.decoder_attentions)
    near(seen.recording, "cross", score, found.cross_attentions)


def end_of(found: Any, loaded: Any, n: int) -> int:
    """The last token that was chosen: what the search took at the last place, the likeliest or the end."""
    from polyhead.lens.looking import answer_text

    return answer_text(loaded, "the cat sat.").ids["chosen"][n - 1]


@pytest.mark.filterwarnings("ignore")  # torchvision is not installed
@pytest.mark.parametrize("architecture", ["ViTForImageClassification", "DeiTForImageClassification"])
def test_a_label_of_an_image(tmp_path: Path, architecture: str) -> None:
    theirs = vision(tmp_path, architecture)
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype("u1"))
    pixels = transformers.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    wanted = theirs(pixels, output_attentions=True)
    recording = see(image=image, model=tmp_path, target="answer").recording
    near(recording, "encoder", wanted.logits[0].max(), wanted.attentions)


def test_words_that_were_heard(tmp_path: Path) -> None:
    """What was given to the model ahead of the words is no choice of its own."""
    speech_in_folder(tmp_path)
    seen = see(audio=sound(2.0), rate=16_000, model=tmp_path, target="answer")
    loaded = load(tmp_path)
    from polyhead.lens.looking import read_sound

    one = read_sound(loaded, sound(2.0), rate=16_000)
    theirs: Any = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path, **EAGER)
    read, chosen = (torch.tensor([one.ids[part]]) for part in ("decoder", "chosen"))
    wanted = theirs(one.given[0], decoder_input_ids=read, output_attentions=True)
    assert one.first > 0
    logs = wanted.logits[0].log_softmax(-1).gather(1, chosen[0, :, None])[one.first :, 0]
    near(seen.recording, "cross", logs.sum(), wanted.cross_attentions)
    near(seen.recording, "decoder", logs.sum(), wanted.decoder_attentions)


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", **NAMES)
    loaded = load(tmp_path)
    frozen = next(loaded.model.parameters()).requires_grad_(False)
    before = [p.requires_grad for p in loaded.model.parameters()]
    see(TEXT, model=loaded, target="glad")
    assert [p.requires_grad for p in loaded.model.parameters()] == before and not frozen.requires_grad
    assert all(p.grad is None for p in loaded.model.parameters())
    with pytest.raises(ArgumentError):
        see(TEXT, model=loaded, target="mad")
    assert [p.requires_grad for p in loaded.model.parameters()] == before


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "T5ForConditionalGeneration"])
def test_only_the_values_of_the_first_attention_of_each_stack_learn(tmp_path: Path, kind: str) -> None:
    """The rest follows from there, so that no layer works out the gradient of a weight that nobody reads."""
    if kind == "LlamaForCausalLM":
        decoder_in_folder(tmp_path, kind)
    else:
        asked_in_folder(tmp_path, kind, task_specific_params={"summarization": {"prefix": "", "max_length": 9}})
    model, gave = load(tmp_path).model, set[str]()
    parts = ["encoder", "decoder"] if kind.startswith("T5") else ["decoder"]
    with followed(model) as learned:
        names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert len(learned) == len(names)
    assert names == {f"{part}.blocks.0.attn.value.weight" for part in parts}
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda _, name=name: gave.add(name))
    loaded = replace(load(tmp_path), model=model)
    recording = see("the cat sat.", model=loaded, target="answer").recording
    assert gave == names and all(one.gradients for one in recording.facts())


def test_a_model_that_was_loaded_in_inference_mode_is_refused(tmp_path: Path) -> None:
    decoder_in_folder(tmp_path, "LlamaForCausalLM")
    with torch.inference_mode():
        loaded = load(tmp_path)
    with pytest.raises(ArgumentError, match=r"loaded within torch\.inference_mode.*load it outside"):
        see("the cat sat", model=loaded, target="answer")
    assert len(see("the cat sat", model=loaded).recording)  # without a target it can be seen


def test_a_gradient_is_recorded_only_where_it_is_asked_for(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", **NAMES)
    recording = see(TEXT, model=tmp_path).recording
    assert recording.target is None and not any(one.gradients for one in recording.facts())


def test_a_model_that_answers_nothing_says_so(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertModel")
    target = see(TEXT, model=tmp_path).recording.target
    assert target is not None and not target.there and "answers nothing" in target.en
    with pytest.raises(ArgumentError, match="gives vectors, and no label or word whose gradient could be taken"):
        see(TEXT, model=tmp_path, target="answer")


def test_targets_that_are_not_there_are_refused_with_those_that_are() -> None:
    for target, said in (
        ("nope", "number from 0 to 4; found 'nope', and the words are 0 I, 1 love, 2 eating, 3 apples, 4 [.]"),
        (9, "from 0 to 4; found '9'"),
        (True, "found True"),
    ):
        with pytest.raises(ArgumentError, match=said):
            see("我爱吃苹果。", translation="I love eating apples.", target=target)
    with pytest.raises(ArgumentError, match="'the' stands there 2 times; choose one by its number: 0, 3"):
        see("我爱吃苹果。", translation="the cat and the dog.", target="the")
    with pytest.raises(ArgumentError, match="recording was made already, so target says nothing"):
        see(recording=Recording(), target="answer")


def test_the_first_word_of_a_text_was_not_chosen(tmp_path: Path) -> None:
    decoder_in_folder(tmp_path, "GPT2LMHeadModel")
    text = "t cat"  # whose first word is one token
    with pytest.raises(ArgumentError, match="the first one was given to it"):
        see(text, model=tmp_path, target=0)
