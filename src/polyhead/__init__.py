"""Multi-head attention you can see through. Public names, imported only when they are used: `--help` loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from polyhead.lens.watch import watch
    from polyhead.operator.attend import attend, attention, explain, rows
    from polyhead.operator.rules import Alibi, Buckets, Causal, Dense, Lengths, Prefix, Segments, Window
    from polyhead.tasks.evaluate import evaluate
    from polyhead.tasks.load import load, save
    from polyhead.tasks.translation import train
    from polyhead.tasks.translator import translate

# The module that defines each public name. A package never bears one of these names: once imported, it would hide it.
_HOME = {
    "attention": "operator.attend",
    "attend": "operator.attend",
    "rows": "operator.attend",
    "explain": "operator.attend",
    "Causal": "operator.rules",
    "Window": "operator.rules",
    "Prefix": "operator.rules",
    "Lengths": "operator.rules",
    "Segments": "operator.rules",
    "Dense": "operator.rules",
    "Alibi": "operator.rules",
    "Buckets": "operator.rules",
    "load": "tasks.load",
    "save": "tasks.load",
    "translate": "tasks.translator",
    "evaluate": "tasks.evaluate",
    "train": "tasks.translation",
    "watch": "lens.watch",
}

__all__ = [
    "Alibi",
    "Buckets",
    "Causal",
    "Dense",
    "Lengths",
    "Prefix",
    "Segments",
    "Window",
    "attend",
    "attention",
    "evaluate",
    "explain",
    "load",
    "rows",
    "save",
    "train",
    "translate",
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
