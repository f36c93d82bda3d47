"""Files of sentence pairs enter (TSV, JSONL, two parallel files; gz too), clean examples leave one at a time.

Nothing is held in memory but the line at hand. A broken line stops the reading with file and line number or, by
choice, is skipped and counted by reason.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple, cast

from polyhead.errors import ArgumentError, DataError, did_you_mean
from polyhead.inputs.text import clean

MOST_VISITS = 1000  # of a pair in one epoch; the plan of an epoch holds each of them
EXPECTED = {"tsv": "lines of two columns", "jsonl": "lines of JSON", "parallel": "lines"}
HEAD = 1024  # bytes by which a file is told that is no text
MARKS = (  # of byte orders, the longer ones first
    (b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"),
)  # fmt: skip
LONGEST_LINE = 1 << 20  # bytes; what is longer is not a sentence, and its file perhaps not made of lines

Column = int | str
Value = str | int | bool
OnError = Literal["stop", "skip"]


class Example(NamedTuple):
    """One pair, cleaned, and the number of the line it came from (the first line is 1)."""

    source: str
    target: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where pairs are read from.

    path: one file, or two parallel ones (source, target); gzip is recognised.
    format: "tsv", "jsonl" or "parallel"; None goes by the name, where a single file that is not .jsonl is TSV.
    columns: (source, target). Numbers count from 1, as in `cut -f`; names are keys of JSONL, or of a TSV whose first
        line names its columns.
    where: only rows whose column holds one of the values, as in {4: ("simp", "same")}.
    distinct: each pair once; repeats are counted, at some hundred bytes of memory a pair.
    weight: how many times an epoch of training visits each pair; 0.2 means another fifth of them every time.
    lone: whether the target may be empty, as where a text has none of the labels.
    skip: how a person asks for broken lines to be skipped, for messages.
    """

    path: str | Path | Sequence[str | Path]
    format: Literal["tsv", "jsonl", "parallel"] | None = None
    columns: Sequence[Column] = (1, 2)
    where: Mapping[Column, Sequence[Value]] = field(default_factory=dict[Column, Sequence[Value]])
    distinct: bool = False
    weight: float = 1.0
    lone: bool = False
    skip: str = 'on_error="skip"'

    def __post_init__(self) -> None:
        if self.kind not in FORMATS:
            known = ", ".join(FORMATS)
            raise ArgumentError(f"Format '{self.kind}' is not one of {known}.{did_you_mean(self.kind, FORMATS)}")
        if len(self.paths) != (2 if self.kind == "parallel" else 1):
            expected = "two files" if self.kind == "parallel" else "one file"
            raise ArgumentError(f"Format '{self.kind}' reads {expected}, but path names {len(self.paths)}.")
        if len(self.columns) != 2 or 0 in (*self.columns, *self.where):
            raise ArgumentError(
                f"columns are {', '.join(map(str, self.columns))}"
                f"{''.join(f', rows are chosen by column {column}' for column in self.where)}; "
                "they must be two (source, target), counted from 1."
            )
        for column, values in self.where.items():
            listed = isinstance(values, Sequence) and not isinstance(values, str)
            if not (listed and all(isinstance(value, Value) for value in values)):
                raise ArgumentError(
                    f"where of {self.name} must list the values that column {column} may have, each a text or a whole "
                    f'number, as in {{{column!r}: ["yes"]}}, but found {values!r}.'
                )
        if not 0 < self.weight <= MOST_VISITS:
            raise ArgumentError(
                f"weight ({self.weight}) of {self.name} must be above 0 and at most {MOST_VISITS} visits of each pair "
                "in an epoch; to have none of it, leave the source out."
            )

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, one or two."""
        return (Path(self.path),) if isinstance(self.path, str | Path) else tuple(map(Path, self.path))

    @property
    def kind(self) -> str:
        """The format, by the name of the file where it was not given."""
        if self.format is not None:
            return self.format
        if len(self.paths) == 2:
            return "parallel"
        return "jsonl" if self.paths[0].name.removesuffix(".gz").endswith(".jsonl") else "tsv"

    @property
    def name(self) -> str:
        """The files, for messages."""
        return " + ".join(map(str, self.paths))


@dataclass
class Skipped:
    """How many lines were left out, by reason, and where each reason was first met."""

    reasons: Counter[str] = field(default_factory=Counter[str])
    first: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def total(self) -> int:
        """How many lines in all."""
        return self.reasons.total()

    def count(self, reason: str, where: str) -> None:
        """Note one more line."""
        self.reasons[reason] += 1
        self.first.setdefault(reason, where)

    def __str__(self) -> str:
        return "; ".join(f"{n:,} x {reason} (first: {self.first[reason]})" for reason, n in self.reasons.most_common())


@dataclass(frozen=True)
class Broken:
    """What a line gives that cannot be used: the reason to count it under, and what was found and expected."""

    reason: str
    what: str


Row = tuple[str, str] | Broken | None  # None is a row to pass over: blank, or not asked for


def read(source: Source, *, on_error: OnError = "stop", report: Skipped | None = None) -> Iterator[Example]:
    """The examples of a source in order, cleaned; lines that are blank on every side are passed over.

    on_error: "stop" raises DataError at the first broken line, "skip" leaves it out. `report` counts what was left
    out, repeats included. A missing or damaged file, parallel files of different length and a source that gives no
    example at all are DataError either way.
    """
    if on_error not in ("stop", "skip"):
        raise ArgumentError(f"on_error '{on_error}' is not one of stop, skip.")
    report = Skipped() if report is None else report
    seen = set[bytes]()
    number = given = 0
    for number, row in FORMATS[source.kind](source):
        if row is None:
            continue
        if not isinstance(row, Broken) and not (row[0] and (row[1] or source.lone)):
            side = "target" if row[0] else "source"
            row = Broken("empty side", f"the {side} side is empty, expected text on both sides")
        if isinstance(row, Broken):
            what = f"{source.name} line {number}: {row.what}"
            if on_error == "stop":
                raise DataError(f"{what}; mend the line, or have broken ones skipped ({source.skip}).")
            report.count(row.reason, what)
            continue
        if source.distinct:
            mark = blake2b("\t".join(row).encode(), digest_size=16).digest()
            if mark in seen:
                report.count("repeated pair", f"{source.name} line {number}")
                continue
            seen.add(mark)
        given += 1
        yield Example(*row, number)
    if not number:
        raise DataError(f"{source.name} is empty, expected {EXPECTED[source.kind]}; check the file.")
    if not given:
        left_out = f", of which {report.total:,} were skipped: {report}" if report.total else ""
        asked = f" Rows were asked for where {dict(source.where)}." if source.where else ""
        raise DataError(f"{source.name} gives no pair in {number:,} lines{left_out}.{asked} Check the file.")


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a plain text file as they are, blank ones too and without their ends: as many as the file has."""
    for number, line in _lines(Path(path)):
        if isinstance(line, Broken):
            raise DataError(f"{path} line {number}: {line.what}.")
        yield line


