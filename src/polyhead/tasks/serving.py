"""Many texts go on together: they may come at any time, each is answered as if it were alone, and those that begin
alike are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from polyhead.core import Run
from polyhead.errors import ArgumentError, DataError
from polyhead.families.count import kept
from polyhead.generation import Search
from polyhead.generation.continuous import Engine, Handle, rows_of
from polyhead.inputs.chat_template import Message, checked, chosen
from polyhead.inputs.controls import Controls
from polyhead.operator import Pages, Pool
from polyhead.operator.paged import SIZE
from polyhead.tasks.decoder import ROWS, Decoder, Telling, Written, grows
from polyhead.tasks.device import Device
from polyhead.tasks.generation_settings import are_ids, tell_lacking
from polyhead.tasks.load import Loaded, Precision, ready

MEMORY = 1 << 30  # bytes of keys and values
BUDGET = 256  # tokens that one step reads
SHARED = 0.25  # of all tokens of some prompts: from here on it pays to read what they share once


class PagedDecoderStep:
    """What `Engine` asks of a model that reads its own past."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, tokens: Tensor, pages: Pages) -> Tensor:
        run = Run(cache=pages, mask=pages.mask, positions=pages.positions)
        return self.model.head(self.model.decode(tokens, run)[:, -1])


class Ticket:
    """A prompt that was handed in.

    text: what was written so far, whole characters; of a beam, nothing until it is done. done: whether that is all.
    answers: best first, once it is; none where it was cancelled. error: what went wrong with it, in `tell` too.
    """

    def __init__(
        self,
        engine: Engine,
        decoder: Decoder,
        ids: Sequence[int],
        number: int,
        tell: Callable[[str], None] | None,
    ):
        self.decoder, self.tell = decoder, tell
        self.text = ""
        self.answers: list[Written] = []
        self.telling = Telling(decoder.tokenizer, len(ids), decoder.stop, self.hear)
        self.handle = engine.submit(decoder.request(ids, number=number, tell=self.telling))

    @property
    def done(self) -> bool:
        return self.handle.done

    @property
    def error(self) -> BaseException | None:
        return self.handle.error

    def hear(self, text: str) -> None:
        self.text += text
        if self.tell is not None:
            self.tell(text)

    def close(self) -> None:
        """Take the answers over, and tell the end of the best; warns where it lacks what was forced."""
        decoder, limit = self.decoder, self.handle.request.max_new
        self.answers = [
            decoder.written(each.tokens, decoder.ended(each, limit), each.score) for each in self.handle.answers
        ]
        try:
            tell_lacking(decoder.search, [self.handle.answers])
            if self.answers:
                self.telling.show(self.answers[0].text, last=True)
        except Exception as wrong:
            self.handle.error = wrong


class Serving:
    """A decoder that answers many prompts at once, as they come.

        serving = polyhead.Serving("my-writer")
        first = serving.submit("Once upon a time", max_new=40)
        second = serving.submit("The cat", search=polyhead.Sample(0.8))
        for piece in serving.stream(first):  # the second goes on meanwhile
            print(piece, end="", flush=True)
        serving.run()
        print(second.answers[0].text)

    model: a folder of a decoder, or what `load` returned. device, precision: as `load` takes them. memory: the most
    bytes that keys and values take; where they are full, the youngest prompt waits and is read again. rows: the most
    answers that are written at once. budget: the most tokens that one step reads, so that a long prompt does not keep
    the others waiting. It belongs to one thread: a server hands in, steps and cancels from the same one.
    """

    def __init__(
        self,
        model: str | Path | Loaded,
        *,
        device: Device = "auto",
        precision: Precision | None = None,
        memory: int = MEMORY,
        rows: int = ROWS,
        budget: int = BUDGET,
    ):
        self.loaded = ready(model, device, precision)
        usual = Decoder(self.loaded, "Serving")
        if (reason := unservable(usual)) is not None:
            raise ArgumentError(f"{self.loaded.folder or 'The model'} cannot be served: {reason}.")
        blocks = memory // block_bytes(usual)
        if blocks < 1:
            raise ArgumentError(f"memory is {memory} bytes, but {SIZE} tokens of this model take {block_bytes(usual)}.")
        self.engine = Engine(
            PagedDecoderStep(usual.model), Pool(blocks), self.loaded.device, budget=budget, rows=rows,
            apart=worth(usual),
        )  # fmt: skip
        self.tickets: dict[Handle, Ticket] = {}  # of those that are not done

    @property
    def busy(self) -> bool:
        return self.engine.busy

    def submit(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        *,
        search: Search | None = None,
        max_new: int | None = None,
        stop: Sequence[str] = (),
        number: int = 0,
        tell: Callable[[str], None] | None = None,
    ) -> Ticket:
        """Take in a text that goes on, its ids, or the messages of a conversation, by the folder's own chat template.

        search, max_new, stop: see `complete`. number: what `Sample` draws by beside its seed; prompts of one number are
        drawn for alike. tell: hears what is written, whole characters at a time. Raises DataError for a prompt that is
        empty or leaves no room, ArgumentError for one that could not be answered even if it were alone.
        """
        decoder = Decoder(self.loaded, "Serving", search=search, max_new=max_new, stop=stop)
        ids = self.read(prompt)
        decoder.check(ids, "The prompt", "shorten it")
        ticket = Ticket(self.engine, decoder, ids, number, tell)
        self.tickets[ticket.handle] = ticket
        return ticket

    def read(self, prompt: str | Sequence[int] | Sequence[Message]) -> list[int]:
        """The ids of a prompt; the start sign where there is nothing else."""
        words, start = self.loaded.tokenizer, self.loaded.config.start_id
        if isinstance(prompt, str):
            ids = words.encode(prompt)
        elif prompt and all(isinstance(each, int) for each in prompt):
            ids = [*cast(Sequence[int], prompt)]
            if not are_ids([ids], most := self.loaded.config.words):
                raise DataError(
                    f"Ids of tokens go from 0 to {most - 1}, but the prompt holds {min(ids)} to {max(ids)}."
                )
        else:
            template = chosen(words.templates, None, str(self.loaded.folder or "The model"), words.named_tokens)
            ids = Controls(words, template).ids(checked(prompt))
        ids = ids or ([start] if start is not None else [])
        if not ids:
            raise DataError("The prompt is empty, and the model has no start sign; give it a beginning.")
        return ids

    def step(self) -> list[Ticket]:
        """Read once what fits into the budget; those that gained a token or are done come back."""
        moved = [self.tickets[handle] for handle in self.engine.step() if handle in self.tickets]
        for ticket in moved:
            if ticket.done:
                del self.tickets[ticket.handle]
                ticket.close()
        return moved

    def stream(self, ticket: Ticket) -> Iterator[str]:
        """What is written to one prompt, piece by piece; all of them go on as need be. Raises what went wrong."""
        told = 0
        while True:
            done, text = ticket.done, ticket.text
            if len(text) > told:
                yield text[told:]
                told = len(text)
            if ticket.error is not None:
                raise ticket.error
            if done:
                return
            self.step()

    def run(self) -> None:
        """Go on until all are answered."""
        while self.busy:
            self.step()

    def cancel(self, ticket: Ticket) -> None:
        """Let a prompt go; what is done stays as it is."""
        if ticket.handle in self.tickets:
            self.engine.cancel(ticket.handle)
            del self.tickets[ticket.handle]


