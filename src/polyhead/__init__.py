"""Multi-head attention you can see through. Public names, imported only when they are used: `--help` loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from polyhead.benchmark.bench import bench
    from polyhead.errors import (
        ArgumentError,
        CheckpointError,
        ConfigError,
        DataError,
        MissingExtra,
        NonFiniteLoss,
        PolyheadError,
        WriteError,
    )
    from polyhead.generation.beam import Beam
    from polyhead.generation.constrained_beam import ConstrainedBeam
    from polyhead.generation.contrastive import Contrastive
    from polyhead.generation.diverse_beam import DiverseBeam
    from polyhead.generation.sampled_beam import SampledBeam
    from polyhead.generation.search import Greedy, Sample
    from polyhead.generation.speculative import Lookup
    from polyhead.lens.experts import experts
    from polyhead.lens.figures.figure import figure
    from polyhead.lens.heads import heads
    from polyhead.lens.learn.lesson import learn
    from polyhead.lens.notebook.show import show
    from polyhead.lens.recording import Recording
    from polyhead.lens.see import see
    from polyhead.lens.watch import watch
    from polyhead.operator.attend import attend, attention, explain, rows
    from polyhead.operator.norms import value_norms
    from polyhead.operator.observe import Observe
    from polyhead.operator.record import Record
    from polyhead.operator.rules import (
        Alibi,
        Buckets,
        Causal,
        Dense,
        Lengths,
        MaskMod,
        Prefix,
        ScoreMod,
        Segments,
        Window,
    )
    from polyhead.tasks.answer import answer
    from polyhead.tasks.chat import Conversation, chat
    from polyhead.tasks.classify import classify
    from polyhead.tasks.complete import complete
    from polyhead.tasks.embed import embed
    from polyhead.tasks.evaluate import evaluate
    from polyhead.tasks.export.convert import convert
    from polyhead.tasks.info import info
    from polyhead.tasks.learning.train import train
    from polyhead.tasks.load import load, save
    from polyhead.tasks.search import search
    from polyhead.tasks.serving import Serving
    from polyhead.tasks.shortlist import Shortlist, shortlist
    from polyhead.tasks.summarize import summarize
    from polyhead.tasks.transcribe import transcribe
    from polyhead.tasks.translator import translate

# The module that defines each public name. A package never bears one of these names: once imported, it would hide it.
_HOME = {
    "translate": "tasks.translator",
    "summarize": "tasks.summarize",
    "classify": "tasks.classify",
    "chat": "tasks.chat",
    "Conversation": "tasks.chat",
    "complete": "tasks.complete",
    "answer": "tasks.answer",
    "embed": "tasks.embed",
    "search": "tasks.search",
    "transcribe": "tasks.transcribe",
    "evaluate": "tasks.evaluate",
    "see": "lens.see",
    "figure": "lens.figures.figure",
    "show": "lens.notebook.show",
    "learn": "lens.learn.lesson",
    "heads": "lens.heads",
    "experts": "lens.experts",
    "info": "tasks.info",
    "bench": "benchmark.bench",
    "train": "tasks.learning.train",
    "convert": "tasks.export.convert",
    "shortlist": "tasks.shortlist",
    "Shortlist": "tasks.shortlist",
    "load": "tasks.load",
    "save": "tasks.load",
    "Serving": "tasks.serving",
    "watch": "lens.watch",
    "Recording": "lens.recording",
    "attention": "operator.attend",
    "attend": "operator.attend",
    "rows": "operator.attend",
    "explain": "operator.attend",
    "value_norms": "operator.norms",
    "Observe": "operator.observe",
    "Record": "operator.record",
    "Causal": "operator.rules",
    "Window": "operator.rules",
    "Prefix": "operator.rules",
    "Lengths": "operator.rules",
    "Segments": "operator.rules",
    "Dense": "operator.rules",
    "MaskMod": "operator.rules",
    "ScoreMod": "operator.rules",
    "Alibi": "operator.rules",
    "Buckets": "operator.rules",
    "Greedy": "generation.search",
    "Sample": "generation.search",
    "Beam": "generation.beam",
    "ConstrainedBeam": "generation.constrained_beam",
    "Contrastive": "generation.contrastive",
    "DiverseBeam": "generation.diverse_beam",
    "SampledBeam": "generation.sampled_beam",
    "Lookup": "generation.speculative",
    "PolyheadError": "errors",
    "ArgumentError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "CheckpointError": "errors",
    "WriteError": "errors",
    "NonFiniteLoss": "errors",
    "MissingExtra": "errors",
}

__all__ = [
    "Alibi",
    "ArgumentError",
    "Beam",
    "Buckets",
    "Causal",
    "CheckpointError",
    "ConfigError",
    "ConstrainedBeam",
    "Contrastive",
    "Conversation",
    "DataError",
    "Dense",
    "DiverseBeam",
    "Greedy",
    "Lengths",
    "Lookup",
    "MaskMod",
    "MissingExtra",
    "NonFiniteLoss",
    "Observe",
    "PolyheadError",
    "Prefix",
    "Record",
    "Recording",
    "Sample",
    "SampledBeam",
    "ScoreMod",
    "Segments",
    "Serving",
    "Shortlist",
    "Window",
    "WriteError",
    "answer",
    "attend",
    "attention",
    "bench",
    "chat",
    "classify",
    "complete",
    "convert",
    "embed",
    "evaluate",
    "experts",
    "explain",
    "figure",
    "heads",
    "info",
    "learn",
    "load",
    "rows",
    "save",
    "search",
    "see",
    "shortlist",
    "show",
    "summarize",
    "train",
    "transcribe",
    "translate",
    "value_norms",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polyhead' has no attribute '{name}'")
    value = getattr(import_module(f"polyhead.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
