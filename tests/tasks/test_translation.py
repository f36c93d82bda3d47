"""Learning to translate, from a recipe and two TSV files to a folder that `transformers` loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from polyhead.errors import ConfigError, DataError
from polyhead.tasks.load import load
from polyhead.tasks.recipe import read_recipe
from polyhead.tasks.translation import prepare, train
from polyhead.tasks.translator import translate
from polyhead.training.task import Loss
from tests.tasks.conftest import pairs


def test_training_learns_and_leaves_a_model_a_card_and_its_metrics(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "training" / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [line["valid/loss"] for line in lines if "valid/loss" in line]
    assert len(losses) == 2 and losses[1] < losses[0]
    card = (trained / "README.md").read_text("utf-8")
    assert "toy pairs" in card and "CC0" in card and "chrf" in card
    assert "| toy test | BLEU |" in card and "tok:13a" in card


@pytest.mark.parity
def test_transformers_loads_what_was_trained_and_says_the_same(trained: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    for text, _ in pairs(6, seed=3):
        ids = tokenizer(text, return_tensors="pt")
        said = model.generate(ids["input_ids"], attention_mask=ids["attention_mask"])[0]
        assert tokenizer.decode(said, skip_special_tokens=True) == translate(text, model=trained).text


@pytest.mark.parity
def test_the_loss_is_that_of_transformers(trained: Path, toy: Path) -> None:
    """Cross entropy of every target of a padded batch, against the sum over single pairs there."""
    from transformers import AutoModelForSeq2SeqLM

    theirs = AutoModelForSeq2SeqLM.from_pretrained(trained)
    task = prepare(read_recipe(toy / "toy.toml"), toy / "model")
    task.model.load_state_dict(load(trained).model.state_dict())
    batch = task.batches(0)[0]
    total = 0.0
    with torch.no_grad():
        loss: Loss = task.loss_of(task.model.eval(), batch, 0.0)
        for source, n, target in zip(batch.source, batch.lengths, batch.target, strict=True):
            words = target[target != task.config.pad_id]
            found = theirs(input_ids=source[None, :n], labels=words[None]).loss
            total += float(found) * len(words)
    assert float(loss.total) == pytest.approx(total, rel=1e-4)
    assert loss.targets == int((batch.target != task.config.pad_id).sum())


def test_every_epoch_visits_every_pair_once_and_batches_repeat_themselves(toy: Path) -> None:
    task = prepare(read_recipe(toy / "toy.toml"), toy / "model")
    plan = task.batches(3).plan
    assert sorted(int(i) for rows in plan for i in rows) == list(range(400))
    again = task.batches(3)
    assert all(torch.equal(task.batches(3)[i].source, again[i].source) for i in (2, 0, 1))


def test_split_pieces_spell_the_same_text_in_other_pieces(toy: Path) -> None:
    task = prepare(read_recipe(toy / "toy.toml", [("data.split_pieces", "0.5")]), toy / "model")
    whole = prepare(read_recipe(toy / "toy.toml"), toy / "model")
    split, plain = task.batches(0)[0], whole.batches(0)[0]
    decode = task.tokenizer.target.decode_batch
    assert split.target.shape[1] > plain.target.shape[1]
    assert decode(split.target.tolist()) == decode(plain.target.tolist())
    assert torch.equal(split.target, task.batches(0)[0].target)


def test_a_key_is_changed_from_outside_and_a_wrong_one_refused(toy: Path) -> None:
    recipe = read_recipe(toy / "toy.toml", [("model.n_layers", "2"), ("train.lr", "1e-4")])
    assert (recipe.model.n_layers, recipe.train.lr) == (2, 1e-4)
    with pytest.raises(ConfigError, match=r"\[model\] has no key 'n_layer'\. Did you mean 'n_layers'"):
        read_recipe(toy / "toy.toml", [("model.n_layer", "2")])


def test_the_plan_counts_the_parameters_and_trains_nothing(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(toy / "toy.toml", out=toy / "planned", plan_only=True)
    task = prepare(read_recipe(toy / "toy.toml"), toy / "model")
    assert f"{sum(p.numel() for p in task.model.parameters()):,}" in capsys.readouterr().out
    assert not (toy / "planned").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("", "gives no sentence pair"), ("only one column\n", "line 1: has 1 column"), (None, "nowhere.tsv")],
)
def test_data_that_cannot_be_used_is_one_sentence(toy: Path, content: str | None, sentence: str) -> None:
    name = "nowhere.tsv"
    (toy / name).unlink(missing_ok=True)
    if content is not None:
        (toy / name).write_text(content, "utf-8")
    with pytest.raises(DataError) as refused:
        train(toy / "toy.toml", overrides=[("data.train", f'[{{path = "{name}"}}]')], out=toy / "none")
    assert sentence in str(refused.value)
    assert not (toy / "none" / "config.json").exists()


def test_what_training_does_not_see_is_counted(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{zh}\t{en}" for zh, en in pairs(30, seed=8)]
    (toy / "broken.tsv").write_text("\n".join([*lines, "no tab", "天" * 40 + "\t" + "sky " * 40]), "utf-8")
    overrides = [
        ("data.train", '[{path = "broken.tsv"}]'), ("data.on_error", "skip"), ("data.max_length", "20"),
        ("train.steps", "1"), ("train.warmup", "0"), ("tokenizer.size", "330"), ("data.test", "[]"),
    ]  # fmt: skip
    train(toy / "toy.toml", overrides=overrides, out=toy / "skipping")
    told = capsys.readouterr().err
    assert "broken.tsv: 1 lines left out: 1 x too few columns" in told
    assert "1 of 31 pairs left out (longer than data.max_length = 20)" in told


def test_a_tokenizer_of_another_recipe_is_never_used_in_silence(toy: Path) -> None:
    prepare(read_recipe(toy / "toy.toml"), toy / "other")
    smaller = read_recipe(toy / "toy.toml", [("tokenizer.size", "330")])
    assert prepare(smaller, toy / "other").tokenizer.source.size == 330
    (toy / "other" / "training" / "step-00000001").mkdir()
    with pytest.raises(ConfigError, match="other \\[tokenizer\\] settings"):
        prepare(read_recipe(toy / "toy.toml"), toy / "other")


def test_data_that_changed_under_a_training_is_refused(toy: Path) -> None:
    (toy / "changing.tsv").write_text("".join(f"{zh}\t{en}\n" for zh, en in pairs(60, seed=4)), "utf-8")
    recipe = read_recipe(toy / "toy.toml", [("data.train", '[{path = "changing.tsv"}]'), ("tokenizer.size", "330")])
    prepare(recipe, toy / "changing")
    (toy / "changing" / "training" / "step-00000001").mkdir()
    prepare(recipe, toy / "changing")
    (toy / "changing.tsv").write_text("".join(f"{zh}\t{en}\n" for zh, en in pairs(60, seed=5)), "utf-8")
    with pytest.raises(ConfigError, match="or files than this recipe's"):
        prepare(recipe, toy / "changing")
