"""A recording, or what was measured of heads, becomes one figure: PNG, SVG or TSV, and a picture in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from polyhead.errors import ArgumentError, MissingExtra, did_you_mean
from polyhead.files import write_bytes, write_text
from polyhead.lens.figures.bars import bars
from polyhead.lens.figures.drawing import Drawing
from polyhead.lens.figures.links import links
from polyhead.lens.figures.maps import head_map, head_sheet
from polyhead.lens.figures.places import on_picture, on_sound
from polyhead.lens.figures.svg import svg
from polyhead.lens.figures.views import Looking, Weighting, choose
from polyhead.lens.figures.wording import LANGUAGES, Language
from polyhead.lens.page.scene import Shown
from polyhead.lens.recording import Part, Recording
from polyhead.lens.roles.result import Heads, spelled
from polyhead.lens.rulers import Frames, Patches
from polyhead.lens.see import Seen, see

Kind = Literal["map", "heads", "links", "picture", "sound", "roles"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
ENDINGS = (".png", ".svg", ".tsv")


@dataclass(frozen=True, eq=False, repr=False)
class Figure:
    """A figure. A notebook shows it as it is.

    title, description  what is shown, in words.
    rows                every number in it, for a table: named tuples of one kind.
    """

    drawing: Drawing
    rows: Sequence[Any]

    @property
    def title(self) -> str:
        return self.drawing.title

    @property
    def description(self) -> str:
        return self.drawing.description

    @cached_property
    def svg(self) -> str:
        """The figure as SVG, whose text is text; needs no other package and no font."""
        return svg(self.drawing)

    def png(self, *, scale: float = 2.0) -> bytes:
        """The figure as pixels, `scale` for each of its own. Needs the extra `plot`. A character that no installed font
        has is a box with its number, and a note in the figure says so."""
        from polyhead.lens.figures.raster import raster

        return raster(self.drawing, scale=scale)

    @property
    def lacking(self) -> str:
        """What a PNG has in boxes, for lack of a font, as a sentence; empty where nothing is lacking. Needs the extra
        `plot`."""
        from polyhead.lens.figures.raster import lacking

        return lacking(self.drawing)

    @property
    def tsv(self) -> str:
        """Every number of the figure, a line each, under a line of names."""
        names: tuple[str, ...] = self.rows[0]._fields if self.rows else ()
        return "".join("\t".join(map(spelled, line)) + "\n" for line in (names, *self.rows))

    def save(self, path: str | Path) -> None:
        """Write the figure, whole or not at all, as the ending of the path says: .png, .svg or .tsv."""
        path = Path(path)
        match ending(path):
            case ".png":
                write_bytes(path, self.png())
            case ".svg":
                write_text(path, self.svg)
            case _:
                write_text(path, self.tsv)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """For a notebook: SVG, and a PNG too where one can be made, for readers that show no SVG."""
        shown: dict[str, Any] = {"image/svg+xml": self.svg, "text/plain": f"{self.title}\n{self.description}"}
        try:
            shown["image/png"] = self.png()
        except MissingExtra:  # the SVG stands for both
            pass
        return shown

    def __repr__(self) -> str:
        return f"Figure({self.title!r})"


def figure(
    of: Recording | Seen | Heads | str | Path,
    kind: Kind | None = None,
    *,
    call: str | int | None = None,
    part: Part | None = None,
    layer: int | None = None,
    head: int | None = None,
    query: int | None = None,
    metric: str | None = None,
    weighting: Weighting = "weight",
    values: bool = False,
    by_words: bool = True,
    language: Language = "en",
) -> Figure:
    """A figure of a recording of any model: `.save("x.png")`, `.save("x.svg")` or `.save("x.tsv")`.

    of         a recording, its file, what `see` returned, or what `heads` measured.
    kind       "map"      one head, with the words of both sides;
               "heads"    every head of a layer, or of the whole recording, as small maps;
               "links"    lines between two texts, of a head or of the mean of all of a layer;
               "picture"  where a place of a picture looks on it, of a head or of all of a layer;
               "sound"    the time each word looks at, under the sound, of a head or of the mean of all;
               "roles"    a metric of what `heads` measured, as bars.
               Unless given: small maps without a head; with one a picture or a sound where there is one, else a map.
    call       an attention by its name, or by its number among the calls; or else its
    part, layer    part of the model ("encoder", "decoder", "cross") and its layer.
    query      the place that looks, of a picture; 0 unless given.
    metric     of "roles"; the first that was measured unless given.
    weighting  "weight", or "norm": by the norm of the value too, each row brought to sum to 1.
    values     write the weights of a map in per cent.
    by_words   of a recording: pieces of one word are joined.
    language   of what the figure says, "en" or "zh".

    Long sides are drawn in cells of exact rows, and the figure says so. Raises ArgumentError for what the recording has
    not, and for a kind that does not fit it; ArgumentError also where only statistics were recorded.
    """
    known("kind", kind, (None, *KINDS))
    known("weighting", weighting, WEIGHTINGS)
    known("language", language, LANGUAGES)
    if isinstance(of, Heads):
        only(kind in (None, "roles"), f"what `heads` measured is drawn as kind='roles'; found '{kind}'")
        return Figure(*bars(of, metric or of.keys[0], language))
    only(kind != "roles", "kind='roles' draws what `heads` measured; hand in its result in place of a recording")
    only(metric is None, "a metric is drawn of what `heads` measured, not of a recording")
    seen = of if isinstance(of, Seen) else see(recording=of, by_words=by_words)
    looking = Looking(seen, weighting, language)
    if kind in (None, "heads") and call is None and layer is None and head is None:
        only(weighting == "weight", "the sheet of a whole recording shows plain weights; choose a layer for others")
        calls = last([each for each in seen.scene.calls if part is None or each.facts.part == seen.known(part)])
        return Figure(*head_sheet(looking, calls))
    chosen = choose(seen, call, part, layer)
    H = chosen.facts.shape[1]
    only(
        head is None or (isinstance(head, int) and 0 <= head < H),
        f"{chosen.facts.name} has heads 0 to {H - 1}, but head is {head}",
    )
    kind = kind or usual(looking, chosen, head)
    only(
        query is None or kind == "picture",
        f"query is the place of a picture that looks; a figure of kind '{kind}' has none",
    )
    only(not values or kind == "map", "values are written on the map of one head; choose a head")
    match kind:
        case "map":
            only(head is not None, "a map is of one head; choose a head, or kind='heads' for all")
            assert head is not None
            return Figure(*head_map(looking, chosen, head, values=values))
        case "links":
            return Figure(*links(looking, chosen, head))
        case "picture":
            return Figure(*on_picture(looking, chosen, head, query))
        case "sound":
            return Figure(*on_sound(looking, chosen, range(H) if head is None else [head]))
        case _:
            only(head is None, "kind='heads' shows every head; leave head out, or choose kind='map'")
            return Figure(*head_sheet(looking, [chosen]))


def usual(looking: Looking, call: Shown, head: int | None) -> Kind:
    """The kind of a figure where none was named."""
    if head is None:
        return "heads"
    _, columns = looking.rulers(call)
    match columns:
        case Patches() if columns.picture:
            return "picture"
        case Frames() if call.facts.kind == "cross":
            return "sound"
        case _:
            return "map"


def last(calls: Sequence[Shown]) -> list[Shown]:
    """The last call of every attention, in the order of the first."""
    return [*{call.facts.name: call for call in calls}.values()]


def ending(path: Path) -> str:
    """What kind of file a path asks for. Raises ArgumentError."""
    if path.suffix.lower() not in ENDINGS:
        raise ArgumentError(f"A figure is written as .png, .svg or .tsv; found {path.name}")
    return path.suffix.lower()


def known(name: str, value: object, values: Sequence[object]) -> None:
    words = [str(x) for x in values if x is not None]
    if value not in values:
        raise ArgumentError(
            f"{name} must be one of {', '.join(words)}; found {value!r}.{did_you_mean(str(value), words)}"
        )


def only(right: bool, otherwise: str) -> None:
    if not right:
        raise ArgumentError(otherwise)
