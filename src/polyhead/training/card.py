"""Facts about a model go in, its README.md comes out: the card Hugging Face shows, with the licences of its data."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One source of training data, and what its licence asks to be said."""

    name: str
    license: str
    attribution: str
    examples: int | None = None
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured number; the signature says how it was measured, to the letter."""

    data: str
    metric: str
    value: float
    signature: str = ""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training took."""

    hours: float
    steps: int
    epochs: int
    tokens: int
    hardware: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the one who trains says about the model; the training adds settings, scores and cost.

    start: the model whose weights this one went on from, if not from chance. unit: what the training read so many of.
    settings: what the model has come to be, by dotted key, where a recipe leaves it open or says otherwise. judged: on
    what a score was read while training, by its name; on all of the validation data, if it is not there.
    """

    name: str
    summary: str = ""
    languages: tuple[str, ...] = ()
    license: str = ""
    data: tuple[DataSet, ...] = ()
    limits: tuple[str, ...] = ()
    pipeline: str = ""
    tags: tuple[str, ...] = ()
    usage: str = ""
    start: str = ""
    unit: str = "tokens (source and target, padding not counted)"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    judged: Mapping[str, str] = field(default_factory=dict[str, str])

    def scores(self, best: Mapping[str, float]) -> list[Score]:
        """The scores by which a training chose its weights."""
        return [Score(data=self.judged.get(name, "validation"), metric=name, value=x) for name, x in best.items()]


def render(card: Card, *, settings: Mapping[str, Any], scores: Sequence[Score], cost: Cost) -> str:
    """The card as Markdown with its YAML head.

    `settings` are those of the training as it ran, dotted keys as `recipe_file.flat` gives them; the card's own go
    before them.
    """
    sections = [
        _head(card, scores),
        f"# {card.name}",
        card.summary,
        _section("Use", [f"```\n{card.usage}\n```"] if card.usage else []),
        _section("Scores", _scores(scores)),
        _section("Training data", _data(card)),
        _section("Limits", [f"- {limit}" for limit in card.limits]),
        _section("Training", _cost(card, cost)),
        _section("Settings", _settings({**settings, **card.settings})),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def hardware() -> str:
    """The machine a training runs on, as it names itself."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _head(card: Card, scores: Sequence[Score]) -> str:
    """The YAML that Hugging Face reads; JSON strings are valid YAML, so nothing needs escaping by hand."""
    lists = {
        "language": card.languages,
        "datasets": [source.name for source in card.data],
        "metrics": list(dict.fromkeys(score.metric.lower() for score in scores)),
        "tags": ["polyhead", *card.tags],
    }
    words = {"license": card.license, "library_name": "transformers", "pipeline_tag": card.pipeline}
    lines = ["---", *(f"{key}: {json.dumps(word)}" for key, word in words.items() if word)]
    for key, values in lists.items():
        if values:
            lines += [f"{key}:", *(f"- {json.dumps(value, ensure_ascii=False)}" for value in values)]
    return "\n".join([*lines, "---"])


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, ["---"] * len(head), *rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _scores(scores: Sequence[Score]) -> list[str]:
    rows = [
        (score.data, score.metric, f"{score.value:.4g}", f"`{score.signature}`" if score.signature else "")
        for score in scores
    ]
    return _table(("data", "metric", "score", "signature"), rows) if rows else []


def _data(card: Card) -> list[str]:
    rows = [
        (
            f"[{source.name}]({source.url})" if source.url else source.name,
            "" if source.examples is None else f"{source.examples:,}",
            source.license,
            source.attribution,
        )
        for source in card.data
    ]
    table = _table(("data set", "examples", "licence", "attribution"), rows) if rows else []
    before = (
        f"Before that, whatever {card.start} was trained on; see its card for what that was and under which licences."
    )
    return [*table, "", before] if card.start else table


def _cost(card: Card, cost: Cost) -> list[str]:
    before = f"Continued from {card.start}, whose own training is not counted: " if card.start else ""
    took = f"{cost.hours:.2f} hours" if cost.hours >= 0.1 else f"{60 * cost.hours:.1f} minutes"
    return [
        f"{before}{took} on {cost.hardware}: {cost.steps:,} step{'s' * (cost.steps != 1)} over {cost.epochs} "
        f"epoch{'s' * (cost.epochs != 1)}, "
        f"{cost.tokens:,} {card.unit}."
    ]


def _settings(settings: Mapping[str, Any]) -> list[str]:
    set_ones = {key: value for key, value in settings.items() if value is not None}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in set_ones.items()]
    return ["```", *lines, "```"] if lines else []
