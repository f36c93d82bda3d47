"""What the heads of whole models do: of our folders, and of any model from its recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polyhead
from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.everyday import CHINESE, ENGLISH
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.metrics import METRICS
from polyhead.lens.rulers import Words
from tests.cli.conftest import write_model
from tests.tasks.speech import sound, speech_in_folder, write_wave
from tests.tasks.words import decoder_in_folder, in_folder

TEXTS = ["the cat sat on the mat, and the dog ran.", "not good", "where is the red house"]


def test_the_sentences_we_bring_are_each_others_translation_and_plain() -> None:
    assert len(ENGLISH) == len(CHINESE) == len({*ENGLISH, *CHINESE}) / 2


def test_every_metric_says_what_it_is_in_two_languages() -> None:
    for metric in METRICS:
        assert all((metric.en, metric.zh, metric.about_en, metric.about_zh, metric.formula, metric.source))
        assert metric.about_en.endswith(".") and metric.about_zh.endswith("。")
    assert len({metric.key for metric in METRICS}) == len(METRICS)


def test_a_recording_of_theirs_tells_what_our_folder_tells(tmp_path: Path) -> None:
    theirs = in_folder(tmp_path, "BertModel")
    loaded = polyhead.load(tmp_path)
    own = polyhead.heads(loaded, TEXTS, ablate=None, resamples=50)
    recordings: list[polyhead.Recording] = []
    for text in TEXTS:
        pieces = loaded.tokenizer.pieces(text)
        with polyhead.watch(theirs) as recording, torch.no_grad():
            theirs(torch.tensor([[piece.id for piece in pieces]]))
        recording.rulers = {"encoder": Words.of(text, pieces)}
        recordings.append(recording)
    found = polyhead.heads(recordings, resamples=50)
    assert [call.heads for call in found.calls] == [call.heads for call in own.calls] == [3, 3]
    for key in ("previous", "next", "special", "delimiter", "entropy", "distance", "confidence", "positional"):
        for name in ("values", "low", "high"):
            here, there = (getattr(x, name)[..., x.place(key)] for x in (found, own))
            np.testing.assert_allclose(here, there, atol=1e-5, err_msg=key)
        np.testing.assert_allclose(found.chance[:, found.place(key)], own.chance[:, own.place(key)], atol=1e-5)
    assert "importance" not in found.keys and "importance" in own.keys


def test_a_model_of_anybody_with_its_axes_given() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 16, batch_first=True).eval()
    with polyhead.watch(layer) as recording, torch.no_grad():
        layer(torch.randn(1, 6, 16))
    bare = polyhead.heads(recording)
    assert "duplicate" not in bare.keys and np.isnan(bare.low).all()
    axis = Axis.words(list("abcab."), [1, 2, 3, 1, 2, 4], [])
    found = polyhead.heads(recording, axes=axis, prefix_offset=-1)
    weights = recording[recording.names()[0]].weights()[0]
    assert found.of("duplicate")[0] == pytest.approx((weights[:, 3, 0] + weights[:, 4, 1]).numpy() / 2, abs=1e-6)
    assert found.of("prefix")[0] == pytest.approx(weights[:, 4, 0].numpy(), abs=1e-6)
    assert "before" in found.metrics[found.place("prefix")].about_en
    with pytest.raises(ArgumentError, match="'nowhere' was not recorded"):
        polyhead.heads(recording, axes={"nowhere": axis})


class Plain(nn.Module):
    """Attention of a name that says nothing."""

    def __init__(self, causal: bool):
        super().__init__()
        self.causal, self.project = causal, nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (4, 4)).transpose(1, 2) for y in self.project(x).chunk(3, -1))
        return x + F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2)


def test_a_call_is_of_the_part_that_its_recording_says() -> None:
    """Where names say nothing, what hides later keys is a decoder, and lies on its ruler."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"reads": Plain(False), "writes": nn.Sequential(Plain(True), Plain(True))}).eval()
    with polyhead.watch(model) as recording, torch.no_grad():
        model["reads"](torch.randn(1, 5, 16))
        model["writes"](torch.randn(1, 6, 16))
    recording.rulers = {"encoder": ["a", "b", "c", "d", "e"], "decoder": ["a", "b", "c", "a", "b", "c"]}
    found = polyhead.heads(recording)
    assert [call.part for call in found.calls] == [one.part for one in recording.facts()]
    assert [(call.part, call.layer) for call in found.calls] == [("encoder", 0), ("decoder", 0), ("decoder", 1)]
    assert found.calls[2].label(3) == "dec 1.3"
    weights = recording["writes.1"].weights()[0]
    alike = weights.diagonal(-3, 1, 2).mean(-1)  # each of the last three on the same letter
    assert found.of("duplicate")[2] == pytest.approx(alike.numpy(), abs=1e-6)