def read_records(path: str | Path, keys: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The texts under these keys in every line of a .jsonl file, just as they are, and the line's number.

    In a file of another name they stand between tabs, in the order of `keys`, below a line that names them so or not.
    Blank lines are passed over; the first broken one raises DataError.
    """
    path = Path(path)
    told = ", ".join(keys)
    is_jsonl = path.name.removesuffix(".gz").endswith(".jsonl")
    for number, line in _lines(path):
        row = line if isinstance(line, Broken) else None
        if isinstance(line, str) and clean(line):
            row = _texts(line, keys) if is_jsonl else tuple(line.split("\t"))
            if isinstance(row, tuple) and len(row) != len(keys):
                row = Broken("columns", f"has {len(row)} column{'s' * (len(row) > 1)} between tabs, expected {told}")
        if isinstance(row, Broken):
            raise DataError(f"{path} line {number}: {row.what}; mend the line.")
        if row is not None and (is_jsonl or number > 1 or [clean(cell) for cell in row] != [*keys]):
            yield number, row


# --- the formats: each gives (line number, row) ----------------------------------------------------------------------


def _tsv(source: Source) -> Iterator[tuple[int, Row]]:
    """Columns between tabs; when a column is asked for by name, the first line is the header."""
    lines = _lines(source.paths[0])
    header: list[str] = []
    if any(not str(column).isdecimal() for column in (*source.columns, *source.where)):
        _, first = next(lines, (1, ""))
        header = [] if isinstance(first, Broken) else [clean(name) for name in first.split("\t")]

    def position(column: Column) -> int:
        if str(column).isdecimal():
            return int(column) - 1
        if column not in header:
            near = did_you_mean(str(column), header)
            raise DataError(f"{source.name} has no column '{column}', its first line names {header}.{near}")
        return header.index(str(column))

    left, right = map(position, source.columns)
    where = {position(column): frozenset(map(str, values)) for column, values in source.where.items()}
    width = 1 + max(left, right, *where)
    for number, line in lines:
        if isinstance(line, Broken):
            yield number, line
            continue
        cells = line.split("\t")
        if len(cells) < width:
            found = f"has {len(cells)} column{'s' * (len(cells) > 1)}, expected at least {width}, separated by tabs"
            yield number, Broken("too few columns", found) if clean(line) else None
        else:
            asked = clean(line) and all(clean(cells[column]) in values for column, values in where.items())
            yield number, (clean(cells[left]), clean(cells[right])) if asked else None


def _jsonl(source: Source) -> Iterator[tuple[int, Row]]:
    """One JSON object a line."""
    where = {str(key): frozenset[str]().union(*map(_spellings, values)) for key, values in source.where.items()}
    left, right = map(str, source.columns)
    for number, line in _lines(source.paths[0]):
        yield number, line if isinstance(line, Broken) else _record(line, left, right, where)


def _object(line: str, keys: Sequence[str]) -> dict[str, object] | Broken:
    """The object in a line of JSON, if it has all the keys."""
    try:
        record: object = json.loads(line)
    except (ValueError, RecursionError) as wrong:
        return Broken("not JSON", f"is not JSON ({wrong})")
    if not isinstance(record, dict):
        return Broken("not JSON", f"holds {type(record).__name__}, expected a JSON object")
    record = cast("dict[str, object]", record)
    if missing := [key for key in keys if key not in record]:
        return Broken("missing key", f"lacks {missing}, its keys are {sorted(record)}")
    return record


def _texts(line: str, keys: Sequence[str]) -> tuple[str, ...] | Broken:
    """The texts under these keys in a line of JSON."""
    record = _object(line, keys)
    if isinstance(record, Broken):
        return record
    found = tuple(record[key] for key in keys)
    if not all(isinstance(text, str) for text in found):
        return Broken("not text", f"{' and '.join(map(repr, keys))} must hold text, found {found!r:.100}")
    return cast("tuple[str, ...]", found)


def _record(line: str, left: str, right: str, where: Mapping[str, frozenset[str]]) -> Row:
    """The pair in a line of JSON."""
    if not clean(line):
        return None
    record = _object(line, (left, right, *where))
    if isinstance(record, Broken):
        return record
    if any(_spellings(record[key]).isdisjoint(values) for key, values in where.items()):
        return None
    pair = record[left], record[right]
    if not isinstance(pair[0], str) or not isinstance(pair[1], str):
        return Broken("not text", f"'{left}' and '{right}' must hold text, found {pair!r:.100}")
    return clean(pair[0]), clean(pair[1])


def _spellings(value: object) -> set[str]:
    """How a value of JSON may be written where it is asked for: true as `true` or `True`."""
    return {str(value), str(value).lower()} if isinstance(value, bool) else {str(value)}


def _parallel(source: Source) -> Iterator[tuple[int, Row]]:
    """Line n of one file belongs to line n of the other."""
    sides = [_lines(path) for path in source.paths]
    number = 0
    for left, right in zip_longest(*sides):
        if left is None or right is None:
            longer = number + 1 + sum(1 for side in sides for _ in side)
            counts = (number, longer) if left is None else (longer, number)
            told = " and ".join(f"{path} has {count:,}" for path, count in zip(source.paths, counts, strict=True))
            raise DataError(f"Parallel files must have equally many lines, but {told}; align them line by line.")
        number = left[0]
        broken = [line for _, line in (left, right) if isinstance(line, Broken)]
        pair = [clean(line) for _, line in (left, right) if not isinstance(line, Broken)]
        yield number, broken[0] if broken else (pair[0], pair[1]) if any(pair) else None


FORMATS: dict[str, Callable[[Source], Iterator[tuple[int, Row]]]] = {
    "tsv": _tsv,
    "jsonl": _jsonl,
    "parallel": _parallel,
}


# --- bytes to text ---------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str | Broken]]:
    """(number, text) for each line, the text without its end."""
    try:
        with path.open("rb") as raw, _unpacked(raw) as file:
            head = raw.peek(HEAD)[:HEAD] if file is raw else b""
            number, misnamed = 0, path.suffix.lower() == ".gz" and file is raw
            for line in iter(partial(file.readline, LONGEST_LINE), b""):
                number += 1
                size, end = len(line), line
                while not end.endswith(b"\n") and (end := file.readline(LONGEST_LINE)):
                    size += len(end)
                head = head or line
                yield (
                    number,
                    _text(line, head, first=number == 1, misnamed=misnamed)
                    if size <= LONGEST_LINE or (number == 1 and b"\0" in line)
                    else Broken("too long", f"is {size:,} bytes long, expected at most {LONGEST_LINE:,}"),
                )
    except (OSError, EOFError, zlib.error) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else f"damaged: {wrong}"
        raise DataError(f"{path} cannot be read ({why}); check the path and the file.") from None


def _unpacked(raw: io.BufferedReader) -> io.BufferedIOBase:
    """The bytes of a file, unpacked where it is gzip, whatever its name."""
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def _text(line: bytes, head: bytes, *, first: bool, misnamed: bool) -> str | Broken:
    """Strict UTF-8; that of a first line may open with a byte order mark. head: how the file begins; misnamed: whether
    it is called .gz and is not gzip."""
    try:
        text = line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as wrong:
        found = f"byte 0x{line[wrong.start]:02x} at position {wrong.start + 1} is not UTF-8"
        return Broken("not UTF-8", f"{found} ({mend(line, head, misnamed=misnamed)})")
    if first and "\0" in text:
        return Broken("NUL bytes", f"byte 0x00 at position {1 + line.index(0)} is of no text ({mend(line, head)})")
    return text


def mend(line: bytes, head: bytes, *, misnamed: bool = False) -> str:
    """What to do about a line that is no UTF-8, by how its file begins."""
    if found := next((name for mark, name in MARKS if head.startswith(mark)), ""):
        return f"the file begins as {found} does; convert it, as in: iconv -f {found} -t UTF-8"
    if misnamed:
        return "the file is called .gz, but is not gzip; give it packed, or as text under another name"
    if b"\0" in head + line:
        return "this is not a text file; give one, or convert UTF-16 without a mark, as in: iconv -f UTF-16LE -t UTF-8"
    return "convert the file, as in: iconv -f GB18030 -t UTF-8"
