"""`polyhead info`: sizes add up, equal layers share a row, and a card cannot act."""

from __future__ import annotations

import json
from pathlib import Path

from polyhead.cli.info import Tensors, gathered, in_words, span, tame
from polyhead.tasks.load import load
from tests.cli.conftest import Polyhead, refused


def test_the_table_counts_every_parameter_once(polyhead: Polyhead, model: Path):
    facts = json.loads(polyhead("info", model, "--json").out)
    net = load(model).model
    assert facts["parameters"] == sum(parameter.numel() for parameter in net.parameters())
    rows = [Tensors(row["name"], tuple(row["shape"]), row["count"]) for row in facts["tensors"]]
    assert sum(row.numbers for row in rows) == facts["parameters"]
    assert facts["config"]["n_heads"] == 4
    assert facts["files"]["model.safetensors"] == (model / "model.safetensors").stat().st_size


def test_a_person_sees_the_card_the_sizes_and_the_table(polyhead: Polyhead, model: Path):
    answer = polyhead("info", model)
    assert answer.code == 0
    for text in ("A tiny model", "model.safetensors", "d_model", "encoder.blocks.{0..1}.attn.query.weight"):
        assert text in answer.out
    assert "license: mit" not in answer.out
    assert "\x1b" not in answer.out


def test_a_model_that_is_not_there_is_refused(polyhead: Polyhead, tmp_path: Path):
    refused(polyhead("info", tmp_path / "none"), "none")
    refused(polyhead("info", tmp_path), "config.json")


def test_equal_layers_share_a_row():
    named = [(f"encoder.blocks.{i}.mlp.up.weight", (4, 2)) for i in range(3)] + [("head.bias", (5,))]
    assert gathered(named) == [Tensors("encoder.blocks.{0..2}.mlp.up.weight", (4, 2), 3), Tensors("head.bias", (5,), 1)]
    assert (span([3]), span([0, 2, 5])) == ("3", "{0,2,5}")


def test_sizes_are_in_the_units_people_use():
    assert [in_words(n) for n in (0, 999, 17_400_000, 2e9, 3e12)] == [
        "0 bytes",
        "999 bytes",
        "17.4 MB",
        "2.0 GB",
        "3,000.0 GB",
    ]


def test_a_card_loses_its_head_and_its_controls_only():
    assert tame("---\na: b\n---\n# 模型\x1b[2J\n\u202etext") == "# 模型[2J\ntext"
