"""A cell of a run that was seen goes in; the lesson of its layer comes out, as the page that shows the run opens it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from polyhead.errors import DataError
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.learn.caught import Part, caught, parts_of, place_of, stack_of
from polyhead.lens.learn.cutting import LONGEST, Cut, labelled
from polyhead.lens.learn.ending import Ending, ending
from polyhead.lens.learn.lesson import AGREE, Lesson
from polyhead.lens.learn.page import LARGEST, Read, Size, as_json, data
from polyhead.lens.learn.working import off, work
from polyhead.lens.page.scene import Shown
from polyhead.lens.passes import Pass
from polyhead.lens.recording import Call
from polyhead.lens.rulers import Words

SIZES = (
    Size("f32", None, 0), Size("f32", 64, 0), Size("f16", 64, 0), Size("f16", 16, 0), Size("f16", 8, 0),
    Size("f16", 8, 0, heads=False),
)  # fmt: skip
TEXTS = ("Only a text can be followed.", "只有文本可以跟着走。")
LONG = (
    f"A lesson has at most {LONGEST} words on each side, and this run has more.",
    f"一课每边最多 {LONGEST} 个词，这次运行不止这些。",
)


@dataclass(eq=False)
class Following:
    """The lessons of one run, which the model makes anew for whoever follows a cell of it.

    last  what was made last, by what was asked.
    """

    run: Pass
    last: tuple[tuple[int, ...], bytes] | None = field(default=None)

    @cached_property
    def places(self) -> dict[str, tuple[Part, int]]:
        """The part and the layer of each attention that a lesson is of."""
        model, under = self.run.loaded.model, self.run.loaded.under
        if self.run.loaded.family.reads not in ("text", "pair"):
            return {}
        return {
            under + place_of(part, layer): (part, layer)
            for part in parts_of(model) for layer in range(len(cast(Any, stack_of(model, part)).blocks))
        }  # fmt: skip

    @property
    def why(self) -> tuple[str, str]:
        """Why some attention has no lesson, in English and in Chinese."""
        return LONG if self.places else TEXTS

    def of(self, shown: Shown) -> str | None:
        """What lessons there are of a call: of the "whole" run, of a "window" that the model reads alone, or none."""
        _, _, T, S = shown.facts.shape
        if shown.facts.name not in self.places or shown.facts.level != "rows" or shown.offset or shown.step:
            return None
        if max(T, S) <= LONGEST:
            return "whole"
        part, _ = self.places[shown.facts.name]
        return "window" if shown.facts.kind == "self" and (part == "encoder" or "encoder" not in self.run.ids) else None

    @property
    def longest(self) -> int:
        """How many pieces a window has."""
        return min(LONGEST, getattr(self.run.loaded.config, "max_len", LONGEST))

    def reach(self, shown: Shown) -> tuple[int, int, int] | None:
        """How far apart the two of a cell may stand to be in one window: fewer places than the first number, or one of
        them before the second or from the third on, where signs at the ends are; None where there is no window."""
        if self.of(shown) != "window":
            return None
        cut = self.cut("encoder" if "encoder" in self.run.ids else "decoder")
        return self.longest - len(cut.ids) + len(cut.inner), cut.inner.start, cut.inner.stop

    def told(self, shown: Shown, call: Call, cell: tuple[int, int, int], most: int = LARGEST) -> bytes | None:
        """The lesson of a cell (head, query, key) as JSON, the most within so many bytes; None where there is none."""
        asked = (shown.id, *cell, most)
        if self.last is not None and self.last[0] == asked:
            return self.last[1]
        found = self.lesson(shown, call, cell)
        if found is None:
            return None
        lesson, kept = found
        plain = [Read("plain", ("", ""), (0, 0), lesson.rows, lesson.columns, None, lesson.caught, lesson.ending)]
        for size in SIZES:
            held = data(lesson, "en", plain, {}, size) | {"followed": True, "places": kept}
            body = as_json(held)
            if len(body) <= most:
                self.last = asked, body
                return body
        return None

    def lesson(self, shown: Shown, call: Call, cell: tuple[int, int, int]) -> tuple[Lesson, list[int] | None] | None:
        """The lesson, and of a window the places of the run that it has; None where a window has not both words.

        Raises DataError where the model, run again, looks elsewhere than it did.
        """
        how, (head, query, key) = self.of(shown), cell
        if how is None:
            return None
        (part, layer), loaded, kept = self.places[shown.facts.name], self.run.loaded, None
        source = self.cut("encoder" if "encoder" in self.run.ids else "decoder")
        target = self.cut("decoder") if "encoder" in self.run.ids and "decoder" in self.run.ids else None
        if how == "window":
            inner = [place for place in (query, key) if place in source.inner] or [source.inner.start]
            kept = source.around((sum(inner) + 1) // len(inner), self.longest)
            if query not in kept or key not in kept:
                return None
            source, query, key = source.chosen(kept, whole=len(source.ids)), kept.index(query), kept.index(key)
        given = (source.ids,) if target is None or part == "encoder" else (source.ids, target.ids)
        met = caught(loaded.model, given, part, layer)
        working = work(met)
        if how == "whole":
            apart = float(np.abs(working.weights - call.weights()[0].double().cpu().numpy()).max())
            if not apart < AGREE:
                raise DataError(f"{shown.facts.name} looks elsewhere now than in the recording, by {apart:.2g}")
        rows = source if part == "encoder" or target is None else target
        columns = target if part == "decoder" and target is not None else source
        name = str(loaded.folder.name if loaded.folder else type(loaded.model).__name__)
        layers = len(cast(Any, stack_of(loaded.model, part)).blocks)
        return Lesson(
            self.run.source, name, part, layer, layers, head, rows, columns, query, key, met, working,
            off(met, working), False, None, self.ending(source), source, loaded, given,
        ), kept  # fmt: skip

    def ending(self, source: Cut) -> Ending | None:
        """What the model says of it: what it said in the run, or its likeliest next words."""
        if self.run.target is not None:
            return Ending(self.run.target)
        return ending(self.run.loaded, source.ids) if self.run.loaded.family.does == "next word" else None

    def cut(self, part: str) -> Cut:
        """What the model read, with its words."""
        ruler, ids = self.run.rulers[part], self.run.ids[part]
        assert isinstance(ruler, Words)
        return labelled(ruler.text, pieces_of(ruler, ids))


def pieces_of(ruler: Words, ids: Sequence[int]) -> list[Piece]:
    return [
        Piece(id, label, start, end)
        for id, label, (start, end) in zip(ids, ruler.labels, ruler.places, strict=True)
    ]  # fmt: skip
