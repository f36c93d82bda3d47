"""What every verb shares at the door: errors become one sentence, lines come in, files go out whole or not at all."""

from __future__ import annotations

import errno
import functools
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, TextIO, TypeVar, get_args, get_origin

from polyhead.cli.screen import bar, say
from polyhead.errors import ArgumentError, DataError, PolyheadError, did_you_mean
from polyhead.files import whole, writable
from polyhead.inputs.readers import mend, read_lines, read_records

T = TypeVar("T")

#  what a verb writes, by the names of its parameters and of its options
WRITES = {
    "output_file": "--output", "sheet": "--sheet", "picture": "--figure", "plot": "--plot", "html": "--html",
    "save": "--save",
}  # fmt: skip


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, with errors meant for people as one sentence and exit code 2; Ctrl-C is 130, a closed pipe 141."""

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Chinese shows escapes, no traceback
        try:
            apart(kwargs)
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *where: say(f"polyhead: {message}")
                verb(*args, **kwargs)
            sys.stdout.flush()
        except PolyheadError as error:
            stop(str(error))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would complain
            raise SystemExit(141) from None
        except OSError as error:
            stop(sentence(error))
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise SystemExit(130) from None

    return run


def apart(given: Mapping[str, Any]) -> None:
    """Refuse to write over a file that the same command names to be read."""
    read = [value for name, value in given.items() if name not in WRITES]
    files = [each for value in read for each in (value if isinstance(value, list | tuple) else (value,))]
    for name, option in WRITES.items():
        path = given.get(name)
        if path is None or not path.is_file():  # a device may be both
            continue
        for each in files:
            if isinstance(each, str | Path) and same(each, path):
                also = f", the same file as {path}," if str(each) != str(path) else ""
                raise ArgumentError(f"{each}{also} is read, so {option} cannot write there; give it another file.")


def same(one: str | Path, other: Path) -> bool:
    """Whether both are one file; a text is none."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def stop(message: str) -> NoReturn:
    for line in f"polyhead: {message}".split("\n"):  # several, where a recipe has several faults
        say(line)
    raise SystemExit(2)


def sentence(error: OSError) -> str:
    """What the system refused, in words: which file, why, and what to do."""
    file = f"'{error.filename}'" if error.filename else "a file"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"The disk is full while writing {file}; free some space, then run the same command again."
        case errno.ENOENT:
            return f"There is no {file}; check the path."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"No permission for {file}; choose another place or change its permissions."
        case errno.EISDIR:
            return f"{file} is a folder; a file was expected."
        case _:
            return f"Cannot use {file}: {error.strerror or error}."


def unfit(verb: Callable[..., None], words: Sequence[str], param: Any) -> str:
    """What is wrong with the value of an option, of a few values or of a number; empty where that cannot be said."""
    known = inspect.signature(verb, eval_str=True).parameters
    opts, name = getattr(param, "opts", ()), getattr(param, "name", "")
    typed = [value for word, after in zip(words, [*words[1:], ""], strict=True) for value in given(opts, word, after)]
    if name not in known or not typed or get_origin(known[name].annotation) is not Annotated:
        return ""
    kind, how, *_ = get_args(known[name].annotation)
    kinds = [each for each in (get_args(kind) if NoneType in get_args(kind) else (kind,)) if each is not NoneType]
    expected = what_fits(kinds[0], getattr(how, "min", None), getattr(how, "max", None))
    value, near = typed[-1], did_you_mean(typed[-1], map(str, get_args(kinds[0])))
    shown = value if re.fullmatch(r"[-+]?[0-9.]+", value) else f"'{value}'"
    return expected and f"{max(opts, key=len)} is {shown}, but must be {expected}.{near}"


def given(opts: Sequence[str], word: str, after: str) -> list[str]:
    """The value that an option of these names gets from a word and the one after it, if it is that option's."""
    name, sign, value = word.partition("=")
    return [] if name not in opts else [value] if sign else [after]


