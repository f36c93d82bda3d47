"""What is written for CTranslate2 loads there and says the same, family by family; what it cannot run is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch import Tensor

import polyhead
from polyhead.core import Run
from polyhead.errors import ArgumentError, CheckpointError, WriteError
from polyhead.families import family
from polyhead.inputs.pair import Pair
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.export.convert import convert
from polyhead.tasks.export.ct2 import ct2_model
from polyhead.tasks.load import Loaded
from tests.families import tiny
from tests.families.tiny import some_ids
from tests.tasks import speech
from tests.tasks.words import asked_in_folder, decoder_in_folder, in_folder
from tests.test_files import files_no_larger_than

#  the rest is refused, by architecture or by variant
PAIRS = [
    (name, variant)
    for name in (
        "MarianMTModel", "BartForConditionalGeneration", "T5ForConditionalGeneration", "MT5ForConditionalGeneration",
    )
    for variant in tiny.SHAPES[name]
]  # fmt: skip
DECODERS = [
    *((name, variant) for name in ("GPT2LMHeadModel", "BloomForCausalLM") for variant in tiny.SHAPES[name]),
    *(("LlamaForCausalLM", variant) for variant in ("", "biased", "tied", "linear", "llama3")),
    ("Qwen2ForCausalLM", ""), ("Qwen3ForCausalLM", ""), ("Qwen3ForCausalLM", "biased"),
    ("MistralForCausalLM", "no window"),
]  # fmt: skip
ENCODERS = [("BertModel", ""), ("RobertaModel", ""), ("DistilBertModel", ""), ("ElectraModel", "wide")]
REFUSED = {
    ("BertForSequenceClassification", ""): "it gives labels, and encoders run there without a head",
    ("ElectraModel", ""): "its words are narrower than its stack",
    ("GPT2Model", ""): "it reads its own past and has no words to say",
    ("LlamaForCausalLM", "yarn"): "its rotary positions are stretched in the way of Yarn",
    ("LlamaForCausalLM", "dynamic"): "its rotary positions are stretched in the way of Dynamic",
    ("MistralForCausalLM", ""): "its layers see 4 words back at most, of 40 places",
    ("Qwen2ForCausalLM", "windows"): "its layers see 4 words back at most, of 40 places",
}


def folder_of(architecture: str, variant: str, folder: Path) -> Path:
    """A tiny model of theirs with a vocabulary of numbers: w0, w1, ..."""
    tiny.theirs_of(architecture, tiny.SHAPES[architecture][variant]).save_pretrained(folder)
    words = {f"w{id}": id for id in range(tiny.WORDS)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w3"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="w0", eos_token="w1", unk_token="w3"
    ).save_pretrained(folder)
    return folder


def converted(model: Path | str, out: Path, dtype: str | None = None) -> str:
    convert(model, out, to="ct2", dtype=dtype)
    return str(out)


def names(ids: Tensor) -> list[list[str]]:
    return [[f"w{id}" for id in row] for row in ids.tolist()]


def distance(theirs: Any, ours: Tensor) -> float:
    return float((torch.from_numpy(np.array(theirs)) - ours).abs().max() / ours.abs().max())


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "variant"), PAIRS)
def test_an_encoder_decoder_finds_answers_as_likely(architecture: str, variant: str, tmp_path: Path) -> None:
    folder = folder_of(architecture, variant, tmp_path / "model")
    model: Any = polyhead.load(folder).model
    c = model.config
    there = ctranslate2.Translator(converted(folder, tmp_path / "out"), compute_type="float32")
    source, target = some_ids(3, 9), some_ids(3, 6, seed=3)
    start, end = (torch.full((3, 1), id) for id in (c.start_id, c.eos_id))
    scores = model.head(model.decode(torch.cat((start, target), 1), Run(memory=model.encode(source))))
    scores[..., c.pad_id] = -torch.inf  # which neither says
    expected = scores.log_softmax(-1).gather(-1, torch.cat((target, end), 1)[..., None])[..., 0]
    found = there.score_batch(names(source), names(target))
    assert distance([row.log_probs for row in found], expected) < 1e-5


@torch.no_grad()
def test_two_vocabularies_keep_apart(tmp_path: Path) -> None:
    kind = family("MarianMTModel")
    sides = [
        Tokenizer.train(lines, size=60, byte_fallback=False) for lines in (["我爱吃苹果。"], ["I like eating apples."])
    ]
    sizes = {"vocab_size": sides[0].size, "target_vocab_size": sides[1].size, "d_model": 16, "d_ff": 20, "n_layers": 2}
    torch.manual_seed(0)
    model: Any = kind.build(replace(kind.config(), **sizes, n_decoder_layers=1, joint=False, tied=False))
    loaded = Loaded(model.eval(), Pair(*sides), kind)
    convert(loaded, tmp_path / "out", to="ct2")
    there = ctranslate2.Translator(str(tmp_path / "out"), compute_type="float32")
    source, target = sides[0].encode("我爱苹果"), sides[1].encode("I like apples")
    scores = model.head(
        model.decode(torch.tensor([[0, *target[:-1]]]), Run(memory=model.encode(torch.tensor([source]))))
    )
    scores[..., model.config.pad_id] = -torch.inf
    expected = scores.log_softmax(-1)[0].gather(-1, torch.tensor(target)[:, None])[:, 0]
    rows = [[side.token(id) for id in row] for side, row in zip(sides, (source, target[:-1]), strict=True)]
    [found] = there.score_batch(rows[:1], rows[1:])
    assert distance(found.log_probs, expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "variant"), DECODERS)
def test_a_decoder_gives_the_same_scores(architecture: str, variant: str, tmp_path: Path) -> None:
    folder = folder_of(architecture, variant, tmp_path / "model")
    model = polyhead.load(folder).model
    there = ctranslate2.Generator(converted(folder, tmp_path / "out"), compute_type="float32")
    ids = some_ids(2, 20)
    assert distance(there.forward_batch(ids.tolist()), model(ids)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "variant"), ENCODERS)
def test_an_encoder_gives_the_same_vectors(architecture: str, variant: str, tmp_path: Path) -> None:
    folder = folder_of(architecture, variant, tmp_path / "model")
    model: Any = polyhead.load(folder).model
    there = ctranslate2.Encoder(converted(folder, tmp_path / "out"), compute_type="float32")
    ids = some_ids(2, 9)
    vectors, found = model.encode(ids), there.forward_batch(ids.tolist())
    assert distance(found.last_hidden_state, vectors) < 1e-5
    if architecture in ("BertModel", "RobertaModel"):
        assert distance(found.pooler_output, model.head.pooled(vectors)) < 1e-5
    else:
        assert found.pooler_output is None


@pytest.mark.parametrize(("architecture", "variant"), REFUSED)
def test_what_it_does_not_compute_is_refused_in_one_sentence(architecture: str, variant: str, tmp_path: Path) -> None:
    folder = folder_of(architecture, variant, tmp_path / "model")
    with pytest.raises(ArgumentError) as told:
        converted(folder, tmp_path / "out")
    assert REFUSED[architecture, variant] in str(told.value)
    assert str(told.value).endswith(
        "It runs translation and text to text, next words, vectors of texts, speech to text"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_an_encoder_of_sound_that_bends_otherwise_is_refused() -> None:
    """There it is GELU, whatever a file says."""
    kind = family("WhisperForConditionalGeneration")
    sizes = {"vocab_size": 60, "d_model": 12, "n_layers": 1, "n_decoder_layers": 1, "n_frames": 4, "max_len": 5}
    c = replace(kind.config(), **sizes, activation="relu", pad_id=1, eos_id=1, start_id=2)
    with pytest.raises(ArgumentError, match="its encoder bends by relu"):
        ct2_model(Loaded(kind.build(c), None, kind))


CHINESE = ["我爱吃苹果。", "他说她没来。", "今天天气很好，我们去公园吧。", "科学家发现了一种新的行星。", "请把门关上。"]


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_shipped_model_translates_there_as_here(dtype: str, beam: int, tmp_path: Path) -> None:
    out = converted("zh-en", tmp_path / "out", dtype)
    there = ctranslate2.Translator(out, compute_type=dtype)
    words = transformers.AutoTokenizer.from_pretrained(out)  # went along
    rows = [words.convert_ids_to_tokens(words(line).input_ids) for line in CHINESE]
    found = [answer.hypotheses[0] for answer in there.translate_batch(rows, beam_size=beam)]
    texts = [words.decode(words.convert_tokens_to_ids(row)) for row in found]
    assert texts == [one.text for one in polyhead.translate(CHINESE, beam=beam)]


@pytest.mark.parametrize("architecture", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_greedy_answers_are_the_same_word_by_word(architecture: str, tmp_path: Path) -> None:
    asked_in_folder(tmp_path / "model", architecture, forced_eos_token_id=None)
    loaded, texts = polyhead.load(tmp_path / "model"), ["the cat sat on the mat", "the dog ran to the red house"]
    expected = polyhead.translate(texts, model=loaded, beam=1, prefix="", max_new=12)
    there = ctranslate2.Translator(converted(tmp_path / "model", tmp_path / "out"), compute_type="float32")
    words: Any = loaded.tokenizer.source
    rows = [[words.token(id) for id in words.encode(text)] for text in texts]
    found = there.translate_batch(rows, beam_size=1, max_decoding_length=12)
    ids = [[words.inner.token_to_id(token) for token in answer.hypotheses[0]] for answer in found]
    assert words.decode_batch(ids) == [answer.text for answer in expected]


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "BloomForCausalLM"])
def test_a_decoder_goes_on_the_same_word_by_word(architecture: str, tmp_path: Path) -> None:
    decoder_in_folder(tmp_path / "model", architecture)
    loaded = polyhead.load(tmp_path / "model")
    words = loaded.tokenizer
    expected = polyhead.complete("the cat sat", model=loaded, max_new=15).text
    there = ctranslate2.Generator(converted(tmp_path / "model", tmp_path / "out"), compute_type="float32")
    prompt = [words.token(id) for id in words.encode("the cat sat")]
    [found] = there.generate_batch([prompt], max_length=15, sampling_topk=1, include_prompt_in_result=False)
    assert words.decode([id for id in found.sequences_ids[0] if id != loaded.config.eos_id]) == expected


@torch.no_grad()
def test_speech_is_heard_there_as_here(tmp_path: Path) -> None:
    speech.speech_in_folder(tmp_path / "model", seed=1)
    loaded: Any = polyhead.load(tmp_path / "model")
    model, out = loaded.model, converted(tmp_path / "model", tmp_path / "out")
    there = ctranslate2.models.Whisper(out, compute_type="float32")
    mel = torch.randn(2, 80, 2 * speech.STEPS, generator=torch.Generator().manual_seed(5))
    features = ctranslate2.StorageView.from_array(mel.numpy())
    memory = model.encode(mel)
    assert distance(there.encode(features), memory) < 1e-5
    named = [
        loaded.tokenizer.target.inner.token_to_id(f"<|{name}|>")
        for name in ("startoftranscript", "en", "transcribe", "notimestamps")
    ]
    says = loaded.generation
    rows = torch.tensor([named, named])
    for step in range(10):
        scores = model.head(model.decode(rows, Run(memory=memory)))[:, -1]
        scores[:, says["suppress_tokens"]] = -torch.inf
        if not step:
            scores[:, says["begin_suppress_tokens"]] = -torch.inf
        rows = torch.cat((rows, scores.argmax(-1, keepdim=True)), 1)
    found = there.generate(features, [named, named], beam_size=1, max_length=40)
    for row, answer in zip(rows[:, len(named) :].tolist(), found, strict=True):
        own = row[: row.index(loaded.config.eos_id)] if loaded.config.eos_id in row else row
        assert answer.sequences_ids[0][:10] == own


# ----------------------------------------------------------------------------------------------------------- the format


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The variables and aliases of a model.bin, by a plain reader of what its writer documents."""
    content, at = path.read_bytes(), 0

    def take(form: str) -> Any:
        nonlocal at
        found = struct.unpack_from(f"<{form}", content, at)
        at += struct.calcsize(f"<{form}")
        return found[0] if len(found) == 1 else found

    def name() -> str:
        length = take("H")
        return take(f"{length}s")[:-1].decode()

    assert take("I") == 6
    assert name().startswith("Transformer") and take("I") > 0
    variables: dict[str, np.ndarray] = {}
    for _ in range(take("I")):
        key = name()
        shape = [take("I") for _ in range(take("B"))]
        kind = ("f4", "i1", "i2", "i4", "f2", "u2")[take("B")]
        variables[key] = np.frombuffer(take(f"{take('I')}s"), kind).reshape(shape)
    aliases = {name(): name() for _ in range(take("I"))}
    assert at == len(content)
    return variables, aliases


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "DistilBertModel", "T5ForConditionalGeneration"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int8_float16", "float16"])
def test_the_file_is_that_of_its_own_converter(architecture: str, dtype: str, tmp_path: Path) -> None:
    """Every tensor by its name, bit for bit; the converter of CTranslate2 reads the same folder."""
    folder_of(architecture, "", tmp_path / "model")
    theirs = ctranslate2.converters.TransformersConverter(str(tmp_path / "model"))
    theirs.convert(str(tmp_path / "theirs"), quantization=dtype)
    converted(tmp_path / "model", tmp_path / "ours", dtype)
    (expected, their_aliases), (found, aliases) = (read(tmp_path / side / "model.bin") for side in ("theirs", "ours"))
    for name, numbers in expected.items():
        if numbers.ndim and name != "decoder/projection/bias":  # ours also says which words never come
            held = found[aliases.get(name, name)]
            assert held.dtype == numbers.dtype and np.array_equal(held, numbers), name
    for name, owner in their_aliases.items():
        assert np.array_equal(found[aliases.get(name, name)], expected[owner]), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int8_float16", "int8_bfloat16"])