def test_a_translator_tells_of_every_part_and_of_given_alignments(tmp_path: Path) -> None:
    write_model(tmp_path)
    loaded = polyhead.load(tmp_path)
    pairs = ["我爱 吃\tI love eating", "雨\train"]
    found = polyhead.heads(loaded, pairs, alignments=["0-0 0-1 1-2", "0-0"], resamples=20)
    assert [call.part for call in found.calls] == ["encoder", "encoder", "decoder", "cross", "decoder", "cross"]
    kinds = np.array([call.kind for call in found.calls])
    for key in ("alignment", "aer"):
        assert np.isnan(found.of(key)[kinds == "self"]).all() and not np.isnan(found.of(key)[kinds == "cross"]).all()
    assert (found.of("aer")[kinds == "cross"] >= 0).all()
    assert np.isnan(found.of("previous")[kinds == "cross"]).all() and (found.of("previous")[kinds == "self"] >= 0).all()
    squares = np.square(found.of("importance")).sum(1)
    assert squares == pytest.approx(np.ones(6), abs=1e-4)  # by layer
    assert not np.isnan(found.of("copying")[kinds == "cross"]).any()  # one vocabulary
    assert np.isnan(found.of("copying")[:2]).all()  # an encoder says no words
    for wrong, said in (
        ({"alignments": ["0-0"]}, "2 inputs and 1 alignments"),
        ({"ablate": "noise"}, "ablate must be"),
        ({"prefix_offset": 0}, "prefix_offset must be 1 or -1"),
        ({"axes": Axis(3)}, "axes are for recordings"),
        ({"language": "de"}, "language must be en or zh"),
    ):
        with pytest.raises(ArgumentError, match=said):
            polyhead.heads(loaded, pairs, **wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_decoders_look_back_and_nowhere_else(tmp_path: Path, kind: str) -> None:
    decoder_in_folder(tmp_path, kind)
    found = polyhead.heads(tmp_path, TEXTS, resamples=20)
    assert np.isnan(found.of("next")).all()
    for key in ("previous", "induction", "prefix", "copying", "importance", "ablation"):
        assert not np.isnan(found.of(key)).any(), key
    assert ((found.values >= found.low - 1e-6) | np.isnan(found.low)).all()


def test_images_have_lines_and_no_neighbours(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    sizes: dict[str, Any] = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    }  # fmt: skip
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    images = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "white")]
    found = polyhead.heads(tmp_path, images, resamples=20)
    assert {"row", "column", "diagonal", "dx", "dy", "spread", "special"} <= {*found.keys}
    assert not {"previous", "distance", "duplicate"} & {*found.keys}
    assert found.chance[0, found.place("row")] == pytest.approx(3 / 17)
    with pytest.raises(ArgumentError, match="reads images, and polyhead brings none"):
        polyhead.heads(tmp_path)


def test_speech_moves_on_or_does_not(tmp_path: Path) -> None:
    speech_in_folder(tmp_path / "model", seed=1)
    files = [write_wave(tmp_path / f"{n}.wav", sound(1.0 + n / 4, n)) for n in range(2)]
    found = polyhead.heads(tmp_path / "model", files, resamples=20)
    assert {"encoder", "decoder", "cross"} == {call.part for call in found.calls}
    cross = [c for c, call in enumerate(found.calls) if call.part == "cross"]
    assert not np.isnan(found.of("alignment")[cross]).all()


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertModel")
    with pytest.raises(DataError, match="nothing to read"):
        polyhead.heads(tmp_path, [])
    with pytest.raises(ArgumentError, match="a recording holds its inputs"):
        polyhead.heads(polyhead.Recording(), ["a"])
