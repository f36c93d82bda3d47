"""Messages enter, the one text leaves that a model was taught to read them in: its folder's chat template, rendered."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from polyhead.errors import ArgumentError, CheckpointError, DataError, did_you_mean

SECONDS = 5  # for one conversation; it takes milliseconds
TEMPLATE, NAMED = "chat_template.jinja", "additional_chat_templates"  # a file, and a folder of such by name
DEFAULT = "default"
REASONING = ("reasoning_content", "thinking", "reasoning")  # what others call the first of them
PROGRAM = Path(__file__).with_name("chat_render.py")

Message = Mapping[str, Any]  # "role" and "content", and what else a template may look at


class Renderer:
    """The process in which templates run; it starts with the first of them and ends with this program."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0
        self.lock = threading.Lock()

    def __call__(self, template: str, values: Mapping[str, Any]) -> dict[str, str]:
        """{"text": ...}, or {"kind": ..., "why": ...} of what went wrong."""
        line = json.dumps([template, values]).encode() + b"\n"
        with self.lock:
            process = self.started()
            assert process.stdin and process.stdout
            told = b""
            try:
                process.stdin.write(line)
                process.stdin.flush()
                told = process.stdout.readline()
            except BrokenPipeError:
                pass
            finally:
                if not told.endswith(b"\n"):  # it ended, or somebody lost patience: the next one asks another process
                    self.close()
        if told.endswith(b"\n"):
            return json.loads(told)
        if process.returncode == -signal.SIGALRM:
            return {"kind": "long", "why": f"it takes more than {SECONDS} seconds"}
        return {"kind": "failed", "why": f"its process ended with code {process.returncode}"}

    def started(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.owner != os.getpid():  # a forked program asks a process of its own
            self.owner = os.getpid()
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM), str(SECONDS)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self.process

    def close(self) -> None:
        """End the process, if there is one."""
        if self.process is not None and self.owner == os.getpid():
            process, self.process = self.process, None
            assert process.stdin and process.stdout
            if process.poll() is None:
                process.kill()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


render = Renderer()
atexit.register(render.close)


@dataclass(frozen=True)
class ChatTemplate:
    """A template's text, where it is from, and the special tokens that it may write, by names such as bos_token."""

    text: str
    source: str = "the chat template"
    tokens: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, messages: Sequence[Message], *, answer: bool = True, **values: Any) -> str:
        """The text of a conversation, as apply_chat_template of `transformers` gives it.

        answer: end where the model begins its answer; where the last message is the model's own, within that, so that
        it goes on with it. values: what else the template asks for, such as enable_thinking. Raises DataError for
        messages that the template refuses, CheckpointError for a template that cannot be used.
        """
        told = [spelled(message) for message in messages]
        going_on = answer and bool(told) and told[-1]["role"] == "assistant"
        given = {"messages": told, "tools": None, "documents": None, **self.tokens, **values}
        if not going_on:
            return self.rendered(given | {"add_generation_prompt": answer})
        last = told[-1]["content"]
        mark = next(m for n in range(len(last) + 1) if (m := f"THE MESSAGE ENDS HERE {n}.") not in last) + " "
        told[-1]["content"] = last + mark
        text = self.rendered(given | {"add_generation_prompt": False})
        if last.strip() not in text or (place := text.rfind(mark.strip())) < 0:
            raise DataError(
                f"{self.source} does not show the model's last message as it is, so nothing can go on with it; end with"
                " a message of the user"
            )
        kept = text[place : place + len(mark)] == mark  # else the template strips messages
        return text[:place] if kept else text[:place].rstrip()

    def rendered(self, values: Mapping[str, Any]) -> str:
        told = render(self.text, values)
        match told.get("kind"):
            case None:
                return told["text"]
            case "complaint":
                raise DataError(f"{self.source} refuses these messages: {told['why']}")
            case "security":
                raise CheckpointError(f"{self.source} reaches for Python's inside ({told['why']}) and was stopped")
            case "long":
                raise CheckpointError(f"{self.source} was stopped: {told['why']}")
            case _:
                raise CheckpointError(f"{self.source} cannot be used ({told['why']})")


def spelled(message: Message) -> dict[str, Any]:
    """A message as templates know it: without what is None, and its reasoning under the names that they use."""
    told = {key: value for key, value in message.items() if value is not None}
    if (reasoning := next((told[key] for key in REASONING if key in told), None)) is not None:
        told = {"thinking": reasoning, **told, "reasoning_content": reasoning}
    return told


def checked(messages: object) -> list[dict[str, Any]]:
    """A conversation as a list of messages; a text is a message of the user. Raises DataError for what is none."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise DataError(f'messages must be a text or a list of {{"role": ..., "content": ...}}, found {messages!r:.80}')
    found: list[dict[str, Any]] = []
    for number, message in enumerate(cast(Sequence[object], messages), 1):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise DataError(f'Message {number} must hold the texts "role" and "content", found {message!r:.80}')
        try:
            json.dumps(message, ensure_ascii=False).encode()
        except (TypeError, ValueError) as wrong:  # also half of a UTF-16 pair
            raise DataError(f"Message {number} holds what is no text ({wrong})") from None
        found.append(dict(message))
    return found


def templates_in_files(folder: Path) -> dict[str, str]:
    """The templates of a folder that stand in files of their own, by name."""
    paths = {DEFAULT: folder / TEMPLATE, **{path.stem: path for path in sorted((folder / NAMED).glob("*.jinja"))}}
    try:
        return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()}
    except (OSError, UnicodeDecodeError) as broken:
        raise CheckpointError(f"{folder} holds a chat template that cannot be read ({broken}); fetch it anew") from None


def templates_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The templates that a tokenizer_config.json holds: one text, or several with names."""
    held = config.get("chat_template")
    if isinstance(held, str):
        return {DEFAULT: held}
    if isinstance(held, list) and all(isinstance(each, dict) for each in held):
        held = {each.get("name"): each.get("template") for each in held}
    found = held if isinstance(held, dict) else {}
    return {name: text for name, text in found.items() if isinstance(name, str) and isinstance(text, str)}


def chosen(
    templates: Mapping[str, str], name: str | Path | None, where: str, tokens: Mapping[str, str]
) -> ChatTemplate:
    """The template called so, the one in a file, or, without a name, the default or only one.

    Raises CheckpointError where there is none, ArgumentError for a name that is neither.
    """
    if name is not None and str(name) not in templates:
        path = Path(name)
        if not path.is_file():
            raise ArgumentError(
                f"There is no template '{name}': it is neither a file nor one of {where}"
                f" ({', '.join(templates) or 'none'}).{did_you_mean(str(name), templates)}"
            )
        try:
            return ChatTemplate(path.read_text(encoding="utf-8"), f"The chat template {path}", tokens)
        except UnicodeDecodeError:
            raise ArgumentError(f"{path} is not UTF-8 text; give a file with a chat template") from None
    if not templates:
        raise CheckpointError(
            f"{where} has no chat template, which tells how its model was taught to talk; continue texts instead"
            " (polyhead complete), or give a template (--template FILE)"
        )
    if name is None and DEFAULT not in templates and len(templates) > 1:
        raise ArgumentError(f"{where} has several chat templates; name one of {', '.join(templates)} as template")
    named = str(name) if name is not None else DEFAULT if DEFAULT in templates else next(iter(templates))
    return ChatTemplate(templates[named], f"The chat template of {where}", tokens)
