"""A TOML file and a few overrides go in, nested frozen dataclasses come out, or one error naming everything wrong."""

from __future__ import annotations

import json
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from polyhead.errors import ConfigError, did_you_mean

T = TypeVar("T")


def from_toml(path: str | Path, schema: type[T], overrides: Iterable[tuple[str, str]] = ()) -> T:
    """Read a recipe into `schema`, a dataclass of dataclasses, one a table.

    `overrides` are pairs such as ("train.lr", "3e-4"), converted by the declared type; a number leads into a list, as
    in ("data.train.0.weight", "0.5"). Fields may be bool, int, float, str, Path, Literal, `X | Y`, `X | None` ("none"
    in an override), tuple[X, ...], tuple[X, Y], dict[str, X], dataclasses (a table), tuple[dataclass, ...] (an array of
    tables), and any class with `parse(text)`. Raises ConfigError with every unknown key, missing key, wrong type and
    refused value of the file at once.
    """
    return from_text(_text_of(Path(path)), schema, overrides, name=str(path))


def from_text(text: str, schema: type[T], overrides: Iterable[tuple[str, str]] = (), *, name: str = "the recipe") -> T:
    """`from_toml` for a text already in hand; `name` is what errors call it."""
    try:
        table = tomllib.loads(text)
    except ValueError as wrong:  # TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"{name} is not valid TOML: {wrong}; mend that line") from wrong
    problems: list[str] = []
    for key, value in overrides:
        _override(table, schema, key, value, problems)
    recipe = _build(schema, table, "", problems)
    if problems:
        listed = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"{name} cannot be used: {listed}")
    return recipe


