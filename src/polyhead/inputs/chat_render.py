"""A program of its own: a chat template and conversations come in as lines of JSON, texts go out as lines of JSON.

A template is a program that a stranger wrote. `chat_template` runs this file in a process that may not take long, fill
the memory, open a file or a connection, or start another process; jinja2's sandbox keeps it from Python inside.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MEMORY = 1 << 30  # bytes of address space, Python included
LARGEST = 1 << 23  # characters of a rendered conversation
WARM = (  # what templates use, once: Python reads some of its own files only then, and later it may not
    "{{ strftime_now('%d %b %Y') }}{{ [{'a': 1.5}] | tojson(indent=2) }}{{ lipsum() | urlize }}{{ [1] | random }}",
    "{{ ''.__class__ }}", "{% if %}", "{{ 1 + '' }}",
)  # fmt: skip


class Complaint(TemplateError):
    """What a template says itself of messages that it does not take."""


class Generation(Extension):
    """{% generation %} ... {% endgeneration %} marks what the model wrote, for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("content"), [], [], body).set_lineno(line)

    def content(self, caller: Any) -> str:
        return caller()


class Names(Namespace):
    """A namespace that takes no names with an underscore before them."""

    def __init__(self, *given: Any, **named: Any) -> None:
        attributes = dict(*given, **named)
        for name in attributes:
            plain(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        plain(name)
        super().__setitem__(name, value)


class MakeDict:
    """`dict` as templates know it, without the class behind it."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        return dict(*given, **named)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class Sandbox(ImmutableSandboxedEnvironment):
    """Where chat templates run: what `transformers` gives them, and no way behind it."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
        self.filters["tojson"] = to_json
        self.globals |= {
            "raise_exception": complain, "strftime_now": now, "dict": MakeDict(), "namespace": Names,
        }  # fmt: skip

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Refused when it is reached for, not only when something is done with it."""
        raise SecurityError(f"it asks a {type(obj).__name__} for {attribute}")


def plain(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it keeps something under the name {name}")


def complain(message: Any) -> None:
    raise Complaint(str(message))


def now(form: str) -> str:
    return datetime.now().strftime(form)


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as it is, not made fit for HTML as jinja2's own would be."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def limited() -> None:
    """From here on: little memory, no new file, connection or process, nothing written to a disk."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0),
    ):  # fmt: skip
        with suppress(ValueError, OSError):  # not every system has them all
            resource.setrlimit(what, (most, most))


def answer(sandbox: Sandbox, template: str, values: dict[str, Any]) -> dict[str, str]:
    """{"text": ...}, or {"kind": ..., "why": ...} of what went wrong."""
    try:
        parts, size = list[str](), 0
        for part in sandbox.from_string(template).generate(values):
            parts.append(part)
            if (size := size + len(part)) > LARGEST:
                return {"kind": "long", "why": f"it writes more than {LARGEST} characters"}
        return {"text": "".join(parts)}
    except Complaint as complaint:
        return {"kind": "complaint", "why": str(complaint)}
    except TemplateSyntaxError as broken:
        return {"kind": "syntax", "why": f"line {broken.lineno}: {broken.message}"}
    except SecurityError as refused:
        return {"kind": "security", "why": str(refused)}
    except (MemoryError, RecursionError) as large:
        return {
            "kind": "long",
            "why": "it wants too much memory" if isinstance(large, MemoryError) else "it never ends",
        }
    except Exception as wrong:  # whatever a program may do wrong
        return {"kind": "failed", "why": f"{type(wrong).__name__}: {wrong}"}


def main() -> None:
    """For each line [template, values] that comes in one line goes out, within so many seconds."""
    seconds = int(sys.argv[1])
    sandbox = Sandbox()
    for template in WARM:
        answer(sandbox, template, {})
    limited()
    for line in sys.stdin.buffer:
        signal.alarm(seconds)  # nobody catches it: the process ends, whatever it is at
        template, values = json.loads(line)
        told = json.dumps(answer(sandbox, template, values)) + "\n"
        signal.alarm(0)
        sys.stdout.buffer.write(told.encode())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
