"""A text, an image or a sound goes in; what the model made of it and where every head looked come out as one value."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.lens.axes import START, Words, axis
from polyhead.lens.draw import terminal
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.labels import shown
from polyhead.lens.draw.terminal import Axes
from polyhead.lens.draw.words import merge
from polyhead.lens.learn.following import Following
from polyhead.lens.looking import answer_text, read_image, read_sound, read_text
from polyhead.lens.page.scene import Scene, Shown
from polyhead.lens.passes import Pass
from polyhead.lens.recording import Part, Recording
from polyhead.lens.target import recorded
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, ready

__all__ = ["PARTS", "START", "Part", "Seen", "Words", "see"]

PARTS: tuple[Part, ...] = ("cross", "encoder", "decoder")
NOTES = {  # of what a map shows: where the words that are chosen are known, and where not
    "cross": ("A row is the step that chose one of the {0}; columns are the {1} that were read.",
              "A row is the step that had last read one of the {0}; columns are the {1} that were read first."),
    "encoder": ("Rows and columns are the {0} that were read.",) * 2,
    "decoder": ("A row is the step that chose one of the {0}; columns are the {1} it had read, from the start sign on.",
                "Rows and columns are the {0} that were read; each sees itself and those before it."),
}  # fmt: skip
WANTED = {  # by what a model reads: the argument that gives it, and its name
    "image": ("image", "an image"), "sound": ("audio", "audio"), "text or image": ("text", "a text or an image"),
}  # fmt: skip
SEVERAL = {"patch": "patches", "stretch": "stretches of time"}  # others take an s
JOINED = " Pieces of one word are joined: what is looked at adds up, those who look are averaged."


@dataclass(frozen=True)
class Seen:
    """What a model read, what it wrote, and every attention call that it made.

    A part of the model is "cross" (what is written looks at what was read), "encoder" (what was read at itself) or
    "decoder" (what is written at what was written before). `print(seen)` shows the first that there is.

    source, target  what was read and written, in words; target is None where nothing is written.
    recording       the calls, and the rulers of their axes.
    by_words        whether the pieces of one word stand together.
    notes           what a person should know of the run.
    model           what the model is called.
    run             what the model read, to be read again where a cell is followed; None of what was recorded before.
    """

    source: str
    target: str | None
    recording: Recording
    by_words: bool = True
    notes: tuple[str, ...] = ()
    model: str = ""
    run: Pass | None = None

    @cached_property
    def scene(self) -> Scene:
        """The calls with their places, as the page shows them."""
        lessons = None if self.run is None else Following(self.run)
        return Scene(self.recording, self.source, self.model, lessons=lessons)

    @cached_property
    def parts(self) -> list[Part]:
        """The parts that the model has."""
        return [part for part in PARTS if any(call.facts.part == part for call in self.scene.calls)]

    @property
    def source_words(self) -> Words:
        return self.side("encoder")

    @property
    def target_words(self) -> Words:
        return self.side("chosen")

    def side(self, name: str) -> Words:
        ruler = self.scene.parts[name]
        return axis(ruler, 0, ruler.count, by_words=self.by_words)

    def words(self, part: Part | None = None, *, layer: int | None = None) -> tuple[Words, Words]:
        """Those that look (rows) and those looked at (columns)."""
        part = self.known(part)
        return self.sides(self.call(part, self.layers(part)[0] if layer is None else layer))

    def sides(self, call: Shown) -> tuple[Words, Words]:
        _, _, T, S = call.facts.shape
        rows = axis(self.scene.parts[call.rows], call.offset, T, by_words=self.by_words)
        return rows, axis(self.scene.parts[call.columns], 0, S, by_words=self.by_words)

    def known(self, part: Part | None) -> Part:
        """The part that was named, or the first; raises ArgumentError for one that there is not."""
        if part is None:
            return self.parts[0]
        if part not in PARTS:
            raise ArgumentError(f"part must be one of {', '.join(PARTS)}, found '{part}'.{did_you_mean(part, PARTS)}")
        if part not in self.parts:
            raise ArgumentError(f"The model has no part '{part}', only {', '.join(self.parts)}.")
        return part

    def layers(self, part: Part | None = None) -> list[int]:
        """The layers that have this part."""
        part = self.known(part)
        return sorted({call.layer for call in self.scene.calls if call.facts.part == part})

    def call(self, part: Part, layer: int) -> Shown:
        """The last call of a layer; raises ArgumentError for a layer that there is not."""
        if layer not in (layers := self.layers(part)):
            raise ArgumentError(f"The model's layers are {layers[0]} to {layers[-1]}, but layer is {layer}.")
        return [call for call in self.scene.calls if (call.facts.part, call.layer) == (part, layer)][-1]

    def weights(self, part: Part | None = None, *, layer: int) -> NDArray[np.floating]:
        """The exact weights [H, T, S] of a layer's heads, by the words of both sides; a row sums to one."""
        call = self.call(self.known(part), layer)
        rows, columns = self.sides(call)
        exact = self.scene.call(call.id).weights()[0]
        return merge(exact.cpu().double().numpy(), rows.pieces, columns.pieces)

    def draw(
        self,
        part: Part | None = None,
        *,
        layer: int | None = None,
        head: int | None = None,
        links: bool = False,
        values: bool = False,
        canvas: Canvas | None = None,
    ) -> Text:
        """Pictures of one layer or of all: the heads as small maps, or the word that each head looks at most (`links`),
        or one head as a large map (`head`), with its weights in per cent (`values`).

        The canvas has 80 cells a line and no colours unless given. Raises ArgumentError for a layer or a head that
        the model has not, and for what cannot be had together.
        """
        if values and head is None:
            raise ArgumentError("values are written on the large map of one head; choose a head as well.")
        if links and head is not None:
            raise ArgumentError("links are a table of all heads, but one head is chosen; leave one of them out.")
        canvas, part = canvas or Canvas(), self.known(part)
        lines: list[Text] = []
        note = ""
        for number in self.layers(part) if layer is None else [layer]:
            call = self.call(part, number)
            rows, columns = self.sides(call)
            axes = Axes(rows.labels, columns.labels, quiet=columns.signs)
            weights = self.weights(part, layer=number)
            title = f"Layer {number}"
            if head is None:
                picture = terminal.links if links else terminal.head_grid
                lines += picture(weights, axes, title=title, canvas=canvas)
            elif 0 <= head < len(weights):
                title = f"{title} head {head}"
                lines += terminal.head_map(weights[head], axes, title=title, canvas=canvas, values=values)
            else:
                raise ArgumentError(f"The layer has heads 0 to {len(weights) - 1}, but head is {head}.")
            note = NOTES[part][call.rows != "chosen"].format(
                *(SEVERAL.get(x.unit, x.unit + "s") for x in (rows, columns))
            )
            note += JOINED if rows.joined or columns.joined else ""
        return Text("\n").join([*lines, Text(note, "dim")])

    def page(
        self, *, beside: Seen | None = None, port: int = 0, browser: bool = True, tell: Callable[[str], None] = print
    ) -> None:
        """Show the page in a browser, at an address of this machine alone, until Ctrl-C.

        beside: what it is compared with. port: 0 for one that is free. tell: hears the address. Raises ArgumentError
        where nothing can listen on the port.
        """
        from polyhead.lens.page.answers import Answers
        from polyhead.lens.page.bundle import page
        from polyhead.lens.page.server import serve

        def at(address: str) -> None:
            tell(address)
            if browser:
                webbrowser.open(address)

        serve(Answers(self.scenes(beside)), page(), port=port, tell=at)

    def html(
        self,
        path: str | Path,
        *,
        beside: Seen | None = None,
        most: int | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[str]:
        """Write the page as one file that needs no server and no network; gives what it had to leave out for size.

        beside: what it is compared with. most: bytes of the file, 20 million unless given. progress: hears the share
        that is done, from 0 to 1. The file appears whole or not at all. Raises WriteError, and ArgumentError where so
        many bytes do not even hold labels and thumbnails.
        """
        from polyhead.lens.page.answers import Answers
        from polyhead.lens.page.bundle import page
        from polyhead.lens.page.export import MOST, export

        room = MOST if most is None else most
        return export(Answers(self.scenes(beside)), Path(path), most=room, page=page, progress=progress)

    def scenes(self, beside: Seen | None) -> list[Scene]:
        return [self.scene] if beside is None else [self.scene, beside.scene]

    def __str__(self) -> str:
        lines = [shown(side) for side in (self.source, self.target) if side is not None]
        return "\n".join([*lines, "", self.draw().plain])


def see(
    text: str | None = None,
    *,
    image: Any = None,
    audio: Any = None,
    recording: Recording | str | Path | None = None,
    model: str | Path | Loaded = "zh-en",
    translation: str | None = None,
    beam: int | None = None,
    prefix: str | None = None,
    language: str | None = None,
    rate: int | None = None,
    target: str | int | None = None,
    by_words: bool = True,
    device: Device = "auto",
) -> Seen:
    """Let a model read a text, an image or a sound, and watch it; or take what was recorded before.

    text         read by an encoder or a decoder as it stands; a translator or another model that answers in words
                 answers it, and reads the very tokens that it found, as it did when it chose them.
    translation  an answer to look at instead of the model's own. beam: as `translate` takes it. prefix: words that
                 ask, for a model that is asked in words; unless given, those of the one task that its folder knows.
    image        for a model of images: a file, a PIL image or an array [height, width, 3].
    audio        for a model of speech: a file, or an array with its `rate`; as much as it hears at once, 30 seconds,
                 is written down and looked at. language: as `transcribe` takes it.
    recording    what `watch` recorded, of whatever model, or the file of it; no model is needed.
                 Of a model that reads texts and images, the tower that reads what is given is seen.
    model        a folder, a shipped model's name, or what `load` returned.
    target       what gradients are taken of, for `weights_times_gradients` and the page: "answer" for what the model
                 itself answered (its likeliest label, or all that it wrote), a label, or a written word, by itself or
                 by its number from 0. None: of nothing. It takes about twice the memory.
    by_words     drawn weights of pieces of one word are joined (what is looked at adds up, those who look are
                 averaged); False leaves the tokenizer's pieces as they are.

    Raises ArgumentError, CheckpointError, and DataError for an empty text or one beyond the model's positions.
    """
    given = {"text": text, "image": image, "audio": audio, "recording": recording}
    named = [name for name, value in given.items() if value is not None] or ["text"]
    if len(named) > 1:
        raise ArgumentError(f"Give one thing to see, a text, an image, audio or a recording; found {', '.join(named)}.")
    if recording is not None:
        if target is not None:
            raise ArgumentError("A recording was made already, so target says nothing; leave it out.")
        return of_recording(recording, by_words=by_words)
    for name, value in {named[0]: text, "translation": translation or ""}.items():
        if name in ("text", "translation") and not isinstance(value, str):
            raise ArgumentError(f"{name} must be a text, found {type(value).__name__}.")
    if translation is not None and beam is not None:
        raise ArgumentError(
            "A translation is given, so there is none to search for with a beam; leave one of them out."
        )
    what = named[0]
    loaded = ready(model, device).tower(what)
    reads = loaded.family.reads
    fits(loaded, what, {"translation": translation, "beam": beam, "prefix": prefix})
    match reads:
        case "image":
            one = read_image(loaded, image)
        case "sound":
            one = read_sound(loaded, audio, rate=rate, language=language)
        case "pair":
            one = answer_text(loaded, text or "", answer=translation, beam=beam, prefix=prefix)
        case _:
            one = read_text(loaded, text or "")
    return seen_of(one, by_words, target)


def fits(loaded: Loaded, what: str, answers: dict[str, Any]) -> None:
    """Refuse what the model does not read, and settings of an answer where none is written."""
    reads = loaded.family.reads
    wanted, known = WANTED.get(reads, ("text", "a text"))
    if what != wanted:
        raise ArgumentError(
            f"{loaded.folder or 'This model'} is a {loaded.family.architecture}, which is given {known}; found {what}"
        )
    given = [name for name, value in answers.items() if value is not None]
    if given and reads != "pair":
        raise ArgumentError(
            f"{loaded.folder or 'This model'} writes no answer, so {given[0]} says nothing; leave it out."
        )


def of_recording(recording: Recording | str | Path, *, by_words: bool) -> Seen:
    """What was recorded before."""
    if not isinstance(recording, Recording):
        name, recording = Path(recording).name, Recording.load(recording)
    else:
        name = "recording"
    return Seen(name, None, recording, by_words)


def seen_of(one: Pass, by_words: bool, target: str | int | None) -> Seen:
    model = one.loaded.folder.name if one.loaded.folder else one.loaded.family.architecture
    if one.loaded.whole is not None:
        model += f", {one.loaded.family.reads} tower"
    return Seen(one.source, one.target, recorded(one, target), by_words, one.notes, model, one)
