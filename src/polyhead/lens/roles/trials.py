"""What heads are measured on: texts, images or sounds, and random tokens repeated, each as a pass with its axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.everyday import OURS
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Piece, Tokenizer
from polyhead.lens.looking import answer_text, answering, pair_of, read_image, read_sound, text_of
from polyhead.lens.passes import Pass, precise
from polyhead.lens.recording import Part
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.wording import Both, both
from polyhead.lens.rulers import Words
from polyhead.tasks.embed import gathering
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import Loaded
from polyhead.tasks.windows import windows_of

BLOCK, COPIES, BLOCKS = 25, 4, 4  # tokens, how often they stand there, and how many such inputs (Olsson et al. 2022)
MASKED = 0.15  # of the words are hidden where a model guesses hidden words (Devlin et al. 2019)
Loss = Callable[[Tensor], Tensor]  # answers to several copies of an input [n, ...] -> the loss of each [n]


@dataclass(frozen=True, eq=False)
class Trial:
    """One input of a model.

    one     the pass over it.
    axes    of the maps of each part: (what looks, what is looked at).
    spoken  whether it is a real input; else random tokens, repeated.
    answer  what the model says of so many copies of it, [n, ...], and `loss` how wrong that is [n]; without a loss it
            is a vector [n, D].
    words   (source, target) as lists of token places of each word, where they were given with spaces between.
    """

    one: Pass
    axes: Mapping[Part, tuple[Axis, Axis]]
    spoken: bool
    answer: Callable[[int], Tensor]
    loss: Loss | None
    words: tuple[list[list[int]], list[list[int]]] | None = None


def trials(
    loaded: Loaded, inputs: Sequence[Any] | None, language: str | None
) -> tuple[Iterator[Trial], int, list[Both]]:
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
    notes: list[Both] = []
    given: Sequence[Any] = () if inputs is None else inputs
    if inputs is None:
        language = language or shorter(loaded)
        given = OURS[language]
        notes.append(both(f"ours, {language}", n=len(given)))
    if not len(given):
        raise DataError("There is nothing to read; give at least one input.")
    match reads:
        case "text":
            made, n = texts(loaded, given)
        case "pair":
            made, n = pairs(loaded, given)
        case "image":
            made, n = (tried(read_image(loaded, each, media=False)) for each in given), len(given)
        case "sound":
            made, n = sounds(loaded, given), len(given)
        case "text or image":
            raise AssertionError("the tower that reads what is given is chosen before")
    repeated = blocks(loaded)
    if reads in ("text", "pair"):
        some = {"n": len(repeated), "size": repeated[0][1], "copies": COPIES} if repeated else {}
        notes.append(both("repeated" if repeated else "not repeated", **some))

    def all_of() -> Iterator[Trial]:
        yield from made
        yield from (make() for make, _ in repeated)

    return all_of(), n + len(repeated), notes


# --- real inputs ------------------------------------------------------------------------------------------------------


def texts(loaded: Loaded, inputs: Sequence[str]) -> tuple[Iterator[Trial], int]:
    """A text each; one longer than the model reads becomes several."""
    cleaned = [clean(text) for text in inputs]
    readings = [loaded.tokenizer.read(text) for text in cleaned]
    worded = [i for i, reading in enumerate(readings) if any(of is not None for of in reading.texts)]
    windows = [part for i in worded for part in windows_of(readings[i], loaded.config.max_len, of=i)]
    if not windows:
        raise DataError("There is nothing to read in empty texts; give at least one with words.")

    def made() -> Iterator[Trial]:
        for number, part in enumerate(windows):
            pieces = [readings[part.of].pieces[place] for place in part.places]
            yield tried(text_of(loaded, cleaned[part.of], pieces, part.kinds), seed=number)

    return made(), len(windows)


def pairs(loaded: Loaded, inputs: Sequence[str]) -> tuple[Iterator[Trial], int]:
    """A source each, with the model's own answer; or a source and a target with a tab between."""
    given = [line.split("\t") for line in inputs if line.strip()]
    if not given:
        raise DataError("There is nothing to read in empty texts; give at least one with words.")
    for number, line in enumerate(given, 1):
        if len(line) > 2:
            raise DataError(
                f"Input {number} has {len(line) - 1} tabs; give a source, or a source, a tab and its target."
            )

    def made() -> Iterator[Trial]:
        translator = answering(loaded)
        for number, (source, *target) in enumerate(given, 1):
            try:
                one = answer_text(loaded, source, answer=target[0] if target else None, translator=translator)
            except DataError as wrong:
                raise DataError(f"Input {number}: {wrong}") from None
            words = None
            if target:
                asked = len(translator.asking.before)
                ends = (asked, asked + len(clean(source))), (0, len(clean(target[0])))
                words = words_of(one, "encoder", *ends[0]), words_of(one, "chosen", *ends[1])
            yield tried(one, words=words)

    return made(), len(given)


