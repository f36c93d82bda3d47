"""A loaded model reads a text, an image or a sound while it is watched: a recording leaves, with rulers on its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyhead.core import Run
from polyhead.errors import DataError
from polyhead.inputs.excerpts import Excerpts
from polyhead.inputs.image import Images, open_image
from polyhead.inputs.pair import spelled
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.axes import START
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Frames, Patches, Words, heard, png, seen_mel
from polyhead.lens.watch import watch
from polyhead.tasks.asking import Asking, asking, tasks_of
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import Loaded
from polyhead.tasks.transcribe import taken
from polyhead.tasks.translator import Translator


@dataclass(frozen=True)
class Looked:
    """What was recorded of a run. source: what was read, in words; target: what was written, None where nothing is;
    notes: what a person should know of it."""

    recording: Recording
    source: str
    target: str | None = None
    notes: tuple[str, ...] = ()


def read_text(loaded: Loaded, text: str) -> Looked:
    """A model that only reads: an encoder, or a decoder over a text that is there."""
    model: Any = loaded.model
    encodes = hasattr(model, "encode")
    text = clean(text) if encodes else text
    reading = loaded.tokenizer.read(text)
    if not text.strip() or not reading.ids:
        raise DataError("There is nothing to see in an empty text; give a sentence.")
    fitting(reading.pieces, loaded.config.max_len)
    ids, kinds = (torch.tensor([x], device=loaded.device) for x in (reading.ids, reading.kinds))  # [1, T]
    with watch(model) as recording, torch.inference_mode():
        model.encode(ids, Run(), kinds=kinds) if encodes else model.decode(ids, Run())
    recording.rulers = {"encoder" if encodes else "decoder": Words.of(text, reading.pieces)}
    return Looked(recording, text)


def answer_text(
    loaded: Loaded, text: str, *, answer: str | None = None, beam: int | None = None, prefix: str | None = None
) -> Looked:
    """A model that reads one text and writes another, or reads the answer that is given as if it wrote it.

    The model reads the very tokens that the search found, as it did when it chose them.
    """
    text, answer = clean(text), None if answer is None else clean(answer)
    if not text or answer == "":
        raise DataError("There is nothing to see in an empty text; give a sentence.")
    said = asked(loaded, prefix)
    source, longest, sides = said.of(text), loaded.config.max_len, loaded.tokenizer
    source_pieces = fitting(sides.source.pieces(source), longest)
    source_ids = [piece.id for piece in source_pieces]
    translator = Translator(loaded, search=chosen_search(loaded, None, beam, task=said.settings), said=said)
    if answer is None:
        [[found, *_]] = translator.batch([source_ids])
        end = [loaded.config.eos_id] if found.finished else []
        answer, pieces = spelled(sides.target, found.tokens + end)
    else:
        pieces = fitting(sides.target.pieces(answer), longest)
    read = [translator.start_id, *(piece.id for piece in pieces[:-1])]  # before each choice of the decoder
    with watch(loaded.model) as recording, torch.inference_mode():
        loaded.model(*(torch.tensor([ids], device=loaded.device) for ids in (source_ids, read)))  # [1, S], [1, T]
    chosen = Words.of(answer, pieces)
    recording.rulers = {"encoder": Words.of(source, source_pieces), "decoder": after(START, chosen), "chosen": chosen}
    return Looked(recording, source, answer)


def asked(loaded: Loaded, prefix: str | None) -> Asking:
    """What is said to a model that is asked in words: what was given, or the one thing that its folder knows; where it
    knows several, or none, the text stands as it is."""
    if prefix is not None:
        return asking(loaded, "", prefix=prefix)
    known = [*(tasks_of(loaded) or loaded.family.taught(loaded.config))]
    return asking(loaded, known[0]) if len(known) == 1 else Asking()


def after(first: str, words: Words) -> Words:
    """What a decoder had read when it chose each word: a sign, then the words before."""
    signs = (0, *(place + 1 for place in words.signs if place < words.count - 1))
    return Words((first, *words.labels[:-1]), words.text, ((0, 0), *words.places[:-1]), signs)


def fitting(pieces: list[Piece], longest: int | None) -> list[Piece]:
    if longest is not None and len(pieces) > longest:
        raise DataError(f"The text has {len(pieces)} tokens, but the model reads at most {longest}.")
    return pieces


def read_image(loaded: Loaded, image: Any) -> Looked:
    """A model of images, over one: a file, a PIL image or an array."""
    model: Any = loaded.model
    assert loaded.images is not None
    with watch(model) as recording, torch.inference_mode():
        model.encode(loaded.images.pixels(image).to(loaded.device))
    (height, width), (tall, wide) = loaded.config.image_size, loaded.config.patch_size
    before = ("[CLS]",) if model.embed.second is None else ("[CLS]", "[DISTILLED]")
    picture, size = png(framed(loaded.images, image))
    recording.rulers = {"encoder": Patches(height // tall, width // wide, before, picture, size)}
    return Looked(recording, Path(image).name if isinstance(image, str | Path) else "image")


def framed(images: Images, image: Any) -> Any:
    """The part of an image that the model is shown, with all the pixels that there are of it."""
    opened = open_image(image, channels=images.channels, on_white=images.do_convert_rgb, most_pixels=images.most_pixels)
    if not images.do_center_crop or images.crop_size is None:
        return opened
    fits = images.size.fit(opened.height, opened.width) if images.do_resize else (opened.height, opened.width)
    inside = [most / n for most, n in zip((images.crop_size.height, images.crop_size.width), fits, strict=True)]
    if max(inside) > 1:  # it reaches beyond the image
        return images.picture(image)
    (top, tall), (left, wide) = (
        ((1 - share) / 2 * n, share * n) for share, n in zip(inside, (opened.height, opened.width), strict=True)
    )
    return opened.crop((round(left), round(top), round(left + wide), round(top + tall)))


def read_sound(loaded: Loaded, sound: Any, *, rate: int | None = None, language: str | None = None) -> Looked:
    """A model of speech, over as much of a sound as it hears at once: it writes down what is said, and is then watched
    while it reads the very tokens that it wrote."""
    hear = Transcriber(loaded, language=language)
    sounds, model, config = hear.sounds, loaded.model, loaded.config
    name, samples = taken(sound, sounds, rate, 1)
    seconds, samples = len(samples) / sounds.sampling_rate, samples[: sounds.n_samples]
    found = hear([(name, samples)])[0]
    tokens = [token for segment in found.segments for token in hear.words(segment.tokens)]
    signs = hear.signs.prompt(found.language, hear.task, times=False)
    picture = Excerpts(sounds, samples).picture(0)  # [bands, frames]
    written: Any = model
    with watch(model) as recording, torch.inference_mode():
        memory = written.encode(picture[None].to(loaded.device, hear.dtype))  # [1, S, D]
        written.decode(torch.tensor([[*signs, *tokens]], device=loaded.device), Run(memory=memory))
    text, pieces = spelled(hear.tokenizer, tokens)
    ahead = [Piece(id, hear.tokenizer.token(id), 0, 0) for id in signs]
    end = Piece(hear.signs.end, hear.tokenizer.token(hear.signs.end), len(text), len(text))
    recording.rulers = {
        "encoder": Frames(
            hear.step, config.n_frames, len(samples) / sounds.sampling_rate, heard(samples, sounds.sampling_rate),
            seen_mel(picture),
        ),
        "decoder": Words.of(text, [*ahead, *pieces]),
        "chosen": Words.of(text, [*ahead[1:], *pieces, end]),
    }  # fmt: skip
    shown = Path(name).name if isinstance(sound, str | Path) else "sound"
    return Looked(recording, shown, text.strip(), tuple(told(seconds, float(sounds.chunk_length), tokens)))


def told(seconds: float, most: float, tokens: Sequence[int]) -> list[str]:
    notes = [f"The sound lasts {seconds:,.1f} seconds; the first {most:.0f} are shown."] if seconds > most else []
    return notes if tokens else [*notes, "No words were heard."]
