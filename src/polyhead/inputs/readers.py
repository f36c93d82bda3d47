"""Files of sentence pairs enter (TSV, JSONL, two parallel files; gz too), clean examples leave one at a time.

Nothing is held in memory but the line at hand. A broken line stops the reading with file and line number or, by
choice, is skipped and counted by reason.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

from polyhead.errors import DataError, did_you_mean
from polyhead.inputs.text import clean

LONGEST_LINE = 1 << 20  # bytes; beyond that it is not a sentence, and not a file of lines

Column = int | str


class Example(NamedTuple):
    """One pair, cleaned, and the number of the line it came from (the first line is 1)."""

    source: str
    target: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where pairs are read from.

    path: one file, or two parallel ones (source, target).
    format: "tsv", "jsonl" or "parallel"; None goes by the name, where every single file that is not .jsonl is TSV.
    columns: (source, target). Numbers count from 1, as in `cut -f`; names are the keys of JSONL, or of a TSV whose first
        line names its columns.
    where: only rows whose column holds one of the values, {4: ("simp", "same")}.
    distinct: each pair once; repeats are counted, in 16 bytes of memory a pair.
    weight: how many times an epoch of training visits each pair; 0.2 means a fresh fifth of them every time.
    """

    path: str | Path | tuple[str | Path, str | Path]
    format: Literal["tsv", "jsonl", "parallel"] | None = None
    columns: tuple[Column, Column] = (1, 2)
    where: Mapping[Column, Sequence[str]] = field(default_factory=dict[Column, Sequence[str]])
    distinct: bool = False
    weight: float = 1.0

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, one or two."""
        return tuple(map(Path, self.path)) if isinstance(self.path, tuple) else (Path(self.path),)

    @property
    def kind(self) -> str:
        """The format, found by the name where it was not given."""
        kind = self.format
        if kind is None:
            bare = self.paths[0].name.removesuffix(".gz")
            kind = "parallel" if len(self.paths) == 2 else "jsonl" if bare.endswith(".jsonl") else "tsv"
        if kind not in ROWS:
            raise DataError(
                f"Format '{kind}' of {self.name} is not one of {', '.join(ROWS)}.{did_you_mean(kind, ROWS)}"
            )
        if len(self.paths) != (2 if kind == "parallel" else 1):
            raise DataError(f"Format '{kind}' reads {2 if kind == 'parallel' else 1} file(s), but path is {self.name}.")
        return kind

    @property
    def name(self) -> str:
        """The files, for messages."""
        return " + ".join(map(str, self.paths))


@dataclass
class Skipped:
    """How many lines were left out, by reason, and where each reason was first met."""

    reasons: Counter[str] = field(default_factory=Counter[str])
    first: dict[str, str] = field(default_factory=dict[str, str])

    def count(self, reason: str, message: str) -> None:
        """Note one more line."""
        self.reasons[reason] += 1
        self.first.setdefault(reason, message)

    @property
    def total(self) -> int:
        """How many lines in all."""
        return sum(self.reasons.values())

    def __str__(self) -> str:
        return "; ".join(f"{n:,} x {reason} (first: {self.first[reason]})" for reason, n in self.reasons.most_common())


class _Broken(Exception):
    """One line cannot be used: (reason to count it under, what to tell)."""


def read(
    source: Source, *, on_error: Literal["stop", "skip"] = "stop", report: Skipped | None = None
) -> Iterator[Example]:
    """The examples of a source, in order, cleaned; lines that are blank on every side are passed over.

    on_error="stop" raises DataError at the first broken line; "skip" leaves it out. `report` counts what was left out,
    repeats included. A missing, unreadable or damaged file, and a source that gives no example at all, are DataError.
    """
    report = Skipped() if report is None else report
    seen = set[bytes]()
    given = number = 0
    for number, row in ROWS[source.kind](source):
        try:
            pair = row()
            if pair is None:
                continue
            for side, text in zip(("source", "target"), pair, strict=True):
                if not text:
                    raise _Broken("empty side", f"the {side} side is empty, expected text on both sides")
        except _Broken as broken:
            reason, what = broken.args
            message = f"{source.name} line {number}: {what}"
            if on_error == "stop":
                raise DataError(f'{message}; mend the line, or skip broken lines with on_error="skip".') from None
            report.count(reason, message)
            continue
        if source.distinct:
            mark = blake2b("\t".join(pair).encode(), digest_size=16).digest()
            if mark in seen:
                report.count("repeated pair", f"{source.name} line {number}")
                continue
            seen.add(mark)
        given += 1
        yield Example(*pair, number)
    if not given:
        what = f"{report.total} lines were skipped: {report}" if report.total else f"{number} lines were read"
        chosen = f", and no row has {dict(source.where)}" if source.where and number > report.total else ""
        raise DataError(f"{source.name} gives no sentence pair ({what}{chosen}); check the file and its columns.")


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a plain text file, cleaned, blank ones too: as many come out as the file has."""
    for number, line in _lines(Path(path)):
        try:
            yield clean(line())
        except _Broken as broken:
            raise DataError(f"{path} line {number}: {broken.args[1]}.") from None


# --- the formats: each gives (line number, a call that gives the pair, or None for a row to pass over) ---------------

Row = Callable[[], "tuple[str, str] | None"]


