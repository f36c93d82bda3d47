"""Learning labels, of texts and of pictures, from a recipe to a folder that `transformers` loads: one task for both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from polyhead.cli.train import overrides as typed
from polyhead.errors import ConfigError, DataError
from polyhead.tasks.classify import classify
from polyhead.tasks.evaluate import evaluate
from polyhead.tasks.learning.classification import OneOf, Several, criterion, prepare
from polyhead.tasks.learning.classification_recipe import read_recipe
from polyhead.tasks.learning.train import train
from polyhead.tasks.load import load
from tests.structure.page import ROOT
from tests.tasks.conftest import in_the_cache
from tests.tasks.words import in_folder

RECIPE = """
task = "classify"
name = "toy-{reads}"
architecture = "{architecture}"

[labels]
several = {several}

[model]
d_model = 24
n_layers = 1
n_heads = 2
d_ff = 32
dropout = 0.1
{model}

[data]
folder = "{folder}"
cache = "{folder}/cache"
{data}
train = [{{ path = "{path}", name = "toy", licence = "CC0", credit = "nobody" }}]
valid = [{{ path = "valid{ending}" }}]
test = [{{ path = "valid{ending}", name = "toy test" }}]

[train]
steps = 90
lr = 1e-2
warmup = 5
evaluate_every = "45 steps"
"""
WORDS = {"sun": "glad", "rain": "sad", "tea": "calm"}
OTHERS = "the a of it on my with today again and then".split()


def texts(n: int, seed: int, *, several: bool) -> Iterator[str]:
    """Lines of a TSV: a text, and what its words say, which may be nothing where several labels may hold."""
    random = np.random.default_rng(seed)
    for _ in range(n):
        said = [word for word in WORDS if random.random() < 0.4] if several else [str(random.choice(list(WORDS)))]
        words = [*random.choice(OTHERS, random.integers(1, 9)), *said]
        yield f"{' '.join(random.permutation(words))}\t{','.join(WORDS[word] for word in said)}\n"


def write_texts(folder: Path, *, several: bool) -> Path:
    for name, n, seed in (("train", 300, 1), ("valid", 40, 2)):
        (folder / f"{name}.tsv").write_text("".join(texts(n, seed, several=several)), "utf-8")
    how = {"reads": "text", "architecture": "BertForSequenceClassification", "several": str(several).lower()}
    more = {"model": "max_len = 16", "data": "batch_tokens = 300\nmax_length = 12", "path": "train.tsv"}
    words = "\n[tokenizer]\nsize = 330\nlower = true\n"
    recipe = RECIPE.format(folder=folder, ending=".tsv", **how, **more) + words
    (folder / "toy.toml").write_text(recipe, "utf-8")
    return folder / "toy.toml"


def write_pictures(folder: Path) -> Path:
    """A folder for each label: noise that is bright above, or below."""
    random = np.random.default_rng(0)
    for part, n in (("train", 60), ("valid", 12)):
        for label in ("above", "below"):
            (folder / part / label).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 90, (12, 12), np.uint8)
                pixels[:6] += 120 * (label == "above")
                pixels[6:] += 120 * (label == "below")
                Image.fromarray(pixels).save(folder / part / label / f"{i}.png")
    how = {"reads": "image", "architecture": "ViTForImageClassification", "several": "false", "path": "train"}
    model = "image_size = [8, 8]\npatch_size = [4, 4]\nchannels = 1"
    recipe = RECIPE.format(folder=folder, ending="", model=model, data="batch = 24\nshift = 0.1\nmirror = true", **how)
    (folder / "toy.toml").write_text(recipe, "utf-8")
    return folder / "toy.toml"


@pytest.fixture(scope="module", params=["one of the texts'", "several of the texts'", "the pictures'"])
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    if "pictures" in request.param:
        return write_pictures(folder)
    return write_texts(folder, several="several" in request.param)


@pytest.fixture(scope="module")
def trained(recipe: Path) -> Path:
    train(recipe, out=recipe.parent / "model")
    return recipe.parent / "model"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A recipe of texts, each with one label."""
    return write_texts(tmp_path, several=False)


def test_training_learns_and_leaves_a_model_its_labels_and_a_card(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "training" / "metrics.jsonl").read_text("utf-8").splitlines()]
    judged = [line for line in lines if "valid/macro_f1" in line]
    assert judged[-1]["valid/macro_f1"] > 0.9 and judged[-1]["valid/loss"] < 0.3  # log 2 and more, by guessing
    names = load(trained).config.labels
    head, *rows = [line.split("\t") for line in (trained / "labels.tsv").read_text("utf-8").splitlines()]
    assert head == ["label", "n", "precision", "recall", "f1", "threshold"] and [row[0] for row in rows] == list(names)
    card = (trained / "README.md").read_text("utf-8")
    assert "CC0" in card and "| toy test | macro_f1 |" in card and "polyhead classify --model runs/toy-" in card


