"""`polyhead train`: keys of the recipe are typed as options, and arrive as they were typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyhead.cli.train import overrides
from polyhead.errors import ArgumentError
from polyhead.training.loop import Result
from tests.cli.conftest import Polyhead, refused


def test_keys_become_pairs():
    words = "--train.lr 3e-4 --model.n_layers=2 --train.tensorboard --train.seed -1 --name=a=b".split()
    assert overrides(words) == [
        ("train.lr", "3e-4"),
        ("model.n_layers", "2"),
        ("train.tensorboard", "true"),
        ("train.seed", "-1"),
        ("name", "a=b"),
    ]


def test_a_word_that_is_no_key_is_refused():
    with pytest.raises(ArgumentError, match="'extra' is neither a key"):
        overrides(["--train.lr", "1", "extra"])


def test_the_command_hands_over_what_was_typed(polyhead: Polyhead, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[Path, dict[str, Any]]] = []
    monkeypatch.setattr("polyhead.tasks.learning.train.train", lambda recipe, **how: calls.append((recipe, how)))
    answer = polyhead(
        "train", "r.toml", "--train.lr", "1e-3", "--plan", "--no-resume", "--out", "runs/x", "--data.folder", "d"
    )
    assert (answer.code, answer.err) == (0, "")
    pairs = [("train.lr", "1e-3"), ("data.folder", "d")]
    assert calls == [(Path("r.toml"), {"overrides": pairs, "out": Path("runs/x"), "plan_only": True, "resume": False})]


@pytest.mark.parametrize(("why", "code"), [("20 epochs", 0), ("interrupted", 130)])
def test_the_end_says_where_the_best_model_is(polyhead: Polyhead, monkeypatch: pytest.MonkeyPatch, why: str, code: int):
    best = {"loss": 2.5, "bleu": 25.25}
    how = {"steps": 4000, "epochs": 2, "tokens": 9, "seconds": 1.0, "best": best, "best_step": 3000, "settings": {}}
    result = Result(why=why, folder=Path("runs/x"), **how)
    monkeypatch.setattr("polyhead.tasks.learning.train.train", lambda recipe, **how: result)
    answer = polyhead("train", "r.toml")
    assert answer.code == code
    assert answer.out == "The best model, of step 3,000 (loss 2.5, bleu 25.25), is in runs/x\n"
    assert ("goes on from there" in answer.err) == (why == "interrupted")


def test_what_cannot_be_trained_is_refused_in_one_sentence(polyhead: Polyhead, tmp_path: Path):
    refused(polyhead("train", tmp_path / "none.toml"), "none.toml")
    refused(polyhead("train", "--train.lr", "1", "r.toml"), "The recipe comes first")
