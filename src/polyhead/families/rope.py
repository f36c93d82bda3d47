"""How config.json writes rotary positions and sliding windows: a `Form` of each, read and written.

Today's files hold `rope_parameters` with everything in it; older ones `rope_theta`, and `rope_scaling` where the places
are stretched. All that is there is read, and all three are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, cast

from polyhead.core.rotary import ByWavelength, Dynamic, Rotary, Searched, Slower, Speeds, Yarn
from polyhead.errors import did_you_mean
from polyhead.weights.config_keys import Form

PLAIN = Rotary()


class Said:
    """What a file says of rotary positions, each word of which must be asked for."""

    def __init__(self, words: dict[str, Any], max_len: Any):
        self.words, self.max_len = words, max_len

    def number(self, name: str, default: float | None = None) -> float:
        value = self.words.pop(name, None)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"a table in which {name} is a number above 0, found {value!r}")
        return float(value)

    def maybe(self, name: str) -> float | None:
        return None if self.words.get(name) is None else self.number(name)

    def trained(self) -> int:
        return int(self.number("original_max_position_embeddings", self.max_len))

    def numbers(self, name: str) -> tuple[float, ...]:
        values = self.words.pop(name, None)
        if not isinstance(values, list) or not all(
            isinstance(x, int | float) and x > 0 for x in cast(list[Any], values)
        ):
            raise ValueError(f"a table in which {name} is a list of numbers above 0, found {values!r:.80}")
        return tuple(float(x) for x in cast(list[float], values))


def searched(said: Said) -> Searched:
    trained, factor = said.trained(), said.maybe("factor")
    return Searched(
        said.numbers("short_factor"), said.numbers("long_factor"), trained,
        said.max_len / trained if factor is None else factor, said.maybe("attention_factor"),
    )  # fmt: skip


def yarn(said: Said) -> Yarn:
    trained, factor = said.trained(), said.maybe("factor")
    return Yarn(
        said.max_len / trained if factor is None else factor, trained,
        said.number("beta_fast", 32.0), said.number("beta_slow", 1.0), said.maybe("attention_factor"),
        said.maybe("mscale"), said.maybe("mscale_all_dim"), bool(said.words.pop("truncate", True)),
    )  # fmt: skip


KINDS: dict[str, Callable[[Said], Speeds]] = {
    "default": lambda said: Speeds(),
    "linear": lambda said: Slower(said.number("factor")),
    "dynamic": lambda said: Dynamic(said.number("factor"), said.max_len),
    "yarn": yarn,
    "longrope": searched,
    "llama3": lambda said: ByWavelength(
        said.number("factor"), said.number("low_freq_factor"), said.number("high_freq_factor"), said.trained()
    ),
}


def read(raw: Mapping[str, Any]) -> Rotary:
    tables = [raw[key] for key in ("rope_parameters", "rope_scaling") if raw.get(key)]
    if not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"a table, found {tables!r:.80}")
    words: dict[str, Any] = {name: value for table in tables for name, value in table.items()}
    theta = words.pop("rope_theta", None)
    said = Said(words, raw.get("max_position_embeddings"))
    theta = Said({"rope_theta": theta}, None).number("rope_theta", raw.get("rope_theta") or PLAIN.theta)
    kind = words.pop("rope_type", None) or words.get("type") or "default"
    words.pop("type", None)
    if kind not in KINDS:
        raise ValueError(
            f"of a rope_type that is built, {', '.join(KINDS)}; found {kind!r}.{did_you_mean(kind, KINDS)}"
        )
    speeds = KINDS[kind](said)
    if left := {name: value for name, value in words.items() if value is not None}:
        raise ValueError(f"a table without {', '.join(left)}, which rope_type '{kind}' does not have")
    return Rotary(theta, speeds)


#  our kinds, and how a file calls them and their fields
WORDS: dict[type[Speeds], tuple[str, dict[str, str]]] = {
    Slower: ("linear", {"factor": "factor"}),
    Dynamic: ("dynamic", {"factor": "factor"}),
    Yarn: (
        "yarn",
        {
            "factor": "factor", "trained": "original_max_position_embeddings", "fast": "beta_fast", "slow": "beta_slow",
            "attention": "attention_factor", "m": "mscale", "m_all": "mscale_all_dim", "whole": "truncate",
        },
    ),
    Searched: (
        "longrope",
        {
            "short": "short_factor", "long": "long_factor", "trained": "original_max_position_embeddings",
            "factor": "factor", "attention": "attention_factor",
        },
    ),
    ByWavelength: (
        "llama3",
        {
            "factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor",
            "trained": "original_max_position_embeddings",
        },
    ),
}  # fmt: skip


def write(rotary: Rotary) -> dict[str, Any]:
    name, words = WORDS.get(type(rotary.speeds), ("default", {}))
    usual = {f.name: f.default for f in fields(rotary.speeds)}
    held = {theirs: getattr(rotary.speeds, ours) for ours, theirs in words.items()}
    held = {theirs: held[theirs] for ours, theirs in words.items() if held[theirs] != usual[ours]}
    told = {"rope_type": name, **{key: list(x) if isinstance(x, tuple) else x for key, x in held.items()}}
    return {
        "rope_theta": rotary.theta,
        "rope_scaling": told if held else None,
        "rope_parameters": told | {"rope_theta": rotary.theta},
    }


ROTARY = Form(("rope_parameters", "rope_theta", "rope_scaling"), read, write)


def read_windows(raw: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Of each layer: from `layer_types`, or, in older files, the layers from `max_window_layers` on."""
    layers, width = raw["num_hidden_layers"], raw.get("sliding_window")
    if not raw.get("use_sliding_window", False):
        width = None
    kinds = raw.get("layer_types")
    if kinds is None:
        first = raw.get("max_window_layers", 28)
        kinds = ["sliding_attention" if width is not None and i >= first else "full_attention" for i in range(layers)]
    if len(kinds) != layers or not set(kinds) <= {"sliding_attention", "full_attention"}:
        raise ValueError(f"'sliding_attention' or 'full_attention' for each of {layers} layers, found {kinds!r:.80}")
    return tuple(width if kind == "sliding_attention" else None for kind in kinds)


def write_windows(windows: tuple[int | None, ...]) -> dict[str, Any]:
    width = next((w for w in windows if w is not None), None)
    kinds = {"layer_types": ["full_attention" if w is None else "sliding_attention" for w in windows]}
    return {"use_sliding_window": width is not None, "sliding_window": width, **(kinds if windows else {})}


WINDOWS = Form(
    ("use_sliding_window", "sliding_window", "layer_types", "max_window_layers"), read_windows, write_windows
)
