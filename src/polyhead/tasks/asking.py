"""What is said to a model that is asked in words, "summarize: ...", from its folder or from who asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from polyhead.errors import ArgumentError, ConfigError, did_you_mean
from polyhead.tasks.load import Loaded

SIGN = re.compile(r"[^\w\s]\S*[^\w\s]")  # as >>fra<<, by which a model of several languages knows which is wanted
PLACE = "{text}"  # in a prefix: where the text goes, unless behind it


@dataclass(frozen=True)
class Asking:
    """The words around a text, and how the model's folder wants such texts answered.

    task: the name of what is asked in config.json's task_specific_params, if it has one. said_by: who chose the words.
    settings: the task's own generation settings, which outweigh the folder's general ones.
    """

    before: str = ""
    behind: str = ""
    task: str | None = None
    said_by: Literal["you", "folder", "family", "nobody"] = "nobody"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def prefix(self) -> str:
        """The words as they may be given again."""
        return self.before + (PLACE + self.behind if self.behind or PLACE in self.before else "")

    def of(self, text: str) -> str:
        """What the model reads."""
        return self.before + text + self.behind


def asking(loaded: Loaded, kind: str, *, task: str | None = None, prefix: str | None = None) -> Asking:
    """How a loaded model is asked for a "summarization" or a "translation".

    task: one of the names that the folder has for such, which may be shortened from translation_en_to_de to en-de, from
    summarization_cnn to cnn; unless given, the one named as its kind, or the only one. prefix: words of one's own,
    outweighing the folder's; the text goes behind them, or to where they say {text}. A translator of one pair takes
    neither, but signs such as >>fra<<. Raises ArgumentError where it takes a choice, and ConfigError.
    """
    if prefix is not None and not isinstance(prefix, str):
        raise ArgumentError(f"prefix must be a text, found {type(prefix).__name__}")
    if prefix is not None and prefix.count(PLACE) > 1:
        raise ArgumentError(f"prefix says {PLACE} {prefix.count(PLACE)} times, but the text can go to one place")
    if loaded.family.does == "translation":
        unasked(loaded, task, prefix)
    told = tasks_of(loaded)
    from_family = not told
    known = told or loaded.family.taught(loaded.config)
    fitting = [name for name in known if name == kind or name.startswith(kind + "_")]
    task = kind if task is None and kind in fitting else task
    name = chosen(loaded, fitting, task, needed=prefix is None)
    settings = dict(known[name]) if name else {}
    words = settings.pop("prefix", None)
    said_by = "family" if from_family else "folder"
    if words is None and (words := loaded.raw.get("prefix")) is None:
        words, said_by = "", "nobody"
    if not isinstance(words, str):
        raise ConfigError(f"{loaded.folder or 'The model'}: the prefix in config.json is {words!r}, but must be a text")
    if prefix is not None:
        before, _, behind = prefix.partition(PLACE)
        return Asking(before, behind, name, "you", settings)
    return Asking(words, "", name, said_by, settings)


def unasked(loaded: Loaded, task: str | None, prefix: str | None) -> None:
    """Refuse tasks and words for a translator that is asked in neither; signs may tell it the language."""
    pair = f"{who(loaded)} translates one pair of languages"
    if task is not None:
        raise ArgumentError(f"{pair} and knows no tasks; leave out the task, {task!r}.")
    if any(not SIGN.fullmatch(word) for word in (prefix or "").replace(PLACE, " ").split()):
        raise ArgumentError(
            f"{pair} and is not asked in words, so {prefix!r} would be translated too; leave the prefix out, or give a"
            " sign that it knows, such as '>>fra<< '."
        )


def who(loaded: Loaded) -> str:
    return loaded.name if loaded.folder else "The model"


def tasks_of(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """config.json's task_specific_params: what a folder says of each thing that its model was taught."""
    found = loaded.raw.get("task_specific_params") or {}
    if not (isinstance(found, dict) and all(isinstance(settings, dict) for settings in found.values())):
        raise ConfigError(
            f"{loaded.folder or 'The model'}: task_specific_params in config.json must be an object of objects, found "
            f"{found!r:.100}"
        )
    return found


def chosen(loaded: Loaded, fitting: list[str], task: str | None, *, needed: bool) -> str | None:
    """The task that was named, or the only one; None where the folder knows none, or none is needed."""
    shown = ", ".join(fitting)
    if task is not None:
        short = {name.partition("_")[2].replace("_to_", "-"): name for name in fitting}
        if (name := short.get(task, task)) in fitting:
            return name
        mend = f"it knows {shown}" if fitting else "it knows none by name; leave the task out, or give a prefix"
        raise ArgumentError(f"{who(loaded)} knows no task {task!r}; {mend}.{did_you_mean(task, [*short, *fitting])}")
    if len(fitting) > 1 and needed:
        raise ArgumentError(f"{who(loaded)} knows {shown}; name one as the task, or give a prefix")
    return fitting[0] if len(fitting) == 1 else None