def written(path: str | Path, schema: Any, overrides: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """What a recipe and its overrides say themselves, by dotted key, unjudged; nothing for a file that is no recipe."""
    try:
        table = tomllib.loads(_text_of(Path(path)))
    except (ConfigError, ValueError):
        return {}
    for key, value in overrides:
        _override(table, schema, key, value, [])
    return dict(_dotted(table))


def flat(recipe: Any, *, fixed: bool = False, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted key, as JSON values. `fixed` leaves out those a table's `FREE` names."""
    values: dict[str, Any] = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if fixed and field.name in getattr(recipe, "FREE", ()):
            continue
        if _is_table(value):
            values |= flat(value, fixed=fixed, prefix=f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = json.loads(json.dumps(value, default=partial(_plain, fixed=fixed)))
    return values


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two `flat` recipes, a sentence a key."""
    absent = "absent"
    return [
        f"{key} was {before.get(key, absent)} and is now {now.get(key, absent)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, absent) != now.get(key, absent)
    ]


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _plain(value: Any, *, fixed: bool) -> Any:
    """JSON for what JSON does not know: dataclasses inside tuples, paths, values read by `parse`."""
    return flat(value, fixed=fixed) if _is_table(value) else str(value)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise ConfigError(f"there is no recipe at {path}; give the path of a .toml file") from missing
    except OSError as wrong:
        raise ConfigError(f"{path} cannot be read as a recipe: {wrong.strerror}") from wrong
    except UnicodeDecodeError as wrong:
        raise ConfigError(f"{path} is not UTF-8 (byte {wrong.start}); save it as UTF-8") from wrong


def _build(schema: type[T], table: Mapping[str, Any], where: str, problems: list[str]) -> T:
    """One table into one dataclass; what is wrong is added to `problems` and the value returned means nothing."""
    known = {field.name: field for field in fields(schema) if field.init}  # pyright: ignore[reportArgumentType]
    kinds = get_type_hints(schema)
    before = len(problems)
    problems += [
        f"{_table(where)} has no key '{key}'.{did_you_mean(key, known) or _it_has(known)}"
        for key in table
        if key not in known
    ]
    problems += [
        f"{_table(where)} lacks the key '{name}', which has no default"
        for name, field in known.items()
        if name not in table and _required(field) and not _is_table(kinds[name])
    ]
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in table or (_required(field) and _is_table(kinds[name])):
            values[name] = _convert(kinds[name], table.get(name, {}), f"{where}.{name}".lstrip("."), problems)
    if len(problems) > before:
        return None  # pyright: ignore[reportReturnType]
    try:
        return schema(**values)
    except (ConfigError, ValueError) as refused:
        problems.append(f"{_table(where)} {refused}")
        return None  # pyright: ignore[reportReturnType]


def _convert(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    """A TOML value as the declared type, or None and a problem."""
    if _is_table(kind) and isinstance(value, Mapping):
        return _build(kind, value, where, problems)  # pyright: ignore[reportArgumentType]
    if _is_union(kind):
        fitting = [choice for choice in get_args(kind) if _fits(choice, value)]
        if fitting:
            return _convert(fitting[0], value, where, problems)
    elif get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        inner = get_args(kind)
        inner = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        if len(inner) == len(value):
            return tuple(
                _convert(k, v, f"{where}[{i}]", problems) for i, (k, v) in enumerate(zip(inner, value, strict=True))
            )
    elif get_origin(kind) is dict and isinstance(value, Mapping):
        inner = get_args(kind)[1]
        return {key: _convert(inner, item, f"{where}.{key}", problems) for key, item in value.items()}
    elif hasattr(kind, "parse") and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return kind.parse(str(value))
        except (ConfigError, ValueError) as refused:
            problems.append(f"{where} {refused}")
            return None
    elif _fits(kind, value):
        return float(value) if kind is float else Path(str(value)) if kind is Path else value
    problems.append(f"{where} must be {_spell(kind)}, found {_show(value)}")
    return None


def _fits(kind: Any, value: Any) -> bool:
    """Whether a TOML value is of a declared type as it stands; a whole number is a float too."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, (list, tuple))
    if _is_table(kind) or get_origin(kind) is dict:
        return isinstance(value, Mapping)
    if hasattr(kind, "parse"):
        return isinstance(value, str)
    if kind is float:
        return isinstance(value, float) or _fits(int, value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63  # as TOML's
    if kind is Path:
        return isinstance(value, str)
    return kind is not None and isinstance(value, kind)


def _override(table: dict[str, Any], schema: Any, key: str, text: str, problems: list[str]) -> None:
    """Put one dotted key from the command line into the table, as if the file had said so; `_build` judges it."""
    names = key.split(".")
    place: Any = table
    kind = schema
    for depth, name in enumerate(names, 1):
        where = ".".join(names[: depth - 1])
        if isinstance(place, list) and not (name.isdecimal() and int(name) < len(place)):
            found = f"a list numbered 0 to {len(place) - 1}" if place else "an empty list"
            problems.append(f"--{key} cannot be set: {where} is {found}")
            return
        if not isinstance(place, (list, dict)):
            problems.append(f"--{key} cannot be set: {where} is not a table")
            return
        at: Any = int(name) if isinstance(place, list) else name
        kind = _inside(kind, at)
        if depth == len(names):
            place[at] = _read(kind, text)
        elif isinstance(place, dict):
            place = place.setdefault(at, [] if get_origin(kind) is tuple else {})
        else:
            place = place[at]


def _inside(kind: Any, at: int | str) -> Any:
    """The declared type of what a key of a table, or a number in a list, leads to; None where nothing is declared."""
    for choice in get_args(kind) if _is_union(kind) else (kind,):
        inner = get_args(choice)
        if _is_table(choice):
            return get_type_hints(choice).get(str(at))
        if get_origin(choice) is dict:
            return inner[1]
        if get_origin(choice) is tuple and isinstance(at, int):
            return inner[at] if inner[-1] is not Ellipsis and at < len(inner) else inner[0]
    return None


def _read(kind: Any, text: str) -> Any:
    """A word from the command line as the TOML value its key would hold."""
    choices = get_args(kind) if _is_union(kind) else (kind,)
    if type(None) in choices and text.lower() == "none":
        return None
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text
    if not isinstance(value, str) and any(_fits(choice, value) for choice in choices):
        return value
    if float in choices:
        try:
            return float(text)  # ".5" and "1e-4" alike, though TOML wants "0.5"
        except ValueError:
            pass
    return text if any(_fits(choice, text) for choice in choices) else value


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _is_table(kind: Any) -> bool:
    """Whether a type, or a value, is a table of keys; one that is read from a text by `parse` is not."""
    return is_dataclass(kind) and not hasattr(kind, "parse")


def _table(where: str) -> str:
    return f"[{where}]" if where else "the top level"


def _it_has(known: Iterable[str]) -> str:
    return f" It has {', '.join(known)}."


def _show(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and not _fits(int, value):
        return f"{value}, which does not fit into 64 bits"
    return "true" if value is True else "false" if value is False else repr(value)


def _spell(kind: Any) -> str:
    """A declared type in words."""
    if _is_union(kind):
        return " or ".join(_spell(choice) for choice in get_args(kind) if choice is not type(None))
    if get_origin(kind) is Literal:
        return " or ".join(f"'{choice}'" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return f"a list of {_spell(inner[0])}" if inner[-1] is Ellipsis else f"a list of {len(inner)} values"
    if get_origin(kind) is dict:
        return "a table"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return words.get(kind) or ("a table" if _is_table(kind) else f"a {kind.__name__}")
