"""A conversation becomes ids, in which only what the template writes is a control token; what is typed is mere text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import tokenizers

from polyhead.errors import DataError
from polyhead.inputs.chat_template import ChatTemplate, Message
from polyhead.inputs.tokenizer import Tokenizer

PRIVATE = range(0xF0000, 0xFFFFE)  # characters that mean nothing by themselves


class Controls:
    """What a tokenizer and a template make of conversations.

    Control tokens are the special ones, and other added tokens that the template writes; of the latter the model may
    write some itself (its reasoning, its calls of tools), so that in its own messages they are what they are.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer, self.template = tokenizer, template
        added = tokenizer.inner.get_added_tokens_decoder().values()
        special = [token.content for token in added if token.special]
        written = [t.content for t in added if not t.special and t.content in template.text and t.content.strip()]
        self.special, self.all = any_of(special), any_of([*special, *written])
        self.added = any_of(token.content for token in added)

    def ids(self, messages: Sequence[Message], *, answer: bool = True, **values: Any) -> list[int]:
        """The ids of a conversation, as the model reads it; see `ChatTemplate` for the arguments and errors.

        Raises DataError for a message whose mere text the tokenizer can only read as a control token.
        """
        inner = self.tokenizer.inner
        typed = [self.all if message["role"] != "assistant" else self.special for message in messages]
        found = [has(message, pattern) for message, pattern in zip(messages, typed, strict=True)]
        if not any(found) and not has(values, self.all) and not inner.encode_special_tokens:
            text = self.template(messages, answer=answer, **values)
            return inner.encode(text, add_special_tokens=False).ids
        begin, end = unused(json.dumps([self.template.text, *messages, values], ensure_ascii=False))
        marked = [marks(message, pattern, begin, end) for message, pattern in zip(messages, typed, strict=True)]
        values = {name: marks(value, self.all, begin, end) for name, value in values.items()}
        text = self.template(marked, answer=answer, **values)
        return self.encode(text, begin, end)

    def encode(self, text: str, begin: str, end: str) -> list[int]:
        """The ids of a text in which `begin` and `end` stand around what is no control token though it looks so."""

        def other_way_round(found: re.Match[str]) -> str:
            typed, meant = found.groups()
            return typed or (f"{begin}{meant}{end}" if meant else "")  # a template may have torn a mark from its fellow

        pattern = rf"{begin}({self.added.pattern}){end}|({self.added.pattern})|[{begin}{end}]"
        twin, names = renamed(self.tokenizer.inner, begin, end)
        found = twin.encode(re.sub(pattern, other_way_round, text), add_special_tokens=False)
        if read := set(names.values()).intersection(found.tokens):
            raise DataError(
                f"The messages hold {', '.join(sorted(read))} as text, which this tokenizer can only read as a control"
                " token; leave it out or write it in another way"
            )
        return [
            self.tokenizer.named(names[token]) if token in names else id
            for token, id in zip(found.tokens, found.ids, strict=True)
        ]


@lru_cache(maxsize=4)
def renamed(inner: tokenizers.Tokenizer, begin: str, end: str) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The tokenizer, but its added tokens are spelled with marks around them; these spellings -> the true ones."""
    held = json.loads(inner.to_str())
    names = {f"{begin}{token['content']}{end}": token["content"] for token in held["added_tokens"]}
    for id, (name, token) in enumerate(zip(names, held["added_tokens"], strict=True), inner.get_vocab_size()):
        token |= {"content": name, "id": id}
    return tokenizers.Tokenizer.from_str(json.dumps(held)), names


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of the tokens, the longest where several begin; of no tokens, of nothing."""
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True) if t) or "(?!)")


def has(value: Any, pattern: re.Pattern[str]) -> bool:
    """Whether a text, or one inside a list or an object, holds what the pattern finds."""
    if isinstance(value, str):
        return pattern.search(value) is not None
    if isinstance(value, Mapping):
        return any(has(each, pattern) for each in value.values())
    return isinstance(value, Sequence) and any(has(each, pattern) for each in value)


def marks(value: Any, pattern: re.Pattern[str], begin: str, end: str) -> Any:
    """The same with marks around all that the pattern finds."""
    if isinstance(value, str):
        return pattern.sub(rf"{begin}\g<0>{end}", value)
    if isinstance(value, Mapping):
        return {key: marks(each, pattern, begin, end) for key, each in value.items()}
    return [marks(each, pattern, begin, end) for each in value] if isinstance(value, Sequence) else value


def unused(text: str) -> tuple[str, str]:
    """Two characters that the text does not hold."""
    free = (chr(code) for code in PRIVATE if chr(code) not in text)
    return next(free), next(free)
