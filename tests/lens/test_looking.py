"""Whatever a model reads, what is seen of it is what `transformers` computes of the same input, axis by axis."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.image import Shortest, Sides, open_image, standard
from polyhead.lens.looking import framed
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Frames, Patches, Words, rulers_of
from polyhead.lens.see import see
from polyhead.tasks.transcribe import transcribe
from tests.tasks.speech import RATE, sound, speech_in_folder, write_wave
from tests.tasks.words import asked_in_folder, decoder_in_folder, in_folder

EAGER: dict[str, Any] = {"attn_implementation": "eager"}
TEXT = "the cat sat on the big red mat."
SHORT = "the cat sat."


def near(seen: Any, part: Any, theirs: Any) -> None:
    """Every layer of a part, place by place, against their weights [1, H, T, S] a layer."""
    assert len(seen.layers(part)) == len(theirs)
    for layer, wanted in zip(seen.layers(part), theirs, strict=True):
        np.testing.assert_allclose(seen.weights(part, layer=layer), wanted[0].double().numpy(), atol=1e-4)


def rulers(seen: Any) -> Any:
    return rulers_of(seen.recording.rulers)


@pytest.mark.parametrize("architecture", ["BertModel", "BertForMaskedLM", "ElectraModel"])
def test_an_encoder_over_a_text(tmp_path: Path, architecture: str) -> None:
    in_folder(tmp_path, architecture)
    theirs = getattr(transformers, architecture).from_pretrained(tmp_path, **EAGER)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")
    with torch.no_grad():
        wanted = theirs(**read, output_attentions=True).attentions
    seen = see(TEXT, model=tmp_path, by_words=False)
    near(seen, "encoder", wanted)
    words = rulers(seen)["encoder"]
    assert words.labels == ("[CLS]", *"the cat sat on the big red mat .".split(), "[SEP]")
    assert words.signs == (0, 10) and words.text == TEXT
    assert [TEXT[slice(*place)] for place in words.places[1:-1]] == [*words.labels[1:-1]]
    assert seen.target is None and seen.parts == ["encoder"]


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "BloomForCausalLM"])
def test_a_decoder_over_a_text(tmp_path: Path, architecture: str) -> None:
    decoder_in_folder(tmp_path, architecture)
    text = "the cat 我爱吃🍎"
    theirs = getattr(transformers, architecture).from_pretrained(tmp_path, **EAGER)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)(text, return_tensors="pt")
    with torch.no_grad():
        wanted = theirs(**read, output_attentions=True).attentions
    seen = see(text, model=tmp_path, by_words=False)
    near(seen, "decoder", wanted)
    words = rulers(seen)["decoder"]
    assert words.count == read["input_ids"].shape[1] and not words.signs
    assert "\ufffd" not in "".join(words.labels) and words.labels[-1] == "🍎"  # though it has but some of its bytes
    assert see(text, model=tmp_path).words("decoder")[0].labels[-1] == "🍎"


@pytest.mark.parametrize("architecture", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_a_model_that_answers_in_words(tmp_path: Path, architecture: str) -> None:
    task = {"summarization": {"prefix": "summarize: ", "max_length": 9}}
    asked_in_folder(tmp_path, architecture, task_specific_params=task)
    seen = see(SHORT, model=tmp_path, by_words=False)
    assert seen.source == f"summarize: {SHORT}"
    theirs = getattr(transformers, architecture).from_pretrained(tmp_path, **EAGER)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)(seen.source, return_tensors="pt")
    source, target = rulers(seen)["encoder"], rulers(seen)["decoder"]
    assert source.count == read["input_ids"].shape[1] and source.text == seen.source
    ids = asked(seen, tmp_path)
    with torch.no_grad():
        wanted = theirs(**read, decoder_input_ids=torch.tensor([ids]), output_attentions=True)
    near(seen, "encoder", wanted.encoder_attentions)
    near(seen, "decoder", wanted.decoder_attentions)
    near(seen, "cross", wanted.cross_attentions)
    assert target.count == rulers(seen)["chosen"].count == len(ids)
    assert see(SHORT, model=tmp_path, prefix="say: ").source == f"say: {SHORT}"


def asked(seen: Any, folder: Path) -> list[int]:
    """The ids that a decoder read, found by what `transformers` generates of the same source."""
    from polyhead.lens.looking import answer_text, asked
    from polyhead.tasks.load import load
    from polyhead.tasks.translator import Translator

    loaded = load(folder)
    translator = Translator(loaded, said=asked(loaded, None))
    [[found, *_]] = translator.batch([loaded.tokenizer.source.encode(seen.source)])
    assert answer_text(loaded, SHORT).target == seen.target == loaded.tokenizer.target.decode(found.tokens)
    return [translator.start_id, *(found.tokens if found.finished else found.tokens[:-1])]


def vision(folder: Path, architecture: str) -> Any:
    kind = getattr(transformers, architecture)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    torch.manual_seed(0)
    model = kind(kind.config_class(**sizes, image_size=16, patch_size=4, **EAGER)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    side = {"height": 16, "width": 16}
    if architecture.startswith("ViT"):
        transformers.ViTImageProcessor(size=side).save_pretrained(folder)
    else:
        larger = {"height": 20, "width": 20}
        transformers.DeiTImageProcessor(size=larger, crop_size=side).save_pretrained(folder)
    return model


@pytest.mark.filterwarnings("ignore")  # torchvision is not installed
@pytest.mark.parametrize("architecture", ["ViTForImageClassification", "DeiTForImageClassification"])
def test_an_image(tmp_path: Path, architecture: str) -> None:
    theirs = vision(tmp_path, architecture)
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype("u1"))
    image.save(tmp_path / "image.png")
    seen = see(image=tmp_path / "image.png", model=tmp_path)
    pixels = transformers.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        near(seen, "encoder", theirs(pixels, output_attentions=True).attentions)
    ruler = rulers(seen)["encoder"]
    assert isinstance(ruler, Patches) and (ruler.rows, ruler.columns) == (4, 4)
    assert ruler.before == (("[CLS]",) if architecture.startswith("ViT") else ("[CLS]", "[DISTILLED]"))
    assert Image.open(io.BytesIO(ruler.picture)).size == ruler.size
    assert ruler.size == ((60, 40) if architecture.startswith("ViT") else (48, 32))  # what the model is shown of it
    assert seen.source == "image.png"  # and not where it lies


def test_the_frame_is_the_part_that_the_model_is_shown() -> None:
    """A red square in the middle of an image, which the crop cuts out to its edge."""
    drawn = np.zeros((200, 100, 3), np.uint8)
    drawn[50:150, 25:75] = (255, 0, 0)
    half = standard("DeiTImageProcessor", (10, 10))
    for images in (
        half.__class__(**{**vars(half), "size": Sides(20, 20), "crop_size": Sides(10, 10)}),
        half.__class__(**{**vars(half), "do_resize": False, "crop_size": Sides(100, 50)}),
    ):
        assert (np.asarray(framed(images, drawn)) == (255, 0, 0)).all()
        assert framed(images, drawn).size == (50, 100)
    tall = half.__class__(**{**vars(half), "size": Shortest(20), "crop_size": Sides(20, 20)})
    assert framed(tall, drawn).size == (100, 100)
    beyond = half.__class__(**{**vars(half), "size": Sides(8, 8), "crop_size": Sides(10, 10)})
    assert framed(beyond, drawn).shape == (10, 10, 3)
    assert framed(standard(size=(10, 10)), drawn).size == open_image(drawn).size


def test_a_sound(tmp_path: Path) -> None:
    speech_in_folder(tmp_path, seed=1)
    path = write_wave(tmp_path / "speech.wav", sound(1.5))
    seen = see(audio=path, model=tmp_path, by_words=False, language="en")
    frames, read, chosen = (rulers(seen)[name] for name in ("encoder", "decoder", "chosen"))
    assert isinstance(frames, Frames) and isinstance(read, Words)
    assert (frames.count, frames.seconds, frames.duration) == (100, 0.02, 1.5)
    assert len(frames.sound) == 44 + 2 * int(1.5 * RATE)
    assert read.labels[:3] == ("<|startoftranscript|>", "<|en|>", "<|transcribe|>") and read.signs[:4] == (0, 1, 2, 3)
    assert chosen.labels[:3] == read.labels[1:4] and chosen.labels[-1] == "<|endoftext|>"
    said = transcribe(path, model=tmp_path, language="en")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)
    signs = words.convert_tokens_to_ids(["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"])
    times = words.convert_tokens_to_ids("<|0.00|>")  # and all after it: this model says some unasked
    ids = [*signs, *(id for segment in said.segments for id in segment.tokens if id < times)]
    assert seen.target == words.decode(ids[4:], skip_special_tokens=True).strip() and len(ids) == read.count > 8
    wanted = eager(tmp_path, path, ids)
    near(seen, "encoder", wanted.encoder_attentions)
    near(seen, "cross", wanted.cross_attentions)
    near(seen, "decoder", wanted.decoder_attentions)


def picture_of(path: Path, folder: Path) -> Any:
    from scipy.io import wavfile  # an independent reader

    _, samples = wavfile.read(path)
    drawer = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    return drawer(samples.astype("f4") / 32768, sampling_rate=RATE, return_tensors="np")["input_features"]


def eager(folder: Path, path: Path, ids: list[int]) -> Any:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder, **EAGER).eval()
    with torch.no_grad():
        return model(
            torch.from_numpy(picture_of(path, folder)), decoder_input_ids=torch.tensor([ids]), output_attentions=True
        )


def test_of_a_long_sound_the_beginning_is_seen_and_that_is_said(tmp_path: Path) -> None:
    speech_in_folder(tmp_path, seed=1)
    samples = sound(3.5)
    seen = see(audio=samples.numpy(), rate=RATE, model=tmp_path, language="en")
    assert seen.notes[0] == "The sound lasts 3.5 seconds; the first 2 are shown."
    assert rulers(seen)["encoder"].duration == 2.0 and seen.source == "sound"
    short = see(audio=samples[: 2 * RATE].numpy(), rate=RATE, model=tmp_path, language="en")
    assert short.target == seen.target and not short.notes


def test_a_recording_is_seen_without_its_model(tmp_path: Path) -> None:
    in_folder(tmp_path / "model", "BertModel")
    seen = see(TEXT, model=tmp_path / "model")
    seen.recording.save(tmp_path / "run")
    again = see(recording=tmp_path / "run")
    assert again.draw("encoder").plain == seen.draw().plain
    assert see(recording=Recording.load(tmp_path / "run")).draw().plain == seen.draw().plain
    assert again.recording.model is None


def test_a_recording_of_somebody_elses_model_is_seen_too(tmp_path: Path) -> None:
    from polyhead.lens.watch import watch

    model = in_folder(tmp_path / "model", "BertModel")
    with watch(model) as recording, torch.no_grad():
        model(torch.tensor([[2, 7, 8, 9, 3]]))
    seen = see(recording=recording)
    assert seen.parts == ["encoder"] and seen.layers() == [0, 1]
    assert seen.words()[0].labels == ["0", "1", "2", "3", "4"]
    with torch.no_grad():
        model.set_attn_implementation("eager")
        near(seen, "encoder", model(torch.tensor([[2, 7, 8, 9, 3]]), output_attentions=True).attentions)


def test_what_a_model_does_not_read_is_refused(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertModel")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"image": "x.png"}, "is a BertModel, which is given a text; found image"),
        ({"audio": "x.wav"}, "is a BertModel, which is given a text; found audio"),
        ({"text": "a", "image": "x.png"}, "Give one thing to see, .* found text, image"),
        ({"text": "a", "beam": 2}, "writes no answer, so beam says nothing"),
        ({"text": "a", "translation": "b"}, "writes no answer, so translation says nothing"),
        ({"text": 7}, "text must be a text, found int"),
    ]
    for how, sentence in cases:
        with pytest.raises(ArgumentError, match=sentence):
            see(**how, model=tmp_path)
    for text, sentence in (
        (" ", "nothing to see in an empty text"),
        ("cat " * 50, "has 52 tokens, but the model reads"),
    ):
        with pytest.raises(DataError, match=sentence):
            see(text, model=tmp_path)
    seen = see("cat", model=tmp_path)
    with pytest.raises(ArgumentError, match="has no part 'cross', only encoder"):
        seen.draw("cross")
