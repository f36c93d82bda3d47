"""Labels of texts and images: the probabilities of `transformers`; one label or several, long texts read whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import polyhead
from polyhead import ArgumentError, CheckpointError
from tests.tasks.words import in_folder, vocabulary

pytestmark = pytest.mark.parity
TEXTS = ["the cat sat on the mat.", "not good", "a bad dog ran in the house"]
LONG = " ".join(["the cat sat on the mat and the dogs ran to the garden."] * 5)
NAMES = ["sad", "glad", "so so", "angry"]
HOW: dict[str, Any] = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}


@pytest.fixture(scope="module", params=["one", "several"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("bert")
    more = {"problem_type": "multi_label_classification"} if request.param == "several" else {}
    return in_folder(folder, "BertForSequenceClassification", **HOW, **more), folder


def probabilities(model: Any, ids: dict[str, torch.Tensor]) -> list[float]:
    with torch.no_grad():
        scores = model(**ids).logits[0].double()
    several = model.config.problem_type == "multi_label_classification"
    return (scores.sigmoid() if several else scores.softmax(-1)).tolist()


def test_probabilities_are_those_of_the_reference_and_labels_follow(both: tuple[Any, Path]) -> None:
    model, folder = both
    several = model.config.problem_type == "multi_label_classification"
    for text, found in zip(TEXTS, polyhead.classify(TEXTS, model=folder), strict=True):
        wanted = dict(zip(NAMES, probabilities(model, vocabulary()(text, return_tensors="pt")), strict=True))
        assert found.item == text and found.windows == 1
        assert found.scores == pytest.approx(wanted, rel=1e-4, abs=1e-6)
        assert list(found.scores) == sorted(wanted, key=lambda name: -wanted[name])
        likely = [name for name in found.scores if wanted[name] >= 0.5]
        assert list(found.labels) == (likely if several else [max(wanted, key=lambda name: wanted[name])])


def test_a_threshold_may_be_of_one_label(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", **HOW)
    found = polyhead.classify(TEXTS[0], model=tmp_path, several=True, threshold=0.0)
    assert sorted(found.labels) == sorted(NAMES)
    last = list(found.scores)[-1]
    fewer = polyhead.classify(TEXTS[0], model=tmp_path, several=True, threshold={n: float(n != last) for n in NAMES})
    assert last in fewer.labels


def test_a_long_text_is_the_mean_of_windows_that_overlap(tmp_path: Path) -> None:
    model = in_folder(tmp_path, "BertForSequenceClassification", **HOW)
    ids = vocabulary()(LONG, add_special_tokens=False)["input_ids"]
    parts = [[2, *ids[start : start + 22], 3] for start in range(0, len(ids) - 6, 16)]  # 24 tokens, 6 in common
    each = torch.tensor([probabilities(model, {"input_ids": torch.tensor([part])}) for part in parts])
    found = polyhead.classify(LONG, model=tmp_path)
    assert found.windows == len(parts) > 3 and parts[-1][-2] == ids[-1]
    assert found.scores == pytest.approx(dict(zip(NAMES, each.mean(0).tolist(), strict=True)), rel=1e-4, abs=1e-6)


def test_what_cannot_be_is_one_sentence(both: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="threshold names 'happy', but the model's labels are sad, glad, so so"):
        polyhead.classify("a", model=both[1], threshold={"happy": 0.3})
    with pytest.raises(ArgumentError, match="threshold must be from 0 to 1, a probability; found 3"):
        polyhead.classify("a", model=both[1], threshold=3)
    in_folder(tmp_path, "BertForMaskedLM")
    with pytest.raises(
        ArgumentError, match=r"classify needs a model that gives labels, image labels or similarity; .* is a Bert"
    ):
        polyhead.classify("a", model=tmp_path)


def test_images_are_labelled_as_the_reference_does(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    model = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, **HOW)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    files = [tmp_path / f"{n}.png" for n in range(3)]
    for n, file in enumerate(files):
        noise = torch.randint(0, 256, (20 + n, 30, 3), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(file)
    batch = AutoImageProcessor.from_pretrained(tmp_path)([Image.open(f) for f in files], return_tensors="pt")
    with torch.no_grad():
        wanted = model(**batch).logits.double().softmax(-1)
    found = polyhead.classify(files, model=tmp_path)
    assert [each.item for each in found] == [str(file) for file in files]
    for each, p in zip(found, wanted.tolist(), strict=True):
        assert each.scores == pytest.approx(dict(zip(NAMES, p, strict=True)), rel=1e-4, abs=1e-6)
    assert polyhead.classify(files[0], model=tmp_path).scores == pytest.approx(found[0].scores, rel=1e-4)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(polyhead.DataError, match=r"broken\.png"):
        polyhead.classify(tmp_path / "broken.png", model=tmp_path)


def test_thresholds_beside_a_model_are_used_and_a_damaged_table_is_named(tmp_path: Path) -> None:
    in_folder(tmp_path, "BertForSequenceClassification", problem_type="multi_label_classification", **HOW)
    found = polyhead.classify("the cat", model=tmp_path)
    just = {name: p + 1e-4 * (place - 1) for place, (name, p) in enumerate(found.scores.items())}  # below, at, above
    rows = "".join(f"{name}\t1\t1\t1\t1\t{p}\n" for name, p in just.items())
    table = tmp_path / "labels.tsv"
    table.write_text("label\tn\tprecision\trecall\tf1\tthreshold\n" + rows, "utf-8")
    names = list(found.scores)
    assert names[0] in polyhead.classify("the cat", model=tmp_path).labels
    assert names[2] not in polyhead.classify("the cat", model=tmp_path).labels
    for damaged in ("label\tthreshold\nfoo\t0.5\n", "label\tthreshold\nsad\tnan\n", "label\n", ""):
        table.write_text(damaged, "utf-8")
        with pytest.raises(CheckpointError, match=r"labels\.tsv is no table of this model's labels"):
            polyhead.classify("the cat", model=tmp_path)


def test_a_threshold_that_would_be_ignored_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    model = in_folder(tmp_path, "BertForSequenceClassification", **HOW)
    with pytest.raises(ArgumentError, match="threshold is of labels that may hold together"):
        polyhead.classify("the cat", model=tmp_path, threshold=0.9)
    with pytest.raises(ArgumentError, match=r"found '0\.9'"):
        polyhead.classify("the cat", model=tmp_path, threshold="0.9")  # pyright: ignore
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no finite numbers, so its weights are damaged"):
        polyhead.classify("the cat", model=tmp_path)
