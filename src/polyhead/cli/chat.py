"""`polyhead chat`: what a person says goes in, what the model replies comes out as it is written."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from polyhead.cli import choice, options
from polyhead.cli.door import in_windows, lines, output, sentence
from polyhead.cli.screen import one_line, say, shower, teller, to_json
from polyhead.errors import ArgumentError, DataError, PolyheadError, did_you_mean

if TYPE_CHECKING:
    from polyhead.tasks.chat import Conversation, Reply

CUT = "Cut short after {} tokens; --max-new allows more, where the model has places."
HELP = {
    "/help": "this",
    "/system TEXT": "what the model is told before all else; without TEXT, what that is",
    "/again": "another reply to what you said last",
    "/undo": "take back what you said last, and the reply",
    "/save FILE": "write the conversation, a message a line (JSONL)",
    "/load FILE": "go on with such a file",
    "/quit": "end, as Ctrl-D does; Ctrl-C stops a reply",
    "//TEXT": "say /TEXT",
}


@choice.asks_for_one
def chat(
    model: options.NeededModel = "",
    once: Annotated[
        str | None, typer.Option("--once", metavar="TEXT", help="Say this, and end with the reply.")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", "-i", metavar="FILE", help="Reply to conversations, one on each line of this JSONL file."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="Told before all else.")] = None,
    load_file: Annotated[
        Path | None, typer.Option("--load", metavar="FILE", help="Go on with a saved conversation.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="FILE", help="A chat template, or the name of one in the folder."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="What else the template asks for; may be given often."),
    ] = None,
    max_new: Annotated[
        int | None,
        typer.Option("--max-new", min=1, show_default="the model's, or 512", help="The most tokens of a reply."),
    ] = None,
    by: choice.Choice = choice.USUAL,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    as_json: options.Json = False,
    output_file: options.Output = None,
) -> None:
    """Talk with a model.

    On a terminal, a conversation: /help tells what can be done besides talking, Ctrl-C stops a reply, Ctrl-D ends. From
    a pipe, every line is said in turn. Unless told otherwise, tokens are chosen as the model's generation_config.json
    says.

    **Examples**

        polyhead chat -m my-chatter
        polyhead chat -m my-chatter --system "Answer in one sentence." --once "Why is the sky blue?"
        polyhead chat -m my-chatter -i conversations.jsonl -o replies.jsonl --json
    """
    options.needed(model)
    if input_file and (once is not None or load_file or system is not None):
        raise ArgumentError("--input brings whole conversations; leave out --once, --load and --system.")
    live = once is None and input_file is None and sys.stdin.isatty()
    if live and (as_json or output_file):
        raise ArgumentError(
            "--json and --output are for --once, --input and pipes; in a conversation, /save FILE writes."
        )
    how = {"max_new": max_new, "stop": by.stop, "template": template, "draft": by.draft, "guidance": by.guidance}
    values = dict(setting(each) for each in settings or [])

    from polyhead.tasks.chat import Chatter, Conversation
    from polyhead.tasks.load import load
    from polyhead.tasks.needs import able

    loaded = load(model, device=device, precision=precision)
    able(loaded, "chat")
    how["search"] = by.search(loaded)
    if input_file is not None:
        chatter = Chatter(loaded, values=values, **how)
        with output(output_file) as out:
            for _, replies in in_windows(None, input_file, output_file, "replying", batch(chatter, input_file)):
                for reply in replies:
                    out.write(written(reply, out, as_json) + "\n")
                out.flush()
        return
    talk = Conversation(loaded, values=values, **how)
    if load_file is not None:
        talk.load(load_file)
    talk.system = system if system is not None else talk.system
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # also what was said before
        if live:
            converse(talk)
            return
        with output(output_file) as out:
            for text in [once] if once is not None else lines(None):
                streamed = once is not None and out is sys.stdout and not as_json
                reply = talk.say(text, tell=teller() if streamed else None)
                out.write(("" if streamed else written(reply, out, as_json)) + "\n")
                out.flush()
                if not (reply.finished or as_json):
                    say(CUT.format(reply.new_tokens))
                if reply.drafted is not None and not as_json:
                    say(f"{reply.drafted}.")


def written(reply: Reply, out: TextIO, as_json: bool) -> str:
    """A reply as one line."""
    if not as_json:
        return shower(out)(one_line(reply.text))
    told = asdict(reply)
    del told["candidates"]  # here there is one
    return to_json(told)


def setting(word: str) -> tuple[str, Any]:
    """NAME=VALUE, the value in JSON or as it is."""
    name, sign, value = word.partition("=")
    if not sign or not name.isidentifier():
        raise ArgumentError(f"--set takes NAME=VALUE, such as enable_thinking=false; found '{word}'.")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def batch(chatter: Any, file: Path) -> Callable[..., list[Reply]]:
    """The replies to lines of a file, each a list of messages or an object that holds one under "messages"."""
    from polyhead.inputs.chat_template import checked

    done = 0

    def replies(some: Sequence[str], *, progress: Callable[[int], None] | None) -> list[Reply]:
        nonlocal done
        talks: list[list[dict[str, Any]]] = []
        for line in some:
            done += 1
            try:
                held = json.loads(line)
                talks.append(checked(held["messages"] if isinstance(held, dict) and "messages" in held else held))
            except ValueError as broken:
                raise DataError(f"{file} line {done} is not JSON ({broken}).") from None
            except DataError as wrong:
                raise DataError(f"{file} line {done}: {wrong}") from None
        return chatter(talks, first=done - len(talks), progress=progress)

    return replies


# --- a conversation on a terminal ------------------------------------------------------------------------------------


def converse(talk: Conversation) -> None:
    """Read, reply, again and again, until Ctrl-D or /quit."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # arrows move in the line and bring back older ones
    say("Type and press Enter. /help tells what else there is; Ctrl-C stops a reply, Ctrl-D ends.")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            say("Ctrl-D ends.")
            continue
        try:
            if line == "/quit":
                return
            if line.startswith("/") and not line.startswith("//"):
                obey(talk, line)
            elif line:
                hear(partial(talk.say, line.removeprefix("/") if line.startswith("//") else line))
        except PolyheadError as wrong:
            say(str(wrong))
        except OSError as wrong:
            say(sentence(wrong))


