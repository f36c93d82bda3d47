"""What a loaded model is shown: texts, images or sounds, and random tokens repeated, each as a run with its axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.lens.recording import Call
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.sentences import OURS
from polyhead.tasks.asking import Asking
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.embed import gathering
from polyhead.tasks.load import Loaded
from polyhead.tasks.translator import Translator
from polyhead.tasks.windows import windows_of

Part = Literal["encoder", "decoder", "cross"]
BLOCK, COPIES, BLOCKS = 25, 4, 4  # tokens, how often they stand there, and how many such inputs (Olsson et al. 2022)
MASKED = 0.15  # of the words are hidden where a model guesses hidden words (Devlin et al. 2019)
Loss = Callable[[Tensor], Tensor]  # answers to several copies of an input [n, ...] -> the loss of each [n]


@dataclass(frozen=True, eq=False)
class Trial:
    """One input of a model.

    axes    of the maps of each part: (what looks, what is looked at).
    spoken  whether it is a real input; else random tokens, repeated.
    run     the model reads it.
    answer  what the model says of so many copies of it, [n, ...], and `loss` how wrong that is [n]; without a loss it
            is a vector [n, D].
    words   (source, target) as lists of token places of each word, where they were given with spaces between.
    """

    axes: Mapping[Part, tuple[Axis, Axis]]
    spoken: bool
    run: Callable[[], object]
    answer: Callable[[int], Tensor]
    loss: Loss | None
    words: tuple[list[list[int]], list[list[int]]] | None = None


def part_of(call: Call) -> Part:
    if call.kind == "cross":
        return "cross"
    return "decoder" if call.name.startswith("decoder.") else "encoder"


def trials(
    loaded: Loaded, inputs: Sequence[Any] | None, language: str | None
) -> tuple[Iterator[Trial], int, list[str]]:
    """The inputs of a loaded model one by one, how many they are, and what is to be said about them.

    inputs: texts, image files or sound files, as the model reads; None: sentences of our own, in the language ("en" or
    "zh") that is given, or that the model spells in fewer tokens. Raises ArgumentError and DataError.
    """
    reads = loaded.family.reads
    if language is not None and language not in OURS:
        raise ArgumentError(f"language must be en or zh, that of the sentences polyhead brings; found {language!r}")
    if inputs is None and reads in ("image", "sound"):
        raise ArgumentError(
            f"{loaded.folder or 'The model'} reads {reads}s, and polyhead brings none; give {reads} files, or a folder"
        )
    notes: list[str] = []
    given: Sequence[Any] = () if inputs is None else inputs
    if inputs is None:
        language = language or shorter(loaded)
        given = OURS[language]
        said = {"en": "English", "zh": "Chinese"}[language]
        notes.append(f"inputs: {len(given)} {said} sentences that polyhead brings")
    if not len(given):
        raise DataError("There is nothing to read; give at least one input.")
    match reads:
        case "text":
            made, n = texts(loaded, given)
        case "pair":
            made, n = pairs(loaded, given)
        case "image":
            made, n = (image(loaded, each) for each in given), len(given)
        case "sound":
            made, n = (each for item in given for each in sound(loaded, item)), len(given)
    repeated = blocks(loaded)
    if reads in ("text", "pair"):
        asked = "duplicate, induction, prefix, copying"
        told = f"{len(repeated)} inputs of {repeated[0][1]} random tokens, {COPIES} times each" if repeated else "none"
        notes.append(f"{asked}: {told}{'' if repeated else ', the model reads too few tokens to repeat some'}")

    def all_of() -> Iterator[Trial]:
        yield from made
        yield from (make() for make, _ in repeated)

    return all_of(), n + len(repeated), notes


# --- texts ------------------------------------------------------------------------------------------------------------


def texts(loaded: Loaded, inputs: Sequence[str]) -> tuple[Iterator[Trial], int]:
    """A text each; one longer than the model reads becomes several."""
    most, tokenizer = loaded.config.max_len, loaded.tokenizer
    readings = [tokenizer.read(clean(text)) for text in inputs]
    worded = [i for i, reading in enumerate(readings) if any(of is not None for of in reading.texts)]
    windows = [(readings[i], part) for i in worded for part in windows_of(readings[i], most, of=i)]
    if not windows:
        raise DataError("There is nothing to read in empty texts; give at least one with words.")

    def made() -> Iterator[Trial]:
        for number, (reading, part) in enumerate(windows):
            special = [n for n, place in enumerate(part.places) if reading.texts[place] is None]
            axis = axis_of(tokenizer, part.ids, special)
            yield text(loaded, part.ids, part.kinds, axis, spoken=True, seed=number)

    return made(), len(windows)


def axis_of(tokenizer: Any, ids: Sequence[int], special: Sequence[int], **more: Any) -> Axis:
    """The axis of some tokens; those that end a text are known by their role."""
    roles = tokenizer.roles if isinstance(tokenizer, Tokenizer) else {"eos": tokenizer.eos_id}
    ending = {roles[role] for role in ("eos", "sep") if role in roles}
    ends = frozenset(i for i in special if ids[i] in ending)
    return Axis.words([tokenizer.token(id) for id in ids], ids, special, ends=ends, **more)


def text(loaded: Loaded, ids: list[int], kinds: list[int], axis: Axis, *, spoken: bool, seed: int) -> Trial:
    """One text for an encoder or a decoder."""
    model: Any = loaded.model
    decodes = hasattr(model, "decode")
    read = torch.tensor([ids], device=loaded.device)
    more = {} if decodes else {"kinds": torch.tensor([kinds], device=loaded.device)}

    def scores(n: int, read: Tensor = read) -> Tensor:
        return model(read.expand(n, -1), **{name: x.expand(n, -1) for name, x in more.items()})

    answer, loss = aim(loaded, read, scores, axis, seed)
    part: Part = "decoder" if decodes else "encoder"
    return Trial(
        {part: (axis, axis)}, spoken, lambda: model.decode(read, fresh()) if decodes else scores(1), answer, loss
    )


def aim(
    loaded: Loaded, read: Tensor, scores: Callable[..., Tensor], axis: Axis, seed: int
) -> tuple[Callable[[int], Tensor], Loss | None]:
    """What heads are turned down for: the model's own loss on this text, or the text's vector where it has none."""
    does, model = loaded.family.does, loaded.model
    if does == "next word" and read.shape[1] > 1:
        return scores, lambda found: words_loss(found[:, :-1], read[0, 1:])
    if does == "hidden words" and isinstance(loaded.tokenizer, Tokenizer) and "mask" in loaded.tokenizer.roles:
        body = [i for i in range(axis.count) if i not in axis.special]
        chance = np.random.RandomState(seed)
        some = sorted(chance.permutation(body)[: max(1, round(MASKED * len(body)))].tolist())
        hidden = read.clone()
        hidden[0, some] = loaded.tokenizer.special("mask")
        return lambda n: scores(n, hidden)[:, some], lambda found: words_loss(found, read[0, some])
    if does in ("labels", "place labels"):
        return scores, own_choice(scores)
    return lambda n: vector(loaded, model, read.expand(n, -1)), None


def words_loss(scores: Tensor, words: Tensor) -> Tensor:
    """The mean cross-entropy [n] of scores [n, T, V] for words [T]."""
    each = F.cross_entropy(wide(scores).transpose(1, 2), words.expand(len(scores), -1), reduction="none")
    return each.mean(1)


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def own_choice(scores: Callable[[int], Tensor]) -> Loss:
    """The loss against what the model itself says when no head is touched, for want of the truth."""
    with torch.no_grad():
        chosen = scores(1).argmax(-1).flatten()

    def loss(found: Tensor) -> Tensor:
        found = found if found.dim() == 3 else found[:, None]
        return words_loss(found, chosen)

    return loss


def vector(loaded: Loaded, model: Any, x: Tensor) -> Tensor:
    """One vector of length 1 for each text or image [n, D], as `embed` gathers it."""
    found = wide(model.decode(x, fresh()) if hasattr(model, "decode") else model.encode(x))
    match gathering(loaded).pooling if loaded.family.reads == "text" else "first":
        case "mean":
            found = found.mean(1)
        case "max":
            found = found.amax(1)
        case _:
            found = found[:, 0]
    return F.normalize(found, dim=-1)


def fresh() -> Any:
    from polyhead.core import Run

    return Run()


# --- sources and targets ----------------------------------------------------------------------------------------------


def pairs(loaded: Loaded, inputs: Sequence[str]) -> tuple[Iterator[Trial], int]:
    """A source each, with the model's own answer; or a source and a target with a tab between."""
    sides, longest = loaded.tokenizer, loaded.config.max_len
    given = [line.split("\t") for line in inputs if line.strip()]
    if not given:
        raise DataError("There is nothing to read in empty texts; give at least one with words.")
    for number, line in enumerate(given, 1):
        if len(line) > 2:
            raise DataError(
                f"Input {number} has {len(line) - 1} tabs; give a source, or a source, a tab and its target."
            )
    translator: Translator | None = None

    def made() -> Iterator[Trial]:
        nonlocal translator
        for number, line in enumerate(given, 1):
            source = clean(line[0])
            pieces = sides.source.pieces(source)
            ids = [piece.id for piece in pieces]
            if len(ids) > longest:
                raise DataError(
                    f"Input {number} has {len(ids)} tokens, but the model reads at most {longest}; shorten it."
                )
            words = None
            if len(line) == 2:
                target = clean(line[1])
                said = sides.target.pieces(target)
                answer = [piece.id for piece in said][:longest]
                words = places(source, pieces), places(target, said)
            else:
                translator = translator or Translator(loaded, search=chosen_search(loaded, None, None), said=Asking())
                [[found, *_]] = translator.batch([ids])
                answer = [*found.tokens, *([loaded.config.eos_id] if found.finished else [])]
            special = [i for i, piece in enumerate(pieces) if piece.start == piece.end]
            yield pair(loaded, ids, special, answer, spoken=True, words=words)

    return made(), len(given)