def _tsv_rows(source: Source) -> Iterator[tuple[int, Row]]:
    """Columns between tabs; when columns are named, the first line is the header."""
    lines = _lines(source.paths[0])
    named = [column for column in (*source.columns, *source.where) if not _is_number(column)]
    header: list[str] = []
    if named:
        for _, line in lines:
            header = [clean(name) for name in line().split("\t")]
            break
        for column in named:
            if column not in header:
                raise DataError(
                    f"{source.name} has no column '{column}'; its first line names {header}."
                    + did_you_mean(str(column), header)
                )
    where = {_position(column, header): frozenset(map(str, values)) for column, values in source.where.items()}
    first, second = (_position(column, header) for column in source.columns)
    width = 1 + max(first, second, *where)

    def row(line: Callable[[], str]) -> tuple[str, str] | None:
        cells = line().split("\t")
        if len(cells) < width:
            if not clean("".join(cells)):
                return None
            has = f"has {len(cells)} column{'s' * (len(cells) != 1)}"
            raise _Broken("too few columns", f"{has}, expected at least {width} separated by tabs")
        if any(clean(cells[column]) not in values for column, values in where.items()):
            return None
        return clean(cells[first]), clean(cells[second])

    for number, line in lines:
        yield number, partial(row, line)


def _jsonl_rows(source: Source) -> Iterator[tuple[int, Row]]:
    """One JSON object a line."""
    where = {str(key): frozenset(map(str, values)) for key, values in source.where.items()}

    def row(line: Callable[[], str]) -> tuple[str, str] | None:
        text = line()
        if not clean(text):
            return None
        try:
            record: object = json.loads(text)
        except ValueError as wrong:
            raise _Broken("not JSON", f"is not JSON ({wrong})") from None
        if not isinstance(record, dict):
            raise _Broken("not JSON", "holds a JSON value that is not an object, expected {...}")
        record = cast("dict[str, object]", record)
        for key in (*source.columns, *where):
            if str(key) not in record:
                raise _Broken("missing key", f"has no key '{key}', only {sorted(record)}")
        if any(str(record[key]) not in values for key, values in where.items()):
            return None
        pair = [record[str(key)] for key in source.columns]
        for key, value in zip(source.columns, pair, strict=True):
            if not isinstance(value, str):
                raise _Broken("not text", f"key '{key}' holds {type(value).__name__}, expected text")
        return clean(str(pair[0])), clean(str(pair[1]))

    for number, line in _lines(source.paths[0]):
        yield number, partial(row, line)


def _parallel_rows(source: Source) -> Iterator[tuple[int, Row]]:
    """Line n of one file belongs to line n of the other."""
    files = source.paths
    number = 0

    def row(left: Callable[[], str], right: Callable[[], str]) -> tuple[str, str] | None:
        pair = clean(left()), clean(right())
        return pair if any(pair) else None

    sides = [_lines(path) for path in files]
    for left, right in zip_longest(*sides):
        if left is None or right is None:
            longer = number + 1 + sum(1 for side in sides for _ in side)
            counts = (number, longer) if left is None else (longer, number)
            told = " and ".join(f"{path} has {count:,} lines" for path, count in zip(files, counts, strict=True))
            raise DataError(f"{told}, expected equally many: line n of one must translate line n of the other.")
        number = left[0]
        yield number, partial(row, left[1], right[1])


ROWS: dict[str, Callable[[Source], Iterator[tuple[int, Row]]]] = {
    "tsv": _tsv_rows,
    "jsonl": _jsonl_rows,
    "parallel": _parallel_rows,
}


def _is_number(column: Column) -> bool:
    return str(column).isdecimal()


def _position(column: Column, header: list[str]) -> int:
    """Which cell a column is, counted from 0."""
    if not _is_number(column):
        return header.index(str(column))
    if int(column) < 1:
        raise DataError("Columns are counted from 1, but column 0 was asked for.")
    return int(column) - 1


# --- bytes to text ---------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, Callable[[], str]]]:
    """(number, a call that gives the text) for each line; the call raises _Broken where the bytes are no text."""
    try:
        with _open(path) as file:
            number = 0
            for raw in iter(partial(file.readline, LONGEST_LINE), b""):
                number += 1
                size = len(raw)
                while not raw.endswith(b"\n") and (rest := file.readline(LONGEST_LINE)):
                    raw, size = rest, size + len(rest)
                yield number, partial(_text, raw, size)
    except (OSError, EOFError, zlib.error) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else f"damaged: {wrong}"
        raise DataError(f"{path} cannot be read ({why}); check the path and the file.") from None


def _open(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked when it is gzip, whatever its name."""
    file = path.open("rb")
    packed = file.peek(2)[:2] == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(file, "rb")) if packed else file


def _text(raw: bytes, size: int) -> str:
    """Strict UTF-8."""
    if size > LONGEST_LINE:
        raise _Broken("too long", f"is {size:,} bytes long, expected a line of at most {LONGEST_LINE:,}")
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as wrong:
        guess = "it looks like UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "for Chinese text try GB18030"
        raise _Broken(
            "not UTF-8",
            f"byte 0x{raw[wrong.start]:02x} at position {wrong.start + 1} is not UTF-8 "
            f"({guess}; iconv -f <encoding> -t utf-8 converts it)",
        ) from None
