"""Beginnings become continuations, word by word, by a decoder that reads its own past."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from polyhead.errors import ArgumentError, DataError
from polyhead.generation import Search
from polyhead.generation.speculative import Drafted, Lookup
from polyhead.tasks.decoder import Candidate, Decoder, Written
from polyhead.tasks.device import Device
from polyhead.tasks.drafting import proposer
from polyhead.tasks.load import Loaded, Precision, ready, texts_of
from polyhead.tasks.serving import answered


@dataclass(frozen=True)
class Completion:
    """A prompt, what follows it best, and all that the search found, with their scores, the best or first drawn first.

    finished: by an end token or a stop string, not by the limit. stop: which string. score: the log-probability of what
    was added, where the search tells it. drafted: how many proposals were taken, where there was a draft.
    """

    prompt: str
    text: str
    candidates: tuple[Candidate, ...]
    finished: bool
    stop: str | None = None
    score: float | None = None
    drafted: Drafted | None = None


class Completer:
    """A loaded decoder made ready to continue texts.

    search, stop, max_new, draft, guidance: see `complete`. Rules of the folder's generation_config.json hold for every
    search.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        search: Search | None = None,
        max_new: int | None = None,
        stop: Sequence[str] = (),
        draft: str | Path | Loaded | Lookup | None = None,
        guidance: float | None = None,
    ):
        self.decoder = Decoder(
            loaded, "complete", search=search, max_new=max_new, stop=stop, proposer=proposer(loaded, draft),
            guidance=guidance,
        )  # fmt: skip
        self.config, self.tokenizer = loaded.config, loaded.tokenizer

    def __call__(
        self, prompts: Sequence[str], *, first: int = 0, progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """What follows each prompt. `progress` hears how many prompts more are done. first: how
        many prompts came before, in earlier calls; what is drawn is drawn by a prompt's number among all.

        Raises DataError, before anything is written, for a prompt that leaves the model no place.
        """
        ids = [self.read(prompt, number) for number, prompt in enumerate(prompts, first + 1)]
        return completions(prompts, answered(self.decoder, ids, progress, first=first))

    def read(self, prompt: str, number: int = 1) -> list[int]:
        """The ids of a prompt; the start sign where there is nothing else."""
        ids = self.tokenizer.encode(prompt)
        start = self.config.start_id
        ids = ids or ([start] if start is not None else [])
        if not ids:
            raise DataError(f"Prompt {number} is empty, and the model has no start sign; give it a beginning")
        self.decoder.check(ids, f"Prompt {number}", "shorten it")
        return ids

    def batch(
        self,
        ids: Sequence[Sequence[int]],
        prompts: Sequence[str],
        *,
        numbers: Sequence[int] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> list[Completion]:
        return completions(prompts, self.decoder(ids, numbers=numbers, tell=tell))


def completions(prompts: Sequence[str], found: Sequence[Sequence[Written]]) -> list[Completion]:
    """What was written after each prompt, as completions."""
    return [
        Completion(
            text, best.text, tuple(each.candidate for each in (best, *others)), best.finished, best.stop, best.score,
            best.drafted,
        )
        for text, (best, *others) in zip(prompts, found, strict=True)
    ]  # fmt: skip


@overload
def complete(
    prompts: str,
    *,
    model: str | Path | Loaded,
    max_new: int | None = ...,
    stop: Sequence[str] = ...,
    search: Search | None = ...,
    draft: str | Path | Loaded | Lookup | None = ...,
    guidance: float | None = ...,
    device: Device = ...,
    precision: Precision | None = ...,
    tell: Callable[[str], None] | None = ...,
) -> Completion: ...
@overload
def complete(
    prompts: Iterable[str],
    *,
    model: str | Path | Loaded,
    max_new: int | None = ...,
    stop: Sequence[str] = ...,
    search: Search | None = ...,
    draft: str | Path | Loaded | Lookup | None = ...,
    guidance: float | None = ...,
    device: Device = ...,
    precision: Precision | None = ...,
    tell: Callable[[str], None] | None = ...,
) -> list[Completion]: ...
def complete(
    prompts: str | Iterable[str],
    *,
    model: str | Path | Loaded,
    max_new: int | None = None,
    stop: Sequence[str] = (),
    search: Search | None = None,
    draft: str | Path | Loaded | Lookup | None = None,
    guidance: float | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    tell: Callable[[str], None] | None = None,
) -> Completion | list[Completion]:
    """Continue one text, or many.

    model: a folder of a decoder, or what `load` returned. device, precision: as `load` takes them. max_new: the most
    tokens that are added, 128 unless given, within the model's places. stop: strings that end a continuation as soon as
    they are spelled; they are left out. search: `Greedy()`, `Beam(4, n_best=3)`, ..., whose answers are all among the
    candidates; unless given, what the folder's generation_config.json asks for. draft: a smaller model of the same
    vocabulary, or `Lookup()`, which copies from the prompt and from what was written; either proposes tokens, of which
    those stay that the model would have written: the same comes sooner. guidance: above 1, what the prompt adds to
    every token counts for more (guidance_scale; unless given, the folder's). tell: hears the continuation of a single
    prompt as it is written, whole characters at a time. Raises ArgumentError, DataError for a prompt that leaves no
    room, and CheckpointError.
    """
    lines = texts_of(prompts)
    completer = Completer(
        ready(model, device, precision), search=search, max_new=max_new, stop=stop, draft=draft, guidance=guidance
    )
    if isinstance(prompts, str):
        return completer.batch([completer.read(prompts)], [prompts], numbers=[0], tell=tell)[0]
    if tell is not None:
        raise ArgumentError("tell hears one continuation as it is written; give one prompt, or leave it out")
    return completer(lines)
