"""One pass of a model: its copies say what it says, its vectors are what is scored, its recording has its rulers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polyhead import load
from polyhead.lens.looking import answer_text, read_image, read_sound, read_text
from polyhead.lens.passes import Pass
from polyhead.lens.roles.trials import trials
from polyhead.lens.rulers import Words
from polyhead.lens.see import see
from tests.cli.conftest import write_model
from tests.lens.test_looking import vision
from tests.tasks.speech import sound, speech_in_folder, write_wave
from tests.tasks.words import asked_in_folder, decoder_in_folder, in_folder

SHORT = "the cat sat on the mat"
KINDS = ("labels", "decoder", "translator", "image", "sound")


def passed(folder: Path, kind: str) -> Pass:
    match kind:
        case "labels":
            in_folder(folder, "BertForSequenceClassification", num_labels=3)
            return read_text(load(folder), "the cat sat")
        case "decoder":
            decoder_in_folder(folder, "LlamaForCausalLM")
            return read_text(load(folder), "the cat sat")
        case "translator":
            write_model(folder)
            return answer_text(load(folder), "我爱吃", answer="I love eating")
        case "image":
            vision(folder, "ViTForImageClassification")
            return read_image(load(folder), torch.rand(20, 20, 3).mul(255).byte().numpy(), media=False)
        case _:
            speech_in_folder(folder, seed=1)
            return read_sound(load(folder), write_wave(folder / "a.wav", sound(1.0)), language="en", media=False)


@pytest.mark.filterwarnings("ignore")  # torchvision is not installed
@pytest.mark.parametrize("kind", KINDS)
def test_copies_say_what_one_says_and_scores_are_of_the_vectors(tmp_path: Path, kind: str) -> None:
    one = passed(tmp_path, kind)
    with torch.no_grad():
        alone, three, vectors = one.scores(), one.scores(3), one.vectors(2)
        torch.testing.assert_close(three, alone.expand_as(three), rtol=1e-4, atol=1e-5)
        scored = one.loaded.model.head(vectors)  # pyright: ignore[reportCallIssue]
        torch.testing.assert_close(scored, alone.expand_as(scored), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_rulers_and_ids_fit_what_is_recorded(tmp_path: Path, kind: str) -> None:
    one = passed(tmp_path, kind)
    recording = one.watched()
    assert dict(one.rulers) == recording.rulers
    assert all(len(ids) == one.rulers[name].count for name, ids in one.ids.items())
    for call in recording:
        part = "decoder" if call.part == "cross" else call.part
        assert call.lse.shape[2] == one.rulers[part].count, call.name
        if call.part == "cross":
            assert call.norms.values.shape[2] == one.rulers["encoder"].count
    if "chosen" in one.ids:
        assert one.ids["chosen"][:-1] == one.ids["decoder"][1:]  # a word is read once it is chosen
    assert one.watched(layers=call.name).names() == [call.name]


def test_heads_are_asked_what_see_asks(tmp_path: Path) -> None:
    """A model that is asked in words is asked its one task by both."""
    asked_in_folder(
        tmp_path, "T5ForConditionalGeneration", task_specific_params={"summarization": {"prefix": "summarize: "}}
    )
    loaded = load(tmp_path)
    shown, _, _ = trials(loaded, [SHORT], None)
    trial = next(shown)
    seen = see(SHORT, model=loaded)
    assert trial.one.source == seen.source == f"summarize: {SHORT}" and trial.one.target == seen.target


def test_words_of_given_pairs_are_found_behind_what_is_asked(tmp_path: Path) -> None:
    asked_in_folder(tmp_path, "T5ForConditionalGeneration", task_specific_params={"summarization": {"prefix": "say: "}})
    loaded = load(tmp_path)
    trial = next(trials(loaded, ["say the cat\tthe dog ran"], None)[0])
    assert trial.words is not None
    for name, words, said in (("encoder", trial.words[0], "say the cat"), ("chosen", trial.words[1], "the dog ran")):
        ruler = trial.one.rulers[name]
        assert isinstance(ruler, Words)
        ends = [[ruler.places[i] for i in word] for word in words]
        assert [ruler.text[some[0][0] : some[-1][1]].strip() for some in ends] == said.split()
        if name == "encoder":
            assert ruler.text.startswith("say: say the cat") and ends[0][0][0] >= len("say:")