def words_of(one: Pass, name: str, start: int, end: int) -> list[list[int]]:
    """Which tokens each word, set apart by spaces, between two characters of a ruler's text is made of."""
    ruler = one.rulers[name]
    assert isinstance(ruler, Words)
    found: list[list[int]] = []
    for word in ruler.text[start:end].split():
        start = ruler.text.index(word, start)
        stop = start + len(word)
        found.append([i for i, (a, b) in enumerate(ruler.places) if a < stop and b > start])
        start = stop
    return found


def sounds(loaded: Loaded, inputs: Sequence[Any]) -> Iterator[Trial]:
    """The first window of each sound, and what the model writes down of it; nothing where it hears nobody."""
    hear = Transcriber(loaded)
    for each in inputs:
        one = read_sound(loaded, each, hear=hear, media=False)
        if one.target:
            yield tried(one)


# --- random tokens, repeated ------------------------------------------------------------------------------------------


def plain_ids(tokenizer: Any) -> list[int]:
    """Tokens that are neither signs nor bytes, of the middle half of the vocabulary: not common, not rare."""
    signs = signs_of(tokenizer)
    usual = [
        id for id in range(tokenizer.size)
        if id not in signs and not (token := tokenizer.token(id)).startswith("<0x") and token
    ]  # fmt: skip
    return usual[len(usual) // 4 : 3 * len(usual) // 4]


def blocks(loaded: Loaded) -> list[tuple[Callable[[], Trial], int]]:
    """Random tokens, repeated, as trials still to be made, and how many each block holds; none where there is no
    room."""
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
        if reads == "pair":
            end = [loaded.config.eos_id]
            source, target = (spelled_out(side, [], ids * COPIES, end) for side, ids in zip(sides, drawn, strict=True))
            return tried(pair_of(loaded, *source, *target), block=size)
        before, behind = frame(loaded.tokenizer)
        text, pieces = spelled_out(loaded.tokenizer, before, drawn[0] * COPIES, behind)
        return tried(text_of(loaded, text, pieces, [0] * len(pieces)), block=size)

    found: list[tuple[Callable[[], Trial], int]] = []
    for _ in range(BLOCKS):
        drawn = [chance.permutation(pool)[:size].tolist() for pool in pools]
        if len(sides) == 2 and sides[0] is sides[1]:
            drawn[1] = drawn[0]  # one vocabulary: the target says the source again
        found.append((partial(make, drawn), size))
    return found


def spelled_out(
    tokenizer: Any, before: Sequence[int], ids: Sequence[int], behind: Sequence[int]
) -> tuple[str, list[Piece]]:
    """Tokens as a text of their names, between signs that stand for nothing in it."""
    text, pieces = "", [Piece(id, tokenizer.token(id), 0, 0) for id in before]
    for id in ids:
        name = tokenizer.token(id)
        pieces.append(Piece(id, name, len(text), len(text) + len(name)))
        text += name
    return text, [*pieces, *(Piece(id, tokenizer.token(id), len(text), len(text)) for id in behind)]


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


# --- a pass becomes a trial -------------------------------------------------------------------------------------------


def tried(
    one: Pass, *, block: int | None = None, seed: int = 0,
    words: tuple[list[list[int]], list[list[int]]] | None = None,
) -> Trial:  # fmt: skip
    """A pass with its axes and its aim. block: how many tokens are repeated in it, where they are random."""
    answer, loss = aim(one, seed)
    return Trial(one, axes_of(one, block), block is None, answer, loss, words)


def axes_of(one: Pass, block: int | None) -> dict[Part, tuple[Axis, Axis]]:
    """The axes of each part's maps. A row of cross-attention counts from the first that chose a word by itself."""
    found: dict[Part, tuple[Axis, Axis]] = {}
    for part in ("encoder", "decoder"):
        if part in one.rulers:
            axis = axis_of(one, part, block)
            found[part] = axis, axis
    if "encoder" in found and "decoder" in found:
        rows = replace(found["decoder"][0], skipped=frozenset(range(one.first)))
        found["cross"] = rows, found["encoder"][0]
    return found


def axis_of(one: Pass, part: Part, block: int | None) -> Axis:
    """One axis; of tokens, special are the signs that have a role, and those that a decoder is begun with."""
    ruler, sides = one.rulers[part], one.loaded.tokenizer
    if not isinstance(ruler, Words):
        return Axis.of(ruler)
    tokenizer = sides if one.loaded.family.reads == "text" else sides.source if part == "encoder" else sides.target
    ids, roles = one.ids[part], roles_of(tokenizer)
    begun = one.first + 1 if part == "decoder" and "chosen" in one.rulers else 0
    signs = signs_of(tokenizer) - {roles.get("unk")}
    special = [i for i in ruler.signs if i < begun or ids[i] in signs]
    ending = {roles[role] for role in ("eos", "sep") if role in roles}
    ends = frozenset(i for i in special if ids[i] in ending)
    return Axis.words(ruler.labels, ids, special, ends=ends, block=block)


def roles_of(tokenizer: Any) -> dict[str, int]:
    """The tokens that play a role, by its name."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.roles
    return {"pad": tokenizer.pad_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}


def signs_of(tokenizer: Any) -> set[int]:
    """Tokens that are signs, and no words or pieces of them."""
    named = [tokenizer.named(name) for name in tokenizer.specials] if isinstance(tokenizer, Tokenizer) else []
    return {*roles_of(tokenizer).values(), *named}


def aim(one: Pass, seed: int) -> tuple[Callable[[int], Tensor], Loss | None]:
    """What heads are turned down for: the model's own loss on this input, or the input's vector where it has none."""
    loaded = one.loaded
    does, tokenizer = loaded.family.does, loaded.tokenizer
    if "chosen" in one.ids:
        chosen = torch.tensor(one.ids["chosen"][one.first :], device=loaded.device)
        return lambda n: one.scores(n)[:, one.first :], lambda found: words_loss(found, chosen)
    read = one.given[0]
    if does == "next word" and read.shape[1] > 1:
        return one.scores, lambda found: words_loss(found[:, :-1], read[0, 1:])
    if does == "hidden words" and isinstance(tokenizer, Tokenizer) and "mask" in tokenizer.roles:
        axis = axis_of(one, "encoder", None)
        body = [i for i in range(axis.count) if i not in axis.special]
        chance = np.random.RandomState(seed)
        some = sorted(chance.permutation(body)[: max(1, round(MASKED * len(body)))].tolist())
        hidden = read.clone()
        hidden[0, some] = tokenizer.special("mask")
        guessing = replace(one, given=(hidden,))
        return lambda n: guessing.scores(n)[:, some], lambda found: words_loss(found, read[0, some])
    if does in ("labels", "image labels", "place labels"):
        return one.scores, own_choice(one.scores)
    return lambda n: vector(one, n), None


def words_loss(scores: Tensor, words: Tensor) -> Tensor:
    """The mean cross-entropy [n] of scores [n, T, V] for words [T]."""
    each = F.cross_entropy(precise(scores).transpose(1, 2), words.expand(len(scores), -1), reduction="none")
    return each.mean(1)


def own_choice(scores: Callable[[int], Tensor]) -> Loss:
    """The loss against what the model itself says when no head is touched, for want of the truth."""
    with torch.no_grad():
        chosen = scores(1).argmax(-1).flatten()

    def loss(found: Tensor) -> Tensor:
        found = found if found.dim() == 3 else found[:, None]
        return words_loss(found, chosen)

    return loss


def vector(one: Pass, copies: int) -> Tensor:
    """One vector of length 1 for each of so many copies of a text or an image [n, D], as `embed` gathers it."""
    if one.loaded.family.does == "shared vector":
        return F.normalize(precise(one.scores(copies)), dim=-1)
    found = precise(one.vectors(copies))
    match gathering(one.loaded).pooling if one.loaded.family.reads == "text" else "first":
        case "mean":
            found = found.mean(1)
        case "max":
            found = found.amax(1)
        case _:
            found = found[:, 0]
    return F.normalize(found, dim=-1)
