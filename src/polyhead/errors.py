"""Every exception meant for people: one sentence that says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

NEAR = 0.72  # how alike names are of which one may be meant: a slip or two, not merely the same ending


class PolyheadError(Exception):
    """Something a person can mend. The command line prints the sentence and exits with code 2."""


class ArgumentError(PolyheadError, ValueError):
    """An argument has the wrong shape, type or value."""


class ConfigError(PolyheadError):
    """A recipe, a config.json or a command-line setting cannot be honoured."""


class DataError(PolyheadError):
    """An input file or line is missing, broken or empty."""


class CheckpointError(PolyheadError):
    """A saved model or a training state is incomplete, damaged or of another shape."""


class WriteError(PolyheadError):
    """A file or folder cannot be written: the disk is full, or refuses. `why`, in the system's words."""

    def __init__(self, path: object, why: str) -> None:
        full = any(word in why.lower() for word in ("space", "quota", "too large"))
        mend = "make room there or choose another place" if full else "choose another place"
        super().__init__(f"{path} could not be written ({why}); {mend}, then run the same again")
        self.why = why


class NonFiniteLoss(PolyheadError):
    """Training met a loss that is not a number; the batch that caused it was saved."""


class MissingExtra(PolyheadError, ImportError):
    """An optional dependency is not installed; the sentence names the extra that brings it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest known name, or an empty string where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=NEAR)
    return f" Did you mean '{near[0]}'?" if near else ""


def perhaps(name: str, known: Iterable[str]) -> str:
    """The same inside a sentence: `" (did you mean 'x'?)"`, or an empty string."""
    told = did_you_mean(name, known)
    return told and f" (d{told[2:]})"


def extra(module: str, name: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise MissingExtra(
            f"This needs the package '{module.partition('.')[0]}', which is not installed;"
            f" run: pip install 'polyhead[{name}]'"
        ) from missing
