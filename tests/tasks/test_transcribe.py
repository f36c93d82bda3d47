"""Speech becomes the tokens of `transformers`, with times and without; languages are heard, silence is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

import polyhead
from polyhead import ArgumentError, Beam, ConfigError, Contrastive, DataError, Greedy
from polyhead.inputs.sound import Sound
from polyhead.tasks.hearing.said import Doubt, repeats
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import load
from tests.tasks.speech import LANGUAGES, RATE, SECONDS, change, sound, speech_in_folder, vocabulary, write_wave
from tests.tasks.words import in_folder

pytestmark = pytest.mark.parity
WORDS = vocabulary()
FIRST = WORDS.convert_tokens_to_ids("<|notimestamps|>") + 1
TIMES = list(range(FIRST, len(WORDS)))
SHORT = [sound(1.5), sound(2.0, 1), sound(0.7, 2)]
LONG = [sound(7.3), sound(5.0, 4)]
SEARCHES = [pytest.param(Greedy(), id="greedy"), pytest.param(Beam(3), id="beam")]


@pytest.fixture(scope="module", params=range(2))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("speech")
    speech_in_folder(made, seed=request.param)
    return made


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("speech")
    speech_in_folder(made, seed=4)
    return made


def theirs_of(folder: Path) -> Any:
    return transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()


def ours(sounds: list[Tensor], folder: Path, **how: Any) -> list[Any]:
    how = {"doubt": None, **how}
    return polyhead.transcribe(sounds, model=folder, rate=RATE, **how)


def pictures(sounds: list[Tensor]) -> Tensor:
    extractor = transformers.WhisperFeatureExtractor(chunk_length=SECONDS)
    return extractor([x.numpy() for x in sounds], sampling_rate=RATE, return_tensors="pt").input_features


def wordless(tokens: Any) -> list[int]:
    """Tokens without the end and the padding behind it."""
    return [t for t in tokens.tolist() if t != WORDS.eos_token_id]


# --- one window -------------------------------------------------------------------------------------------------------


@pytest.fixture
def timeless(folder: Path, tmp_path: Path) -> Path:
    """A model that tells no time where it is not asked to; of one that does, the reference reads on from there."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    forbidden = load(folder).generation["suppress_tokens"]
    change(tmp_path, suppress_tokens=[*forbidden, *TIMES])
    return tmp_path


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_a_window_without_times_is_that_of_the_reference(timeless: Path, search: Any, task: str) -> None:
    wanted = theirs_of(timeless).generate(
        input_features=pictures(SHORT), language="zh", task=task, num_beams=getattr(search, "width", 1)
    )
    found = ours(SHORT, timeless, language="Chinese", task=task, search=search)
    for row, each in zip(wanted, found, strict=True):
        assert list(each.segments[0].tokens) == wordless(row)
        assert each.text == " ".join(WORDS.decode(wordless(row), skip_special_tokens=True).split())
        assert (each.language, each.probability, each.task) == ("zh", None, task)


def test_contrastive_search_hears_as_greedy_search_does_where_likeness_counts_for_nothing(timeless: Path) -> None:
    greedy = ours(SHORT, timeless, search=Greedy())  # the language is heard first, from the same start
    assert [each.text for each in ours(SHORT, timeless, search=Contrastive(0.0, 3))] == [each.text for each in greedy]
    other = ours(SHORT, timeless, search=Contrastive(0.9, 5))
    assert [each.text for each in other] != [each.text for each in greedy]


def test_a_folder_may_ask_for_a_beam(timeless: Path) -> None:
    wanted = ours(SHORT, timeless, language="zh", search=Beam(3))
    change(timeless, num_beams=3)
    found = ours(SHORT, timeless, language="zh")
    assert [each.text for each in found] == [each.text for each in wanted]


