"""A text, an image or a sound goes in; a pass of a loaded model over it comes out, with rulers on its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyhead.errors import DataError
from polyhead.inputs.excerpts import Excerpts
from polyhead.inputs.image import Images, open_image
from polyhead.inputs.pair import spelled
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.axes import START
from polyhead.lens.passes import Pass
from polyhead.lens.rulers import Frames, Patches, Words, heard, png, seen_mel
from polyhead.tasks.asking import Asking, asking, tasks_of
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import Loaded
from polyhead.tasks.text_to_text import start_of
from polyhead.tasks.transcribe import taken
from polyhead.tasks.translator import Translator


def read_text(loaded: Loaded, text: str) -> Pass:
    """A model that only reads: an encoder, or a decoder over a text that is there."""
    text = clean(text) if hasattr(loaded.model, "encode") else text
    reading = loaded.tokenizer.read(text)
    if not text.strip() or not reading.ids:
        raise DataError("There is nothing to see in an empty text; give a sentence.")
    fitting(reading.pieces, loaded.config.max_len)
    return text_of(loaded, text, reading.pieces, reading.kinds)


def text_of(loaded: Loaded, text: str, pieces: Sequence[Piece], kinds: Sequence[int] | None = None) -> Pass:
    """A text, or a part of it, whose pieces are known."""
    encodes = hasattr(loaded.model, "encode")
    part, ids = "encoder" if encodes else "decoder", ids_of(pieces)
    return Pass(
        loaded, (row(loaded, ids),), {part: Words.of(text, pieces)}, {part: ids},
        kinds=row(loaded, kinds) if encodes and kinds is not None else None, source=text,
    )  # fmt: skip


def answer_text(
    loaded: Loaded, text: str, *, answer: str | None = None, beam: int | None = None, prefix: str | None = None,
    translator: Translator | None = None,
) -> Pass:  # fmt: skip
    """A model that reads one text and writes another, or reads the answer that is given as if it wrote it.

    The model reads the very tokens that the search found, as it did when it chose them. translator: what `answering`
    gave, where many texts are answered alike.
    """
    text, answer = clean(text), None if answer is None else clean(answer)
    if not text or answer == "":
        raise DataError("There is nothing to see in an empty text; give a sentence.")
    translator = translator or answering(loaded, beam=beam, prefix=prefix)
    source, longest, sides = translator.asking.of(text), loaded.config.max_len, loaded.tokenizer
    source_pieces = fitting(sides.source.pieces(source), longest)
    if answer is None:
        [[found, *_]] = translator.batch([ids_of(source_pieces)])
        end = [loaded.config.eos_id] if found.finished else []
        answer, pieces = spelled(sides.target, found.tokens + end)
    else:
        pieces = fitting(sides.target.pieces(answer), longest)
    return pair_of(loaded, source, source_pieces, answer, pieces)


def answering(loaded: Loaded, *, beam: int | None = None, prefix: str | None = None) -> Translator:
    """What answers texts, asked as the folder wants it or by the prefix."""
    said = asked(loaded, prefix)
    return Translator(loaded, search=chosen_search(loaded, None, beam, task=said.settings), said=said)


def pair_of(loaded: Loaded, source: str, source_pieces: Sequence[Piece], answer: str, pieces: Sequence[Piece]) -> Pass:
    """A text and its answer, whose pieces are known."""
    ids, chosen = ids_of(source_pieces), ids_of(pieces)
    read = (start_of(loaded), *chosen[:-1])  # before each choice of the decoder
    words = Words.of(answer, pieces)
    return Pass(
        loaded, (row(loaded, ids), row(loaded, read)),
        {"encoder": Words.of(source, source_pieces), "decoder": after(START, words), "chosen": words},
        {"encoder": ids, "decoder": read, "chosen": chosen}, source=source, target=answer,
    )  # fmt: skip


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


def fitting(pieces: Sequence[Piece], longest: int | None) -> Sequence[Piece]:
    if longest is not None and len(pieces) > longest:
        raise DataError(f"The text has {len(pieces)} tokens, but the model reads at most {longest}.")
    return pieces


def read_image(loaded: Loaded, image: Any, *, media: bool = True) -> Pass:
    """A model of images, over one: a file, a PIL image or an array. media: whether the ruler shows it."""
    model: Any = loaded.model
    assert loaded.images is not None
    (height, width), (tall, wide) = loaded.config.image_size, loaded.config.patch_size
    signs = {"[CLS]": model.embed.first, "[DISTILLED]": model.embed.second}
    before = tuple(sign for sign, vector in signs.items() if vector is not None)
    pixels = loaded.images.pixels(image).to(loaded.device)
    picture, size = png(framed(loaded.images, image)) if media else (b"", (0, 0))
    ruler = Patches(height // tall, width // wide, before, picture, size)
    return Pass(loaded, (pixels,), {"encoder": ruler}, source=named(image, "image"))


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


def read_sound(
    loaded: Loaded, sound: Any, *, rate: int | None = None, language: str | None = None,
    hear: Transcriber | None = None, media: bool = True,
) -> Pass:  # fmt: skip
    """A model of speech, over as much of a sound as it hears at once: it writes down what is said, and then reads the
    very tokens that it wrote. hear: a transcriber that was made before. media: whether the ruler can be listened to."""
    hear = hear or Transcriber(loaded, language=language)
    sounds = hear.sounds
    name, samples = taken(sound, sounds, rate, 1)
    seconds, samples = len(samples) / sounds.sampling_rate, samples[: sounds.n_samples]
    found = hear([(name, samples)])[0]
    tokens = [token for segment in found.segments for token in hear.words(segment.tokens)]
    signs = hear.signs.prompt(found.language, hear.task, times=False)
    picture = Excerpts(sounds, samples).picture(0)  # [bands, frames]
    text, pieces = spelled(hear.tokenizer, tokens)
    ahead = [Piece(id, hear.tokenizer.token(id), 0, 0) for id in signs]
    end = Piece(hear.signs.end, hear.tokenizer.token(hear.signs.end), len(text), len(text))
    read, chosen = [*ahead, *pieces], [*ahead[1:], *pieces, end]
    frames = Frames(hear.step, loaded.config.n_frames, len(samples) / sounds.sampling_rate)
    if media:
        frames = replace(frames, sound=heard(samples, sounds.sampling_rate), mel=seen_mel(picture))
    return Pass(
        loaded, (picture[None].to(loaded.device, hear.dtype), row(loaded, ids_of(read))),
        {"encoder": frames, "decoder": Words.of(text, read), "chosen": Words.of(text, chosen)},
        {"decoder": ids_of(read), "chosen": ids_of(chosen)},
        first=len(signs) - 1, source=named(sound, "sound"), target=text.strip(),
        notes=tuple(told(seconds, float(sounds.chunk_length), tokens)),
    )  # fmt: skip


def told(seconds: float, most: float, tokens: Sequence[int]) -> list[str]:
    notes = [f"The sound lasts {seconds:,.1f} seconds; the first {most:.0f} are shown."] if seconds > most else []
    return notes if tokens else [*notes, "No words were heard."]


def ids_of(pieces: Sequence[Piece]) -> tuple[int, ...]:
    return tuple(piece.id for piece in pieces)


def row(loaded: Loaded, ids: Sequence[int]) -> Tensor:
    """[1, T], where the model is."""
    return torch.tensor([[*ids]], device=loaded.device)


def named(given: Any, otherwise: str) -> str:
    """What an image or a sound is called: its file's name, and not where that lies."""
    return Path(given).name if isinstance(given, str | Path) else otherwise
