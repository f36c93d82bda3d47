"""A model or the name of a published size becomes what there is to say: its card, settings, parameters and costs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from polyhead.errors import ArgumentError, CheckpointError, did_you_mean
from polyhead.families.count import Costs, Spread, blank, costs, named_parameters, spread
from polyhead.families.sizes import SIZES
from polyhead.tasks.load import Loaded, load, shipped


@dataclass(frozen=True)
class Tensors:
    """Parameters of one name and shape, one in each of `count` layers."""

    name: str
    shape: tuple[int, ...]
    count: int

    @property
    def numbers(self) -> int:
        return prod(self.shape) * self.count


@dataclass(frozen=True)
class Training:
    """What it takes to learn from so many tokens: operations (FLOPs), and as the rule of thumb has it, six for each
    token and each parameter that has a part in it; seconds at a rate of so many FLOPs a second, all processors
    together, 0 if none was given."""

    tokens: float
    flops: float
    rule_of_thumb: float
    rate: float
    seconds: float


@dataclass(frozen=True)
class Info:
    """What there is to say about a model; sizes of files in bytes. Without a folder there are no files and no card.

    spread: one of several devices that share its experts out, where they were asked for. source: who published a size;
    said: its parameters in their words; note: what to know of it.
    """

    folder: str
    architecture: str
    parameters: int
    config: dict[str, Any]
    generation: dict[str, Any]
    files: dict[str, int]
    tensors: list[Tensors]
    card: str
    costs: Costs
    training: Training | None = None
    spread: Spread | None = None
    size: str = ""
    source: str = ""
    said: str = ""
    note: str = ""


def info(
    model: str | Path | Loaded = "zh-en",
    *,
    length: int | None = None,
    tokens: float | None = None,
    rate: float | None = None,
    devices: int | None = None,
) -> Info:
    """The facts of a model folder, a shipped model, a loaded one, or a published size such as "gpt3.175b".

    A size is counted without its weights: none are loaded, made or fetched. Tied parameters count once. The card is
    README.md without its YAML head. length: tokens of a text for which operations and caches are counted (None: as many
    as the model reads). tokens: how many to learn from, with rate, in FLOPs a second that are reached, for the time.
    devices: over how many the experts of a layer are shared out, where there are experts.
    Raises CheckpointError or ConfigError for what is no model, ArgumentError for numbers that cannot be.
    """
    if isinstance(model, str) and model in SIZES and not Path(model).is_dir():
        published, folder, generation = SIZES[model], None, {}
        kind, net = blank(published)
        told = {"size": model, "source": published.source, "said": published.said, "note": published.note}
        length = published.length if length is None else length
    else:
        loaded = model if isinstance(model, Loaded) else load(there(model))
        kind, net, folder, generation, told = loaded.family, loaded.model, loaded.folder, loaded.generation, {}
    config: Any = net.config
    named = [(name, tuple(parameter.shape)) for name, parameter in named_parameters(net)]
    parameters, takes = sum(prod(shape) for _, shape in named), costs(kind, net, length=length)
    return Info(
        folder=str(folder or ""),
        architecture=kind.architecture,
        parameters=parameters,
        config=asdict(config),
        generation=generation,
        files=_files(folder) if folder else {},
        tensors=gathered(named),
        card=_card(folder / "README.md") if folder else "",
        costs=takes,
        training=trained(takes, kind.reads, tokens, rate),
        spread=None if devices is None else spread(net, devices),
        **told,
    )


def there(model: str | Path) -> str | Path:
    """The model, unless it is a name of nothing, which may be a mistyped size."""
    bare = isinstance(model, str) and model == Path(model).name and model not in shipped()
    if bare and not Path(model).exists():
        known = [*shipped(), *SIZES]
        raise CheckpointError(
            f"There is no model '{model}': it is neither a folder, nor a shipped model"
            f" ({', '.join(shipped()) or 'none'}), nor a published size (polyhead info --sizes)."
            + did_you_mean(str(model), known)
        )
    return model


def trained(takes: Costs, reads: str, tokens: float | None, rate: float | None) -> Training | None:
    """What learning from so many tokens takes, those of its source where a model reads one text and writes another."""
    if tokens is None:
        if rate is not None:
            raise ArgumentError("rate needs tokens: how many to learn from")
        return None
    if reads not in ("text", "pair"):
        raise ArgumentError(f"tokens counts the words of a text that is read; this model reads {reads}")
    for name, number in (("tokens", tokens), ("rate", 1.0 if rate is None else rate)):
        if not 0 < number < float("inf"):
            raise ArgumentError(f"{name} must be a number above 0, found {number!r}")
    flops = takes.learning * tokens / takes.work[0].places
    seconds = 0.0 if rate is None else flops / rate
    return Training(tokens, flops, 6 * takes.active * tokens, rate or 0.0, seconds)


NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer, and of an expert in it


def gathered(named: Iterable[tuple[str, tuple[int, ...]]]) -> list[Tensors]:
    """Parameters of equal layers and equal experts in one row: `decoder.blocks.{0..5}.mlp.experts.{0..7}.up.weight`."""
    groups: dict[tuple[str, tuple[int, ...]], list[list[int]]] = {}
    for name, shape in named:
        groups.setdefault((NUMBER.sub("{}", name), shape), []).append([int(n) for n in NUMBER.findall(name)])
    return [
        Tensors(
            pattern.format(*(span(sorted({*numbers})) for numbers in zip(*places, strict=True))), shape, len(places)
        )
        for (pattern, shape), places in groups.items()
    ]


def span(numbers: list[int]) -> str:
    """`3`, `{0..5}` or `{0,2,5}`."""
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    return "{" + ",".join(map(str, numbers)) + "}"


def _files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}


def _card(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # none, or nothing that can be read; the model is no less a model
        return ""
    return re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL).strip()
