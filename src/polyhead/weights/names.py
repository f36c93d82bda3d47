"""Which tensor of a file is which tensor of a model: one table that loading slices by and saving assembles by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Part:
    """The i-th of n equal parts, along the output axis, of a file's tensor; `transposed` when the file holds W^T.

    groups: how often the n parts follow each other, as where those of head 0 stand before those of head 1.
    """

    name: str
    index: int = 0
    count: int = 1
    transposed: bool = False
    groups: int = 1


@dataclass(frozen=True)
class Names:
    """Our modules -> the file's modules; `.weight` and `.bias` follow. `{i}` is the only wildcard.

    tensors: names that are not module + `.weight`/`.bias`, written out in full.
    copies: the file's tensors that repeat another one of the file, in files that hold tied tensors twice.
    prefix: a beginning that some files leave out. spellings: old endings and what they are called now.
    ignore: patterns of the file's names that are no weights of ours.
    """

    modules: Mapping[str, str | Part]
    tensors: Mapping[str, str | Part] = field(default_factory=dict[str, "str | Part"])
    copies: Mapping[str, str] = field(default_factory=dict[str, str])
    prefix: str = ""
    spellings: Mapping[str, str] = field(default_factory=dict[str, str])
    ignore: tuple[str, ...] = ()

    def locate(self, ours: str) -> Part:
        """Where the model's tensor `ours` lives in a file; KeyError if the table does not say."""
        if ours in self.tensors:
            found = self.tensors[ours]
            return found if isinstance(found, Part) else Part(found)
        module, _, kind = ours.rpartition(".")
        place = re.search(r"\.(\d+)\.", module)
        row = module if place is None else f"{module[: place.start()]}.{{i}}.{module[place.end() :]}"
        entry = self.modules[module] if module in self.modules else self.modules[row]
        part = entry if isinstance(entry, Part) else Part(entry)
        name = part.name if place is None else part.name.replace("{i}", place[1])
        return replace(part, name=f"{name}.{kind}", transposed=part.transposed and kind == "weight")

    def canonical(self, names: Iterable[str]) -> dict[str, str]:
        """Today's name -> the file's spelling of it, for everything in the file that could be a weight."""
        result: dict[str, str] = {}
        for name in names:
            if any(re.search(pattern, name) for pattern in self.ignore):
                continue
            stem, _, ending = name.rpartition(".")
            modern = f"{stem}.{self.spellings[ending]}" if ending in self.spellings else name
            result[modern] = name
        if self.prefix and not any(name.startswith(self.prefix) for name in result):
            named = (entry.name if isinstance(entry, Part) else entry for entry in self.tensors.values())
            outside = {entry for entry in (*named, *self.copies) if not entry.startswith(self.prefix)}
            result = {name if name in outside else self.prefix + name: spelt for name, spelt in result.items()}
        return result