def test_the_language_that_is_heard_is_that_of_the_reference(folder: Path) -> None:
    model = theirs_of(folder)
    wanted = WORDS.convert_ids_to_tokens(model.detect_language(pictures(SHORT)).tolist())
    found = ours(SHORT, folder)
    assert [f"<|{each.language}|>" for each in found] == wanted
    for each, row in zip(found, begun(model, SHORT), strict=True):
        among = {code: float(row[WORDS.convert_tokens_to_ids(f"<|{code}|>")]) for code in LANGUAGES}
        assert each.probability == pytest.approx(among[str(each.language)] / sum(among.values()), rel=1e-4)
    told = ours(SHORT, folder, language=found[0].language)
    assert told[0].segments == found[0].segments  # what was heard and what was given is one prompt


def begun(model: Any, sounds: list[Tensor]) -> Tensor:
    """Probabilities of what stands behind the start sign alone, [B, V]."""
    start = torch.full((len(sounds), 1), model.generation_config.decoder_start_token_id)
    with torch.no_grad():
        return model(input_features=pictures(sounds), decoder_input_ids=start).logits[:, 0].double().softmax(-1)


# --- many windows -----------------------------------------------------------------------------------------------------


@pytest.fixture
def silent_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Tensor]]:
    """What the reference needs to read long sounds as the model was trained: silence behind the end of a sound.

    It puts zeros into the picture there, which are rather loud.
    """
    extractor: Any = transformers.WhisperFeatureExtractor(chunk_length=SECONDS)
    how: dict[str, Any] = {"sampling_rate": RATE, "return_tensors": "pt", "truncation": False}
    whole = [
        extractor(torch.cat((x, torch.zeros(SECONDS * RATE))).numpy(), padding=False, **how).input_features[0]
        for x in LONG
    ]

    def window(features: Any, seek: Any, _: Any, frames: int, rows: int, places: list[int]) -> Tensor:
        return torch.stack([whole[i][:, seek[i] : seek[i] + frames] for i in places])

    def named(input_features: Any, seek: Any, seek_num_frames: Any, num_segment_frames: int, cur_bsz: int,
              batch_idx_map: list[int]) -> Tensor:  # fmt: skip
        return window(input_features, seek, seek_num_frames, num_segment_frames, cur_bsz, batch_idx_map)

    monkeypatch.setattr(WhisperGenerationMixin, "_get_input_segment", staticmethod(named))
    batch = extractor([x.numpy() for x in LONG], padding="longest", return_attention_mask=True, **how)
    yield {"input_features": batch.input_features, "attention_mask": batch.attention_mask}


def parts(segments: Any, seconds: float) -> list[tuple[float, list[int]]]:
    """Where the reference's segments begin, and their words; those that spell nothing are left out."""
    told = [(min(round(float(x["start"]), 6), seconds), x["tokens"].tolist()) for x in segments]
    words = [(start, [t for t in tokens if t < FIRST and t != WORDS.eos_token_id]) for start, tokens in told]
    return [(start, some) for start, some in words if WORDS.decode(some).strip()]


def found_parts(found: Any) -> list[tuple[float, list[int]]]:
    return [(each.start, [t for t in each.tokens if t < FIRST]) for each in found.segments]


