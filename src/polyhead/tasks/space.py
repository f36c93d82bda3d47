"""Texts and images become vectors of length 1 in the one space of a model that reads both, where what belongs together
lies close (Radford et al. 2021)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import DataError
from polyhead.generation import sorted_batches
from polyhead.inputs.batch import pad
from polyhead.inputs.image import Images
from polyhead.inputs.text import clean
from polyhead.tasks.load import Loaded
from polyhead.tasks.needs import able
from polyhead.tasks.windows import BATCH_TOKENS, ROWS, numbers, windows_of

IMAGES = 32  # in one batch
READERS = 8  # threads that read images, at most
Vectors = NDArray[np.float32]  # [n, E]
Progress = Callable[[int], None]


class Space:
    """A loaded model of two towers, made ready.

    Nothing is cut: of a text of more tokens than the model has places, windows are read one after the other, and their
    vectors are averaged.
    """

    def __init__(self, loaded: Loaded, verb: str = "search"):
        able(loaded, verb, gives=("similarity",))
        self.loaded = loaded
        self.model: Any = loaded.packed

    @property
    def width(self) -> int:
        return self.loaded.config.d_shared

    @property
    def by_itself(self) -> bool:
        """Whether the model says of each pair by itself whether it goes together (SigLIP); else texts, or images, share
        one probability (CLIP)."""
        return cast(Any, self.loaded.model).head.bias is not None

    def shares(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """The probabilities that the model makes of cosines [..., n]: shares of each n, or of each pair by itself."""
        head = cast(Any, self.loaded.model).head
        scale, bias = (None if x is None else numbers(x.detach().double().cpu()) for x in (head.scale, head.bias))
        assert scale is not None
        scores = scale.exp() * torch.from_numpy(cosines).double()
        return (scores.softmax(-1) if bias is None else (scores + bias).sigmoid()).numpy()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """The vectors of texts; `progress` hears how many more are read."""
        tokenizer, tower = self.loaded.tokenizer, self.model.text
        readings = [tokenizer.read(clean(text)) for text in texts]
        windows = [part for i, each in enumerate(readings) for part in windows_of(each, tower.config.max_len, of=i)]
        found, left = np.zeros((len(texts), self.width), np.float32), Counter(each.of for each in windows)
        rows, fill = [each.ids for each in windows], tokenizer.fill or 0
        rows = [[*ids, *[tokenizer.pad_id] * (fill - len(ids))] for ids in rows]
        for batch in sorted_batches([len(ids) for ids in rows], budget=BATCH_TOKENS, rows=ROWS):
            ids, lengths = (x.to(self.loaded.device) for x in pad([rows[i] for i in batch], tokenizer.pad_id))
            np.add.at(found, [windows[i].of for i in batch], unit(tower(ids, lengths)))
            left.subtract(windows[i].of for i in batch)
            if progress and (done := sum(left[of] == 0 for of in {windows[i].of for i in batch})):
                progress(done)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def images(self, images: Sequence[Any], progress: Progress | None = None) -> Vectors:
        """The vectors of images, as `open_image` takes them. Raises DataError for one that cannot be read."""
        found, left = self.readable(images, progress)
        for why in left.values():
            raise DataError(why)
        return found

    def readable(self, images: Sequence[Any], progress: Progress | None = None) -> tuple[Vectors, dict[int, str]]:
        """The vectors of those images that can be read, in their order, and of the others why, by their places."""
        found, left = [np.zeros((0, self.width), np.float32)], dict[int, str]()
        for _, vectors, wrong in self.batches(images, progress):
            found.append(vectors)
            left |= wrong
        return np.concatenate(found), left

    def batches(
        self, images: Sequence[Any], progress: Progress | None = None
    ) -> Iterator[tuple[list[int], Vectors, dict[int, str]]]:
        """The places of images that can be read, their vectors, and why others cannot, a batch at a time.

        `progress` hears how many more were looked at.
        """
        assert self.loaded.images is not None
        kind, place = next(self.loaded.model.parameters()).dtype, 0
        with closing(opened(self.loaded.images, images)) as read:  # whoever stops in the middle ends the threads
            for batch in read:
                wrong = {i: str(told) for i, told in enumerate(batch, place) if isinstance(told, DataError)}
                pictures = [picture for picture in batch if not isinstance(picture, DataError)]
                vectors = np.zeros((0, self.width), np.float32)
                if pictures:
                    pixels = self.loaded.images.numbers(pictures).to(self.loaded.device, kind)
                    with torch.inference_mode():
                        vectors = unit(self.model.image(pixels))
                yield [i for i in range(place, place + len(batch)) if i not in wrong], vectors, wrong
                place += len(batch)
                if progress:
                    progress(len(batch))

    def fingerprint(self) -> str:
        """Equal fingerprints, equal vectors of images: of the weights of that tower, and of how it is shown images."""
        mark = hashlib.blake2b(f"{self.loaded.images} {self.loaded.precision}".encode(), digest_size=16)
        for name, tensor in cast(Any, self.loaded.model).image.state_dict().items():
            mark.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            mark.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return mark.hexdigest()


def opened(how: Images, images: Sequence[Any]) -> Generator[list[NDArray[np.uint8] | DataError], None, None]:
    """Images as a model is shown them, or why one cannot be read, a batch at a time; the next batch is read, by several
    threads, while the last one is worked on."""

    def one(place: int) -> NDArray[np.uint8] | DataError:
        try:
            return how.picture(images[place], None if named(images[place]) else f"Image {place + 1}")
        except DataError as told:
            return told

    batches = [range(start, min(start + IMAGES, len(images))) for start in range(0, len(images), IMAGES)]
    pool = ThreadPoolExecutor(min(READERS, os.cpu_count() or 1))
    try:
        ahead: deque[list[Future[NDArray[np.uint8] | DataError]]] = deque()
        for number in range(len(batches) + 1):
            if number < len(batches):
                ahead.append([pool.submit(one, place) for place in batches[number]])
            if number:
                yield [future.result() for future in ahead.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def named(image: object) -> bool:
    """Whether an error can call an image by its path."""
    return isinstance(image, str) or hasattr(image, "__fspath__")


def called(image: object, place: int) -> str:
    """An image's file, or its number from 1."""
    return str(image) if named(image) else str(place + 1)


def unit(x: Tensor) -> Vectors:
    """What a tower made of a batch, as vectors of length 1; raises CheckpointError for damaged weights."""
    x = numbers(x.float())
    return (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)).cpu().numpy()
