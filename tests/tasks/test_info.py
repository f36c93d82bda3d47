"""What is said of a model: equal layers share a row, tied parameters count once, a card loses its head only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from polyhead.tasks.info import Tensors, gathered, info, span
from polyhead.tasks.load import load


def test_a_name_a_folder_and_a_loaded_model_give_the_same_facts(trained: Path) -> None:
    facts = info(trained)
    assert facts == info(str(trained)) == info(load(trained))
    assert facts.parameters == sum(row.numbers for row in facts.tensors)
    assert facts.files["model.safetensors"] > 4 * facts.parameters
    assert facts.card.startswith("# ") and "toy pairs" in facts.card


def test_a_model_without_a_folder_has_no_files(trained: Path) -> None:
    facts = info(replace(load(trained), folder=None))
    assert (facts.folder, facts.files, facts.card) == ("", {}, "")


def test_equal_layers_share_a_row() -> None:
    named = [(f"encoder.blocks.{i}.mlp.up.weight", (4, 2)) for i in range(3)] + [("head.bias", (5,))]
    assert gathered(named) == [Tensors("encoder.blocks.{0..2}.mlp.up.weight", (4, 2), 3), Tensors("head.bias", (5,), 1)]
    assert (span([3]), span([0, 2, 5])) == ("3", "{0,2,5}")
