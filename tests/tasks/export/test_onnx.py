"""Graphs run in onnxruntime give our numbers, whatever the batch, the lengths and the past."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import polyhead
from polyhead.errors import ArgumentError, MissingExtra, WriteError
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.export import onnx_file
from polyhead.tasks.export.convert import convert
from polyhead.tasks.export.onnx import graphs, write
from polyhead.tasks.load import Loaded
from tests.families.tiny import Both, both, kept, ours_of, real, some_ids, some_inputs
from tests.tasks.words import asked_in_folder, decoder_in_folder, in_folder
from tests.test_files import files_no_larger_than

Session = Callable[..., dict[str, np.ndarray]]


def session(path: Path) -> Session:
    """A graph as a function from inputs to outputs, all by name."""
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads = 1
    inner = onnxruntime.InferenceSession(path, how)
    names = [each.name for each in inner.get_outputs()]

    def run(**inputs: Tensor | np.ndarray) -> dict[str, np.ndarray]:
        found: Any = inner.run(None, {name: np.asarray(x) for name, x in inputs.items()})
        return dict(zip(names, found, strict=True))

    return run


def exported(architecture: str, variant: str, folder: Path) -> Both:
    """A tiny model, whose graphs lie in the folder."""
    pair = both(architecture, variant, folder / "model")
    write(folder, graphs(Loaded(pair.ours, None, pair.family, pair.raw)))
    return pair


def distance(found: Any, expected: Tensor) -> float:
    found = torch.from_numpy(np.asarray(found))
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


SIZES = [(1, 1), (3, 7), (2, 20)]  # rows and words; the graph was traced with others


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "outputs"),
    [
        ("BertModel", ["last_hidden_state", "pooler_output"]),
        ("BertForQuestionAnswering", ["start_logits", "end_logits"]),
        ("RobertaForMaskedLM", ["logits"]),
        ("ElectraForSequenceClassification", ["logits"]),
        ("CLIPTextModelWithProjection", ["text_embeds", "last_hidden_state"]),
    ],
)
def test_an_encoder_of_words_gives_our_numbers(architecture: str, outputs: list[str], tmp_path: Path) -> None:
    pair = exported(architecture, "", tmp_path)
    run = session(tmp_path / "model.onnx")
    for rows, n in SIZES:
        ids, lengths = some_ids(rows, n), torch.randint(1, n + 1, (rows,), generator=torch.Generator().manual_seed(n))
        mask = real(ids, lengths)
        kinds = {"token_type_ids": torch.zeros_like(ids)} if pair.family.model_type in ("bert", "electra") else {}
        found = run(input_ids=ids, attention_mask=mask.long(), **kinds)
        assert list(found) == outputs
        expected = pair.ours(ids, lengths)
        answer = np.stack([found[name] for name in outputs], -1) if outputs[0] == "start_logits" else found[outputs[0]]
        assert distance(kept(torch.from_numpy(answer), mask), kept(expected, mask)) < 1e-5
        if "pooler_output" in found:
            assert distance(found["pooler_output"], pair.ours.head.pooled(expected)) < 1e-5


@torch.no_grad()
def test_kinds_of_words_are_an_input(tmp_path: Path) -> None:
    pair = exported("BertForTokenClassification", "", tmp_path)
    ids = some_ids(2, 6)
    kinds = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1]])
    found = session(tmp_path / "model.onnx")(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=kinds)
    assert distance(found["logits"], pair.ours(ids, kinds=kinds)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "output"), [("ViTForImageClassification", "logits"), ("SiglipVisionModel", "image_embeds")]
)
def test_an_encoder_of_images_gives_our_numbers(architecture: str, output: str, tmp_path: Path) -> None:
    pair = exported(architecture, "", tmp_path)
    for rows in (1, 3):
        pixels = some_inputs(pair, rows)
        found = session(tmp_path / "model.onnx")(pixel_values=pixels)
        assert distance(found[output], pair.ours(pixels)) < 1e-5


@torch.no_grad()
def test_two_towers_are_two_graphs(tmp_path: Path) -> None:
    pair = exported("CLIPModel", "", tmp_path)
    ids, pixels = some_ids(2, 9), torch.randn(3, 3, *pair.ours.config.image_size)
    text = session(tmp_path / "text_model.onnx")(input_ids=ids, attention_mask=torch.ones_like(ids))["text_embeds"]
    image = session(tmp_path / "vision_model.onnx")(pixel_values=pixels)["image_embeds"]
    assert distance(text, pair.ours.text(ids)) < 1e-5 and distance(image, pair.ours.image(pixels)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        ("Qwen3ForCausalLM", "biased"),
        ("BloomForCausalLM", ""),
        ("MistralForCausalLM", ""),
    ],
)
def test_a_decoder_reads_on_from_its_past(architecture: str, variant: str, tmp_path: Path) -> None:
    """Four tokens at once, from no past, then one after the other."""
    pair = exported(architecture, variant, tmp_path)
    run, recipe = session(tmp_path / "model.onnx"), pair.ours.decoder.recipe
    for rows, n in SIZES:
        ids, read = some_ids(rows, n), []
        past = {
            f"past_key_values.{i}.{each}": np.zeros((rows, recipe.kv_heads, 0, recipe.head_width), np.float32)
            for i in range(recipe.n_layers)
            for each in ("key", "value")
        }
        starts = [0, *range(4, n)]
        for start, stop in zip(starts, [*starts[1:], n], strict=True):
            places = torch.arange(start, stop).expand(rows, -1)
            found = run(
                input_ids=ids[:, start:stop], attention_mask=np.ones((rows, stop), np.int64), **past,
                **({} if architecture.startswith("Bloom") else {"position_ids": places}),
            )  # fmt: skip
            read.append(found.pop("logits"))
            past = {name.replace("present", "past_key_values"): x for name, x in found.items()}
        assert distance(np.concatenate(read, 1), pair.ours(ids)) < 1e-5


@torch.no_grad()
def test_places_are_turned_by_how_long_the_text_is(tmp_path: Path) -> None:
    """LongRoPE has one set of speeds within the trained places, of which there are eight here, and another beyond."""
    pair = exported("LlamaForCausalLM", "longrope", tmp_path)
    run, recipe = session(tmp_path / "model.onnx"), pair.ours.decoder.recipe
    for n in (8, 9):
        ids = some_ids(2, n)
        empty = np.zeros((2, recipe.kv_heads, 0, recipe.head_width), np.float32)
        past = {f"past_key_values.{i}.{each}": empty for i in range(recipe.n_layers) for each in ("key", "value")}
        places = torch.arange(n).expand(2, -1)
        found = run(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=places, **past)
        assert distance(found["logits"], pair.ours(ids)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["T5ForConditionalGeneration", "WhisperForConditionalGeneration"])
def test_an_encoder_decoder_reads_its_memory_and_its_past(architecture: str, tmp_path: Path) -> None:
    pair = exported(architecture, "", tmp_path)
    encode, first, later = (
        session(tmp_path / f"{name}_model.onnx") for name in ("encoder", "decoder", "decoder_with_past")
    )
    hears = pair.family.reads == "sound"
    for rows, n in SIZES:
        x = some_inputs(pair, rows) if hears else some_ids(rows, n)
        lengths = torch.randint(1, n + 1, (rows,), generator=torch.Generator().manual_seed(n))
        mask = None if hears else real(x, lengths)
        given = {"input_features": x} if mask is None else {"input_ids": x, "attention_mask": mask.long()}
        memory = encode(**given)["last_hidden_state"]
        seen = {} if mask is None else {"encoder_attention_mask": mask.long()}
        target, read = some_ids(rows, 6, seed=9), []
        held = first(input_ids=target[:, :2], encoder_hidden_states=memory, **seen)
        for place in range(2, 6):
            read.append(held.pop("logits"))
            past = {name.replace("present", "past_key_values"): x for name, x in held.items()}
            held |= later(input_ids=target[:, place : place + 1], **seen, **past)
        expected = ours_of(pair, x, target, mask=mask)
        assert distance(np.concatenate([*read, held["logits"]], 1), expected) < 1e-5


# ------------------------------------------------------------------------------------------------- from and to files


def test_a_batch_of_prompts_goes_on_as_ours(tmp_path: Path) -> None:
    """Greedily, padded on the left."""
    decoder_in_folder(tmp_path / "model", "LlamaForCausalLM")
    convert(tmp_path / "model", tmp_path / "out", to="onnx")
    prompts = ["the cat sat on", "你好", "the dog ran to the red house"]
    expected = [one.text for one in polyhead.complete(prompts, model=tmp_path / "model", max_new=8)]
    words, run = Tokenizer.load(tmp_path / "out"), session(tmp_path / "out" / "model.onnx")
    rows = [words.encode(prompt) for prompt in prompts]
    width = max(map(len, rows))
    ids = np.array([[words.pad_id] * (width - len(row)) + row for row in rows])
    mask = np.array([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    past = {
        f"past_key_values.{i}.{each}": np.zeros((3, 2, 0, 6), np.float32) for i in (0, 1) for each in ("key", "value")
    }
    said = np.zeros((3, 0), np.int64)
    for _ in range(8):
        places = (mask.cumsum(1) - 1).clip(0)[:, -ids.shape[1] :]
        found = run(input_ids=ids, attention_mask=mask, position_ids=places, **past)
        ids = found.pop("logits")[:, -1].argmax(-1)[:, None]
        past = {name.replace("present", "past_key_values"): x for name, x in found.items()}
        said, mask = np.concatenate((said, ids), 1), np.concatenate((mask, np.ones((3, 1), np.int64)), 1)
    ends = [[*row, words.eos_id].index(words.eos_id) for row in said.tolist()]
    assert [words.decode(row[:end]) for row, end in zip(said.tolist(), ends, strict=True)] == expected


@torch.no_grad()
def test_a_text_is_answered_as_ours_and_its_numbers_lie_there_once(tmp_path: Path) -> None:
    asked_in_folder(tmp_path / "model", "MarianMTModel", forced_eos_token_id=None)
    convert(tmp_path / "model", out := tmp_path / "out", to="onnx")
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "decoder_model.onnx", "decoder_with_past_model.onnx", "encoder_model.onnx",
        "generation_config.json", "model.onnx_data", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    loaded = polyhead.load(tmp_path / "model")
    tensors = [*loaded.model.parameters(), loaded.model.source.positions.table, *loaded.model.head.buffers()]  # pyright: ignore
    large = sum(x.nbytes for x in tensors if x.nbytes >= onnx_file.SMALL)
    assert (
        large <= (out / "model.onnx_data").stat().st_size < 1.2 * large
    )  # PyTorch folds small matrices that are turned
    assert all(str(Path(polyhead.__file__).parent).encode() not in path.read_bytes() for path in out.glob("*.onnx"))
    onnx.checker.check_model(str(out / "decoder_model.onnx"))
    text = "the cat sat on the mat"
    expected: Any = polyhead.translate(text, model=loaded, beam=1, max_new=8)
    words = Tokenizer.load(out)
    encode, first, later = (session(out / f"{name}_model.onnx") for name in ("encoder", "decoder", "decoder_with_past"))
    ids = np.array([words.encode(text)])
    seen = {"encoder_attention_mask": np.ones_like(ids)}
    memory = encode(input_ids=ids, attention_mask=np.ones_like(ids))["last_hidden_state"]
    said, read = list[int](), list[np.ndarray]()
    held = first(input_ids=np.array([[loaded.config.start_id]]), encoder_hidden_states=memory, **seen)
    while len(said) < 8 and words.eos_id not in said:
        scores = held.pop("logits")[0, -1]
        read.append(scores.copy())
        scores[0] = -np.inf  # padding is never said
        said.append(int(scores.argmax()))
        past = {name.replace("present", "past_key_values"): x for name, x in held.items()}
        held |= later(input_ids=np.array([said[-1:]]), **seen, **past)
    assert words.decode(said) == expected.text
    told = torch.tensor([[loaded.config.start_id, *said[:-1]]])
    assert distance(np.stack(read)[None], loaded.model(torch.from_numpy(ids), told)) < 1e-5  # pyright: ignore


@torch.no_grad()
def test_a_large_graph_keeps_its_numbers_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = in_folder(tmp_path / "model", "BertForMaskedLM").config.vocab_size
    convert(tmp_path / "model", tmp_path / "one", to="onnx")
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    convert(tmp_path / "model", tmp_path / "two", to="onnx")
    assert (tmp_path / "two" / "model.onnx_data").is_file() and not (tmp_path / "one" / "model.onnx_data").exists()
    ids = some_ids(2, 9).clamp(max=words - 1)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    one, two = (session(tmp_path / name / "model.onnx")(**given)["logits"] for name in ("one", "two"))
    assert np.array_equal(one, two) and distance(one, polyhead.load(tmp_path / "model").model(ids)) < 1e-5


def test_what_no_graph_computes_is_one_sentence(tmp_path: Path) -> None:
    for architecture, variant, why in (
        ("LlamaForCausalLM", "dynamic", "Rotary positions of the kind Dynamic"),
        ("MixtralForCausalLM", "", "holds mixtures of experts"),
    ):
        pair = both(architecture, variant, tmp_path / architecture)
        with pytest.raises(ArgumentError, match=why):
            graphs(Loaded(pair.ours, None, pair.family, pair.raw))


def test_without_the_extra_its_name_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path / "model", "BertModel")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"polyhead\[onnx\]"):
        convert(tmp_path / "model", tmp_path / "out", to="onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    in_folder(tmp_path / "model", "BertModel")
    loaded = polyhead.load(tmp_path / "model")
    with files_no_larger_than(20_000), pytest.raises(WriteError, match=rf"^{tmp_path / 'out'} could not be written"):
        convert(loaded, tmp_path / "out", to="onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
