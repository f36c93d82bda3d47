"""Words are heard where the heads that follow speech look: the weights, path and times of `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from transformers.generation.utils import GenerateEncoderDecoderOutput
from transformers.models.whisper.generation_whisper import (
    _dynamic_time_warping,  # pyright: ignore[reportPrivateUsage]
    _median_filter,  # pyright: ignore[reportPrivateUsage]
)

import polyhead
from polyhead.core import Run
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.hearing.alignment import attention_map, median, starts_of, warped
from polyhead.tasks.hearing.languages import CODES, code_of
from polyhead.tasks.hearing.segments import Part, parts_of
from polyhead.tasks.hearing.subtitles import clock, srt, vtt
from polyhead.tasks.hearing.transcript import Segment
from polyhead.tasks.hearing.word_times import Listener, listen, upper, words_of
from polyhead.tasks.load import load
from tests.tasks.speech import RATE, SECONDS, STEPS, sound, speech_in_folder, vocabulary

pytestmark = pytest.mark.parity
HEADS = [(1, 0), (2, 3), (2, 1)]
WORDS = vocabulary()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("speech")
    speech_in_folder(made, seed=1)
    return made


# --- the path ---------------------------------------------------------------------------------------------------------


def slowly(cost: NDArray[np.float64]) -> float:
    """The cost of the cheapest path, by the definition."""
    T, S = cost.shape
    sums = np.full((T + 1, S + 1), np.inf)
    sums[0, 0] = 0
    for i in range(T):
        for j in range(S):
            sums[i + 1, j + 1] = cost[i, j] + min(sums[i, j], sums[i, j + 1], sums[i + 1, j])
    return float(sums[-1, -1])


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 14), places=st.integers(1, 30), seed=st.integers(0, 1000))
def test_the_path_is_the_cheapest_and_that_of_the_reference(rows: int, places: int, seed: int) -> None:
    cost = np.random.default_rng(seed).standard_normal((rows, places))
    i, j = warped(cost)
    assert (i[0], j[0], i[-1], j[-1]) == (0, 0, rows - 1, places - 1)
    assert set(zip(np.diff(i), np.diff(j), strict=True)) <= {(0, 1), (1, 0), (1, 1)}
    assert cost[i, j].sum() == pytest.approx(slowly(cost))
    wanted = _dynamic_time_warping(cost)
    assert np.array_equal(i, wanted[0]) and np.array_equal(j, wanted[1])


def test_equal_costs_are_walked_as_the_reference_walks_them() -> None:
    for shape in ((4, 4), (3, 9), (9, 3), (1, 6), (6, 1)):
        found, wanted = warped(np.zeros(shape)), _dynamic_time_warping(np.zeros(shape))
        assert np.array_equal(found[0], wanted[0]) and np.array_equal(found[1], wanted[1])


@pytest.mark.parametrize("places", [1, 3, 4, 40])
def test_the_median_is_that_of_the_reference(places: int) -> None:
    x = torch.randn(3, 5, places, generator=torch.Generator().manual_seed(0))
    assert torch.equal(median(x, 7), _median_filter(x[None], 7)[0])


def test_a_path_through_a_clear_map_is_the_map() -> None:
    """Tokens that look at one stretch each begin where their stretch does."""
    starts = [0, 4, 9, 15, 26]
    weights = torch.full((2, 5, 40), 0.001)
    for token, (start, end) in enumerate(zip(starts, [*starts[1:], 40], strict=True)):
        weights[:, token, start:end] = 1.0
    assert starts_of(weights, width=1).tolist() == starts
    assert torch.isfinite(attention_map(torch.zeros(2, 5, 40), 7)).all()  # what nobody looks at


# --- the weights ------------------------------------------------------------------------------------------------------


def heard(folder: Path, text: list[int], samples: Tensor, places: int) -> tuple[Any, Any, list[int], Tensor]:
    """Our times of a text, the reference's attention to it, the prompt, and the picture."""
    loaded = load(folder)
    id = WORDS.convert_tokens_to_ids
    prompt = [id(sign) for sign in ("<|startoftranscript|>", "<|zh|>", "<|transcribe|>", "<|notimestamps|>")]
    picture = loaded.sounds.pictures([samples])  # pyright: ignore
    memory = loaded.model.encode(picture)  # pyright: ignore
    ours = listen(loaded.model, memory, prompt, text, heads=HEADS, places=places, width=7)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = model(
            input_features=picture, decoder_input_ids=torch.tensor([[*prompt, *text]]), output_attentions=True
        )
    return ours, (model, theirs), prompt, picture


