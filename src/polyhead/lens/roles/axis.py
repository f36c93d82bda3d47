"""What stands along one axis of a map: tokens, patches or frames, and which of them are signs, ends and delimiters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.lens.rulers import Frames, Patches, Ruler, Words

DELIMITERS = frozenset(".,。，、．")


@dataclass(frozen=True)
class Axis:
    """The places of one axis, from 0.

    count      how many there are.
    ids        the token at each, where they are tokens.
    special    places that hold a sign and no word, such as [CLS]; `ends` those of them that end a text.
    skipped    places that do not count where they look: None, the special ones.
    delimiters places of full stops and commas.
    grid       (rows, columns) of patches that stand in reading order behind `before` other places.
    block      tokens in the block that is repeated, where the axis is one block after another.
    """

    count: int
    ids: tuple[int, ...] | None = None
    special: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()
    skipped: frozenset[int] | None = None
    delimiters: frozenset[int] = frozenset()
    grid: tuple[int, int] | None = None
    before: int = 0
    block: int | None = None

    def __post_init__(self) -> None:
        if self.ids is not None and len(self.ids) != self.count:
            raise ArgumentError(f"an axis of {self.count} places has {self.count} ids; found {len(self.ids)}")
        if self.grid is not None and self.before + self.grid[0] * self.grid[1] != self.count:
            raise ArgumentError(
                f"a grid of {self.grid[0]} x {self.grid[1]} patches behind {self.before} places makes"
                f" {self.before + self.grid[0] * self.grid[1]} places; found {self.count}"
            )

    @classmethod
    def words(cls, tokens: Sequence[str], ids: Sequence[int], special: Iterable[int], **more: object) -> Axis:
        """An axis of tokens, whose delimiters are told by how they are spelled."""
        signs = frozenset(special)
        stops = frozenset(i for i, token in enumerate(tokens) if i not in signs and bare(token) in DELIMITERS)
        return replace(cls(len(ids), tuple(ids), signs, delimiters=stops), **more)  # pyright: ignore[reportArgumentType]

    @classmethod
    def patches(cls, rows: int, columns: int, *, before: int = 0) -> Axis:
        return cls(before + rows * columns, special=frozenset(range(before)), grid=(rows, columns), before=before)

    @classmethod
    def of(cls, ruler: Ruler) -> Axis:
        """The axis that a recording's ruler describes. Tokens are alike where they are spelled alike; a sign at the end
        is taken for the one that ends a text."""
        match ruler:
            case Words():
                numbers = {label: i for i, label in enumerate(dict.fromkeys(ruler.labels))}
                last = frozenset({ruler.count - 1} & {*ruler.signs} - {0})
                return cls.words(ruler.labels, [numbers[x] for x in ruler.labels], ruler.signs, ends=last)
            case Patches():
                return cls.patches(ruler.rows, ruler.columns, before=len(ruler.before))
            case Frames():
                heard = round(ruler.duration / ruler.seconds) if ruler.duration else ruler.count
                return cls(ruler.count, skipped=frozenset(range(max(1, heard), ruler.count)))
            case _:
                return cls(ruler.count)

    @property
    def silent(self) -> frozenset[int]:
        """Places that do not count where they look."""
        return self.special if self.skipped is None else self.skipped

    def places(self, start: int, stop: int) -> Axis:
        """The places from `start` to `stop`, as an axis of their own; a grid only whole."""

        def moved(some: frozenset[int]) -> frozenset[int]:
            return frozenset(i - start for i in some if start <= i < stop)

        if (start, stop) == (0, self.count):
            return self
        return replace(
            self, count=stop - start, ids=None if self.ids is None else self.ids[start:stop],
            special=moved(self.special), ends=moved(self.ends), delimiters=moved(self.delimiters),
            skipped=None if self.skipped is None else moved(self.skipped), grid=None, before=0,
        )  # fmt: skip


def bare(token: str) -> str:
    """A token without the signs by which vocabularies mark spaces and beginnings of words."""
    return token.strip().lstrip("▁Ġ").removeprefix("##")


def mask(places: Iterable[int], n: int) -> Tensor:
    """[n] True at these places."""
    found = torch.zeros(n, dtype=torch.bool)
    found[[i for i in places if i < n]] = True
    return found


def masks(some: Sequence[Iterable[int]], n: int) -> Tensor:
    """[B, n] of several sequences."""
    return torch.stack([mask(each, n) for each in some])


def tokens(axes: Sequence[Axis], n: int) -> Tensor | None:
    """The ids [B, n] of several sequences, each sign and each place without a token a number of its own, below 0."""
    if any(axis.ids is None for axis in axes):
        return None
    rows: list[list[int]] = []
    for axis in axes:
        assert axis.ids is not None
        row = [-1 - i if i in axis.special else id for i, id in enumerate(axis.ids)][:n]
        rows.append(row + [-1 - i for i in range(len(row), n)])
    return torch.tensor(rows)
