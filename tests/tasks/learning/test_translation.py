"""Learning to translate, from a recipe and two TSV files to a folder that `transformers` loads."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.errors import ConfigError, DataError, MissingExtra
from polyhead.tasks.learning.train import train
from polyhead.tasks.learning.translation import TWO_VOCABULARIES, TranslationTask, prepare
from polyhead.tasks.learning.translation_recipe import read_recipe
from polyhead.tasks.learning.vocabulary import FOLDER as TOKENIZER
from polyhead.tasks.load import find, load
from polyhead.tasks.translator import translate
from polyhead.training.checkpoint import claim
from polyhead.training.recipe_file import flat
from polyhead.training.task import Loss
from tests.tasks.conftest import in_the_cache, pairs


def test_training_learns_and_leaves_a_model_a_card_and_its_metrics(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "training" / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [line["valid/loss"] for line in lines if "valid/loss" in line]
    assert len(losses) == 2 and losses[1] < losses[0]
    card = (trained / "README.md").read_text("utf-8")
    assert "toy pairs" in card and "CC0" in card and "chrf" in card
    assert "| toy test | BLEU |" in card and "tok:13a" in card
    assert "| validation | loss |" in card and "| validation, 8 rows spread over it, greedy | chrf |" in card


def settings_on(card: str) -> dict[str, Any]:
    lines = card.split("## Settings\n\n```\n")[1].removesuffix("\n```\n").splitlines()
    return {key: json.loads(value) for key, value in (line.split(" = ", 1) for line in lines)}


@pytest.mark.parametrize("tested", [True, False])
def test_the_card_states_the_model_as_it_is_and_the_training_as_it_ran(toy: Path, tested: bool) -> None:
    how = [("train.precision", "auto"), ("train.steps", "0"), ("train.epochs", "1")]
    out = toy / f"told-{tested}"
    train(toy / "toy.toml", overrides=how if tested else [*how, ("data.test", "[]")], out=out)
    told = settings_on((out / "README.md").read_text("utf-8"))
    model = flat(load(out).config, prefix="model.")
    assert {key: told.get(key) for key in model} == model
    assert told["model.vocab_size"] == 340 and told["model.forced_end_id"] == 1
    assert told["train.precision"] in ("fp32", "bf16")
    steps = json.loads((out / "training" / "metrics.jsonl").read_text("utf-8").splitlines()[-1])["step"]
    assert (told["train.epochs"], told["schedule.horizon"], told["evaluate.rows"]) == (1, steps, 8)
    assert not [key for key in told if key.startswith(("data.folder", "data.cache"))]


def test_translations_are_scored_on_rows_from_all_over_the_file(toy: Path) -> None:
    lines = [pair.source for pair in prepare(read_recipe(toy / "toy.toml"), toy / "model").pairs.valid_lines]
    for rows, places in (("3", [0, 10, 20]), ("30", range(30)), ("99", range(30)), ("0", [])):
        task = prepare(read_recipe(toy / "toy.toml", [("evaluate.rows", rows)]), toy / "model")
        assert [pair.source for pair in task.lines] == [lines[i] for i in places]


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


def test_the_plan_counts_the_parameters_and_writes_nothing(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = prepare(read_recipe(toy / "toy.toml"), toy / "model")
    before = {path: path.stat().st_mtime_ns for path in toy.rglob("*")}
    for size in ("340", "330"):  # a tokenizer that is there, and one that is not
        for folder in ("planned", "model"):
            if (size, folder) != ("330", "model"):
                train(toy / "toy.toml", overrides=[("tokenizer.size", size)], out=toy / folder, plan_only=True)
    told = capsys.readouterr()
    assert f"{sum(p.numel() for p in task.model.parameters()):,}" in told.out
    assert f"{toy / 'planned'} and {toy / 'cache'} stay as they are" in told.err
    assert {path: path.stat().st_mtime_ns for path in toy.rglob("*")} == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("", "is empty, expected"), ("only one column\n", "skipped (--data.on_error skip, or"), (None, "nowhere.tsv")],
)
def test_data_that_cannot_be_used_is_one_sentence(toy: Path, content: str | None, sentence: str) -> None:
    name = "nowhere.tsv"
    (toy / name).unlink(missing_ok=True)
    if content is not None:
        (toy / name).write_text(content, "utf-8")
    with pytest.raises(DataError) as refused:
        train(toy / "toy.toml", overrides=[("data.train", f'[{{path = "{name}"}}]')], out=toy / "none")
    assert sentence in str(refused.value)
    assert not (toy / "none").exists()


def test_the_recipe_for_ones_own_sentences_trains(toy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pairs = (toy / "train.tsv").read_text("utf-8").splitlines()
    (data / "train.tsv").write_text("\n".join([*pairs, "a line of one column"]), "utf-8")
    (data / "valid.tsv").write_text("\n".join(pairs[:3]), "utf-8")
    small = {"d_model": 16, "n_heads": 2, "n_decoder_heads": 2, "d_ff": 16, "decoder_d_ff": 16}
    changed = {"data.folder": data, "data.cache": tmp_path / "cache", "tokenizer.size": 340, "train.steps": 2}
    changed |= {f"model.{key}": size for key, size in small.items()}
    recipe = Path(__file__).parents[3] / "recipes" / "own.toml"
    result = train(recipe, overrides=[(key, str(value)) for key, value in changed.items()], out=tmp_path / "own")
    assert result and result.steps == 2
    card = (tmp_path / "own" / "README.md").read_text("utf-8")
    assert "polyhead translate --model runs/own" in card and "tokenizer.target_size" not in card


def held_out(toy: Path, name: str, lines: list[tuple[str, str]]) -> str:
    (toy / name).write_text("".join(f"{zh}\t{en}\n" for zh, en in lines), "utf-8")
    return f'[{{path = "{name}"}}]'


LONG = "天" * 40, "sky " * 40


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("data.train", "No pair of data.train has at most data.max_length = 24 tokens on either side"),
        ("data.valid", "No pair of data.valid has at most data.max_length = 24 tokens on either side"),
        ("data.test", "No line of .*long.tsv has at most model.max_len = 24 tokens, the most that the model reads"),
    ],
)
def test_files_of_which_nothing_is_short_enough_are_refused_before_training(toy: Path, key: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        prepare(read_recipe(toy / "toy.toml", [(key, held_out(toy, "long.tsv", [LONG, LONG]))]), toy / "long")


def test_a_test_file_that_is_not_there_is_refused_before_training(toy: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.tsv cannot be read"):
        prepare(read_recipe(toy / "toy.toml", [("data.test", '[{path = "nothing.tsv"}]')]), toy / "model")


def test_held_out_lines_beyond_the_model_are_counted_and_the_card_says_so(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = held_out(toy, "mixed.tsv", [LONG, *pairs(5, seed=9), LONG])
    overrides = [("data.valid", mixed), ("data.test", mixed), ("train.steps", "1"), ("train.warmup", "0")]
    train(toy / "toy.toml", overrides=overrides, out=toy / "mixed")
    told = capsys.readouterr().err
    assert "2 of 7 valid pairs left out (longer than data.max_length = 24)" in told
    assert told.count("mixed.tsv: 2 of 7 lines are not translated (longer than model.max_len = 24)") == 2
    assert "| mixed.tsv, the 5 of 7 rows of at most 24 tokens | BLEU |" in (toy / "mixed" / "README.md").read_text(
        "utf-8"
    )


def test_pieces_are_not_split_beyond_what_the_model_reads(toy: Path) -> None:
    task = prepare(read_recipe(toy / "toy.toml", [("data.split_pieces", "1.0")]), toy / "model")
    whole = prepare(read_recipe(toy / "toy.toml"), toy / "model")
    rows = np.argsort(task.pairs.train.target_lengths)[-4:]
    split, plain = (each.batch(rows, np.random.default_rng(0)) for each in (task, whole))
    assert split.target.shape[1] <= 24 and split.source.shape[1] <= 24
    decode = task.tokenizer.target.decode_batch
    assert decode(split.target.tolist()) == decode(plain.target.tolist())


def test_a_missing_sacrebleu_is_noticed_before_training(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtra, match=r"polyhead\[train\]"):
        prepare(read_recipe(toy / "toy.toml"), toy / "model")
    prepare(read_recipe(toy / "toy.toml", [("evaluate.rows", "0"), ("data.test", "[]")]), toy / "model")


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
    with pytest.raises(ConfigError, match=r"was begun with other \[tokenizer\] settings or start;"):
        prepare(read_recipe(toy / "toy.toml"), toy / "other")


def test_tokenizers_learned_from_other_columns_are_never_used_in_silence(toy: Path) -> None:
    def prepared(**how: str) -> TranslationTask:
        two = [("tokenizer.joint", "false"), ("tokenizer.target_size", "320"), ("tokenizer.size", "320")]
        overrides = [*two, *((key.replace("__", "."), value) for key, value in how.items())]
        return prepare(read_recipe(toy / "toy.toml", overrides), toy / "turned")

    def knows(words: Any) -> bool:
        return any("天" in words.token(i) for i in range(words.size))

    assert not knows(prepared(data__columns="[2, 1]").tokenizer.source)
    right = prepared().tokenizer
    assert knows(right.source) and not knows(right.target)
    (toy / "turned" / "training" / "step-00000001").mkdir()
    with pytest.raises(ConfigError, match=r"was begun with other data\.columns, data\.on_error or model\.max_len;"):
        prepared(data__columns="[2, 1]")
    made_for = toy / "turned" / TOKENIZER / "recipe.json"
    older = {key: value for key, value in json.loads(made_for.read_text("utf-8")).items() if key != "read"}
    made_for.write_text(json.dumps(older), "utf-8")
    assert prepared().tokenizer.source.fingerprint() == right.source.fingerprint()


def test_data_that_changed_under_a_training_is_refused(toy: Path) -> None:
    (toy / "changing.tsv").write_text("".join(f"{zh}\t{en}\n" for zh, en in pairs(60, seed=4)), "utf-8")
    recipe = read_recipe(toy / "toy.toml", [("data.train", '[{path = "changing.tsv"}]'), ("tokenizer.size", "330")])
    prepare(recipe, toy / "changing")
    (toy / "changing" / "training" / "step-00000001").mkdir()
    prepare(recipe, toy / "changing")
    (toy / "changing.tsv").write_text("".join(f"{zh}\t{en}\n" for zh, en in pairs(60, seed=5)), "utf-8")
    with pytest.raises(ConfigError, match="was begun with other content of its training files;"):
        prepare(recipe, toy / "changing")


def test_a_second_training_in_a_folder_waits_for_nobody(toy: Path) -> None:
    with claim(toy / "taken"), pytest.raises(ConfigError, match=r"another training is running in .*taken"):
        train(toy / "toy.toml", out=toy / "taken")
    assert not (toy / "taken" / TOKENIZER).exists()


@pytest.mark.parametrize("damage", ["recipe.json", "tokenizer.json"])
def test_a_damaged_tokenizer_is_made_again_unless_a_training_depends_on_it(toy: Path, damage: str) -> None:
    out = toy / f"damaged-{damage}"
    made = prepare(read_recipe(toy / "toy.toml"), out).tokenizer.source.fingerprint()
    (out / TOKENIZER / damage).write_text("")
    assert prepare(read_recipe(toy / "toy.toml"), out).tokenizer.source.fingerprint() == made
    (out / TOKENIZER / damage).write_text("")
    (out / "training" / "step-00000001").mkdir()
    with pytest.raises(ConfigError, match=r"tokenizer is damaged, and the training in .* depends on it"):
        prepare(read_recipe(toy / "toy.toml"), out)


# --- start -----------------------------------------------------------------------------------------------------------


def begun(toy: Path, start: str | Path, **how: str) -> TranslationTask:
    overrides = [("start", str(start)), *((key.replace("__", "."), value) for key, value in how.items())]
    return prepare(read_recipe(toy / "toy.toml", overrides), toy / "begun")


def test_what_starts_from_a_model_says_what_it_says(toy: Path, trained: Path) -> None:
    task = begun(toy, trained)
    task.save(toy / "same", task.model, "")
    texts = [text for text, _ in pairs(8, seed=11)]
    assert [t.text for t in translate(texts, model=toy / "same")] == [t.text for t in translate(texts, model=trained)]


@pytest.mark.parametrize("revision", ["", "@main"])
def test_the_card_names_a_start_from_the_hub_as_it_is_called_there(
    toy: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    start = in_the_cache(trained, tmp_path / "cache", monkeypatch)
    card = begun(toy, start + revision).card()
    assert card.start == "someone/small" and card.settings["start"] == f"{start}@{'a' * 40}"
    again = begun(toy, card.settings["start"])
    assert again.start is not None and again.start.folder == find(start)


def test_a_training_from_a_model_resumes_with_the_same_bits_and_its_card_names_it(toy: Path, trained: Path) -> None:
    overrides = [("start", str(trained)), ("model.dropout", "0.1"), ("train.horizon", "30"), ("data.test", "[]")]
    for out, steps in (("unbroken", ("4",)), ("broken", ("2", "4"))):
        for count in steps:
            train(toy / "toy.toml", overrides=[*overrides, ("train.steps", count)], out=toy / out)
    one, other = (load(toy / out).model.state_dict() for out in ("unbroken", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["source.tokens.weight"], load(trained).model.state_dict()["source.tokens.weight"])
    card = (toy / "broken" / "README.md").read_text("utf-8")
    assert "Continued from model, whose own training is not counted: 0.0" in card
    assert settings_on(card)["start"] == "model" and str(toy) not in card
    assert "4 steps over" in card and "whatever model was trained on; see its card" in card
    shutil.copytree(trained, toy / "copy", ignore=shutil.ignore_patterns("training"))
    for start, sentence in (
        ("", r"begun with other \[tokenizer\] settings or start;"),
        (str(toy / "copy"), rf"start was {trained} and is now {toy}/copy"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            train(
                toy / "toy.toml", overrides=[*overrides[1:], ("start", start), ("train.steps", "5")], out=toy / "broken"
            )


def test_a_model_is_not_trained_over_itself(toy: Path, trained: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be both start and --out"):
        train(toy / "toy.toml", overrides=[("start", str(trained))], out=trained)


@pytest.mark.parametrize("key", ["model.d_model", "model.max_len"])
def test_a_model_beyond_the_memory_is_one_sentence(toy: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"\[model\] describes (a model that does not fit|no model that can be)"):
        prepare(read_recipe(toy / "toy.toml", [(key, "80000000000")]), tmp_path)


# --- two vocabularies ------------------------------------------------------------------------------------------------


@pytest.mark.parity
def test_a_readout_of_its_own_is_trained_and_transformers_says_the_same(toy: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    out, how = toy / "untied", [("tokenizer.joint", "false"), ("tokenizer.target_size", "320")]
    train(toy / "toy.toml", overrides=[*how, ("model.tied", "false"), ("data.test", "[]")], out=out)
    loaded = load(out)
    names = dict(loaded.model.named_parameters())
    assert (loaded.config.joint, loaded.config.tied) == (False, False)
    assert not torch.equal(names["head.weight"], names["target.tokens.weight"])
    theirs = AutoModelForSeq2SeqLM.from_pretrained(out)
    for text, _ in pairs(4, seed=3):
        said = theirs.generate(torch.tensor([loaded.tokenizer.source.encode(text)]))[0].tolist()
        assert loaded.tokenizer.target.decode(said) == translate(text, model=out).text


@pytest.mark.parity
def test_the_card_of_two_vocabularies_says_how_transformers_decodes(toy: Path, trained: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

    overrides = [
        ("tokenizer.joint", "false"),
        ("tokenizer.target_size", "320"),
        ("train.steps", "1"),
        ("train.warmup", "0"),
    ]
    out = toy / "two"
    train(toy / "toy.toml", overrides=overrides, out=out)
    card = (out / "README.md").read_text("utf-8")
    assert TWO_VOCABULARIES in card
    text = pairs(1, seed=3)[0][0]
    source = AutoTokenizer.from_pretrained(out)
    ids = source(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == load(out).tokenizer.source.encode(text)
    said = AutoModelForSeq2SeqLM.from_pretrained(out).generate(ids)[0]
    target = PreTrainedTokenizerFast(tokenizer_file=str(out / "target_tokenizer.json"))
    assert target.decode(said, skip_special_tokens=True) == translate(text, model=out).text
    ids = load(out).tokenizer.target.encode("sky earth man.")
    assert target.decode(ids, skip_special_tokens=True) == "sky earth man."
    assert source.decode(ids, skip_special_tokens=True) != "sky earth man."
    assert TWO_VOCABULARIES not in (trained / "README.md").read_text("utf-8")
