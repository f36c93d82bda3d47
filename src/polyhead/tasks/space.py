"""Texts and images become vectors of length 1 in the one space of a model that reads both, where what belongs together
lies close (Radford et al. 2021)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import DataError
from polyhead.generation import sorted_batches
from polyhead.inputs.batch import pad
from polyhead.inputs.text import clean
from polyhead.tasks.load import Loaded, able
from polyhead.tasks.windows import BATCH_TOKENS, ROWS, numbers, windows_of

IMAGES = 32  # in one batch
Vectors = NDArray[np.float32]  # [n, E]
Progress = Callable[[int], None]


class Space:
    """A loaded model of two towers, made ready.

    Nothing is cut: of a text of more tokens than the model has places, windows are read one after the other, and their
    vectors are averaged.
    """

    def __init__(self, loaded: Loaded, verb: str = "search"):
        able(loaded, ("similarity",), verb, reads=("text or image",))
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

    @torch.inference_mode()
    def images(self, images: Sequence[Any], progress: Progress | None = None) -> Vectors:
        """The vectors of images, as `open_image` takes them. Raises DataError for one that cannot be read."""
        found, left = self.readable(images, progress)
        for _, why in left:
            raise DataError(why)
        return found

    @torch.inference_mode()
    def readable(
        self, images: Sequence[Any], progress: Progress | None = None
    ) -> tuple[Vectors, list[tuple[int, str]]]:
        """The vectors of those images that can be read, in their order, and the others: which, and why.

        `progress` hears how many more were looked at.
        """
        assert self.loaded.images is not None
        kind = next(self.loaded.model.parameters()).dtype
        found, left = [np.zeros((0, self.width), np.float32)], list[tuple[int, str]]()
        for start in range(0, len(images), IMAGES):
            pictures: list[NDArray[np.uint8]] = []
            for place, image in enumerate(images[start : start + IMAGES], start):
                try:
                    pictures.append(self.loaded.images.picture(image, None if named(image) else f"Image {place + 1}"))
                except DataError as told:
                    left.append((place, str(told)))
            if pictures:
                pixels = self.loaded.images.numbers(pictures).to(self.loaded.device, kind)
                found.append(unit(self.model.image(pixels)))
            if progress:
                progress(min(IMAGES, len(images) - start))
        return np.concatenate(found), left

    def fingerprint(self) -> str:
        """Equal fingerprints, equal vectors of images: of the weights of that tower, and of how it is shown images."""
        mark = hashlib.blake2b(f"{self.loaded.images} {self.loaded.precision}".encode(), digest_size=16)
        for name, tensor in cast(Any, self.loaded.model).image.state_dict().items():
            mark.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            mark.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return mark.hexdigest()


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