def obey(talk: Conversation, line: str) -> None:
    """One of the commands that begin with a slash."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word in ("/save", "/load") and not rest:
        raise ArgumentError(f"{word} needs the name of a file.")
    match word:
        case "/help":
            for command, what in HELP.items():
                say(f"{command:13} {what}")
        case "/system":
            talk.system = rest or talk.system
            say(f"The model is told: {talk.system}" if talk.system is not None else "The model is told nothing.")
        case "/again":
            hear(talk.again)
        case "/undo":
            say(f"Taken back: {talk.undo()}")
        case "/save":
            talk.save(Path(rest).expanduser())
            say(f"{len(talk.messages)} messages written to {rest}.")
        case "/load":
            talk.load(Path(rest).expanduser())
            say(f"{len(talk.messages)} messages read from {rest}.")
        case _:
            known = [command.split()[0] for command in HELP]
            raise ArgumentError(f"There is no command {word}; /help tells which there are.{did_you_mean(word, known)}")


def hear(ask: Callable[..., Reply]) -> None:
    """A reply as it is written, which Ctrl-C stops; why it ended where that is no end."""
    try:
        with interrupts() as asked:
            reply = ask(tell=teller(), stopped=asked)
            print()
            if asked():
                say("Stopped here; the conversation goes on, and /undo takes this back.")
            elif not reply.finished:
                say(CUT.format(reply.new_tokens))
    except KeyboardInterrupt:
        print()
        say("Stopped; nothing of this reply was kept.")


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed meanwhile; pressed twice, it interrupts at once."""
    pressed = False

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
