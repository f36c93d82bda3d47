"""What a stopped training may go on without: words for the card, and where the files lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyhead.errors import ConfigError
from polyhead.tasks.recipe import read_recipe
from polyhead.tasks.translation import prepare
from polyhead.training.recipe_file import changes, flat


def test_words_and_places_may_change_when_a_training_goes_on_and_data_may_not(toy: Path) -> None:
    def fixed(train: str, **free: str) -> dict[str, object]:
        overrides = [("data.train", train), *((key.replace("__", "."), value) for key, value in free.items())]
        return flat(read_recipe(toy / "toy.toml", overrides), fixed=True)

    before = fixed('[{path = "train.tsv"}]')
    same = fixed('[{path = "train.tsv", licence = "MIT"}]', about__summary="A toy.", data__cache="elsewhere")
    assert changes(before, same) == []
    assert len(changes(before, fixed('[{path = "train.tsv", weight = 0.5}]'))) == 1
    assert len(changes(before, fixed('[{path = "train.tsv"}]', model__dropout="0.5"))) == 1


@pytest.mark.parametrize("key", ["vocab_size", "pad_id", "forced_end_id"])
def test_what_the_tokenizer_decides_cannot_be_set(toy: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"sets {key}, which come from the tokenizer"):
        prepare(read_recipe(toy / "toy.toml", [(f"model.{key}", "9")]), toy / "given")