@pytest.mark.parity
def test_transformers_loads_what_was_trained_and_gives_the_same_probabilities(trained: Path, recipe: Path) -> None:
    import transformers

    theirs: Any
    if (trained / "preprocessor_config.json").exists():
        files = sorted((recipe.parent / "valid").rglob("*.png"))[:5]
        theirs = transformers.AutoModelForImageClassification.from_pretrained(trained)
        reads = transformers.AutoImageProcessor.from_pretrained(trained)
        inputs = [reads([Image.open(file).convert("L")], return_tensors="pt") for file in files]
    else:
        files = [line.split("\t")[0] for line in (recipe.parent / "valid.tsv").read_text("utf-8").splitlines()[:5]]
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(trained)
        reads = transformers.AutoTokenizer.from_pretrained(trained)
        inputs = [reads(text, return_tensors="pt") for text in files]
    several = theirs.config.problem_type == "multi_label_classification"
    for found, given in zip(classify(files, model=trained), inputs, strict=True):
        with torch.no_grad():
            logits = theirs(**given).logits[0]
        wanted = (logits.sigmoid() if several else logits.softmax(-1)).tolist()
        named = {theirs.config.id2label[i]: p for i, p in enumerate(wanted)}
        assert found.scores == pytest.approx(named, rel=1e-4, abs=1e-6)


def test_the_best_model_scores_when_asked_what_it_scored_in_training(trained: Path, recipe: Path) -> None:
    valid = recipe.parent / "valid"
    if valid.is_dir():
        pairs: list[Any] = [(file, file.parent.name) for file in valid.rglob("*.png")]
    else:
        pairs = [tuple(line.split("\t")) for line in valid.with_suffix(".tsv").read_text("utf-8").splitlines()]
    found, _ = evaluate(pairs, model=trained)
    lines = [json.loads(line) for line in (trained / "training" / "metrics.jsonl").read_text("utf-8").splitlines()]
    best = min((line for line in lines if "valid/loss" in line), key=lambda line: line["valid/loss"])
    for name, value in found.values().items():
        assert value == pytest.approx(best[f"valid/{name}"], rel=1e-5)