@pytest.mark.parametrize("search", SEARCHES)
def test_long_sounds_go_on_where_the_last_segment_ended_as_in_the_reference(
    folder: Path, search: Any, silent_end: dict[str, Tensor]
) -> None:
    wanted = theirs_of(folder).generate(
        **silent_end, language="de", return_timestamps=True, return_segments=True,
        num_beams=getattr(search, "width", 1),
    )  # fmt: skip
    found = ours(LONG, folder, language="de", search=search)
    for each, theirs, samples in zip(found, wanted["segments"], LONG, strict=True):
        assert len(each.segments) > 1
        assert found_parts(each) == parts(theirs, len(samples) / RATE)
        assert all(0 <= x.start <= x.end <= each.seconds for x in each.segments)
    timed = ours(LONG, folder, language="de", search=search, times="segments")
    assert timed == found


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("prompt", [None, "the mat, 我"])
def test_what_stands_before_is_told_as_the_reference_tells_it(
    tmp_path: Path, search: Any, carry: bool, prompt: str | None, silent_end: dict[str, Tensor]
) -> None:
    speech_in_folder(tmp_path, seed=1)
    change(tmp_path, prev_sot_token_id=WORDS.convert_tokens_to_ids("<|startofprev|>"))
    ids = WORDS(f"<|startofprev|> {prompt}", add_special_tokens=False)["input_ids"]
    wanted = theirs_of(tmp_path).generate(
        input_features=silent_end["input_features"][:1], language="de", return_timestamps=True, return_segments=True,
        num_beams=getattr(search, "width", 1), condition_on_prev_tokens=carry, temperature=0.0,
        prompt_ids=None if prompt is None else torch.tensor(ids),
    )  # fmt: skip
    found = ours(LONG[:1], tmp_path, language="de", search=search, carry=carry, prompt=prompt)[0]
    assert found_parts(found) == parts(wanted["segments"][0], 7.3)
    plain = ours(LONG[:1], tmp_path, language="de", search=search)[0]
    assert (found == plain) is (prompt is None and not carry)


def test_what_stands_before_is_each_sounds_own_and_never_what_was_drawn(one: Path) -> None:
    """Sounds of which more and less was said stand in one batch, padded on the left."""
    how: dict[str, Any] = {"carry": True, "times": "words", "language": "de"}
    some = [*LONG, SHORT[2]]
    assert [said(each) for each in ours(some, one, **how)] == [said(ours([x], one, **how)[0]) for x in some]
    drawn = Doubt(least=0.0, silence=1.0, temperatures=(0.6,))
    assert ours(LONG[1:], one, doubt=drawn, carry=True) == ours(LONG[1:], one, doubt=drawn)
    again = Doubt(least=0.0, silence=1.0, temperatures=(0.4,))
    assert ours(LONG[1:], one, doubt=again, carry=True) != ours(LONG[1:], one, doubt=again)


