"""What a stopped training may go on without: words for the card, and where the files lie."""

from __future__ import annotations

from pathlib import Path

from polyhead.tasks.recipe import read_recipe
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
