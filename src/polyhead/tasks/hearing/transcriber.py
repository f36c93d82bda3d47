"""A model of speech hears sounds window by window, several sounds at once, and tells what is said in them.

picture of 30 seconds  ->  memory  ->  silence? which language?  ->  words and times  ->  segments  ->  the next window
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, ConfigError, did_you_mean
from polyhead.generation import Search
from polyhead.inputs.excerpts import Excerpts
from polyhead.inputs.sound import Sounds
from polyhead.tasks.decoder import DecoderStep
from polyhead.tasks.hearing.languages import SPACELESS
from polyhead.tasks.hearing.said import USUAL, Answer, Doubt, said, scored
from polyhead.tasks.hearing.segments import Part, parts_of
from polyhead.tasks.hearing.signs import signs
from polyhead.tasks.hearing.transcript import Segment, Transcript
from polyhead.tasks.hearing.word_times import Word, listen, told, upper, words_of
from polyhead.tasks.load import Loaded
from polyhead.tasks.needs import able

ROWS = 8  # sounds that are heard together
CARRIED = 0.5  # the temperature below which a window's words are told to the next
TIMES = ("segments", "words")
Times = Literal["segments", "words"]


@dataclass(eq=False)
class Hearing:
    """A sound at work: how far it was heard, and what was. timed: whether the model tells times of it."""

    number: int
    item: str
    sound: Excerpts
    timed: bool
    language: str | None
    probability: float | None = None
    at: int = 0  # the frame at which the next window begins
    past: list[int] = field(default_factory=list[int])  # what the next window is told was said before
    text: str = ""
    segments: list[Segment] = field(default_factory=list[Segment])
    left_out: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    cut: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])


class Transcriber:
    """A loaded model made ready to hear. See `transcribe` for what may be asked, and for what is raised."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        language: str | None = None,
        task: str | None = None,
        times: Times | None = None,
        search: Search | None = None,
        doubt: Doubt | None = USUAL,
        prompt: str | None = None,
        carry: bool = False,
    ):
        able(loaded, "transcribe")
        if times is not None and times not in TIMES:
            raise ArgumentError(
                f"times must be 'segments', 'words' or None; found {times!r}.{did_you_mean(str(times), TIMES)}"
            )
        self.sounds, self.config, self.device = fitting(loaded), loaded.config, loaded.device
        self.tokenizer = loaded.tokenizer.target
        self.step = self.sounds.chunk_length / self.config.n_frames  # seconds from one place of the memory to the next
        self.signs = signs(loaded, self.step)
        self.language, self.task = self.signs.chosen(language, task)
        self.times, self.doubt = times, doubt
        if times == "segments" and self.signs.no_times is None:
            raise ArgumentError(f"{loaded.folder or 'The model'} knows no times; leave times out, or ask for words.")
        self.carry = carry
        self.room = self.config.max_len // 2 - 1  # for words that stand before
        self.prompt = self.past_of(prompt)
        if carry and self.signs.before is None:
            raise ArgumentError(f"{loaded.folder or 'The model'} cannot be told what was said before; leave carry out.")
        self.heads = self.signs.heads
        if times == "words" and not self.heads:
            self.heads = upper(self.config.n_decoder_layers, self.config.n_decoder_heads)
            warnings.warn(
                f"{loaded.folder or 'The model'} names no alignment_heads; word times are taken from all heads of the"
                " upper half of its layers, and may be less exact.",
                stacklevel=2,
            )
        if (n := getattr(search, "n_best", 1)) > 1:
            raise ArgumentError(
                f"search asks for {n} answers, but one of each window of a sound is told; leave out n_best."
            )
        self.model: Any = loaded.packed
        self.dtype = next(loaded.model.parameters()).dtype
        self.search = scored(search or self.signs.search)

    def __call__(
        self,
        sounds: Iterable[tuple[str, Tensor]],
        *,
        first: int = 1,
        progress: Callable[[int], None] | None = None,
        heard: Callable[[int], None] | None = None,
    ) -> list[Transcript]:
        """As many transcripts as sounds, names and samples [samples] at the model's rate, in their order.

        first: the number of the first sound; what is drawn is drawn by it. `progress` hears how many more are done,
        `heard` how many seconds more.
        """
        waiting = self.begun(sounds, first)
        open: list[Hearing] = []
        done: dict[int, Transcript] = {}
        frames = seconds = 0
        while True:
            open += islice(waiting, ROWS - len(open))
            if not open:
                return [done[number] for number in sorted(done)]
            for timed in (True, False):  # these begin differently
                if some := [each for each in open if each.timed is timed]:
                    frames += self.hear(some)
            ended = [each for each in open if each.at >= each.sound.frames]
            open = [each for each in open if each.at < each.sound.frames]
            done |= {each.number: self.told(each) for each in ended}
            if progress and ended:
                progress(len(ended))
            if heard:
                before, seconds = seconds, frames * self.sounds.hop_length // self.sounds.sampling_rate
                heard(seconds - before)

    def begun(self, sounds: Iterable[tuple[str, Tensor]], first: int) -> Iterator[Hearing]:
        """Each sound, taken when its turn comes; the model tells times of long ones even where nobody asks, for they
        say where to go on."""
        for number, (item, samples) in enumerate(sounds, first):
            sound = Excerpts(self.sounds, samples)
            wanted = self.times is not None or sound.frames > self.sounds.nb_max_frames
            timed = wanted and self.signs.no_times is not None
            yield Hearing(number, item, sound, timed, self.language, past=[*self.prompt])

    @torch.inference_mode()
    def hear(self, some: Sequence[Hearing]) -> int:
        """The next window of each of some sounds, all with times or all without; how many frames of them are done."""
        reached = sum(each.at for each in some)
        pictures = torch.stack([each.sound.picture(each.at) for each in some])  # [B, bands, frames]
        memory = self.model.encode(pictures.to(self.device, self.dtype))  # [B, S, D]
        step = DecoderStep(self.model, memory=memory)
        likely = step(torch.full((len(some), 1), self.signs.start, device=self.device)).double().softmax(-1)  # [B, V]
        silences = [0.0] * len(some) if self.signs.silence is None else likely[:, self.signs.silence].tolist()
        self.recognise(some, likely)
        prompts, real = self.prompts(some)
        before = prompts.shape[1]
        if int(prompts[0, 0]) != self.signs.start or real is not None:  # than what was asked for the language
            step = DecoderStep(self.model, real, memory=memory)
        answers = said(
            step, prompts, real=real, search=self.search, doubt=self.doubt,
            spelled=self.spelled, silences=silences,
            room=min(self.signs.longest, self.config.max_len - before),
            rules=self.signs.rules(before, times=some[0].timed), end=self.signs.end,
            numbers=[(each.number << 32) + each.at for each in some],
        )  # fmt: skip
        for row, (each, answer) in enumerate(zip(some, answers, strict=True)):
            self.note(each, answer, silences[row], memory[row : row + 1])
        return sum(min(each.at, each.sound.frames) for each in some) - reached

    def prompts(self, some: Sequence[Hearing]) -> tuple[Tensor, Tensor | None]:
        """What each window is begun with, [B, t], padded on the left; and which of it is real, None where all is."""
        rows: list[list[int]] = []
        for each in some:
            past = [] if self.signs.before is None or not each.past else [self.signs.before, *each.past[-self.room :]]
            rows.append([*past, *self.signs.prompt(each.language, self.task, times=each.timed)])
        width = max(map(len, rows))
        prompts = torch.tensor([[self.signs.end] * (width - len(row)) + row for row in rows], device=self.device)
        places = torch.arange(width, device=self.device)
        real = places >= width - torch.tensor([[len(row)] for row in rows], device=self.device)
        return prompts, None if bool(real.all()) else real

    def past_of(self, prompt: str | None) -> list[int]:
        """The tokens of words that stand before every sound."""
        if prompt is None or not prompt.strip():
            return []
        if self.signs.before is None:
            raise ArgumentError("The model cannot be told what was said before; leave prompt out.")
        tokens = self.words(self.tokenizer.encode(" " + prompt.strip()))
        if len(tokens) > self.room:
            raise ArgumentError(f"prompt has {len(tokens)} tokens, but the model has room for {self.room}; shorten it.")
        return tokens

    def recognise(self, some: Sequence[Hearing], likely: Tensor) -> None:
        """The language of each sound that has none yet: the likeliest after the start sign, likely [B, V]."""
        codes = list(self.signs.languages)
        for each, row in zip(some, likely, strict=True):
            if each.language is None and codes:
                shares = row[list(self.signs.languages.values())]
                best = int(shares.argmax())
                each.language, each.probability = codes[best], float(shares[best] / shares.sum())

    def note(self, each: Hearing, answer: Answer, silence: float, memory: Tensor) -> None:
        """Add to a sound what was said of its window, memory [1, S, D], and move on to the next."""
        frames = min(each.sound.frames - each.at, self.sounds.nb_max_frames)
        steps = frames * self.config.n_frames / self.sounds.nb_max_frames
        first, last = self.seconds(each, 0), self.seconds(each, steps)
        go_on: int | None = None
        if self.doubt is not None and self.doubt.silent(answer, silence):
            each.left_out.append((first, last))
        else:
            parts = [Part(answer.tokens, 0.0, steps)]
            if each.timed:
                parts, go_on = parts_of(answer.tokens, first_time=self.signs.first_time, steps=steps)
            if not answer.finished and go_on is None:
                each.cut.append((first, last))
            words = self.word_times(each, parts, memory, max(1, round(steps)))
            for part, some in zip(parts, words, strict=True):
                text = self.spelled(part.tokens)
                each.text += text
                if text.strip():
                    start, end = self.seconds(each, part.start), self.seconds(each, part.end)
                    more = tuple(part.tokens), tuple(some), answer.sure, answer.temperature
                    each.segments.append(Segment(start, end, text.strip(), *more))
            if self.carry:  # but nothing that was drawn at random (Radford et al. 2022, section 4.5)
                each.past += [token for part in parts for token in part.tokens]
                each.past = [] if answer.temperature >= CARRIED else each.past[-self.room :]
        each.at += frames if go_on is None else go_on * self.sounds.nb_max_frames // self.config.n_frames

    def word_times(self, each: Hearing, parts: Sequence[Part], memory: Tensor, places: int) -> list[list[Word]]:
        """The words of each part of a window, with their times."""
        if self.times != "words":
            return [[] for _ in parts]
        assert self.heads is not None
        texts = [self.words(part.tokens) for part in parts]
        heard = listen(
            self.model, memory, self.signs.prompt(each.language, self.task, times=False),
            [token for text in texts for token in text],
            heads=self.heads, places=places, width=self.signs.width,
        )  # fmt: skip
        spaced = self.task == "translate" or each.language not in SPACELESS
        words = [words_of(self.tokenizer, text, spaced=spaced) for text in texts]
        times = [self.seconds(each, place) for place in heard.places]
        found = iter(told([word for some in words for word in some], times, heard.probabilities))
        return [[*islice(found, len(some))] for some in words]

    def seconds(self, each: Hearing, steps: float) -> float:
        """A place in the window, in seconds of the whole sound, at its end at most."""
        offset = each.at * self.sounds.hop_length / self.sounds.sampling_rate
        return min(round(offset + steps * self.step, 6), each.sound.seconds)

    def words(self, tokens: Sequence[int]) -> list[int]:
        """Tokens without times and other signs."""
        return [token for token in tokens if token < self.signs.first_time and token not in self.signs.marks]

    def spelled(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return self.tokenizer.decode(self.words(tokens))

    def told(self, each: Hearing) -> Transcript:
        return Transcript(
            each.item, " ".join(each.text.split()), each.language, each.probability, self.task, each.sound.seconds,
            tuple(each.segments), tuple(each.left_out), tuple(each.cut),
        )  # fmt: skip


def fitting(loaded: Loaded) -> Sounds:
    """How sounds are drawn, where that is how the model reads them."""
    sounds, config = loaded.sounds, loaded.config
    assert sounds is not None
    if (sounds.feature_size, sounds.nb_max_frames) != (config.bands, 2 * config.n_frames):
        raise ConfigError(
            f"{loaded.folder or 'The folder'} draws pictures of {sounds.feature_size} bands and "
            f"{sounds.nb_max_frames:,} frames, but its model reads {config.bands} and {2 * config.n_frames:,}; "
            "fetch preprocessor_config.json anew."
        )
    return sounds