def test_a_training_that_was_stopped_ends_with_the_same_bits(recipe: Path, tmp_path: Path) -> None:
    how = [("train.horizon", "60"), ("train.checkpoint_every", "7 steps")]
    train(recipe, overrides=[*how, ("train.steps", "24")], out=tmp_path / "whole")
    train(recipe, overrides=[*how, ("train.steps", "10")], out=tmp_path / "parts")
    train(recipe, overrides=[*how, ("train.steps", "24")], out=tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_batches_are_the_same_whenever_they_are_asked_for_and_others_in_another_epoch(recipe: Path) -> None:
    task = prepare(read_recipe(recipe), recipe.parent / "again")
    first, again, other = task.batches(1), task.batches(1), task.batches(2)
    for i in (len(first) - 1, 0):
        assert torch.equal(first[i].inputs, again[i].inputs) and torch.equal(first[i].targets, again[i].targets)
    assert first[0].inputs.shape != other[0].inputs.shape or not torch.equal(first[0].inputs, other[0].inputs)
    assert sorted(int(i) for rows in first.plan for i in rows) == list(range(len(task.examples)))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_rare_labels_weigh_as_the_recipe_says(toy: Path, balance: float) -> None:
    counts, random = np.array([10, 40, 150]), torch.Generator().manual_seed(0)
    scores = torch.randn(7, 3, generator=random, dtype=torch.float64)
    labels = [[int(k)] for k in torch.randint(0, 3, (7,), generator=random)]
    one = criterion(read_recipe(toy, [("labels.balance", str(balance)), ("train.label_smoothing", "0.1")]), counts, 200)
    assert isinstance(one, OneOf)
    weights = (counts.mean() / counts) ** balance
    weights /= (weights * counts).sum() / 200
    q, there = scores.log_softmax(-1), [k for (k,) in labels]
    each = [-0.9 * q[i, k] - 0.1 * q[i].mean() for i, k in enumerate(there)]
    wanted = sum(weights[k] * float(cost) for k, cost in zip(there, each, strict=True))
    assert float(one.cost(scores, one.targets(labels))) == pytest.approx(wanted, rel=1e-5)
    few = criterion(read_recipe(toy, [("labels.several", "true"), ("labels.balance", str(balance))]), counts, 200)
    assert isinstance(few, Several)
    truth = F.one_hot(torch.tensor([k for (k,) in labels]), 3).double()
    positive = torch.tensor(((200 - counts + 1) / counts) ** balance)
    p = scores.sigmoid()
    cost = -(positive * truth * p.log() + (1 - truth) * (1 - p).log()).sum() / 3
    assert float(few.cost(scores, few.targets(labels))) == pytest.approx(float(cost), rel=1e-5)


def test_of_a_long_text_each_epoch_reads_a_window_between_its_signs(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (toy.parent / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("sun " * 40 + "\tglad\n")
    task = prepare(read_recipe(toy), toy.parent / "long")
    assert "1 of 301 texts are longer than data.max_length = 12" in capsys.readouterr().err
    last, words = np.array([300]), task.inputs.parts["tokenizer"]
    ids, lengths = task.examples.inputs(last, np.random.default_rng(0))
    assert lengths is not None and lengths.tolist() == [12]
    whole = words.encode("sun " * 40)
    assert (ids[0, 0], ids[0, -1]) == (whole[0], whole[-1])
    body = ids[0, 1:-1].tolist()
    assert any(whole[i : i + 10] == body for i in range(1, len(whole) - 10))


def test_hidden_words_are_as_many_as_the_recipe_says_and_others_each_time(toy: Path) -> None:
    task = prepare(read_recipe(toy, [("data.hide", "0.25")]), toy.parent / "hidden")
    plain = prepare(read_recipe(toy), toy.parent / "hidden")
    words, rows = task.inputs.parts["tokenizer"], np.arange(len(task.examples))
    (once, lengths), (again, _) = (task.examples.inputs(rows, np.random.default_rng(seed)) for seed in (0, 1))
    told, _ = plain.examples.inputs(rows, np.random.default_rng(0))
    assert lengths is not None and not torch.equal(once, again)
    hidden = once != told
    assert (once[hidden] == words.unk_id).all() and not (told == words.unk_id).any()
    assert not hidden[:, 0].any() and not hidden[torch.arange(len(once)), lengths - 1].any()
    of = float((lengths - 2).sum())
    assert abs(hidden.sum().item() - 0.25 * of) < 4 * (of * 0.25 * 0.75) ** 0.5


def test_from_an_encoder_all_but_the_head_is_taken_over(toy: Path, tmp_path: Path, capsys: Any) -> None:
    for architecture in ("BertModel", "BertForMaskedLM"):
        folder = tmp_path / architecture
        in_folder(folder, architecture)
        task = prepare(read_recipe(toy_from(toy), [("start", str(folder))]), tmp_path / f"from-{architecture}")
        there, own = load(folder).model.state_dict(), task.model.state_dict()
        taken = [name for name in own if name in there and torch.equal(own[name], there[name])]
        pooler = ["head.dense.weight", "head.dense.bias"] if architecture == "BertForMaskedLM" else []
        assert sorted(set(own) - set(taken)) == sorted(["head.out.weight", "head.out.bias", *pooler])
        assert "New, from chance: " in capsys.readouterr().err


def test_the_card_names_a_start_from_the_hub_as_it_is_called_there(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path / "encoder", "BertModel")
    start = in_the_cache(tmp_path / "encoder", tmp_path / "hub", monkeypatch)
    train(toy_from(toy), overrides=[("start", start), ("train.steps", "2"), ("train.warmup", "1")], out=tmp_path / "on")
    card = (tmp_path / "on" / "README.md").read_text("utf-8")
    assert "Continued from someone/small, whose own training" in card and "whatever someone/small was trained" in card
    assert f'start = "{start}@{"a" * 40}"' in card and card.count("a" * 40) == 1


def toy_from(toy: Path) -> Path:
    """The recipe without what a start brings itself."""
    text = toy.read_text("utf-8")
    text = text.replace('architecture = "BertForSequenceClassification"\n', "")
    for table in ("model", "tokenizer"):
        start = text.index(f"[{table}]")
        behind = text.find("\n[", start)
        text = text[:start] + (text[behind + 1 :] if behind > 0 else "")
    path = toy.with_name("from.toml")
    path.write_text(text, "utf-8")
    return path


def test_from_a_classifier_of_the_same_labels_the_head_goes_on_too(toy: Path, tmp_path: Path) -> None:
    train(toy, overrides=[("train.steps", "3"), ("train.warmup", "1")], out=tmp_path / "first")
    task = prepare(read_recipe(toy_from(toy), [("start", str(tmp_path / "first"))]), tmp_path / "second")
    assert task.new == []
    there = load(tmp_path / "first").model.state_dict()
    assert all(torch.equal(tensor, there[name]) for name, tensor in task.model.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"task": "clasify"}, "task = 'clasify' is none that can be trained; known: translate, classify. Did you mean"),
        ({"architecture": "BertForMaskedLM"}, "BertForMaskedLM gives hidden words, but a classifier gives labels"),
        ({"architecture": "LlamaForCausalLM"}, "LlamaForCausalLM gives next word, but a classifier gives labels"),
        ({"model.labels": '["a"]'}, "[model] sets labels, which come from [labels]"),
        ({"model.vocab_size": "9"}, "[model] sets vocab_size, which come from the tokenizer"),
        ({"labels.balance": "2"}, "balance must be from 0 to 1"),
        ({"labels.several": "true", "train.label_smoothing": "0.1"}, "with labels.several leave it out"),
        ({"train.watch": "macro"}, "Did you mean 'macro_f1'"),
        ({"data.max_length": "99"}, "data.max_length (99) is above model.max_len (16)"),
        ({"data.shift": "0.1"}, "[data] has no key 'shift'"),
        ({"data.hide": "1"}, "hide must be at least 0 and below 1, a share of the tokens, found 1"),
        ({"model.n_heads": "5"}, "describes no model that can be built"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_sentence(toy: Path, overrides: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        train(toy, overrides=list(overrides.items()), out=toy.parent / "none")
    assert sentence in str(refused.value) and not (toy.parent / "none").exists()


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_label_that_is_none_is_named_with_its_line(toy: Path, part: str) -> None:
    file = toy.parent / f"{part}.tsv"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:3], "the tea\tclam\n", *lines[3:]]), "utf-8")
    names = ("labels.names", '["calm", "glad", "sad"]')
    with pytest.raises(DataError, match=r"tsv line 4: 'clam' is no label; .* Did you mean 'calm'.* \[labels\]"):
        train(toy, overrides=[names], out=toy.parent / "none")


