"""Which modules of a model run at this moment, kept by hooks that every module of the process passes by."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from polyhead.lens.capture.inventory import is_attention


@dataclass(eq=False)
class Entered:
    """One module that runs, and how many attention calls it made itself."""

    module: nn.Module
    calls: int = 0


@dataclass(eq=False)
class Running:
    """The modules of one model that run, the outermost first. Those of others are not looked at.

    names   of the model's modules.
    ran     those that have run, in order.
    idle    those that were given nothing: no sequences, or no words.
    """

    names: Mapping[nn.Module, str]
    stack: list[Entered] = field(default_factory=list[Entered])
    ran: dict[nn.Module, None] = field(default_factory=dict[nn.Module, None])
    idle: set[nn.Module] = field(default_factory=set[nn.Module])

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the modules that this thread runs inside the block."""
        thread = threading.get_ident()

        def enter(module: nn.Module, given: Any) -> None:
            if torch.compiler.is_compiling():  # what is compiled inside the block must not have this in it
                return
            if threading.get_ident() == thread and module in self.names:
                self.ran[module] = None
                self.stack.append(Entered(module))
                if any(isinstance(x, Tensor) and not x.numel() for x in given):
                    self.idle.update(entered.module for entered in self.stack)

        def leave(module: nn.Module, *_: Any) -> None:
            if torch.compiler.is_compiling():
                return
            if threading.get_ident() == thread and any(entered.module is module for entered in self.stack):
                while self.stack.pop().module is not module:
                    pass  # one that another hook kept from leaving

        entering = hooks.register_module_forward_pre_hook(enter)
        leaving = hooks.register_module_forward_hook(leave, always_call=True)
        try:
            yield
        finally:
            entering.remove()
            leaving.remove()

    @property
    def inner(self) -> Entered | None:
        """The innermost module that runs; a softmax or dropout that is a module counts to the one that has it."""
        for entered in reversed(self.stack):
            if is_attention(entered.module) or any(True for _ in entered.module.children()) or has_own(entered.module):
                return entered
        return self.stack[-1] if self.stack else None

    @property
    def now(self) -> nn.Module | None:
        return None if self.inner is None else self.inner.module

    def parameter(self, x: nn.Parameter) -> str | None:
        """The name of a parameter of the modules that run; None if none of them has it."""
        for entered in reversed(self.stack):
            for name, each in entered.module.named_parameters(self.names[entered.module]):
                if each is x:
                    return name
        return None

    def name(self, below: str = "") -> str:
        """What a call made now is called: its module, and which one it is where a module makes several in a run."""
        inner = self.inner
        if inner is None:
            return below
        inner.calls += 1
        whole = ".".join(filter(None, (self.names[inner.module], below)))
        return whole if inner.calls == 1 else f"{whole}#{inner.calls}"


def has_own(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
