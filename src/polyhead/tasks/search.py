"""Texts or images go in, and others to look among; those that lie nearest come out, by an encoder of texts or by a
model that reads both."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.listing import ends_like, files_in
from polyhead.inputs.readers import read_lines
from polyhead.inputs.text import clean
from polyhead.tasks.device import Device
from polyhead.tasks.embed import Embedder
from polyhead.tasks.load import Loaded, Precision, ready, texts_of
from polyhead.tasks.picture_index import vectors_of
from polyhead.tasks.space import Progress, Space, called, named

TOP = 10


@dataclass(frozen=True)
class Hit:
    """One of those that were looked among: the text, or the image's file or number; its cosine with what was asked,
    from -1 to 1; and, where asked for, the share that the model gives it among all of them, or, of a model that judges
    each pair by itself (SigLIP), the probability that both go together."""

    item: str
    score: float
    share: float | None = None


@dataclass(frozen=True)
class Found:
    """What was asked, a text or an image's file or number, and the nearest, the nearest first."""

    query: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True, eq=False)
class Among:
    """What is looked among: names, vectors [n, E], whether they are images, why some could not be read, and which an
    index holds that are not there now."""

    names: list[str]
    vectors: NDArray[np.float32]
    images: bool
    left_out: Sequence[str] = field(default_factory=list[str])
    absent: Sequence[Path] = field(default_factory=list[Path])


class Searcher:
    """A loaded model made ready to find: images and texts by one that reads both, texts by an encoder of texts, whose
    vectors are those of `embed`, of length 1. shares: whether each that is found gets its share of all."""

    def __init__(self, loaded: Loaded, *, shares: bool = False):
        self.joint = Space(loaded) if loaded.family.towers else None
        self.read = self.joint.texts if self.joint else Embedder(loaded, unit=True, verb="search")
        self.name, self.shares = f"{loaded.name} is a {loaded.family.architecture}", shares
        if shares and self.joint is None:
            raise ArgumentError(f"{self.name}, which gives cosines and no shares; leave shares out.")

    @property
    def space(self) -> Space:
        """Where texts and images lie together. Raises ArgumentError for a model that reads texts alone."""
        if self.joint is None:
            raise ArgumentError(
                f"{self.name}, which reads texts and no images; search texts by a text, or take one that reads both."
            )
        return self.joint

    def texts(self, texts: Sequence[str], progress: Progress | None = None) -> Among:
        """Texts to look among, or to search for. Raises DataError for an empty one."""
        if (blank := next((i for i, text in enumerate(texts, 1) if not clean(text)), 0)) > 0:
            raise DataError(f"Text {blank} of {len(texts)} is empty; give words, or leave it out.")
        return Among(list(texts), self.read(texts, progress=progress), images=False)

    def images(
        self,
        images: Sequence[Any],
        *,
        index: Path | None = None,
        prune: bool = False,
        skip: bool = False,
        progress: Progress | None = None,
    ) -> Among:
        """Images to look among. index, prune: a file of vectors that is kept, and whether it drops images that are gone
        (see `picture_index`). skip: whether images that cannot be read are left out; else they raise DataError, as does
        it when none can be read."""
        if prune and index is None:
            raise ArgumentError("Only an index is pruned; name one, or leave prune out.")
        if index is not None and not all(map(named, images)):
            raise ArgumentError("An index keeps images by their files; give paths, or leave the index out.")
        absent: Sequence[Path] = []
        if all(map(named, images)):
            looked = vectors_of(self.space, [Path(image) for image in images], index, progress, prune=prune)
            vectors, left, absent = looked.vectors, looked.left_out, looked.absent
            names = [str(path) for path in looked.paths]
        else:
            vectors, wrong = self.space.readable(images, progress)
            left = [*wrong.values()]
            names = [called(image, i) for i, image in enumerate(images) if i not in wrong]
        if left and not (skip and names):
            raise DataError(left[0] if not skip else f"None of {len(left):,} images can be read. {left[0]}")
        return Among(names, vectors, images=True, left_out=left, absent=absent)

    def __call__(
        self, names: Sequence[str], vectors: NDArray[np.float32], among: Among, *, top: int = TOP
    ) -> list[Found]:
        """For each vector [q, E] of what is asked, by name, the `top` nearest of those to look among; of equally near
        ones the earlier first."""
        if type(top) is not int or top < 1:
            raise ArgumentError(f"top must be a whole number of at least 1, found {top!r}")
        if not len(among.names):
            raise DataError("There is nothing to search; give images or texts to look among.")
        found: list[Found] = []
        for name, vector in zip(names, vectors, strict=True):
            cosines = among.vectors @ vector  # [n]
            order = nearest(cosines, top)
            parts = self.space.shares(cosines)[order] if self.shares else [None] * len(order)
            hits = (
                Hit(among.names[i], float(cosines[i]), None if part is None else float(part))
                for i, part in zip(order, parts, strict=True)
            )
            found.append(Found(name, tuple(hits)))
        return found