def places(text: str, pieces: Sequence[Any]) -> list[list[int]]:
    """Which pieces each word, set apart by spaces, is made of."""
    found: list[list[int]] = []
    start = 0
    for word in text.split():
        start = text.index(word, start)
        end = start + len(word)
        found.append([i for i, piece in enumerate(pieces) if piece.start < end and piece.end > start])
        start = end
    return found


def pair(
    loaded: Loaded, source: list[int], special: list[int], target: list[int], *, spoken: bool, block: int | None = None,
    words: tuple[list[list[int]], list[list[int]]] | None = None,
) -> Trial:  # fmt: skip
    """A source and its target for an encoder-decoder; row i of the decoder chooses token i of the target."""
    model: Any = loaded.model
    config, sides = loaded.config, loaded.tokenizer
    read = [config.start_id, *target[:-1]]
    rows = axis_of(sides.target, read, [0], block=block)
    chooses = replace(rows, skipped=frozenset())
    columns = axis_of(sides.source, source, special, block=block)
    x, y, wanted = (torch.tensor([ids], device=loaded.device) for ids in (source, read, target))

    def answer(n: int) -> Tensor:
        return model(x.expand(n, -1), y.expand(n, -1))

    axes: dict[Part, tuple[Axis, Axis]] = {
        "encoder": (columns, columns), "decoder": (rows, rows), "cross": (chooses, columns),
    }  # fmt: skip
    return Trial(axes, spoken, lambda: answer(1), answer, lambda found: words_loss(found, wanted[0]), words)