def test_fewer_bits_change_little(dtype: str, tmp_path: Path) -> None:
    in_folder(tmp_path / "model", "BertModel")
    whole = ctranslate2.Encoder(converted(tmp_path / "model", tmp_path / "whole"), compute_type="float32")
    fewer = ctranslate2.Encoder(converted(tmp_path / "model", tmp_path / "fewer", dtype), compute_type="float32")
    ids = [[2, 7, 9, 12, 3]]
    expected = torch.from_numpy(np.array(whole.forward_batch(ids).last_hidden_state))
    found = distance(fewer.forward_batch(ids).last_hidden_state, expected)
    assert 0 < found < 0.05
    size, least = ((tmp_path / name / "model.bin").stat().st_size for name in ("whole", "fewer"))
    assert least < 0.75 * size


def test_tied_words_are_written_once(tmp_path: Path) -> None:
    decoder_in_folder(tmp_path / "model", "GPT2LMHeadModel")
    for dtype in ("float32", "int8"):
        converted(tmp_path / "model", tmp_path / dtype, dtype)
        variables, aliases = read(tmp_path / dtype / "model.bin")
        assert aliases["decoder/projection/weight"] == "decoder/embeddings/weight" in variables
        assert ("decoder/projection/weight_scale" in aliases) == (dtype == "int8")