def test_silence_is_left_out_where_the_reference_leaves_it_out(one: Path, silent_end: dict[str, Tensor]) -> None:
    everything = ours(LONG, one, language="de")
    sure = sorted(x.log_probability for each in everything for x in each.segments)
    least = (sure[len(sure) // 2 - 1] + sure[len(sure) // 2]) / 2
    model = theirs_of(one)
    wanted = model.generate(
        **silent_end, language="de", return_timestamps=True, return_segments=True, logprob_threshold=least,
        no_speech_threshold=1e-7, temperature=0.0,
    )  # fmt: skip
    doubt = Doubt(least=least, silence=1e-7, repeats=math.inf, temperatures=())
    found = ours(LONG, one, language="de", doubt=doubt)
    assert any(each.left_out for each in found) and any(each.segments for each in found)
    for each, theirs, samples in zip(found, wanted["segments"], LONG, strict=True):
        assert found_parts(each) == parts(theirs, len(samples) / RATE)
    none = ours(LONG, one, language="de", doubt=Doubt(least=0.0, silence=0.0, temperatures=()))
    for each in none:  # window by window, to the end
        ends = [0.0, *(end for _, end in each.left_out)]
        assert not each.text and [start for start, _ in each.left_out] == ends[:-1]
        assert ends[-1] == pytest.approx(each.seconds, abs=0.01)


def test_only_a_window_that_is_likely_silent_and_said_unsurely_is_left_out(one: Path) -> None:
    model = theirs_of(one)
    silences = begun(model, SHORT)[:, WORDS.convert_tokens_to_ids("<|nospeech|>")].tolist()
    low, _, high = sorted(silences)
    doubt = Doubt(least=0.0, silence=(low + high) / 2, temperatures=())
    found = ours(SHORT, one, doubt=doubt)
    assert [bool(each.left_out) for each in found] == [p > doubt.silence for p in silences]
    assert len({bool(each.left_out) for each in found}) == 2
    surely = Doubt(least=-100.0, silence=0.0, temperatures=())
    assert not any(each.left_out for each in ours(SHORT, one, doubt=surely))


def test_what_is_not_believed_is_drawn_and_the_last_draw_is_taken(one: Path) -> None:
    doubt = Doubt(least=0.0, silence=1.0, temperatures=(0.3, 0.9))
    found = ours(SHORT, one, doubt=doubt)
    assert {x.temperature for each in found for x in each.segments} == {0.9}
    assert found == ours(SHORT, one, doubt=doubt)
    assert found[0].text == ours(SHORT[:1], one, doubt=doubt)[0].text
    assert found[0].text != ours(SHORT, one)[0].text
    believed = Doubt(least=-math.inf, repeats=math.inf)
    assert ours(SHORT, one, doubt=believed) == ours(SHORT, one)
    greedy = ours(SHORT, one)
    repeating = Doubt(least=-math.inf, repeats=repeats(greedy[0].text) - 1e-6, silence=1.0, temperatures=(1.0,))
    assert ours(SHORT[:1], one, doubt=repeating)[0].segments[0].temperature == 1.0


def test_a_text_that_says_the_same_again_compresses() -> None:
    assert repeats("la " * 60) > Doubt().repeats > repeats("The cat sat on the mat, and the dog ran to the garden.")
    assert repeats("") == 0


def test_what_reached_the_limit_is_said(timeless: Path) -> None:
    for each, length in zip(ours(SHORT, timeless, language="zh"), (1.5, 2.0, 0.7), strict=True):
        room = 40 - 4  # places less the prompt
        full = len(each.segments[0].tokens) == room
        assert each.cut == (((0.0, length),) if full else ())
    change(timeless, max_length=3)
    for each in ours(SHORT, timeless, language="zh"):
        assert len(each.segments[0].tokens) == 3 and each.cut


def said(found: Any) -> list[Any]:
    """What was said when, to the last bit; probabilities may differ in theirs."""
    return [(x.start, x.end, x.tokens, [(w.text, w.start, w.end) for w in x.words]) for x in found.segments]


def test_batches_and_watchers_change_nothing(one: Path) -> None:
    together = ours([*LONG, *SHORT] * 2, one, times="words")  # more than are heard at once
    assert [each.seconds for each in together] == [7.3, 5.0, 1.5, 2.0, 0.7] * 2
    assert [said(each) for each in together[:5]] == [said(each) for each in together[5:]]
    alone = [ours([x], one, times="words")[0] for x in (*LONG, *SHORT)]
    assert [said(each) for each in together[:5]] == [said(each) for each in alone]
    loaded = load(one)
    with polyhead.watch(loaded.model) as recording:
        watched = ours(LONG[:1], one, times="words")  # another model, of the same folder
        seen = polyhead.transcribe(LONG[0], model=loaded, rate=RATE, doubt=None, times="words")
    assert seen.segments == watched[0].segments == alone[0].segments
    last = recording["decoder.blocks.2.cross"].weights()
    assert last.shape[2] > 1 and torch.allclose(last.sum(-1), torch.ones_like(last.sum(-1)), atol=1e-5)


# --- what a folder says -----------------------------------------------------------------------------------------------


def test_a_model_of_one_language_begins_as_the_reference(tmp_path: Path) -> None:
    speech_in_folder(tmp_path, english=True, suppress_tokens=TIMES)
    model = theirs_of(tmp_path)
    wanted = model.generate(input_features=pictures(SHORT))
    found = ours(SHORT, tmp_path)
    for row, each in zip(wanted, found, strict=True):
        assert list(each.segments[0].tokens) == wordless(row)
        assert (each.language, each.probability) == ("en", None)
    assert ours(SHORT, tmp_path, language="English") == found
    change(tmp_path, suppress_tokens=None)
    assert all(each.segments[0].words for each in ours(LONG, tmp_path, times="words"))
    with pytest.raises(ArgumentError, match="hears English only, and language='zh' asks for more; leave it out"):
        ours(SHORT, tmp_path, language="zh")
    with pytest.raises(ArgumentError, match="hears English only, and task='translate' asks for more"):
        ours(SHORT, tmp_path, task="translate")


def test_what_a_folder_leaves_unsaid_its_tokens_say_by_name(one: Path, tmp_path: Path) -> None:
    for file in one.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    wanted = ours([*SHORT, *LONG], one)
    change(tmp_path, lang_to_id=None, task_to_id=None, no_timestamps_token_id=None, is_multilingual=None)
    found = ours([*SHORT, *LONG], tmp_path)
    assert [(each.language, said(each)) for each in found] == [(each.language, said(each)) for each in wanted]


def test_a_folder_may_say_language_and_task_in_the_new_way_and_in_the_old(one: Path, tmp_path: Path) -> None:
    for file in one.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    wanted = ours(SHORT, one, language="ja", task="translate")
    change(tmp_path, language="japanese", task="translate")
    assert ours(SHORT, tmp_path) == wanted
    assert ours(SHORT, tmp_path, language="de", task="transcribe") == ours(SHORT, one, language="de")
    change(tmp_path, language=None, task=None, forced_decoder_ids=[[1, WORDS.convert_tokens_to_ids("<|ja|>")]])
    assert [each.text for each in ours(SHORT, tmp_path, task="translate")] == [each.text for each in wanted]
    change(tmp_path, forced_decoder_ids=[[1, None]])
    assert ours(SHORT, tmp_path) == ours(SHORT, one)


def test_settings_that_are_none_are_refused_all_at_once(one: Path, tmp_path: Path) -> None:
    for file in one.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path, suppress_tokens=[99999], alignment_heads=[[7, 0]], lang_to_id={"<|en|>": "x"}, num_beams=0)
    with pytest.raises(ConfigError, match=r"suppress_tokens is \[99999\].*") as refused:
        ours(SHORT, tmp_path)
    for key in ("alignment_heads is [[7, 0]]", "lang_to_id is", "num_beams is 0"):
        assert key in str(refused.value)


def test_a_folder_that_draws_other_pictures_is_refused(one: Path, tmp_path: Path) -> None:
    for file in one.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    transformers.WhisperFeatureExtractor(chunk_length=3).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="80 bands and 300 frames, but its model reads 80 and 200"):
        ours(SHORT, tmp_path)


