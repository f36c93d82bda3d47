"""A model of the wrong kind for a verb: the sentence says what the verb needs, and which verbs take the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyhead.errors import ArgumentError
from polyhead.families import ARCHITECTURES, family
from polyhead.tasks.evaluate import WAYS
from polyhead.tasks.load import load
from polyhead.tasks.needs import NEEDS, able, able_by_name, takers


def test_what_a_head_gives_says_what_goes_in_too() -> None:
    reads = {kind.does: kind.reads for kind in map(family, ARCHITECTURES)}
    assert all(reads[kind.does] == kind.reads for kind in map(family, ARCHITECTURES) if takers(kind))
    assert {does for some in NEEDS.values() for does in some} <= set(reads)
    assert {*NEEDS["evaluate"]} == {*WAYS}


@pytest.mark.parametrize(
    ("architecture", "verbs"),
    [
        ("GPT2LMHeadModel", ["complete", "chat"]),
        ("GPT2Model", []),  # whose words see only those before them
        ("BertModel", ["embed", "search"]),
        ("BertForQuestionAnswering", ["answer", "embed", "search"]),
        ("CLIPModel", ["classify", "embed", "search", "evaluate"]),
        ("WhisperForConditionalGeneration", ["transcribe"]),
        ("T5ForConditionalGeneration", ["translate", "summarize", "evaluate", "shortlist"]),
    ],
)
def test_verbs_that_take_a_model(architecture: str, verbs: list[str]) -> None:
    assert takers(family(architecture)) == verbs


def test_a_refusal_names_the_model_and_what_takes_it(tmp_path: Path) -> None:
    zoo = (
        "complete needs a model that gives next word; zh-en is a MarianMTModel, which reads pair and gives translation"
    )
    for refuse in (lambda: able(load("zh-en"), "complete"), lambda: able_by_name("zh-en", "complete")):
        with pytest.raises(ArgumentError, match=rf"^{zoo}: translate, evaluate and shortlist take it$"):
            refuse()
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}), "utf-8")
    with pytest.raises(ArgumentError, match=rf"^--draft needs .*; {tmp_path} is a GPT2.*: complete and chat take it$"):
        able_by_name(tmp_path, "search", told="--draft")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2Model"]}), "utf-8")
    with pytest.raises(ArgumentError, match=r"or similarity; .* reads text and gives vectors$"):
        able_by_name(tmp_path, "evaluate")
