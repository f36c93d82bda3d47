"""What should have been seen: the modules of a model that look like attention, beside the calls that were."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import nn

LOOKS = re.compile(r"attention|attn", re.IGNORECASE)
PARTS = re.compile(r"output|drop|norm|mask|pool|head$|identity|linear|conv", re.IGNORECASE)
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead", "num_head")


def attentions(model: nn.Module) -> dict[nn.Module, str]:
    """The innermost modules that look like attention by the name of their type, and their own names."""
    names = {
        module: name
        for name, module in model.named_modules()
        if LOOKS.search(type(module).__name__) and not PARTS.search(type(module).__name__)
    }
    outer = {
        parent for module in names for parent in names if parent is not module and within(names[module], names[parent])
    }
    return {module: name for module, name in names.items() if module not in outer}


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
