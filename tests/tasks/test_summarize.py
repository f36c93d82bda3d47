"""Summaries are the words of `transformers` for what the folder asks; long documents are read whole, in parts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import polyhead
from polyhead import ArgumentError, Beam, ConfigError, DataError, Greedy
from polyhead.inputs.sentences import joined, unwrapped
from polyhead.tasks.load import load
from polyhead.tasks.summarize import Summarizer
from tests.tasks.words import STORY, asked_in_folder

pytestmark = pytest.mark.parity
TEXTS = ["The dog ran.", "It was not bad!", "我爱吃苹果。", "a cat"]
SUMMARY: dict[str, Any] = {
    "prefix": "to: ", "num_beams": 3, "max_length": 14, "min_length": 5, "no_repeat_ngram_size": 2,
    "length_penalty": 2.0, "early_stopping": True,
}  # fmt: skip
GERMAN = {"prefix": "to German: ", "num_beams": 2, "max_length": 12}


@pytest.fixture(scope="module", params=["first", "v1.1", "mT5", "Switch"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    how = {} if request.param == "first" else {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    name = {"mT5": "MT5", "Switch": "SwitchTransformers"}.get(request.param, "T5")
    if name == "SwitchTransformers":  # experts that have no room for all words of the texts
        how = {"num_experts": 3, "expert_capacity": 3, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    kind = f"{name}ForConditionalGeneration"
    folder = tmp_path_factory.mktemp("asked")
    told = {"summarization": SUMMARY, "translation_en_to_de": GERMAN}
    return asked_in_folder(folder, kind, task_specific_params=told, **how), folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    asked_in_folder(folder)
    return folder


def theirs(model: Any, text: str, **how: Any) -> str:
    """Their answer to a text that has its prefix."""
    words = AutoTokenizer.from_pretrained(model.name_or_path)
    found = model.generate(**words(text, return_tensors="pt", return_token_type_ids=False), **how)
    return words.decode(found[0], skip_special_tokens=True)


def told(task: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key != "prefix"}


def test_a_folders_own_task_gives_the_words_of_the_reference(both: tuple[Any, Path]) -> None:
    model, folder = both
    found = polyhead.summarize(TEXTS, model=folder)
    assert [each.text for each in found] == [theirs(model, "to: " + text, **told(SUMMARY)) for text in TEXTS]
    assert all(each.parts == (1,) and each.prefix == "to: " and each.merged for each in found)
    translated = polyhead.translate(TEXTS, model=folder, task="en-de")
    assert [each.text for each in translated] == [theirs(model, "to German: " + text, **told(GERMAN)) for text in TEXTS]
    assert polyhead.summarize(TEXTS[0], model=load(folder)).text == found[0].text


@pytest.mark.parametrize("beam", [1, 4])
def test_searches_and_limits_of_ones_own_give_the_words_of_the_reference(both: tuple[Any, Path], beam: int) -> None:
    model, folder = both
    mine = told(SUMMARY) | {"num_beams": beam, "min_length": None, "min_new_tokens": 2, "max_new_tokens": 9}
    if beam == 1:
        mine |= {"length_penalty": None, "early_stopping": None}
    how: dict[str, Any] = {"search": Greedy()} if beam == 1 else {"beam": beam}
    found = polyhead.summarize(TEXTS, model=folder, prefix="Say {text} :", min_new=2, max_new=9, **how)
    assert [each.text for each in found] == [theirs(model, f"Say {text} :", **mine) for text in TEXTS]
    assert found[0].prefix == "Say {text} :"


def test_a_least_length_of_the_folder_yields_to_a_smaller_most(both: tuple[Any, Path]) -> None:
    folder = both[1]
    short = Summarizer(load(folder), max_new=2)
    assert max(len(some[0].tokens) for some in short.batch([short.ids(text) for text in TEXTS])) == 2
    kept, dropped = (Summarizer(load(folder), max_new=n).rules for n in (9, 3))
    assert kept.min_length > dropped.min_length == 0
    with pytest.raises(ArgumentError, match="min_new is 3 and max_new 2; the least cannot be more than the most"):
        polyhead.summarize("a", model=folder, min_new=3, max_new=2)


def test_a_document_that_fits_is_read_at_once_and_a_longer_one_level_by_level(both: tuple[Any, Path]) -> None:
    """By hand: the parts, their summaries by the reference, one after the other, and again."""
    model, folder = both
    summarizer = Summarizer(load(folder))
    text, read = STORY, list[int]()
    while True:
        parts = summarizer.parts(text)
        read.append(len(parts))
        assert all(len(summarizer.ids(part)) <= 40 for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())  # nothing is left out
        text = joined([theirs(model, "to: " + part, **told(SUMMARY)) for part in parts])
        if len(parts) == 1:
            break
    found = polyhead.summarize(STORY, model=folder)
    assert found.parts == tuple(read) and len(read) > 2
    assert found.text == text and found.source == STORY


def test_parts_end_where_sentences_end(plain: Path) -> None:
    summarizer = Summarizer(load(plain), window=90)
    parts = summarizer.parts(STORY)
    assert len(parts) > 1 and all(part[-1] in ".?!。？！" for part in parts)
    assert joined(parts) == unwrapped(STORY)


def test_as_many_tokens_as_the_model_was_taught_are_read_at_a_time(plain: Path, tmp_path: Path) -> None:
    assert Summarizer(load(plain)).window == 40
    shutil.copytree(plain, tmp_path / "t5")
    path = tmp_path / "t5" / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(settings | {"model_max_length": int(1e30)}), "utf-8")  # as "no limit" is written
    assert Summarizer(load(tmp_path / "t5")).window == 40  # n_positions
    path = tmp_path / "t5" / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "n_positions"}), "utf-8")
    assert Summarizer(load(tmp_path / "t5")).window == 512
    assert Summarizer(load(plain), window=77).window == 77


def test_whole_reads_all_at_once(both: tuple[Any, Path]) -> None:
    model, folder = both
    found = polyhead.summarize(STORY, model=folder, whole=True)
    assert found.parts == (1,)
    assert found.text == theirs(model, "to: " + unwrapped(STORY), **told(SUMMARY))
    with pytest.raises(DataError, match=r"Document 2 has \d+ tokens, but the model reads at most 32768 at once"):
        polyhead.summarize(["a", "the cat " * 20000], model=folder, whole=True)


def test_summaries_that_become_no_shorter_are_given_as_they_are_and_said_to_be(plain: Path) -> None:
    with pytest.warns(UserWarning, match="The summaries of the parts of document 1 are together hardly shorter"):
        found = polyhead.summarize(STORY, model=plain, min_new=40, max_new=60)
    assert (found.merged, len(found.parts)) == (False, 1)
    parts = Summarizer(load(plain), min_new=40, max_new=60).parts(STORY)
    each = polyhead.summarize(parts, model=plain, min_new=40, max_new=60)
    assert found.text == joined([one.text for one in each])


def test_batch_mates_change_no_word_and_empty_documents_stay_empty(both: tuple[Any, Path]) -> None:
    folder = both[1]
    documents = ["", STORY, "  \n", *TEXTS, STORY[40:]]
    together = polyhead.summarize(documents, model=folder)
    assert [each.text for each in together] == [polyhead.summarize(text, model=folder).text for text in documents]
    assert [each.parts == () for each in together] == [not text.strip() for text in documents]
    assert polyhead.summarize([], model=folder) == []


def test_parts_of_which_nothing_is_said_leave_an_empty_summary(plain: Path) -> None:
    summarizer = Summarizer(load(plain), max_new=1)
    words = (i for i in range(summarizer.config.vocab_size) if i != summarizer.config.eos_id)
    summarizer.rules = replace(summarizer.rules, never=tuple(words))
    [found] = summarizer([STORY])
    assert (found.text, len(found.parts), found.merged) == ("", 1, True) and found.parts[0] > 1


def test_progress_hears_of_every_part_that_is_read(plain: Path) -> None:
    heard: list[int] = []
    summarizer = Summarizer(load(plain), max_new=4)
    found = summarizer(["", STORY, "a cat"], progress=heard.append)
    assert sum(heard) == sum(each.parts[0] for each in found if each.parts)


def test_n_best_come_best_first_and_without_a_limit_there_are_200_tokens(both: tuple[Any, Path], plain: Path) -> None:
    found = polyhead.summarize(STORY, model=both[1], search=Beam(4, n_best=3))
    scores = [each.score or 0.0 for each in found.candidates]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    summarizer = Summarizer(load(plain))
    assert int(summarizer.longest(torch.tensor([5]))) == 200
    assert not polyhead.summarize("a", model=both[1], max_new=1, min_new=1).finished


def test_what_cannot_be_is_one_sentence(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"summarize needs a model that gives text to text; .* is a MarianMTModel"):
        polyhead.summarize("a", model="zh-en")
    with pytest.raises(ArgumentError, match="whole reads all at once, but window is 50; give one of them"):
        polyhead.summarize("a", model=plain, whole=True, window=50)
    for wrong in (0, 1.5, True, 1 << 20):
        with pytest.raises(ArgumentError, match=r"window is .*, but must be a whole number of tokens up to 32768"):
            polyhead.summarize("a", model=plain, window=wrong)  # pyright: ignore
    with pytest.raises(ArgumentError, match=r"window is 9 tokens, of which the words around the text take \d+; give"):
        polyhead.summarize("a", model=plain, window=9)
    with pytest.raises(ArgumentError, match="texts must be a text or an iterable of texts, found int"):
        polyhead.summarize(["a", 3], model=plain)  # pyright: ignore
    with pytest.raises(ArgumentError, match="n_best is 3, but must be from 1 to the beam's width, 2"):
        polyhead.summarize("a", model=plain, beam=2, n_best=3)
    shutil.copytree(plain, tmp_path / "t5")
    path = tmp_path / "t5" / "config.json"
    wrong_task = {"task_specific_params": {"summarization": {"num_beams": "many"}}}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | wrong_task), "utf-8")
    with pytest.raises(ConfigError, match=r"task_specific_params of config\.json: num_beams is 'many', but must be"):
        polyhead.summarize("a", model=tmp_path / "t5")


def test_a_folder_with_a_sentencepiece_model_alone_is_read(tmp_path: Path) -> None:
    import sentencepiece
    from transformers import T5Tokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([STORY, *TEXTS] * 20), model_prefix=str(tmp_path / "spiece"), vocab_size=100,
        minloglevel=2, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    words = T5Tokenizer.from_pretrained(tmp_path)
    model = asked_in_folder(tmp_path / "t5", task_specific_params={"summarization": SUMMARY})
    for file in (tmp_path / "t5").glob("tokenizer*.json"):
        file.unlink()
    (tmp_path / "spiece.model").rename(tmp_path / "t5" / "spiece.model")
    loaded = load(tmp_path / "t5")
    assert Summarizer(loaded).window == 40
    ids = words("to: " + TEXTS[0], return_tensors="pt")["input_ids"]
    wanted = words.decode(model.generate(ids, **told(SUMMARY))[0], skip_special_tokens=True)
    assert polyhead.summarize(TEXTS[0], model=loaded).text == wanted
    polyhead.save(loaded, tmp_path / "saved")
    assert polyhead.summarize(TEXTS[0], model=tmp_path / "saved").text == wanted


def test_a_start_token_may_stand_in_the_generation_settings(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "t5")
    path = tmp_path / "t5" / "config.json"
    settings = {k: v for k, v in json.loads(path.read_text("utf-8")).items() if k != "decoder_start_token_id"}
    path.write_text(json.dumps(settings), "utf-8")
    assert polyhead.summarize("a cat", model=tmp_path / "t5").text == polyhead.summarize("a cat", model=plain).text
    (tmp_path / "t5" / "generation_config.json").unlink()
    with pytest.raises(ConfigError, match="names no decoder_start_token_id; add it to its"):
        polyhead.summarize("a cat", model=tmp_path / "t5")