# --- random tokens, repeated ------------------------------------------------------------------------------------------


def plain_ids(tokenizer: Any) -> list[int]:
    """Tokens that are neither signs nor bytes, of the middle half of the vocabulary: not common, not rare."""
    roles = {tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id} if not isinstance(tokenizer, Tokenizer) else set()
    signs = {tokenizer.named(name) for name in tokenizer.specials} if isinstance(tokenizer, Tokenizer) else set()
    usual = [
        id for id in range(tokenizer.size)
        if id not in roles | signs and not (token := tokenizer.token(id)).startswith("<0x") and token
    ]  # fmt: skip
    return usual[len(usual) // 4 : 3 * len(usual) // 4]


def blocks(loaded: Loaded) -> list[tuple[Callable[[], Trial], int]]:
    """Random tokens, repeated, as runs still to be made, and how many each block holds; none where there is no room."""
    reads = loaded.family.reads
    if reads not in ("text", "pair"):
        return []
    chance = np.random.RandomState(0)
    sides = (loaded.tokenizer,) if reads == "text" else (loaded.tokenizer.source, loaded.tokenizer.target)
    pools = [plain_ids(side) for side in sides]
    size = min(BLOCK, (loaded.config.max_len - 3) // COPIES, *(len(pool) for pool in pools))
    if size < 2:
        return []

    def make(drawn: Sequence[list[int]]) -> Trial:
        repeated = [ids * COPIES for ids in drawn]
        if reads == "pair":
            eos = loaded.config.eos_id
            source = [*repeated[0], eos]
            return pair(loaded, source, [len(source) - 1], [*repeated[1], eos], spoken=False, block=size)
        before, behind = frame(loaded.tokenizer)
        ids = [*before, *repeated[0], *behind]
        special = [*range(len(before)), *range(len(ids) - len(behind), len(ids))]
        axis = axis_of(loaded.tokenizer, ids, special, block=size)
        return text(loaded, ids, [0] * len(ids), axis, spoken=False, seed=0)

    found: list[tuple[Callable[[], Trial], int]] = []
    for _ in range(BLOCKS):
        drawn = [chance.permutation(pool)[:size].tolist() for pool in pools]
        if len(sides) == 2 and sides[0] is sides[1]:
            drawn[1] = drawn[0]  # one vocabulary: the target says the source again
        found.append((lambda drawn=drawn: make(drawn), size))
    return found


def frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The signs that stand before and behind a text; the sign of a beginning where there is one and none is set."""
    reading = tokenizer.read("a")
    body = [i for i, of in enumerate(reading.texts) if of is not None]
    before, behind = (reading.ids[: body[0]], reading.ids[body[-1] + 1 :]) if body else (reading.ids, [])
    if not before and "bos" in tokenizer.roles:
        before = [tokenizer.roles["bos"]]
    return before, behind


def shorter(loaded: Loaded) -> str:
    """The language of our sentences that the model spells in fewer tokens."""
    tokenizer = loaded.tokenizer if loaded.family.reads == "text" else loaded.tokenizer.source
    sizes = {name: sum(map(len, tokenizer.encode_batch(some))) for name, some in OURS.items()}
    return min(sizes, key=lambda name: sizes[name])


# --- images and sounds ------------------------------------------------------------------------------------------------


def image(loaded: Loaded, item: Any) -> Trial:
    """One image for an encoder of patches."""
    assert loaded.images is not None
    model, config = loaded.model, loaded.config
    pixels = loaded.images.pixels(item).to(loaded.device)
    rows, columns = (side // patch for side, patch in zip(config.image_size, config.patch_size, strict=True))
    axis = Axis.patches(rows, columns, before=model.embed.positions.shape[1] - rows * columns)  # pyright: ignore

    def scores(n: int) -> Tensor:
        return model(pixels.expand(n, -1, -1, -1))

    labelled = loaded.family.does == "labels"
    answer = scores if labelled else lambda n: vector(loaded, model, pixels.expand(n, -1, -1, -1))
    return Trial({"encoder": (axis, axis)}, True, lambda: scores(1), answer, own_choice(scores) if labelled else None)


def sound(loaded: Loaded, item: Any) -> Iterator[Trial]:
    """The first window of a sound, and what the model writes down of it; nothing where it hears nobody."""
    from polyhead.tasks.hearing.transcriber import Transcriber

    hear = Transcriber(loaded)
    model: Any = loaded.model
    samples = hear.sounds.read(item)[: hear.sounds.n_samples]
    [said] = hear([(str(item), samples)])
    tokens = [token for segment in said.segments for token in hear.words(segment.tokens)]
    if not tokens:
        return
    prompt = hear.signs.prompt(said.language, said.task, times=False)
    ids = [*prompt, *tokens, hear.signs.end][: loaded.config.max_len + 1]
    read, wanted = (torch.tensor([x], device=loaded.device) for x in (ids[:-1], ids[1:]))
    pictures = hear.sounds.pictures([samples]).to(loaded.device, next(model.parameters()).dtype)
    n_frames = loaded.config.n_frames
    heard = max(1, round(len(samples) / hear.sounds.n_samples * n_frames))
    frames = Axis(n_frames, skipped=frozenset(range(heard, n_frames)))
    rows = axis_of(loaded.tokenizer.target, ids[:-1], range(len(prompt)))
    chooses = replace(rows, skipped=frozenset(range(len(prompt) - 1)))

    def answer(n: int) -> Tensor:
        return model(pictures.expand(n, -1, -1), read.expand(n, -1))[:, len(prompt) - 1 :]

    axes: dict[Part, tuple[Axis, Axis]] = {
        "encoder": (frames, frames),
        "decoder": (rows, rows),
        "cross": (chooses, frames),
    }
    yield Trial(axes, True, lambda: answer(1), answer, lambda found: words_loss(found, wanted[0, len(prompt) - 1 :]))


# --- what is given ----------------------------------------------------------------------------------------------------

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
SOUNDS = (".wav", ".flac", ".ogg", ".mp3")


def files_in(path: Path, reads: str) -> list[Path]:
    """The images or sounds of a folder, or the one file. Raises DataError."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"There is no {path}; give a file, or a folder of {reads}s.")
    endings = PICTURES if reads == "image" else SOUNDS
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in endings)
    if not found:
        raise DataError(f"{path} holds no {reads}s ({', '.join(endings)}).")
    return found