def test_progress_is_told_in_sounds_and_in_seconds(one: Path) -> None:
    hear = Transcriber(load(one), doubt=None)
    sounds, seconds = list[int](), list[int]()
    some = [(str(i), x) for i, x in enumerate([*LONG, *SHORT] * 2)]
    hear(some, progress=sounds.append, heard=seconds.append)
    assert sum(sounds) == 10 and all(sounds)
    assert sum(seconds) == int(2 * (7.3 + 5.0 + 1.5 + 2.0 + 0.7)) and min(seconds) >= 0


# --- what is given ----------------------------------------------------------------------------------------------------


def test_files_arrays_channels_and_rates_are_one_sound(one: Path, tmp_path: Path) -> None:
    numbers = (sound(1.5) * 32767).short()
    samples = numbers.float() / 32768
    wanted = polyhead.transcribe(samples, model=one, rate=RATE, doubt=None)
    file = write_wave(tmp_path / "a.wav", numbers.float() / 32767)
    stereo = write_wave(tmp_path / "b.wav", torch.stack((numbers, numbers)).float() / 32767)
    found = polyhead.transcribe([file, str(stereo)], model=one, doubt=None)
    assert [each.item for each in found] == [str(file), str(stereo)]
    arrays: list[Any] = [numbers.numpy(), np.stack((samples.numpy(),) * 2), Sound(samples, RATE)]
    found += polyhead.transcribe(arrays, model=one, rate=RATE, doubt=None)
    assert [each.item for each in found[2:]] == ["1", "2", "3"]
    assert {each.text for each in found} == {wanted.text} and wanted.text
    assert polyhead.transcribe([], model=one) == []
    slower = polyhead.transcribe(sound(1.5).repeat_interleave(2), model=one, rate=2 * RATE, doubt=None)
    assert slower.seconds == pytest.approx(1.5, abs=1e-3) and slower.segments


