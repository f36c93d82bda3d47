"""Texts become vectors: those of their words, gathered into one for each text (Reimers and Gurevych 2019); and images,
by a model that puts both into one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import ArgumentError, ConfigError
from polyhead.inputs.text import clean
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, Precision, ready, texts_of
from polyhead.tasks.needs import able
from polyhead.tasks.space import Space
from polyhead.tasks.windows import Window, numbers, through, windows_of
from polyhead.weights.config_keys import read_json

Pooling = Literal["mean", "first", "max"]
POOLINGS = {  # as folders of sentence-transformers write them
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Gathering:
    """How the vectors of a text's words become one.

    pooling: their mean, the first one, or the largest of each number. unit: whether it is made of length 1. most:
    tokens read at once. lower: whether the text is put in small letters first.
    """

    pooling: Pooling
    unit: bool
    most: int
    lower: bool


class Embedder:
    """A loaded encoder made ready to give vectors, as its folder says (modules.json, 1_Pooling, of
    sentence-transformers), else by the mean.

    A text of more tokens than the model reads is read in windows, one after the other; the mean and the maximum are
    then of the words of all, and "first" is the mean of the windows' first vectors.
    """

    def __init__(
        self, loaded: Loaded, *, pooling: Pooling | None = None, unit: bool | None = None, verb: str = "embed"
    ):
        able(loaded, verb)
        if not hasattr(loaded.model, "encode"):
            raise ArgumentError(
                f"{verb} needs a model whose words see those on both sides; {loaded.name} is a "
                f"{loaded.family.architecture}, whose words see only those before them"
            )
        how = gathering(loaded)
        self.pooling = how.pooling if pooling is None else pooling
        if self.pooling not in POOLINGS.values():
            raise ArgumentError(f"pooling must be one of {', '.join(POOLINGS.values())}; found {pooling!r}")
        self.unit, self.most, self.lower = how.unit if unit is None else unit, how.most, how.lower
        self.tokenizer, self.model = loaded.tokenizer, loaded.packed

    def __call__(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors [len(texts), D], in the order of the texts. `progress` hears how many texts more are done."""
        windows = self.windows(texts)
        sums = through(self.model, windows, self.tokenizer.pad_id, self.gathered, progress)
        width = cast(Any, self.model).config.d_model
        found = np.zeros((len(texts), width), np.float32)
        first = np.searchsorted([window.of for window in windows], np.arange(len(texts) + 1))
        for i, (start, stop) in enumerate(pairwise(first)):
            parts, counts = zip(*sums[start:stop], strict=True)
            stacked = np.stack(parts)
            found[i] = stacked.max(0) if self.pooling == "max" else stacked.sum(0) / sum(counts)
        if self.unit:
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    def windows(self, texts: Sequence[str]) -> list[Window]:
        readings = [self.tokenizer.read(clean(text.lower() if self.lower else text)) for text in texts]
        return [part for i, reading in enumerate(readings) for part in windows_of(reading, self.most, of=i)]

    def gathered(self, x: Tensor, lengths: Tensor) -> list[tuple[NDArray[np.float32], int]]:
        """Of each window [B, T, D] what its words add up to, and how many count."""
        real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # [B, T]
        x = numbers(x.float())
        match self.pooling:
            case "mean":
                found, counts = x.masked_fill(~real[..., None], 0.0).sum(1), [int(n) for n in lengths]
            case "first":
                found, counts = x[:, 0], [1] * len(x)
            case "max":
                found, counts = x.masked_fill(~real[..., None], -torch.inf).amax(1), [1] * len(x)
        return list(zip(found.cpu().numpy(), counts, strict=True))


class JointEmbedder:
    """A loaded model that reads texts and images, made ready to give vectors of both, in one space: each of length 1,
    as they are compared."""

    def __init__(self, loaded: Loaded, *, pooling: Pooling | None = None, unit: bool | None = None):
        if pooling is not None or unit is False:
            raise ArgumentError(
                f"{loaded.folder or 'This model'} gives one vector for each text or image by itself, of length 1; leave"
                " out pooling, and unit = False"
            )
        self.space = Space(loaded, "embed")

    def __call__(self, items: Sequence[Any], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors [len(items), E] of texts (str) and images (others), in their order."""
        texts = np.array([isinstance(item, str) for item in items], bool)
        found = np.zeros((len(items), self.space.width), np.float32)
        found[texts] = self.space.texts([item for item in items if isinstance(item, str)], progress)
        found[~texts] = self.space.images([item for item in items if not isinstance(item, str)], progress)
        return found


def embedder(loaded: Loaded, *, pooling: Pooling | None = None, unit: bool | None = None) -> Embedder | JointEmbedder:
    """What gives the vectors of a model."""
    return (JointEmbedder if loaded.family.towers else Embedder)(loaded, pooling=pooling, unit=unit)


def gathering(loaded: Loaded) -> Gathering:
    """What the folder says: modules.json, 1_Pooling/config.json and sentence_bert_config.json, where it has them."""
    folder, longest = loaded.folder, loaded.config.max_len
    if folder is None or not (folder / "1_Pooling" / "config.json").is_file():
        return Gathering("mean", False, longest, False)
    asked = read_json(folder / "1_Pooling" / "config.json")
    chosen = [key for key, on in asked.items() if key.startswith("pooling_mode_") and on]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise ConfigError(
            f"{folder / '1_Pooling'} asks for {', '.join(chosen) or 'no pooling'}, but must ask for one of"
            f" {', '.join(POOLINGS)}; or give pooling="
        )
    steps = (folder / "modules.json").read_text("utf-8") if (folder / "modules.json").is_file() else ""
    reads = folder / "sentence_bert_config.json"
    said = read_json(reads) if reads.is_file() else {}
    most = min(longest, said.get("max_seq_length") or longest)
    return Gathering(cast(Pooling, POOLINGS[chosen[0]]), "Normalize" in steps, most, bool(said.get("do_lower_case")))


def embed(
    texts: Any,
    *,
    model: str | Path | Loaded,
    pooling: Pooling | None = None,
    unit: bool | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
) -> NDArray[np.float32]:
    """The vector of a text [D], or of each of many [n, D].

    texts: a text (str) or an iterable of them; for a model that reads images too, also an image (a Path, a PIL image or
    an array), or a list of texts and images. model: a folder of an encoder, or what `load` returned. device, precision:
    as `load` takes them. pooling ("mean", "first", "max") and unit (length 1) are the folder's unless given; without
    word from it, the mean, as long as it is. Long texts are read whole, in windows. Raises ArgumentError, DataError,
    CheckpointError and ConfigError.
    """
    loaded = ready(model, device, precision)
    many = isinstance(texts, list | tuple) if loaded.family.towers else not isinstance(texts, str)
    items = (list(texts) if many else [texts]) if loaded.family.towers else texts_of(texts)
    found = embedder(loaded, pooling=pooling, unit=unit)(items)
    return found if many else found[0]
