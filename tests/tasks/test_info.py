"""What is said of a model: equal layers share a row, tied parameters count once, a card loses its head only; sizes are
counted without weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyhead.errors import ArgumentError, CheckpointError
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


def test_equal_experts_of_equal_layers_share_a_row() -> None:
    named = [(f"blocks.{i}.mlp.experts.{e}.up.weight", (4, 2)) for i in (1, 3) for e in range(4)]
    named += [("blocks.0.mlp.up.weight", (4, 2)), ("blocks.1.mlp.router.weight", (4, 2))]
    assert gathered(named) == [
        Tensors("blocks.{1,3}.mlp.experts.{0..3}.up.weight", (4, 2), 8),
        Tensors("blocks.0.mlp.up.weight", (4, 2), 1), Tensors("blocks.1.mlp.router.weight", (4, 2), 1),
    ]  # fmt: skip


def test_a_size_with_experts_counts_all_and_those_that_have_a_part_in_a_word() -> None:
    facts = info("mixtral.8x7b", tokens=1e12, devices=4)
    assert facts.parameters == sum(row.numbers for row in facts.tensors) == 46_702_792_704
    assert facts.costs.active == 12_879_925_248
    assert facts.training is not None and facts.training.rule_of_thumb == 6e12 * facts.costs.active
    assert facts.spread is not None and (facts.spread.devices, facts.spread.experts) == (4, 2)
    assert info("gpt2.small").spread is None
    assert info("gpt2.small").costs.active == info("gpt2.small").parameters


def test_a_size_is_told_without_its_weights() -> None:
    facts = info("gpt3.175b", tokens=300e9, rate=1e18)
    assert (facts.size, facts.folder, facts.files, facts.card) == ("gpt3.175b", "", {}, "")
    assert facts.parameters == sum(row.numbers for row in facts.tensors) == 174_604_259_328
    assert "table 2.1" in facts.source
    assert "upper bound" in facts.note
    assert facts.costs.weights == {"float32": 698_417_037_312, "bfloat16": 349_208_518_656, "int8": 174_604_259_328}
    assert facts.training is not None
    assert facts.training.rule_of_thumb == pytest.approx(3.14e23, rel=0.001)
    assert facts.training.flops == facts.costs.learning / 2048 * 300e9
    assert facts.training.seconds == facts.training.flops / 1e18


def test_a_folder_tells_its_costs_too(trained: Path) -> None:
    costs = info(trained, length=10).costs
    assert costs.length == 10
    assert [work.stack for work in costs.work] == ["encoder", "decoder"]
    assert costs.cache_token > 0
    assert costs.forward == sum(work.products + work.looks for work in costs.work)
    assert info(trained, length=20).costs.forward > costs.forward


def test_a_folder_with_the_name_of_a_size_is_the_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trained.parent / "gpt2.small").symlink_to(trained)
    monkeypatch.chdir(trained.parent)
    assert info("gpt2.small").architecture == "MarianMTModel"


def test_tokens_of_a_text_are_counted_on_its_source_side() -> None:
    facts = info("t5.small", tokens=1024)
    assert facts.training is not None
    assert facts.training.flops == 2 * facts.costs.learning  # 512 tokens are read at once


def test_numbers_that_cannot_be_are_refused() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("gpt2.small", {"rate": 1e12}),
        ("gpt2.small", {"tokens": 0.0}),
        ("gpt2.small", {"tokens": float("nan")}),
        ("gpt2.small", {"tokens": 1e9, "rate": -1.0}),
        ("gpt2.small", {"length": 2000}),
        ("mixtral.8x7b", {"devices": 9}),
        ("gpt2.small", {"devices": 2}),
        ("vit.base", {"tokens": 1e9}),
        ("whisper.tiny", {"tokens": 1e9}),
    ]
    for model, wrong in cases:
        with pytest.raises(ArgumentError):
            info(model, **wrong)


def test_a_mistyped_size_is_told_the_nearest() -> None:
    with pytest.raises(CheckpointError, match=r"Did you mean 'gpt3.175b'\?"):
        info("gpt3-175b")
