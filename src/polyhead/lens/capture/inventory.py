"""What should have been seen: the modules of a model that look like attention, beside the calls that were."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import nn

LOOKS = re.compile(r"attention|attn", re.IGNORECASE)
PARTS = re.compile(r"output|drop|norm|mask|pool|head$|identity|linear|conv", re.IGNORECASE)
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead", "num_head")


def is_attention(module: nn.Module) -> bool:
    """Whether the name of its type says so."""
    name = type(module).__name__
    return LOOKS.search(name) is not None and PARTS.search(name) is None


def attentions(model: nn.Module) -> dict[nn.Module, str]:
    """The innermost modules that look like attention by the name of their type, and their own names."""
    names = {module: name for name, module in model.named_modules() if is_attention(module)}
    outer = {"" for name in names.values() if name}
    for name in names.values():
        parts = name.split(".")
        outer |= {".".join(parts[:n]) for n in range(1, len(parts))}
    return {module: name for module, name in names.items() if name not in outer}


def within(name: str, outer: str) -> bool:
    return not outer or name.startswith(f"{outer}.")


def unseen(looking: Mapping[nn.Module, str], ran: Iterable[nn.Module], seen: Iterable[str]) -> list[str]:
    """Those that ran and made no call that was seen, by themselves or by what is inside or around them."""
    seen = [name.partition("#")[0] for name in seen]
    return [
        looking[module]
        for module in dict.fromkeys(ran)
        if module in looking
        and not any(
            within(name, looking[module]) or name == looking[module] or within(looking[module], name) for name in seen
        )
    ]


def heads_of(module: nn.Module | None) -> int | None:
    """How many heads a module says it has, by itself or in its config."""
    for place in (module, getattr(module, "config", None)):
        for name in HEADS:
            found = getattr(place, name, None)
            if type(found) is int and found > 0:
                return found
    return None
