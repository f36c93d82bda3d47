"""A conversation enters, the reply of a model that was taught to talk leaves; what it has read, it remembers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, DataError, WriteError
from polyhead.files import write_text
from polyhead.generation import Contrastive, Search
from polyhead.generation.speculative import Drafted, Lookup
from polyhead.inputs.chat_template import Message, checked, chosen
from polyhead.inputs.controls import Controls
from polyhead.inputs.readers import read_lines
from polyhead.operator import Cache
from polyhead.tasks.decoder import Candidate, Decoder, Written, grows
from polyhead.tasks.device import Device
from polyhead.tasks.drafting import proposer
from polyhead.tasks.load import Loaded, Precision, ready
from polyhead.tasks.serving import answered

NEW = 512  # most tokens of a reply unless somebody says how many


@dataclass(frozen=True)
class Reply:
    """What a model says next.

    candidates: all that the search found, with their scores, this one first; a conversation goes on with this one.
    finished: by an end token or a stop string, not by the limit or because somebody stopped it. stop: which string.
    prompt_tokens: of the conversation, as the model was given it. remembered: how many of these it had read before.
    new_tokens: of the reply. forgotten: how many turns, the oldest, were left out for want of places. drafted: how many
    proposals were taken, where there was a draft.
    """

    text: str
    finished: bool
    stop: str | None
    prompt_tokens: int
    remembered: int
    new_tokens: int
    forgotten: int = 0
    drafted: Drafted | None = None
    candidates: tuple[Candidate, ...] = ()


class Memory:
    """The keys and values of one row of ids, which the model need not read again."""

    def __init__(self) -> None:
        self.cache, self.ids = Cache(), list[int]()

    def common(self, ids: Sequence[int]) -> int:
        """Keep of it what these ids begin with, all but the last of them at most; how many that is."""
        most = min(len(self.ids), len(ids) - 1)
        same = next((n for n in range(most) if self.ids[n] != ids[n]), max(most, 0))
        self.cache, self.ids = self.cache if same else Cache(), list(ids[:same])
        self.cache.cut(same)
        return same

    @torch.inference_mode()  # as the cache was filled
    def written(self, prompt: Sequence[int], tokens: Sequence[int], first: Tensor | None) -> None:
        """Note what was read: the prompt and what was added, unless `first` [1] says which of many rows stays."""
        if first is not None:
            self.cache.keep(first)
            self.cache.cut(len(prompt))
        self.ids = [*prompt, *tokens][: self.cache.length]


@dataclass(frozen=True)
class Asked:
    """A stop rule: every row is complete as soon as somebody says so."""

    stopped: Callable[[], bool]
    ids: Sequence[int] = ()

    def __call__(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        return torch.full_like(chosen, self.stopped(), dtype=torch.bool)


class Chatter:
    """A loaded decoder made ready to reply; see `chat` for the arguments."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        search: Search | None = None,
        max_new: int | None = None,
        stop: Sequence[str] = (),
        template: str | Path | None = None,
        values: Mapping[str, Any] | None = None,
        draft: str | Path | Loaded | Lookup | None = None,
        guidance: float | None = None,
    ):
        self.decoder = Decoder(
            loaded, "chat", search=search, max_new=max_new, stop=stop, usual_new=NEW, proposer=proposer(loaded, draft),
            guidance=guidance,
        )  # fmt: skip
        words, where = loaded.tokenizer, str(loaded.folder or "The model")
        self.controls = Controls(words, chosen(words.templates, template, where, words.named_tokens))
        self.values, self.places = dict(values or {}), self.decoder.places
        self.remembers = not grows(loaded.config)
        self.remembers = self.remembers and not isinstance(self.decoder.search, Contrastive)  # it needs every vector

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        first: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[Reply]:
        """The replies to many conversations. `progress` hears how many more are done. first: how many came before, in
        earlier calls; what is drawn is drawn by a conversation's number among all.

        Raises DataError, before any is answered, for one that cannot be read or leaves no place for a reply.
        """
        ids = [self.read(messages) for messages in conversations]
        found = answered(self.decoder, ids, progress, first=first)
        return [reply_of(some, len(row)) for row, some in zip(ids, found, strict=True)]

    def ids(self, messages: Sequence[Message]) -> list[int]:
        return self.controls.ids(messages, **self.values)

    def read(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation that leaves the reply a place."""
        ids = self.ids(messages)
        mend = "leave out its oldest messages, or use a Conversation, which does"
        self.decoder.check(ids, f"The conversation that ends with {messages[-1]['content']!r:.40}", mend)
        return ids

    @property
    def one_row(self) -> bool:
        return self.decoder.one_row

    def reply(
        self,
        ids: Sequence[int],
        *,
        number: int = 0,
        tell: Callable[[str], None] | None = None,
        stopped: Callable[[], bool] | None = None,
        memory: Memory | None = None,
        forgotten: int = 0,
    ) -> Reply:
        """What follows a conversation's ids, and what is to be told of it."""
        memory = memory if memory is not None and self.remembers else Memory()
        remembered = memory.common(ids)
        cut = False

        def asked() -> bool:
            nonlocal cut
            cut = cut or (stopped is not None and stopped())
            return cut

        try:
            found = self.decoder([ids], numbers=[number], tell=tell, cache=memory.cache, until=[Asked(asked)])[0]
        except BaseException:  # nobody knows which rows and places it left behind
            memory.common(())
            raise
        first = None if self.one_row else torch.zeros(1, dtype=torch.long, device=self.decoder.device)
        memory.written(ids, found[0].tokens, first)
        found = [replace(each, finished=each.finished and not cut) for each in found]
        return reply_of(found, len(ids), remembered=remembered, forgotten=forgotten)


def reply_of(found: Sequence[Written], prompt: int, *, remembered: int = 0, forgotten: int = 0) -> Reply:
    """What was written after so many tokens, as a reply."""
    best = found[0]
    return Reply(
        best.text, best.finished, best.stop, prompt, remembered, len(best.tokens), forgotten, best.drafted,
        tuple(each.candidate for each in found),
    )  # fmt: skip


def chat(
    messages: str | Sequence[Message],
    *,
    model: str | Path | Loaded,
    max_new: int | None = None,
    search: Search | None = None,
    stop: Sequence[str] = (),
    template: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    draft: str | Path | Loaded | Lookup | None = None,
    guidance: float | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    tell: Callable[[str], None] | None = None,
) -> Reply:
    """The model's reply to a conversation; for one that goes on, see `Conversation`.

    messages: a question, or a list of {"role": "system", "user" or "assistant", "content": text}; where the last is the
    assistant's, the reply goes on with it. model: a folder of a decoder with a chat template, or what `load` returned.
    device, precision: as `load` takes them. max_new: the most tokens of the reply, 512 unless given, within the model's
    places. search: `Greedy()`, `Beam(...)`, ...; unless given, what the folder's generation_config.json asks for. stop:
    strings that end the reply, left out of it. template: the name of one of the folder's templates, or a file. values:
    what else the template asks for. draft, guidance: see `complete`. tell: hears the reply as it is written, whole
    characters at a time.

    Special tokens in messages are mere text. Raises ArgumentError, DataError for messages that the template refuses or
    that leave no place for a reply (nothing is cut), CheckpointError for a folder without a template.
    """
    chatter = Chatter(
        ready(model, device, precision),
        search=search,
        max_new=max_new,
        stop=stop,
        template=template,
        values=values,
        draft=draft,
        guidance=guidance,
    )
    return chatter.reply(chatter.read(checked(messages)), tell=tell)


class Conversation:
    """A conversation that goes on: the model reads only what is new to it, and forgets the oldest turns when it must.

    system: what the model is told before all else. history: messages so far, the system's not among them. The other
    arguments are those of `chat`. A turn is what the user says with the reply to it. Where all turns leave no room for
    max_new tokens (or half the places, where that is less), the oldest are left out of what the model reads, with a
    warning and a number in the reply; `history` keeps them all.
    """

    def __init__(
        self,
        model: str | Path | Loaded,
        *,
        system: str | None = None,
        history: Sequence[Message] = (),
        max_new: int | None = None,
        search: Search | None = None,
        stop: Sequence[str] = (),
        template: str | Path | None = None,
        values: Mapping[str, Any] | None = None,
        draft: str | Path | Loaded | Lookup | None = None,
        guidance: float | None = None,
        device: Device = "auto",
        precision: Precision | None = None,
    ):
        self.chatter = Chatter(
            ready(model, device, precision), search=search, max_new=max_new, stop=stop, template=template,
            values=values, draft=draft, guidance=guidance,
        )  # fmt: skip
        self.system = system
        self.history = checked(history) if history else list[dict[str, Any]]()
        self.memory = Memory()
        self.forgotten = 0  # turns, the oldest, that the model is no longer given
        self.replies = 0  # so far, dropped ones too; each is drawn anew

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All of it, as `chat` takes it: the system's message and the history."""
        return [*self.first, *self.history]

    @property
    def first(self) -> list[dict[str, Any]]:
        return checked([{"role": "system", "content": self.system}]) if self.system is not None else []

    def say(
        self,
        text: str,
        *,
        tell: Callable[[str], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Reply:
        """The model's reply to what the user says next; both join the history.

        tell: hears the reply as it is written. stopped: asked after every token; once it says yes, the reply ends as it
        is. Raises DataError for what cannot be read or has no place; the history then stays as it was.
        """
        return self.extended([*self.history, *checked([{"role": "user", "content": text}])], tell, stopped)

    def again(self, *, tell: Callable[[str], None] | None = None, stopped: Callable[[], bool] | None = None) -> Reply:
        """Another reply in the place of the last one; a greedy or beam search finds the same."""
        return self.extended(self.history[: self.last_said() + 1], tell, stopped)

    def undo(self) -> str:
        """Take back what the user said last, and the reply; what that was."""
        place = self.last_said()
        text = self.history[place]["content"]
        self.history = self.history[:place]
        self.forgotten = 0
        return text

    def last_said(self) -> int:
        """Where in the history the user's last message is."""
        places = [place for place, message in enumerate(self.history) if message["role"] == "user"]
        if not places:
            raise ArgumentError("Nothing has been said yet.")
        return places[-1]

    def extended(
        self,
        history: list[dict[str, Any]],
        tell: Callable[[str], None] | None,
        stopped: Callable[[], bool] | None,
    ) -> Reply:
        """The reply to a history, which with it becomes ours."""
        ids, forgotten = self.fitting(history)
        if forgotten > self.forgotten:
            warnings.warn(
                f"The oldest {forgotten} of {len(turns(history))} turns no longer fit in the model's"
                f" {self.chatter.places} places; it replies without them",
                stacklevel=3,
            )
        memory, how = self.memory, {"tell": tell, "stopped": stopped, "forgotten": forgotten}
        reply = self.chatter.reply(ids, number=self.replies, memory=memory, **how)
        self.history = [*history, {"role": "assistant", "content": reply.text}]
        self.forgotten, self.replies = forgotten, self.replies + 1
        return reply

    def fitting(self, history: list[dict[str, Any]]) -> tuple[list[int], int]:
        """The ids of as many turns, the newest, as leave room for a reply; how many turns that leaves out."""
        all_turns, places = turns(history), self.chatter.places
        room = min(self.chatter.decoder.max_new or NEW, places // 2)
        for forgotten in range(min(self.forgotten, len(all_turns) - 1), len(all_turns)):
            kept = [message for turn in all_turns[forgotten:] for message in turn]
            ids = self.chatter.ids([*self.first, *kept])
            if len(ids) + room <= places:
                return ids, forgotten
        self.chatter.decoder.check(ids, "What is said last, with the system's message,", "say less")
        return ids, forgotten  # the last turn alone, with less room

    def save(self, path: str | Path) -> None:
        """Write all messages as JSONL, one object with role and content a line. Raises WriteError, and ArgumentError
        where nothing was said."""
        if not Path(path).parent.is_dir():
            raise WriteError(path, f"there is no folder {Path(path).parent}")
        if not self.history:
            raise ArgumentError("Nothing has been said yet, so there is nothing to save.")
        lines = [json.dumps(message, ensure_ascii=False) + "\n" for message in self.messages]
        write_text(Path(path), "".join(lines))

    def load(self, path: str | Path) -> None:
        """Go on with a conversation from a file of such lines, in place of this one. Raises DataError."""
        messages = read_messages(Path(path))
        system = messages[0]["role"] == "system"
        self.system = messages[0]["content"] if system else None
        self.history, self.forgotten = messages[int(system) :], 0


def turns(history: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Messages in turns: each begins where the user speaks."""
    found: list[list[dict[str, Any]]] = []
    for message in history:
        if message["role"] == "user" or not found:
            found.append([])
        found[-1].append(message)
    return found


def read_messages(path: Path) -> list[dict[str, Any]]:
    """The messages of a JSONL file. Raises DataError naming the line that is none."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            found += checked([json.loads(line)]) if line.strip() else []
        except ValueError as broken:
            raise DataError(f"{path} line {number} is not JSON ({broken}).") from None
        except DataError:
            raise DataError(f'{path} line {number} must be an object with the texts "role" and "content".') from None
    if not found:
        raise DataError(f"{path} holds no messages.")
    return found