def test_what_cannot_be_is_one_sentence(one: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no language 'klingon'; its languages are de, en, ja, yue, zh\."):
        ours(SHORT, one, language="klingon")
    with pytest.raises(ArgumentError, match=r"no language 'chines'; .* Did you mean 'chinese'\?"):
        ours(SHORT, one, language="chines")
    with pytest.raises(ArgumentError, match=r"task must be transcribe or translate; found 'transkribe'.*'transcribe'"):
        ours(SHORT, one, task="transkribe")
    with pytest.raises(ArgumentError, match=r"times must be 'segments', 'words' or None; found 'word'.*'words'"):
        ours(SHORT, one, times="word")
    with pytest.raises(ArgumentError, match=r"prompt has \d+ tokens, but the model has room for 19; shorten it"):
        ours(SHORT, one, prompt="the cat sat on the mat " * 9)
    with pytest.raises(ArgumentError, match=r"search asks for 3 answers, but one .*; leave out n_best"):
        ours(SHORT, one, search=Beam(4, n_best=3))
    with pytest.raises(ArgumentError, match=r"Sound 2 is an array; say how many samples a second it has, as rate"):
        polyhead.transcribe([Sound(SHORT[0], RATE), SHORT[0]], model=one)
    with pytest.raises(ArgumentError, match=r"Sound 1 is int, expected a file, or an array with its rate"):
        polyhead.transcribe([3], model=one)
    with pytest.raises(ArgumentError, match=r"transcribe needs a model that gives speech to text; .* is a MarianMT"):
        polyhead.transcribe(SHORT[0], model="zh-en", rate=RATE)
    in_folder(tmp_path, "BertForMaskedLM")
    with pytest.raises(ArgumentError, match="transcribe needs a model that gives speech to text"):
        polyhead.transcribe(SHORT[0], model=tmp_path, rate=RATE)
    with pytest.raises(DataError, match="holds no samples"):
        polyhead.transcribe(torch.zeros(0), model=one, rate=RATE)
    with pytest.raises(DataError, match="NaN"):
        polyhead.transcribe(torch.full((900,), math.nan), model=one, rate=RATE)
    (tmp_path / "no.wav").write_bytes(b"this is no sound at all")
    with pytest.raises(DataError, match="is not a sound that is known here"):
        polyhead.transcribe(tmp_path / "no.wav", model=one)
    with pytest.raises(DataError, match=r"gone\.wav cannot be read"):  # before the first is heard
        polyhead.transcribe([Sound(SHORT[0], RATE), tmp_path / "gone.wav"], model=one)


def test_a_model_that_knows_no_times_is_heard_in_steps(one: Path, tmp_path: Path) -> None:
    for file in one.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    last = len(WORDS) - 1  # a sign behind which no time has an id
    change(tmp_path, no_timestamps_token_id=last)
    with pytest.raises(ArgumentError, match="knows no times; leave times out, or ask for words"):
        ours(LONG, tmp_path, times="segments")
    found = ours(LONG[:1], tmp_path, times="words")[0]
    assert [(x.start, x.end) for x in found.segments] == [(0, 2), (2, 4), (4, 6), (6, 7.3)]
    assert all(x.words for x in found.segments)
