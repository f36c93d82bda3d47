"""A model, and texts, images or sounds to give it, become the job that all engines do; random models are made here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polyhead.benchmark.job import Job
from polyhead.errors import ArgumentError, DataError
from polyhead.families import Family, family
from polyhead.families.count import changed
from polyhead.families.sizes import SIZES, USUAL
from polyhead.generation import Beam, sorted_batches
from polyhead.inputs.everyday import ENGLISH, OURS
from polyhead.inputs.listing import files_in
from polyhead.inputs.pair import Pair
from polyhead.inputs.readers import read_lines
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks import decoder, text_to_text, windows
from polyhead.tasks.asking import Asking, asking, tasks_of
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import Loaded, load, save

MOST = 64  # texts, images or sounds that are taken of what is given
NEUTRAL: dict[str, tuple[Any, ...]] = {  # rules of tokens, and the values that ask for nothing
    "no_repeat_ngram_size": (None, 0), "encoder_no_repeat_ngram_size": (None, 0), "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0), "forced_bos_token_id": (None,), "min_length": (None, 0),
    "min_new_tokens": (None, 0), "suppress_tokens": (None, []), "begin_suppress_tokens": (None, []),
    "sequence_bias": (None, []), "exponential_decay_length_penalty": (None,),
}  # fmt: skip
OF_A_BEAM: dict[str, tuple[Any, ...]] = {"length_penalty": (None, 1.0), "early_stopping": (None, False)}
PROMPTS, NEW = 8, 32  # texts that a decoder goes on with, and by how many tokens
QUICK = 4  # of anything, in a smoke run
MADE_UP = 16  # images
IMAGES, SOUNDS = 8, 4  # in a batch


def plan(model: str, scratch: str, data: str | None, beam: int | None, quick: bool) -> dict[str, Any]:
    """The job of a model folder, a shipped model, or hf:owner/name that is here already."""
    loaded = load(model)
    most = QUICK if quick else MOST
    kind = loaded.family
    if kind.reads == "image":
        job = looks(loaded, data, most, scratch)
    elif kind.reads == "sound":
        job = hears(loaded, data, most, scratch)
    elif kind.reads == "pair":
        job = translates(loaded, texts(loaded, data, most), beam)
    elif kind.does == "next word":
        job = completes(loaded, texts(loaded, data, min(most, PROMPTS)), 4 if quick else NEW)
    elif kind.reads == "text" and hasattr(loaded.model, "encode"):
        job = reads(loaded, texts(loaded, data, most))
    else:
        raise ArgumentError(f"bench has no work for a {kind.architecture}, which gives {kind.does}")
    if beam is not None and job.kind != "translate":
        raise ArgumentError(f"--beam is of models that translate; a {kind.architecture} does not.")
    return asdict(replace(job, model=model))


def translates(loaded: Loaded, lines: Sequence[str], beam: int | None) -> Job:
    said = asked(loaded)
    rows = loaded.tokenizer.source.encode_batch([said.of(clean(line)) for line in lines])
    rows = [row for row in rows if len(row) <= loaded.config.max_len]
    if not rows:
        raise DataError(
            f"None of the {len(lines)} texts can be read: the model reads {loaded.config.max_len} tokens at once, and"
            " all are longer; give shorter ones with --data"
        )
    search = chosen_search(loaded, None, beam, task=said.settings)
    c, says = loaded.config, loaded.generation
    start = c.start_id if c.start_id is not None else says.get("decoder_start_token_id", c.pad_id)
    batches = text_to_text.batches_of([len(row) for row in rows], search)
    return Job(
        "", folder_of(loaded), "translate", rows, batches, "tokens written",
        beams=search.width if isinstance(search, Beam) else 1, most=c.max_len - 1, pad=c.pad_id, start=start,
        end=[c.eos_id], never=[row[0] for row in says.get("bad_words_ids") or [] if len(row) == 1],
        rules=rules_of(says, searches=isinstance(search, Beam) and search.width > 1),
    )  # fmt: skip


def rules_of(says: dict[str, Any], *, searches: bool) -> list[str]:
    """What generation_config.json asks for of a translation, beyond words that are never said. searches: by a beam."""
    asks = [name for name, none in NEUTRAL.items() if says.get(name, none[0]) not in none]
    asks += [name for name, none in OF_A_BEAM.items() if searches and says.get(name, none[0]) not in none]
    return [*asks, *(["bad_words_ids"] if any(len(row) > 1 for row in says.get("bad_words_ids") or []) else [])]


def asked(loaded: Loaded) -> Asking:
    """How the model is asked to translate; of several things that it knows, the first."""
    known = tasks_of(loaded) or loaded.family.taught(loaded.config)
    first = next((name for name in known if name.startswith("translation")), None)
    return asking(loaded, "translation", task=first)


def completes(loaded: Loaded, lines: Sequence[str], new: int) -> Job:
    made = decoder.Decoder(loaded, "bench", max_new=new)
    new = min(new, made.places // 2)
    rows = [row[: made.places - new] for row in map(loaded.tokenizer.encode, lines) if row]
    if not rows:
        raise DataError(f"None of the {len(lines)} texts has a token that the model knows; give others with --data")
    pad = loaded.tokenizer.roles.get("pad", made.ends[0] if made.ends else 0)
    batches = sorted_batches([len(row) for row in rows], budget=decoder.BATCH_TOKENS, rows=decoder.ROWS)
    end = list(made.ends)
    return Job("", folder_of(loaded), "complete", rows, batches, "tokens written", new=new, pad=pad, end=end)


def reads(loaded: Loaded, lines: Sequence[str]) -> Job:
    readings = [loaded.tokenizer.read(clean(line)) for line in lines]
    rows = [windows.windows_of(each, loaded.config.max_len)[0].ids for each in readings]
    kind = "classify" if loaded.family.does == "labels" else "embed"
    return read_rows(folder_of(loaded), kind, rows, loaded.tokenizer.pad_id)


def read_rows(folder: str, kind: Any, rows: list[list[int]], pad: int) -> Job:
    batches = sorted_batches([len(row) for row in rows], budget=windows.BATCH_TOKENS, rows=windows.ROWS)
    return Job("", folder, kind, rows, batches, "tokens read", sum(map(len, rows)), pad=pad)


def looks(loaded: Loaded, data: str | None, most: int, scratch: str) -> Job:
    assert loaded.images is not None
    if loaded.family.does != "image labels":
        raise ArgumentError(f"bench has no work for a {loaded.family.architecture}, which gives {loaded.family.does}")
    if data is None:
        draw = np.random.default_rng(0)
        sides = (*loaded.config.image_size, 3)
        some: Sequence[Any] = [draw.integers(0, 256, sides, dtype=np.uint8) for _ in range(min(most, MADE_UP))]
    else:
        some = among(files_in(Path(data), "image"), most)
    pixels = loaded.images.pixels(*some).numpy()
    batches = [list(range(len(some)))[n : n + IMAGES] for n in range(0, len(some), IMAGES)]
    at = kept(scratch, pixels)
    return Job("", folder_of(loaded), "look", [], batches, "images", len(some), arrays=at)


def hears(loaded: Loaded, data: str | None, most: int, scratch: str) -> Job:
    """The first window of each sound, in the language that is heard in the first one."""
    if data is None:
        raise ArgumentError("A model of speech needs something to hear; give --data, a sound or a folder of sounds")
    assert loaded.sounds is not None
    some = [loaded.sounds.read(file) for file in among(files_in(Path(data), "sound"), most)]
    room = loaded.sounds.chunk_length * loaded.sounds.sampling_rate
    some = [samples[:room] for samples in some]
    heard = Transcriber(loaded, doubt=None)
    language = heard([("1", some[0])])[0].language
    prompt = heard.signs.prompt(language, heard.task, times=False)
    pictured = loaded.sounds.pictures(some).numpy()
    batches = [list(range(len(some)))[n : n + SOUNDS] for n in range(0, len(some), SOUNDS)]
    seconds = sum(len(samples) for samples in some) / loaded.sounds.sampling_rate
    return Job(
        "", folder_of(loaded), "hear", [prompt] * len(some), batches, "seconds of sound", seconds,
        new=min(heard.signs.longest, loaded.config.max_len - len(prompt)), pad=loaded.config.pad_id,
        end=[heard.signs.end], never=list(heard.signs.forbidden), never_first=list(heard.signs.forbidden_first),
        arrays=kept(scratch, pictured),
    )  # fmt: skip


def sizes(scratch: str, quick: bool) -> list[dict[str, Any]]:
    """The jobs of an encoder and a decoder of usual sizes: random weights, written where all engines find them."""
    jobs: list[dict[str, Any]] = []
    for size in USUAL:
        folder, name = Path(scratch) / size, f"{size} (random)"
        kind, config = made_up(size, folder)
        draw = random.Random(0)
        high = config.vocab_size
        if kind.does == "next word":
            rows = [[draw.randrange(high) for _ in range(16)] for _ in range(2 if quick else 4)]
            end = [config.eos_id] if config.eos_id is not None else []
            job = Job(name, str(folder), "complete", rows, [list(range(len(rows)))], "tokens written",
                      new=4 if quick else NEW, end=end)  # fmt: skip
        else:
            rows = [[draw.randrange(1, high) for _ in range(64)] for _ in range(2 if quick else 8)]
            job = replace(read_rows(str(folder), "embed", rows, config.pad_id), model=name)
        jobs.append(asdict(job))
    return jobs


def made_up(name: str, folder: Path) -> tuple[Family, Any]:
    """A published size with random weights, in a folder of its own."""
    size = SIZES[name]
    kind = family(size.architecture)
    torch.manual_seed(0)
    config = changed(kind.config(), size.settings)
    words = Tokenizer.train(list(ENGLISH), size=300)
    save(Loaded(kind.build(config).eval(), words, kind), folder)
    return kind, config


def texts(loaded: Loaded, data: str | None, most: int) -> Sequence[str]:
    """Lines from all over the file, or sentences of our own in the language that the model spells in fewer tokens."""
    if data is None:
        tokenizer = loaded.tokenizer.source if isinstance(loaded.tokenizer, Pair) else loaded.tokenizer
        return min(OURS.values(), key=lambda some: sum(map(len, tokenizer.encode_batch(some))))[:most]
    path = Path(data)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give a text file, a line for each text, with --data")
    return among([line for line in read_lines(path) if line.strip()], most, path)


def among(some: Sequence[Any], most: int, path: Path | None = None) -> Sequence[Any]:
    """At most so many, evenly spread."""
    if not some:
        raise DataError(f"{path} is empty; give a text file, a line for each text, with --data")
    count = min(most, len(some))
    return [some[i * len(some) // count] for i in range(count)]


def folder_of(loaded: Loaded) -> str:
    return str((loaded.folder or Path()).resolve())


def kept(scratch: str, array: Any) -> str:
    file = Path(scratch) / "arrays.npy"
    np.save(file, array, allow_pickle=False)
    return str(file)


VERBS = {"plan": plan, "sizes": sizes}