@pytest.mark.parametrize("pictures", [False, True])
def test_a_broken_line_names_a_key_that_skips_it(tmp_path: Path, pictures: bool) -> None:
    recipe = (write_pictures if pictures else partial(write_texts, several=False))(tmp_path)
    rows = [f"train/{label}/{i}.png\t{label}" for i in range(4) for label in ("above", "below")]
    lines = [*rows, "of one column"] if pictures else ["the sun\tglad", "the rain\tsad", "of one column"]
    (tmp_path / "table.tsv").write_text("\n".join(lines), "utf-8")
    overrides = [(f"data.{part}", '[{path = "table.tsv"}]') for part in ("train", "valid", "test")]
    with pytest.raises(DataError, match=r"has 1 column.*skipped \((.*)\)\.$") as refused:
        prepare(read_recipe(recipe, overrides), tmp_path / "none")
    told = str(refused.value).rpartition("(")[2].removesuffix(").")
    assert told == '--data.on_error skip, or on_error = "skip" in [data]'
    (key, value), *more = typed(told.partition(",")[0].split())
    assert not more
    prepare(read_recipe(recipe, [*overrides, (key, value)]), tmp_path / "none")


def test_one_label_is_no_choice(toy: Path) -> None:
    for part in ("train", "valid"):
        (toy.parent / f"{part}.tsv").write_text("the sun\tglad\n" * 9, "utf-8")
    with pytest.raises(ConfigError, match="tells labels apart, but there is only glad"):
        train(toy, out=toy.parent / "none")


def test_a_picture_that_is_none_stops_with_its_name(tmp_path: Path) -> None:
    recipe = write_pictures(tmp_path)
    (tmp_path / "train" / "above" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"above.0\.png"):
        train(recipe, out=tmp_path / "none")


@pytest.mark.parametrize("name", ["goemotions", "digits", "goemotions-tuned"])
def test_the_recipes_that_ship_are_read(name: str, tmp_path: Path) -> None:
    how: list[tuple[str, str]] = []
    if name.endswith("tuned"):
        in_folder(tmp_path / "start", "BertModel")
        how = [("start", str(tmp_path / "start")), ("data.max_length", "20")]
    found = read_recipe(ROOT / "recipes" / f"{name}.toml", how)
    assert found.task == "classify" and found.name == name
    if not how:
        shutil.copy(ROOT / "recipes" / f"{name}.toml", tmp_path)
        with pytest.raises(ConfigError, match="has no key"):
            read_recipe(tmp_path / f"{name}.toml", [("model.depth", "3")])
    else:
        with pytest.raises(ConfigError, match=r"neither what to build .* nor where to start from"):
            read_recipe(ROOT / "recipes" / f"{name}.toml")