def test_a_row_of_zeros_stays_one_in_whole_numbers(tmp_path: Path) -> None:
    from polyhead.weights.ct2 import stored

    matrix = torch.randn(4, 6)
    matrix[2] = 0
    found = stored("a/weight", matrix, "int8")
    back = found["a/weight"] / found["a/weight_scale"][:, None]
    assert not back[2].any() and (back - matrix).abs().max() <= matrix.abs().max() / 127 / 2 * 1.001


# -------------------------------------------------------------------------------------------------- what is refused


def test_a_wrong_type_a_wrong_engine_and_a_folder_that_exists_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="dtype 'int4' is not one of float32"):
        converted("zh-en", tmp_path / "out", "int4")
    with pytest.raises(ArgumentError, match=r"to is 'ct3'.*one of safetensors, ct2, onnx"):
        convert("zh-en", tmp_path / "out", to="ct3")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="dtype is for to='ct2'"):
        convert("zh-en", tmp_path / "out", dtype="int8")
    with pytest.raises(CheckpointError, match="exists"):
        converted("zh-en", tmp_path)


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    in_folder(tmp_path / "model", "BertModel")
    loaded = polyhead.load(tmp_path / "model")
    with files_no_larger_than(2000), pytest.raises(WriteError, match=rf"^{tmp_path / 'out'} could not be written"):
        convert(loaded, tmp_path / "out", to="ct2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
