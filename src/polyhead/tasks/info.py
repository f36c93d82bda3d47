"""A model becomes what there is to say about it: its card, its sizes, its settings, its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from polyhead.tasks.load import Loaded, load


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
class Info:
    """What there is to say about a model; sizes of files in bytes. Without a folder there are no files and no card."""

    folder: str
    architecture: str
    parameters: int
    config: dict[str, Any]
    generation: dict[str, Any]
    files: dict[str, int]
    tensors: list[Tensors]
    card: str


def info(model: str | Path | Loaded = "zh-en") -> Info:
    """The facts of a model folder, a shipped model or a loaded one; tied parameters count once.

    The card is README.md without its YAML head. Raises CheckpointError or ConfigError for what is no model.
    """
    loaded = model if isinstance(model, Loaded) else load(model)
    folder = loaded.folder
    named = [(name, tuple(parameter.shape)) for name, parameter in loaded.model.named_parameters()]
    return Info(
        folder=str(folder or ""),
        architecture=loaded.family.architecture,
        parameters=sum(prod(shape) for _, shape in named),
        config=asdict(loaded.config),
        generation=loaded.generation,
        files=_files(folder) if folder else {},
        tensors=gathered(named),
        card=_card(folder / "README.md") if folder else "",
    )


def gathered(named: Iterable[tuple[str, tuple[int, ...]]]) -> list[Tensors]:
    """Parameters of equal layers in one row: `encoder.blocks.{0..5}.attn.query.weight`."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for name, shape in named:
        layer = re.search(r"\.(\d+)\.", name)
        pattern = re.sub(r"\.\d+\.", ".{}.", name, count=1)
        groups.setdefault((pattern, shape), []).append(int(layer[1]) if layer else 0)
    return [
        Tensors(pattern.replace("{}", span(layers)), shape, len(layers)) for (pattern, shape), layers in groups.items()
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