def nearest(cosines: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """The places of the largest, the largest first, of equal ones the earlier first."""
    if top >= len(cosines):
        return np.argsort(-cosines, kind="stable")
    least = np.partition(cosines, len(cosines) - top)[len(cosines) - top]
    some = np.flatnonzero(cosines >= least)
    return some[np.argsort(-cosines[some], kind="stable")][:top]


def sorted_out(items: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The images and the texts of a list, where a string is the file of an image if it is named like one.

    Raises ArgumentError where it holds both.
    """
    texts = [isinstance(item, str) and not ends_like(item, "image") for item in items]
    if any(texts) and not all(texts):
        text, image = items[texts.index(True)], items[texts.index(False)]
        raise ArgumentError(
            f"Search among images or among texts; found {image if named(image) else 'an image'} beside the text"
            f" {text!r:.80}. Texts that end like names of images go in a file, one a line."
        )
    return ([], list(items)) if any(texts) else (list(items), [])


def several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def images_in(path: str | Path) -> list[Path] | None:
    """The images of a folder and of those in it, or the one file if its name is that of an image; None for another
    file, whose lines are texts. Raises DataError."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no {path}; give a folder of images, an image, or a file of texts, a line each.")
    return files_in(path, "image") if path.is_dir() or ends_like(path, "image") else None


def gathered(paths: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """The images and the texts of folders and files."""
    images: list[Path] = []
    texts: list[str] = []
    for path in paths:
        some = images_in(path)
        if some is None:
            texts += [line for line in read_lines(path) if line.strip()]
        else:
            images += some
    if images and texts:
        raise ArgumentError("Search among images or among texts; found files of both.")
    if not images and not texts:
        raise DataError(f"{', '.join(map(str, paths))} holds no texts; expected one a line.")
    return list(dict.fromkeys(images)), texts


def away(absent: Sequence[Path], index: Path, *, prune: bool) -> list[str]:
    """What to say of images that an index holds and that are not there now."""
    if not absent:
        return []
    n = len(absent)
    those, verb, more = ("images", "are", ", ...") if n > 1 else ("image", "is", "")
    then = "dropped from it" if prune else "not searched; it keeps what may come back, unless it is pruned"
    return [f"{n:,} {those} of {index} {verb} not there now ({absent[0]}{more}) and {verb} {then}."]


def search(
    text: str | Iterable[str] | None = None,
    among: Any = None,
    *,
    image: Any = None,
    model: str | Path | Loaded,
    top: int = TOP,
    shares: bool = False,
    index: str | Path | None = None,
    prune: bool = False,
    skip: bool = False,
    device: Device = "auto",
    precision: Precision | None = None,
) -> Any:
    """Of many images or texts those that a text or an image goes with best: a `Found`; of several asked, a list.

    text, image  what is asked, one of the two: a text, or an image (a file, a PIL image or an array); or several.
    among        a folder of images, an image's file or a file of texts, one a line; a list of images (files, PIL images
                 or arrays) or of texts. A string in a list is a file if it ends like an image's name.
    model        a folder of CLIP or SigLIP or, to find texts by a text, of an encoder that `embed` takes, or what
                 `load` returned.
    top          how many of the nearest are given.
    shares       whether each gets the share that the model would give it among all, its softmax; of a model that judges
                 each pair by itself, its probability.
    index        a file in which images' vectors are kept; only new and changed images are read again. Without `among`,
                 all its images are searched, those left out, with a warning, that are not there now.
    prune        whether the index drops what is not there now; else it keeps it.
    skip         whether images that cannot be read are left out, with a warning; else they raise DataError.
    Raises ArgumentError, DataError for an image that cannot be read, CheckpointError and WriteError.
    """
    if (text is None) == (image is None):
        raise ArgumentError(f"Give a text or an image to search for; found {'both' if text is not None else 'none'}.")
    if among is None and index is None:
        raise ArgumentError("Give images or texts to search among, or the index of some.")
    find = Searcher(ready(model, device, precision), shares=shares)
    if image is not None:
        asked: list[Any] = several(image)
        names, vectors = [called(each, i) for i, each in enumerate(asked)], find.space.images(asked)
    else:
        names = texts_of(cast(Any, text))
        vectors = find.texts(names).vectors
    images: list[Any] = []
    texts: list[str] = []
    if isinstance(among, str | Path):
        images, texts = gathered([among])
    elif among is not None:
        images, texts = sorted_out(list(among))
        if not images and not texts:
            raise DataError("There is nothing to search; give images or texts to look among.")
    kept = None if index is None else Path(index)
    if texts:
        if kept is not None:
            raise ArgumentError("An index keeps vectors of images, but texts are given; leave it out.")
        there = find.texts(texts)
    else:
        there = find.images(images, index=kept, prune=prune, skip=skip)
        for sentence in (*there.left_out, *([] if kept is None else away(there.absent, kept, prune=prune))):
            warnings.warn(sentence, stacklevel=2)
    found = find(names, vectors, there, top=top)
    return found if isinstance(image, list | tuple) or not isinstance(text, str | None) else found[0]