def unservable(decoder: Decoder) -> str | None:
    """None, or why a decoder's rows cannot be answered together by an engine."""
    if grows(decoder.config):
        return (
            "it turns its keys by how long a text has become, so that texts of unlike lengths cannot be read together"
        )
    if decoder.guidance != 1:
        return f"its folder asks for a guidance_scale of {decoder.guidance}, which reads every token twice"
    return None


def block_bytes(decoder: Decoder) -> int:
    """What one block of keys and values of all layers takes."""
    weight = next(decoder.model.parameters())
    return SIZE * kept(decoder.model)[0] * weight.element_size()


def worth(decoder: Decoder) -> int:
    """How many places of keys and values are as much to read as all weights: each is read, written side by side, and
    read again."""
    return sum(each.numel() for each in decoder.model.parameters()) // (3 * kept(decoder.model)[0])


def answered(
    decoder: Decoder, ids: Sequence[Sequence[int]], progress: Callable[[int], None] | None = None, *, first: int = 0
) -> list[list[Written]]:
    """The answers to rows of ids, which are read in batches, or over pages where that pays. `progress` hears how many
    more are done. first: the number of the first row; what is drawn is drawn by it."""
    if decoder.proposer is None and pays(decoder, ids):
        return over_pages(decoder, ids, progress, first)
    found: dict[int, list[Written]] = {}
    for batch in decoder.batches([len(row) for row in ids]):
        found.update(zip(batch, decoder([ids[i] for i in batch], numbers=[first + i for i in batch]), strict=True))
        if progress:
            progress(len(batch))
    return [found[i] for i in range(len(ids))]


def pays(decoder: Decoder, ids: Sequence[Sequence[int]]) -> bool:
    """Whether pages beat batches: where rules keep rows of unlike lengths apart, or rows have much in common."""
    if len(ids) < 2 or unservable(decoder) is not None:
        return False
    try:
        rows_of(decoder.search)
    except ArgumentError:
        return False
    alike = sum(shared(one, other) for one, other in pairwise(sorted(map(tuple, ids))))
    return decoder.rules.look or alike >= SHARED * sum(map(len, ids))


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with alike, in whole blocks."""
    n = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return n // SIZE * SIZE


def over_pages(
    decoder: Decoder, ids: Sequence[Sequence[int]], progress: Callable[[int], None] | None, first: int
) -> list[list[Written]]:
    """The answers to rows of ids by an engine of its own, with room for as many as run at once."""
    requests = [decoder.request(row, number=number) for number, row in enumerate(ids, first)]
    each = rows_of(decoder.search)
    needs = sorted(each * -(-(len(one.prompt) + one.max_new) // SIZE) for one in requests)
    rows = max(each, min(each, 4) * ROWS)
    pool = Pool(sum(needs[-(rows // each) :]))
    engine = Engine(
        PagedDecoderStep(decoder.model), pool, decoder.device, budget=max(BUDGET, rows + 1), rows=rows,
        apart=worth(decoder),
    )  # fmt: skip
    handles = [engine.submit(one) for one in requests]
    while engine.busy:
        done = sum(handle.done for handle in engine.step())
        if progress and done:
            progress(done)
    for handle in handles:
        if handle.error is not None:
            raise handle.error
    tell_lacking(decoder.search, [handle.answers for handle in handles])
    return [
        [decoder.written(one.tokens, decoder.ended(one, handle.request.max_new), one.score) for one in handle.answers]
        for handle in handles
    ]
