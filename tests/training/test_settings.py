"""A recipe is read whole, or refused with every reason at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from polyhead.errors import ConfigError
from polyhead.training.recipe_file import changes, flat, from_text, from_toml
from polyhead.training.settings import Every, Training


@dataclass(frozen=True)
class Source:
    path: Path
    weight: float = 1.0
    where: dict[str, tuple[str | int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    train: tuple[Source, ...]
    valid: tuple[Source, ...] = ()
    batch_tokens: int = 1400
    note: str | None = None
    folder: Path = Path(".")

    FREE: ClassVar = frozenset({"folder"})


@dataclass(frozen=True)
class Recipe:
    train: Training
    data: Data
    kind: Literal["small", "large"] = "small"


TOML = """
kind = "large"
[train]
epochs = 3
lr = 3e-4
warmup = 400
betas = [0.9, 1e-2]
checkpoint_every = "5 minutes"
[data]
[[data.train]]
path = "a.tsv"
weight = 2
[[data.train]]
path = "b.tsv"
"""


def test_a_recipe_becomes_dataclasses(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(TOML, encoding="utf-8")
    assert from_toml(path, Recipe) == Recipe(
        train=Training(epochs=3, lr=3e-4, warmup=400, betas=(0.9, 0.01), checkpoint_every=Every(5, "minutes")),
        data=Data(train=(Source(Path("a.tsv"), 2.0), Source(Path("b.tsv")))),
        kind="large",
    )


def test_a_word_from_the_command_line_is_read_as_its_key_wants():
    overrides = {
        "train.lr": ".5e-3",
        "train.warmup": "0.1",
        "train.steps": "7",
        "train.betas": "[0.8, 0.9]",
        "train.tensorboard": "true",
        "train.evaluate_every": "50 steps",
        "train.schedule": "noam",
        "data.note": "123",
        "data.folder": "/x",
        "kind": "small",
    }
    read = from_text(TOML, Recipe, overrides.items())
    assert (read.train.lr, read.train.warmup, read.train.steps, read.train.betas) == (5e-4, 0.1, 7, (0.8, 0.9))
    assert (read.train.tensorboard, read.train.schedule, read.kind) == (True, "noam", "small")
    assert read.train.evaluate_every == Every(50, "steps")
    assert (read.data.note, read.data.folder) == ("123", Path("/x"))
    assert from_text(TOML.replace("[data]", '[data]\nnote = "x"'), Recipe, [("data.note", "none")]).data.note is None


def test_a_number_leads_into_a_list():
    overrides = {
        "data.train.1.weight": "0.5",
        "data.train.0.path": "7",
        "data.train.0.where.4": '["simp", 2]',
        "train.betas.1": "0.99",
    }
    read = from_text(TOML, Recipe, overrides.items())
    assert read.data.train == (Source(Path("7"), 2.0, {"4": ("simp", 2)}), Source(Path("b.tsv"), 0.5))
    assert read.train.betas == (0.9, 0.99)
    whole = [("data.train", '[{path = "c.tsv"}]'), ("data.train.0.weight", "3")]
    assert from_text(TOML, Recipe, whole).data.train == (Source(Path("c.tsv"), 3.0),)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("data.train.2.weight", "data.train is a list numbered 0 to 1"),
        ("data.train.-1.weight", "data.train is a list numbered 0 to 1"),
        ("data.train.weight", "data.train is a list numbered 0 to 1"),
        ("data.valid.0.weight", "data.valid is an empty list"),
        ("train.lr.0", "train.lr is not a table"),
    ],
)
def test_a_number_that_leads_nowhere_is_refused(key: str, sentence: str):
    with pytest.raises(ConfigError, match=f"r.toml cannot be used: --{key} cannot be set: {sentence}"):
        from_text(TOML, Recipe, [(key, "1")], name="r.toml")


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ('{ 4 = "simp" }', r"data.train\[1\].where.4 must be a list of a text or a whole number, found 'simp'"),
        ("{ 4 = 5 }", r"data.train\[1\].where.4 must be a list of a text or a whole number, found 5"),
        ("{ 4 = [1.5] }", r"data.train\[1\].where.4\[0\] must be a text or a whole number, found 1.5"),
        ('["simp"]', r"data.train\[1\].where must be a table, found \['simp'\]"),
    ],
)
def test_a_table_of_any_keys_is_checked_value_by_value(where: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        from_text(f"{TOML}where = {where}", Recipe)


def test_everything_wrong_is_said_at_once():
    wrong = """
    kind = "huge"
    [train]
    epoch = 3
    lr = "fast"
    seed = 1.5
    deterministic = 1
    betas = [0.9]
    evaluate_every = "often"
    [date]
    [data]
    [[data.train]]
    weight = true
    """
    with pytest.raises(ConfigError) as refused:
        from_text(wrong, Recipe, [("train.clipp", "3"), ("train.keep", "many"), ("kind.x", "3")], name="r.toml")
    assert str(refused.value).splitlines() == [
        "r.toml cannot be used: ",
        "  - --kind.x cannot be set: kind is not a table",
        "  - the top level has no key 'date'. Did you mean 'data'?",
        "  - [train] has no key 'epoch'. Did you mean 'epochs'?",
        "  - [train] has no key 'clipp'. Did you mean 'clip'?",
        "  - train.lr must be a number, found 'fast'",
        "  - train.seed must be a whole number, found 1.5",
        "  - train.betas must be a list of 2 values, found [0.9]",
        "  - train.evaluate_every must be like '500 steps', '1 epoch' or '10 minutes', found 'often'",
        "  - train.keep must be a whole number, found 'many'",
        "  - train.deterministic must be true or false, found 1",
        "  - [data.train[0]] lacks the key 'path', which has no default",
        "  - data.train[0].weight must be a number, found true",
        "  - kind must be 'small' or 'large', found 'huge'",
    ]


@pytest.mark.parametrize("key", ["train.seed", "data.batch_tokens"])
def test_a_number_that_no_machine_holds_is_refused(key: str):
    with pytest.raises(ConfigError, match=f"{key} must be a .*found 18446744073709551616, which does not fit into 64"):
        from_text(TOML, Recipe, [(key, "18446744073709551616")])
    with pytest.raises(ConfigError, match=f"{key} must be a .*found '9999"):
        from_text(TOML, Recipe, [(key, "9" * 5000)])
    with pytest.raises(ConfigError, match=r"r\.toml is not valid TOML"):
        from_text(f"x = {'9' * 5000}", Recipe, name="r.toml")


def test_a_key_like_no_other_is_refused_with_all_there_are():
    with pytest.raises(
        ConfigError, match=r"\[data\] has no key 'zzz'. It has train, valid, batch_tokens, note, folder."
    ):
        from_text(TOML, Recipe, [("data.zzz", "1")])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "needs an end: set epochs, steps or minutes"),
        ({"epochs": -1}, "epochs must be at least 0, found -1"),
        ({"epochs": 1, "lr": 0.0}, "lr must be above 0, found 0.0"),
        ({"epochs": 1, "keep": 0}, "keep must be at least 1, found 0"),
        ({"epochs": 1, "label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1, found 1.0"),
        ({"epochs": 1, "betas": (0.9, 1.0)}, "betas must be at least 0 and below 1, found (0.9, 1.0)"),
        ({"epochs": 1, "lr": float("nan")}, "lr must be above 0, found nan"),
        ({"minutes": 5.0}, "schedule 'cosine' must know its length in steps: set steps, epochs or horizon"),
        ({"epochs": 1, "schedule": "noam", "warmup": 0}, "schedule 'noam' needs a warmup of at least one step"),
        ({"epochs": 1, "ema_decay": 0.9, "average_last": 3}, "ema_decay and average_last exclude each other"),
        ({"epochs": 1, "min_lr": 5.0}, "min_lr must be at most lr (0.001), to which the rate rises, found 5.0"),
        ({"epochs": 1, "schedule": "noam", "min_lr": 1e-4}, "schedule 'noam' knows no min_lr: leave it out"),
        ({"epochs": 1, "decay": 0.1}, "schedule 'cosine' knows no decay: leave it out, or use wsd"),
        ({"epochs": 1, "threads": 3_000_000_000}, "threads must be at least 0 and below 1025, found 3000000000"),
        ({"epochs": 1, "evaluate_every": Every(3, "minutes")}, "must be in steps or epochs, which repeat"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, sentence: str):
    with pytest.raises(ConfigError) as refused:
        Training(**settings)
    assert sentence in str(refused.value)


def test_refused_values_name_their_table():
    with pytest.raises(ConfigError, match=r"r\.toml cannot be used: \[train\] clip must be at least 0, found -2.0; lr"):
        from_text(TOML, Recipe, [("train.lr", "-1"), ("train.clip", "-2")], name="r.toml")


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (None, "there is no recipe at"),
        (b"\xff\xfe", "is not UTF-8 (byte 0); save it as UTF-8"),
        (b"[train", "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, write: bytes | None, sentence: str):
    path = tmp_path / "r.toml"
    if write is not None:
        path.write_bytes(write)
    with pytest.raises(ConfigError) as refused:
        from_toml(path, Recipe)
    assert sentence in str(refused.value) and str(path) in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read as a recipe: Is a directory"):
        from_toml(tmp_path, Recipe)


@pytest.mark.parametrize("text", ["1 step", "500 steps", "1 epoch", "2 epochs", "10 minutes", "0.5 minutes"])
def test_every_reads_and_writes_itself(text: str):
    every = Every.parse(text)
    assert Every.parse(str(every)) == every


@pytest.mark.parametrize("text", ["", "steps", "0 steps", "-1 epochs", "1.5 steps", "3 hours", "3steps", "nan minutes"])
def test_every_refuses_what_is_no_rhythm(text: str):
    with pytest.raises(ConfigError, match="must be like '500 steps', '1 epoch' or '10 minutes'"):
        Every.parse(text)


def test_every_is_due_in_its_own_unit():
    def due(every: Every, step: int = 5, epochs: int | None = None, minutes: float = 0) -> bool:
        return every.due(step=step, epochs=epochs, minutes=minutes)

    assert [step for step in range(1, 10) if due(Every(3, "steps"), step)] == [3, 6, 9]
    assert due(Every(2, "epochs"), epochs=4) and not due(Every(2, "epochs"), epochs=3)
    assert not due(Every(1, "epochs"), epochs=None)
    assert due(Every(2, "minutes"), minutes=2.5) and not due(Every(2, "minutes"), minutes=1.9)


def test_a_recipe_lies_flat_in_json_values_and_free_keys_can_be_left_out():
    recipe = from_text(TOML, Recipe)
    everything, fixed = flat(recipe), flat(recipe, fixed=True)
    assert everything["train.betas"] == [0.9, 0.01]
    assert everything["train.checkpoint_every"] == "5 minutes"
    assert everything["data.train"] == [
        {"path": "a.tsv", "weight": 2.0, "where": {}},
        {"path": "b.tsv", "weight": 1.0, "where": {}},
    ]
    assert everything.keys() - fixed.keys() == {"data.folder", *(f"train.{name}" for name in Training.FREE)}


def test_changes_are_told_by_key():
    assert changes({"a": 1, "b": [1], "c": 0}, {"a": 2, "b": [1], "d": None}) == [
        "a was 1 and is now 2",
        "c was 0 and is now absent",
        "d was absent and is now None",
    ]
