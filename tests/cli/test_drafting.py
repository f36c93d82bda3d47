"""--draft and --lookup: the same answer, and a word on whether proposing paid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Polyhead, refused
from tests.tasks.words import decoder_in_folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("drafting")
    decoder_in_folder(place / "writer", "LlamaForCausalLM", chats=True, max_position_embeddings=400)
    decoder_in_folder(place / "draft", "GPT2LMHeadModel", chats=True, n_positions=400)
    return place / "writer", place / "draft"


def test_the_same_comes_with_a_word_on_how(polyhead: Polyhead, folders: tuple[Path, Path]) -> None:
    writer, draft = folders
    how = ("-m", writer, "--max-new", 12)
    wanted = polyhead("complete", *how, "the cat")
    for by in (("--draft", draft), ("--lookup",)):
        found = polyhead("complete", *how, "the cat", *by)
        assert (found.code, found.out) == (0, wanted.out)
        assert "proposed tokens were taken; " in found.err and "proposed" not in wanted.err
        told = json.loads(polyhead("complete", *how, "the cat", "--json", *by).out)
        assert told["drafted"]["tokens"] <= 12 and told["prompt"] + told["text"] == wanted.out.rstrip("\n")
    found = polyhead("chat", *how, "--once", "a", "--lookup")
    assert "proposed tokens were taken; " in found.err and found.out == polyhead("chat", *how, "--once", "a").out
    said = [json.loads(polyhead("chat", *how, "--once", "a", "--json", *by).out) for by in ((), ("--draft", draft))]
    assert said[0].pop("drafted") is None and said[1].pop("drafted")["passes"] > 0
    assert said[0] == said[1]


def test_who_cannot_propose_is_told_of_in_a_sentence(polyhead: Polyhead, folders: tuple[Path, Path]) -> None:
    writer, draft = folders
    refused(polyhead("complete", "-m", writer, "a", "--draft", draft, "--lookup"), "give one of them")
    how = ("complete", "-m", writer, "a")
    for way in (("--nbest", 2), ("--nbest", 2, "--temperature", 1.0), ("--beam", 3), ("--force", "b")):
        refused(polyhead(*how, "--draft", draft, *way), f"--draft cannot go with {way[0]}; leave one out.")
    refused(polyhead(*how, "--lookup", "--contrastive", 0.5), "--lookup cannot go with --contrastive; leave one out.")
    assert polyhead(*how, "--lookup", "--beam", 1).code == 0
    refused(polyhead("complete", "-m", writer, "a", "--draft", "nowhere"), "There is no model 'nowhere'")
    refused(polyhead(*how, "--draft", "zh-en"), "--draft needs a model that gives next word; zh-en is a MarianMTModel")