TEXT = WORDS("the cat sat on the mat, 我爱吃苹果。", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("seconds", [2.0, 1.3, 0.1])
def test_places_are_those_of_the_references_weights(folder: Path, seconds: float) -> None:
    places = max(1, round(seconds / SECONDS * STEPS))
    ours, (_, theirs), prompt, _ = heard(folder, TEXT, sound(seconds), places)
    weights = torch.stack([theirs.cross_attentions[layer][0, head] for layer, head in HEADS])
    seen = weights[:, len(prompt) - 1 :, :places].double()  # the rows that say the tokens, and what comes behind
    seen = seen / seen.sum(-1, keepdim=True)
    standing = (seen - seen.mean(1, keepdim=True)) / seen.std(1, keepdim=True, unbiased=False)
    rows, columns = _dynamic_time_warping(-_median_filter(standing[None], 7)[0].mean(0).numpy())
    assert ours.places == [int(columns[rows == row][0]) for row in range(len(TEXT) + 1)]
    likely = theirs.logits[0, len(prompt) - 1 : -1].softmax(-1)
    wanted = [float(likely[i, token]) for i, token in enumerate(TEXT)]
    assert ours.probabilities == pytest.approx(wanted, rel=1e-3)


def test_over_a_whole_window_places_are_the_references_token_times(folder: Path) -> None:
    """It gives a token the row that reads it, we the row that says it; the same rows give the same times."""
    ours, (model, theirs), prompt, _ = heard(folder, TEXT, sound(2.0), STEPS)
    tokens: Any = torch.tensor([[*prompt, *TEXT]])
    output = GenerateEncoderDecoderOutput(sequences=tokens, cross_attentions=(theirs.cross_attentions,))
    times = model._extract_token_timestamps(
        output, [list(pair) for pair in HEADS], num_frames=2 * STEPS, num_input_ids=len(prompt) - 1
    )
    wanted = times[0, len(prompt) - 1 : -1]  # the last is told twice
    assert [0.02 * place for place in ours.places] == pytest.approx(wanted.tolist(), abs=1e-6)


def test_who_listens_changes_nothing_and_sees_exact_weights(folder: Path) -> None:
    loaded = load(folder)
    model: Any = loaded.model
    memory = model.encode(loaded.sounds.pictures([sound(2.0)]))  # pyright: ignore
    tokens = torch.tensor([[WORDS.eos_token_id + 1, *TEXT]])
    layers = {model.decoder.blocks[i].cross: [0, 2] for i in (0, 2)}
    listener = Listener(layers)
    plain = model.decode(tokens, Run(memory=memory))
    assert torch.equal(model.decode(tokens, Run(memory=memory, observer=listener)), plain)
    with polyhead.watch(model) as recording:
        assert torch.equal(model.decode(tokens, Run(memory=memory, observer=Listener(layers))), plain)
    for kept, layer in zip(listener.kept, (0, 2), strict=True):
        assert torch.equal(kept, recording[f"decoder.blocks.{layer}.cross"].weights()[:, [0, 2]])


def test_where_no_heads_are_named_the_upper_half_is_asked_and_that_is_said(tmp_path: Path) -> None:
    speech_in_folder(tmp_path, heads=False)
    with pytest.warns(UserWarning, match=r"names no alignment_heads; word times are taken from all heads of the upper"):
        found = polyhead.transcribe(sound(1.5), model=tmp_path, rate=RATE, times="words", doubt=None)
    assert found.segments
    assert upper(3, 2) == ((1, 0), (1, 1), (2, 0), (2, 1))


def test_words_of_a_transcript_are_its_text_in_order_within_the_sound(folder: Path) -> None:
    for language in ("en", "zh"):
        found = polyhead.transcribe(sound(7.3), model=folder, rate=RATE, times="words", doubt=None, language=language)
        for segment in found.segments:
            assert "".join(w.text for w in segment.words) == "".join(segment.text.split())
            assert all(0 <= w.start <= w.end <= found.seconds for w in segment.words)
            assert all(0 <= w.probability <= 1 for w in segment.words)
            assert all(a.end <= b.start for a, b in zip(segment.words, segment.words[1:], strict=False))


# --- words ------------------------------------------------------------------------------------------------------------


def tokenizer() -> Tokenizer:
    return Tokenizer(WORDS.backend_tokenizer, {"eos_token": WORDS.eos_token, "pad_token": WORDS.pad_token,
                                               "unk_token": WORDS.unk_token})  # fmt: skip


def split(text: str, *, spaced: bool) -> list[str]:
    ids = WORDS(text, add_special_tokens=False)["input_ids"]
    words = words_of(tokenizer(), ids, spaced=spaced)
    assert sum(count for _, count in words) == len(ids) and all(count for _, count in words)
    return [word for word, _ in words]


def test_a_word_ends_before_a_space() -> None:
    text = ' "The cat," he said - naïve café! 3.5 isn\'t'
    assert split(text, spaced=True) == text.split()
    assert split("", spaced=True) == []


def test_where_no_spaces_are_written_a_word_is_a_character_or_what_latin_letters_make() -> None:
    text = "我爱吃「苹果」。你 use GPT4吗？🍎"
    found = split(text, spaced=False)
    assert "".join(found) == text.replace(" ", "")
    assert found[0] == "我" and found[-1] == "🍎"
    assert "use" in found and "GPT4" in found
    assert not any(word[0] in "」。？" or word[-1] == "「" for word in found)


@settings(max_examples=80, deadline=None)
@given(text=st.text("ab é我，。🍎 \n'", max_size=14), spaced=st.booleans())
def test_words_spell_the_text_and_hold_every_token(text: str, spaced: bool) -> None:
    ids = WORDS(text, add_special_tokens=False)["input_ids"]
    words = words_of(tokenizer(), ids, spaced=spaced)
    assert "".join(w for w, _ in words) == "".join(text.split())
    assert sum(n for _, n in words) == (len(ids) if words else 0)
    if spaced:
        assert [w for w, _ in words] == text.split()


# --- segments and files -----------------------------------------------------------------------------------------------


def test_segments_end_where_two_times_meet_and_the_rest_is_heard_again() -> None:
    how: dict[str, Any] = {"first_time": 100, "steps": 50.0}
    assert parts_of([100, 1, 2, 130, 130, 3], **how) == ([Part([100, 1, 2, 130], 0, 30)], 30)
    assert parts_of([102, 1, 110, 112, 2, 130], **how) == (
        [Part([102, 1, 110], 2, 10), Part([112, 2, 130], 12, 30)],
        None,
    )
    assert parts_of([102, 1, 110, 112, 2, 130, 130], **how)[1] == 30
    assert parts_of([100, 1, 2], **how) == ([Part([100, 1, 2], 0, 50.0)], None)
    assert parts_of([100, 1, 2, 140], **how) == ([Part([100, 1, 2, 140], 0, 40)], None)
    assert parts_of([], **how) == ([Part([], 0, 50.0)], None)


def test_subtitles_are_what_players_read() -> None:
    said = [
        Segment(0.0, 2.5, "Hello --> <b>\x1byou</b>", (), (), 0.0, 0.0),
        Segment(3661.0015, 3662, "我 & 你", (), (), 0.0, 0.0),
    ]
    assert srt(said) == (
        "1\n00:00:00,000 --> 00:00:02,500\nHello -> <b> you</b>\n\n2\n01:01:01,002 --> 01:01:02,000\n我 & 你\n"
    )
    assert vtt(said) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nHello -&gt; &lt;b&gt; you&lt;/b&gt;\n"
        "\n01:01:01.002 --> 01:01:02.000\n我 &amp; 你\n"
    )
    assert clock(59.9996) == "00:01:00.000"
    assert srt([]) == "" and vtt([]) == "WEBVTT\n"


def test_languages_have_names() -> None:
    assert [code_of(x) for x in ("Chinese", " ZH ", "<|zh|>", "mandarin", "haitian creole")] == ["zh"] * 4 + ["ht"]
    assert code_of("xx") == "xx" and len(CODES) == len(set(CODES.values())) == 100
