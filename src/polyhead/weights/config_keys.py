"""config.json and our settings: one table of keys in both directions, and every key accounted for."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from polyhead.errors import CheckpointError, ConfigError, perhaps

#  Keys that say how a file came about or how to serve it, not what the model computes.
EVERYWHERE = (
    "architectures", "dtype", "model_type", "output_attentions", "output_hidden_states", "return_dict",
    "torch_dtype", "transformers_version", "use_cache", "_name_or_path", "_num_labels", "id2label", "label2id",
    "num_labels", "finetuning_task", "problem_type", "task_specific_params", "tokenizer_class", "output_past",
    "chunk_size_feed_forward", "pruned_heads", "torchscript", "use_bfloat16", "xla_device", "tf_legacy_loss",
)  # fmt: skip

#  How to decode, which files older than generation_config.json keep here; it changes no score of a word.
DECODING = (
    "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p",
    "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "num_return_sequences", "min_length", "max_length", "output_scores", "return_dict_in_generate",
    "remove_invalid_values", "prefix",
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """A setting that a file writes in another shape, maybe in several keys at once.

    read: a config.json's dict, which has one of the keys -> our value; raises ValueError saying what was expected.
    write: our value -> the keys as they are written.
    """

    keys: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any], Mapping[str, Any]]


def read_labels(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the labels in the order of their numbers."""
    names = raw.get("id2label")
    if names is None:  # older files name them the other way round, or only count them
        numbered = raw.get("label2id") or {f"LABEL_{i}": i for i in range(_whole(raw.get("num_labels", 2)))}
        names = {str(i): name for name, i in numbered.items()}
    found = tuple(names[str(i)] for i in range(len(names))) if all(str(i) in names for i in range(len(names))) else ()
    if not found or not all(isinstance(name, str) for name in found):
        raise ValueError(f"a name for each number from 0 up, found {names!r}")
    return found


def _whole(n: Any) -> int:
    if not isinstance(n, int) or not 0 < n < 1 << 24:
        raise ValueError(f"a whole number from 1 up, found {n!r}")
    return n


LABELS = Form(
    ("id2label", "label2id", "num_labels"),
    read_labels,
    lambda names: {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    },
)


def side(key: str) -> Form:
    """One number for a square, or height and width."""

    def read(raw: Mapping[str, Any]) -> tuple[int, int]:
        sides = raw[key] if isinstance(raw[key], list) else [raw[key]] * 2
        if len(sides) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
            raise ValueError(f"a whole number above 0 or two of them, found {raw[key]!r}")
        return sides[0], sides[1]

    return Form((key,), read, lambda sides: {key: sides[0] if sides[0] == sides[1] else list(sides)})


