"""A recipe is refused whole before anything is done; what a stopped training may go on without; what it starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyhead.errors import CheckpointError, ConfigError
from polyhead.tasks.learning.translation import prepare
from polyhead.tasks.learning.translation_recipe import read_recipe
from polyhead.tasks.load import load
from polyhead.training.recipe_file import changes, flat
from tests.structure.page import ROOT


def test_words_and_places_may_change_when_a_training_goes_on_and_data_may_not(toy: Path) -> None:
    def fixed(train: str, **free: str) -> dict[str, object]:
        overrides = [("data.train", train), *((key.replace("__", "."), value) for key, value in free.items())]
        return flat(read_recipe(toy / "toy.toml", overrides), fixed=True)

    before = fixed('[{path = "train.tsv"}]')
    same = fixed('[{path = "train.tsv", licence = "MIT"}]', about__summary="A toy.", data__cache="elsewhere")
    assert changes(before, same) == []
    assert len(changes(before, fixed('[{path = "train.tsv", weight = 0.5}]'))) == 1
    assert len(changes(before, fixed('[{path = "train.tsv"}]', model__dropout="0.5"))) == 1
    otherwise = fixed('[{path = "train.tsv"}]', evaluate__rows="9")  # scores of which the best was chosen
    assert changes(before, otherwise) == ["evaluate.rows was 8 and is now 9"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"train.watch": "blue"},
            "train.watch = 'blue' is no score of a translator, which has loss, bleu, chrf. Did you",
        ),
        (
            {"train.watch": "bleu", "evaluate.rows": "0"},
            "train.watch = 'bleu' is of translations, but evaluate.rows = 0",
        ),
        ({"evaluate.rows": "-1"}, "evaluate.rows must be at least 0, found -1"),
        ({"data.max_length": "25"}, r"data.max_length \(25\) is above model.max_len \(24\), the most tokens"),
        ({"model.max_len": "20"}, r"data.max_length \(24\) is above model.max_len \(20\)"),
        (
            {"model.d_model": "15"},
            r"\[model\] describes no model that can be built \(d_model \(15\) must be a multiple",
        ),
        ({"model.activation": "relux"}, r"\[model\] describes no model that can be built \(activation 'relux'"),
        ({"model.tied": "false"}, r"\[model\] joint = true shares one embedding .*tokenizer.joint = false"),
        ({"tokenizer.kind": "unigram", "data.split_pieces": "0.1"}, "data.split_pieces = 0.1 undoes merges"),
        ({"tokenizer.target_size": "300"}, "tokenizer.target_size is of the target's own vocabulary"),
        ({"tokenizer.size": "20000000"}, r"\[tokenizer\] size must be from 1 to 10,000,000, found 20000000"),
        ({"tokenizer.coverage": "2"}, r"\[tokenizer\] coverage must be above 0 and at most 1, .* found 2.0"),
        ({"tokenizer.coverage": "-1"}, r"\[tokenizer\] coverage must be above 0 and at most 1, .* found -1.0"),
        ({"data.split_pieces": "2"}, r"\[data\] split_pieces must be from 0 to 1, a probability, found 2.0"),
        ({"data.batch_tokens": "0"}, r"\[data\] batch_tokens must be at least 1, found 0"),
    ],
)
def test_tables_that_do_not_go_together_are_refused_as_the_recipe_is_read(
    toy: Path, changed: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=f"toy.toml cannot be used: {sentence}"):
        read_recipe(toy / "toy.toml", list(changed.items()))


def test_a_single_source_is_changed_from_outside(toy: Path) -> None:
    recipe = read_recipe(toy / "toy.toml", [("data.train.0.weight", "0.5"), ("data.valid.0.where.2", '["sky."]')])
    assert (recipe.data.train[0].weight, recipe.data.train[0].name) == (0.5, "toy pairs")
    assert recipe.data.read(recipe.data.valid[0]).where == {2: ("sky.",)}
    with pytest.raises(ConfigError, match=r"--data.train.1.weight cannot be set: data.train is a list numbered 0 to 0"):
        read_recipe(toy / "toy.toml", [("data.train.1.weight", "0.5")])


@pytest.mark.parametrize("key", ["vocab_size", "pad_id", "forced_end_id"])
def test_what_the_tokenizer_decides_cannot_be_set(toy: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"sets {key}, which come from the tokenizer"):
        prepare(read_recipe(toy / "toy.toml", [(f"model.{key}", "9")]), toy / "given")


# --- start -----------------------------------------------------------------------------------------------------------


def test_a_recipe_that_starts_from_a_model_has_its_sizes(toy: Path, trained: Path) -> None:
    begun, recipe = read_recipe(toy / "toy.toml"), read_recipe(toy / "toy.toml", [("start", str(trained))])
    assert (recipe.model.d_model, recipe.model.max_len) == (begun.model.d_model, begun.model.max_len)
    assert recipe.model.vocab_size == load(trained).tokenizer.source.size
    chosen = read_recipe(toy / "toy.toml", [("start", str(trained)), ("model.dropout", "0.3")])
    assert chosen.model.dropout == 0.3
    assert changes(flat(begun, fixed=True), flat(recipe, fixed=True))[-1] == f"start was  and is now {trained}"


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [
        ("model.d_model", "64", "32"), ("model.d_model", "512", "32"), ("model.activation", "gelu", "relu"),
        ("tokenizer.size", "8000", "340"), ("tokenizer.kind", "unigram", "bpe"), ("tokenizer.joint", "false", "True"),
        ("tokenizer.simplify", "true", "False"), ("tokenizer.coverage", "0.9", "not known"),
    ],
)  # fmt: skip
def test_a_key_that_says_otherwise_than_the_start_is_refused_by_name(
    toy: Path, trained: Path, key: str, value: str, there: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_recipe(toy / "toy.toml", [("start", str(trained)), (key, value)])
    said = {"true": "True", "false": "False"}.get(value, value)
    assert f"the recipe says {key} = {said} (there: {there}); leave" in str(refused.value)


def test_a_start_that_is_no_model_is_refused(toy: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no model 'zh-enn'.* Did you mean 'zh-en'"):
        read_recipe(toy / "toy.toml", [("start", "zh-enn")])


def test_the_shipped_recipe_starts_from_the_shipped_model() -> None:
    recipe = read_recipe(ROOT / "recipes" / "zh-en.toml", [("start", "zh-en")])
    assert recipe.model.vocab_size == recipe.tokenizer.size == 8000