def what_fits(kind: Any, least: float | None, most: float | None) -> str:
    """What an option of a kind may be, in words; empty for other kinds than a few values and numbers."""
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}"
    if kind not in (int, float):
        return ""
    number = "a whole number" if kind is int else "a number"
    if least is None or most is None:
        return number + ("" if least is None else f" of at least {least}")
    return f"{number} from {least} to {most}"


def lines(path: Path | None) -> Iterator[str]:
    """The lines of a UTF-8 file (gz too), or of the standard input, one by one and without their ends."""
    if path is not None:
        yield from read_lines(path)
        return
    head = b""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        head = head or raw
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as broken:
            raise DataError(
                f"the standard input line {number}: byte {broken.start + 1} is not UTF-8 ({mend(raw, head)})."
            ) from None


def is_jsonl(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".jsonl")


def fields(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """The numbers of the lines of a .jsonl file, and a field of each; blank lines are passed over."""
    return ((number, text) for number, (text,) in read_records(path, (name,)))


def field_of(input_file: Path | None, field: str | None) -> str:
    """The field that is asked for, or "text"; refused where there is no .jsonl file to take it from."""
    if field is not None and (input_file is None or not is_jsonl(input_file)):
        raise ArgumentError("--field chooses from the lines of a .jsonl file; give one with --input.")
    return field or "text"


WINDOW = 2000  # lines read, sorted by length and answered together


def in_windows(
    given: Sequence[str] | None,
    input_file: Path | None,
    output_file: Path | None,
    verb: str,
    answer: Callable[..., T],
    *,
    field: str | None = None,
) -> Iterator[tuple[list[str], T]]:
    """Arguments, or the lines of a file or of the standard input, so many at a time, each with what `answer` says.

    `answer` is called with the lines and progress=, which moves a bar while a file is worked on. field: what is taken
    of the lines of a .jsonl file; None: lines are lines.
    """
    if given and input_file:
        raise ArgumentError("Give texts or --input FILE, not both.")
    live = not given and input_file is None and sys.stdin.isatty()
    if live:
        print("Type a line and press Enter; Ctrl-D ends.", file=sys.stderr)
    if field is not None and input_file is not None and is_jsonl(input_file):
        incoming = (text for _, text in fields(input_file, field))
    else:
        incoming = iter(given) if given else lines(input_file)
    with working(verb, input_file, output_file) as tell:
        while some := list(islice(incoming, 1 if live else WINDOW)):
            yield some, answer(some, progress=tell)


def working(verb: str, input_file: Path | None, output_file: Path | None) -> Any:
    """A bar while a file is worked on, unless the answers appear on the same terminal."""
    shared = output_file is None and sys.stdout.isatty()
    if input_file is None or not input_file.is_file() or shared or not sys.stderr.isatty():
        return nullcontext()
    return bar(verb, sum(1 for _ in lines(input_file)))


@contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """Where a verb writes UTF-8: the standard output, or a file that appears under its name only when it is whole."""
    if path is None or str(path) in ("-", "/dev/stdout", "/dev/fd/1"):
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # of names that are no text
        yield sys.stdout
        return
    path = path.resolve()  # a link keeps pointing where it did
    if path.exists() and not path.is_file():  # a device or a pipe is written to; a folder refuses that
        with writable(path), path.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
    elif not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    else:
        with whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream


def figure_file(path: Path) -> None:
    """Refuse a figure's path before the work: an ending that is none of a figure's, or a folder that is not there."""
    from polyhead.lens.figures.figure import ending

    ending(path)
    needs_folder(path)


def needs_folder(path: Path) -> None:
    if not path.resolve().parent.is_dir():
        raise ArgumentError(f"There is no folder {path.parent} for {path.name}; make it, or choose another.")


def draw_into(path: Path, figure: Any, what: str = "") -> None:
    """Write a figure, and say so, `what` it is of, and what no font could write of it."""
    figure.save(path)
    say(f"Drawn into {path}{what and ': '}{what}.")
    if path.suffix.lower() == ".png" and (lacking := figure.lacking):
        say(lacking)
