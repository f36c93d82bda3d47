"""What a model is asked: by its folder, its family or its user; what takes a choice is refused until it is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from polyhead.errors import ArgumentError, ConfigError
from polyhead.tasks.asking import Asking, asking
from polyhead.tasks.load import load
from tests.tasks.words import asked_in_folder

pytestmark = pytest.mark.parity
TASKS = {
    "summarization": {"prefix": "Kurz: ", "num_beams": 3},
    "translation_en_to_de": {"prefix": "to German: ", "max_length": 9},
    "translation_en_to_fr": {"prefix": "to French: "},
}


@pytest.fixture(scope="module", params=[{}, {"feed_forward_proj": "gated-gelu"}], ids=["first", "v1.1"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    asked_in_folder(folder, **request.param)
    return folder


def telling(folder: Path, there: Path, **told: Any) -> Path:
    shutil.copytree(folder, there / "told")
    path = there / "told" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | told), "utf-8")
    return there / "told"


def test_a_folder_says_what_is_asked_and_how_it_is_answered(folder: Path, tmp_path: Path) -> None:
    loaded = load(telling(folder, tmp_path, task_specific_params=TASKS))
    assert asking(loaded, "summarization") == Asking("Kurz: ", "", "summarization", "folder", {"num_beams": 3})
    german = Asking("to German: ", "", "translation_en_to_de", "folder", {"max_length": 9})
    assert asking(loaded, "translation", task="en-de") == german
    assert asking(loaded, "translation", task="translation_en_to_de") == german
    mine = asking(loaded, "translation", task="en-de", prefix="Say {text}!")
    assert (mine.of("it"), mine.prefix, mine.said_by, mine.settings) == (
        "Say it!", "Say {text}!", "you", german.settings,
    )  # fmt: skip
    assert asking(loaded, "translation", prefix="Auf Deutsch: ") == Asking("Auf Deutsch: ", "", None, "you")


def test_one_task_needs_no_name(folder: Path, tmp_path: Path) -> None:
    loaded = load(telling(folder, tmp_path, task_specific_params={"translation_en_to_fr": {"prefix": "x "}}))
    assert asking(loaded, "translation").before == "x "
    assert asking(loaded, "summarization") == Asking()


def test_a_task_named_as_its_kind_wins_and_others_are_named(folder: Path, tmp_path: Path) -> None:
    several = {"summarization_cnn": {"max_length": 142}, "summarization_xsum": {"max_length": 62}}
    loaded = load(telling(folder, tmp_path, task_specific_params=several | {"summarization": {"max_length": 128}}))
    assert asking(loaded, "summarization").task == "summarization"
    assert asking(loaded, "summarization", prefix="x ").settings == {"max_length": 128}
    for name in ("xsum", "summarization_xsum"):
        assert asking(loaded, "summarization", task=name).settings == {"max_length": 62}
    loaded = load(telling(folder, tmp_path / "several", task_specific_params=several))
    with pytest.raises(ArgumentError, match="knows summarization_cnn, summarization_xsum; name one as the task"):
        asking(loaded, "summarization")


def test_without_a_word_from_the_folder_the_family_says_what_its_first_models_were_taught(folder: Path) -> None:
    loaded = load(folder)
    if loaded.config.gated:
        assert asking(loaded, "summarization") == asking(loaded, "translation") == Asking()
        with pytest.raises(ArgumentError, match=r"knows no task 'en-de'; it knows none by name; leave the task out"):
            asking(loaded, "translation", task="en-de")
        return
    assert asking(loaded, "summarization") == Asking("summarize: ", "", "summarization", "family")
    assert asking(loaded, "translation", task="en-ro").before == "translate English to Romanian: "
    with pytest.raises(ArgumentError, match=r"knows translation_en_to_de, .*; name one as the task, or give a prefix"):
        asking(loaded, "translation")
    with pytest.raises(ArgumentError, match=r"knows no task 'en-dr'.* Did you mean 'en-"):
        asking(loaded, "translation", task="en-dr")


def test_a_folder_may_have_one_prefix_for_everything(folder: Path, tmp_path: Path) -> None:
    found = asking(load(telling(folder, tmp_path, prefix="do: ", task_specific_params={"summarization": {}})), "x")
    assert found == Asking("do: ", "", None, "folder")


def test_a_translator_of_one_pair_takes_signs_but_no_words_and_no_task() -> None:
    loaded = load("zh-en")
    assert asking(loaded, "translation") == Asking()
    assert asking(loaded, "translation", prefix=">>en<< ").of("雨") == ">>en<< 雨"
    assert asking(loaded, "translation", prefix="<2en> {text} [x]").of("雨") == "<2en> 雨 [x]"
    with pytest.raises(ArgumentError, match=r"^zh-en translates one pair .* leave out the task, 'en-de'\.$"):
        asking(loaded, "translation", task="en-de")
    for words in ("x", "Say: ", ">>en<< say {text}"):
        with pytest.raises(
            ArgumentError, match=r"^zh-en translates one pair .* not asked in words, .* leave the prefix"
        ):
            asking(loaded, "translation", prefix=words)


@pytest.mark.parametrize("wrong", [[1], {"summarization": 3}, {"summarization": {"prefix": 5}}])
def test_a_folder_that_says_nonsense_is_one_sentence(folder: Path, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        asking(load(telling(folder, tmp_path, task_specific_params=wrong)), "summarization")


def test_a_prefix_has_one_place_for_the_text(folder: Path) -> None:
    loaded = load(folder)
    with pytest.raises(ArgumentError, match="2 times, but the text can go to one place"):
        asking(loaded, "summarization", prefix="{text} and {text}")
    with pytest.raises(ArgumentError, match="prefix must be a text, found int"):
        asking(loaded, "summarization", prefix=3)  # pyright: ignore
    assert asking(loaded, "summarization", prefix="").of("as it is {text}") == "as it is {text}"
