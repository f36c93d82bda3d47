"""What is longer than a model reads becomes windows, each with what stands around it; all go through it in batches.

[CLS] question [SEP]  passage .................................. [SEP]
[CLS] question [SEP]  passage ........ [SEP]
[CLS] question [SEP]           ......... passage .. [SEP]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polyhead.core import Run
from polyhead.errors import CheckpointError, DataError
from polyhead.generation import sorted_batches
from polyhead.inputs.batch import pad
from polyhead.inputs.tokenizer import Reading
from polyhead.operator import Lengths, Segments

PACKED = 1024  # tokens in one row of windows side by side, whose vectors stay in a processor's cache
BATCH_TOKENS = 4096  # padding included, in one batch
ROWS = 64  # windows in one batch
T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """A part of a reading that a model can read.

    ids, kinds: of all its tokens. of: the reading's number. places: which tokens of the reading they are.
    """

    ids: list[int]
    kinds: list[int]
    of: int
    places: list[int]


def windows_of(reading: Reading, most: int, *, of: int = 0, text: int = 0, overlap: int = 0) -> list[Window]:
    """One window, or as many as it takes to read all of a `text` (0 or 1) by at most `most` tokens at a time.

    Neighbours have `overlap` tokens in common. Raises DataError where what stands around the text leaves no room.
    """
    n = len(reading.ids)
    if n <= most:
        return [window(reading, of, range(n))]
    body = [place for place in range(n) if reading.texts[place] == text]
    before, behind = range(body[0]), range(body[-1] + 1, n)
    room = most - len(before) - len(behind)
    if room <= overlap:
        raise DataError(
            f"What stands before and behind the text takes {len(before) + len(behind)} tokens of the {most} that the "
            f"model reads, which leaves {room} for the text, and windows overlap by {overlap}; shorten it"
        )
    starts = range(0, max(1, len(body) - overlap), room - overlap)
    return [window(reading, of, [*before, *body[start : start + room], *behind]) for start in starts]


def window(reading: Reading, of: int, places: Iterable[int]) -> Window:
    places = list(places)
    return Window([reading.ids[i] for i in places], [reading.kinds[i] for i in places], of, places)


def numbers(x: Tensor) -> Tensor:
    """What a model says, if it is finite: damaged weights give no answer. Raises CheckpointError."""
    if not torch.isfinite(x).all():
        raise CheckpointError("The model's scores are no finite numbers, so its weights are damaged; fetch them anew")
    return x


@torch.inference_mode()
def through(
    model: Any,
    windows: Sequence[Window],
    pad_id: int,
    make: Callable[[Tensor, Tensor], Iterable[T]],
    progress: Callable[[int], None] | None = None,
) -> list[T]:
    """What `make` gives for each window, in their order, from vectors [B, T, D] and lengths [B] of an encoder.

    `progress` hears how many readings more are done, with all their windows.
    """
    device = next(model.parameters()).device
    found: dict[int, T] = {}
    left = Counter(each.of for each in windows)
    lengths = [len(each.ids) for each in windows]
    here = device.type == "cpu"
    for batch in batches_of(lengths) if here else sorted_batches(lengths, budget=BATCH_TOKENS, rows=ROWS):
        some = [windows[i] for i in batch]
        x = side_by_side(model, some) if here else padded(model, some, pad_id, device)
        found.update(zip(batch, make(x, torch.tensor([lengths[i] for i in batch], device=device)), strict=True))
        left.subtract(windows[i].of for i in batch)
        if progress and (done := sum(left[of] == 0 for of in {windows[i].of for i in batch})):
            progress(done)
    return [found[i] for i in range(len(windows))]


def batches_of(lengths: Sequence[int]) -> list[list[int]]:
    """Neighbours of together at most so many tokens; a window that is longer is a batch of its own."""
    batches: list[list[int]] = []
    room = 0
    for i, length in enumerate(lengths):
        if not batches or length > room:
            batches.append([])
            room = PACKED
        batches[-1].append(i)
        room -= length
    return batches


def side_by_side(model: Any, windows: Sequence[Window]) -> Tensor:
    """Vectors [B, T, D] of windows that went through the encoder in one row, without padding: on a CPU, where every
    product of a padded place costs its time."""
    lengths = torch.tensor([len(each.ids) for each in windows])
    ids, kinds, places = (
        torch.tensor([x for each in windows for x in part(each)])[None]
        for part in (lambda each: each.ids, lambda each: each.kinds, lambda each: range(len(each.ids)))
    )  # [1, N]
    owners = torch.arange(len(windows)).repeat_interleave(lengths)[None]
    run = Run(mask=Segments(owners) if len(windows) > 1 else None, positions=places)
    x = model.encode(ids, run, kinds=kinds)[0]  # [N, D]
    return pad_sequence(x.split(lengths.tolist()), batch_first=True)


def padded(model: Any, windows: Sequence[Window], pad_id: int, device: torch.device) -> Tensor:
    """Vectors [B, T, D] of windows that went through the encoder as rows, padded to the longest."""
    ids, lengths = (x.to(device) for x in pad([each.ids for each in windows], pad_id))
    kinds = pad([each.kinds for each in windows], 0)[0].to(device)
    mask = None if int(lengths.min()) == ids.shape[1] else Lengths(lengths)
    return model.encode(ids, Run(mask=mask), kinds=kinds)