@dataclass(frozen=True)
class Inner:
    """A setting that is a config of its own, with its own table of keys, in a dict of the file.

    keys: where that dict may stand; the first that is there goes before the others, and all that are there are written.
    """

    keys: tuple[str, ...]
    table: Keys

    def read(self, raw: Mapping[str, Any], defaults: Any) -> Any:
        """The inner config, as a changed copy of `defaults`. Raises ConfigError that names the dict."""
        key = next(key for key in self.keys if raw.get(key) is not None)
        if not isinstance(raw[key], dict):
            raise ConfigError(f"{key} must be a dict of settings, found {raw[key]!r}")
        try:
            return self.table.read(raw[key], defaults)
        except ConfigError as told:
            raise ConfigError(f"in {key}, {str(told).partition(': ')[2]}") from None

    def write(self, config: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The dicts as they are written, on top of those that were read."""
        there = [key for key in self.keys if raw.get(key) is not None] or [self.keys[-1]]
        return {key: self.table.write(config, raw.get(key)) for key in there}


@dataclass(frozen=True)
class Keys:
    """Our setting -> the file's key (or several keys that must agree: any is read, all are written), or its `Form`, or,
    where the setting is a config itself, its `Inner`.

    absent: what our setting is when the file does not hold its key, where that differs from our default.
    only: keys that must hold this value if present, since nothing else is built here; written back as it stands.
    ignore: keys without a meaning for us, kept as read. So is a key of any name that holds null and so asks nothing.
    """

    table: Mapping[str, str | tuple[str, ...] | Form | Inner]
    absent: Mapping[str, Any] = field(default_factory=dict[str, Any])
    only: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ignore: tuple[str, ...] = ()

    def places(self, ours: str) -> tuple[str, ...]:
        place = self.table[ours]
        return place.keys if isinstance(place, Form | Inner) else (place,) if isinstance(place, str) else place

    def read(self, raw: Mapping[str, Any], defaults: Any) -> Any:
        """Settings from a config.json's dict, as a changed copy of `defaults` (the family's Config).

        Raises ConfigError naming every key that is unknown, disagrees with its twin, or asks for what is not built.
        """
        wrong: list[str] = []
        kinds = get_type_hints(cast("Any", type(defaults)))
        values: dict[str, Any] = dict(self.absent)
        for ours in self.table:
            found = {key: raw[key] for key in self.places(ours) if key in raw}
            form = self.table[ours]
            if isinstance(form, Inner):
                try:
                    if any(x is not None for x in found.values()):
                        values[ours] = form.read(raw, getattr(defaults, ours))
                except ConfigError as told:
                    wrong.append(str(told))
            elif isinstance(form, Form):
                try:
                    values |= {ours: form.read(raw)} if any(x is not None for x in found.values()) else {}
                except (ValueError, TypeError, KeyError, AttributeError) as told:
                    wrong.append(f"{' and '.join(found)} must be {told}")
            elif len({json.dumps(value, sort_keys=True) for value in found.values()}) > 1:
                wrong.append(" and ".join(f"{key}={value!r}" for key, value in found.items()) + " must be equal")
            elif found:
                key, value = next(iter(found.items()))
                if told := _unfit(value, kinds[ours]):
                    wrong.append(f"{key} must be {told}, found {value!r}")
                values[ours] = value
        known = {key for ours in self.table for key in self.places(ours)} | {*self.only, *self.ignore}
        known |= {*EVERYWHERE, *DECODING}
        for key, value in raw.items():
            if key in self.only and value != self.only[key]:
                wrong.append(f"{key}={value!r} is not supported (only {self.only[key]!r})")
            elif key not in known and value is not None:
                wrong.append(f"{key}={value!r} is not a known setting{perhaps(key, known)}")
        if wrong:
            raise ConfigError("config.json cannot be honoured: " + "; ".join(wrong))
        return dataclasses.replace(defaults, **values)

    def write(self, config: Any, raw: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The dict for config.json: every mapped key even at its default, on top of what was once read."""
        values: dict[str, Any] = {}
        for ours, place in self.table.items():
            value = getattr(config, ours)
            if isinstance(place, Inner):
                values |= place.write(value, raw or {})
            else:
                values |= place.write(value) if isinstance(place, Form) else dict.fromkeys(self.places(ours), value)
        return {**self.only, **(raw or {}), **values}


def _unfit(value: Any, kind: Any) -> str:
    """What a setting must be if the value is not of its declared type; sizes are whole and above 0, ids and shares
    not below it. An empty text if it fits."""
    choices: tuple[Any, ...] = get_args(kind) or (kind,)
    if value is None:
        fits = type(None) in choices
    elif isinstance(value, bool):
        fits = bool in choices
    elif isinstance(value, int):
        fits = (int in choices and 0 <= value < 1 << 31) or (float in choices and value >= 0)
    elif isinstance(value, float):
        fits = float in choices and 0 <= value < math.inf
    elif isinstance(value, list):
        fits = list[int] in choices and all(type(n) is int and n >= 0 for n in cast(list[Any], value))
    else:
        fits = isinstance(value, str) and str in choices
    if fits:
        return ""
    words = {bool: "true or false", int: "a whole number from 0 up", float: "a number from 0 up", str: "a text"}
    words |= {list[int]: "a list of such"}
    return " or ".join(words.get(choice, "null") for choice in choices)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or CheckpointError saying what is wrong with it."""
    try:
        value: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as missing:
        raise CheckpointError(f"There is no {path}; a model folder has config.json and model.safetensors") from missing
    except (OSError, ValueError, RecursionError) as broken:
        raise CheckpointError(f"{path} cannot be read as JSON ({broken})") from broken
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, but holds a {type(value).__name__}")
    return cast("dict[str, Any]", value)
