"""Devices: what is here is taken, what is not is one sentence, and a model that is loaded stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polyhead.errors import ArgumentError
from polyhead.tasks.device import device_of, same
from polyhead.tasks.load import load
from polyhead.tasks.translator import Translator, translate


def machine(monkeypatch: pytest.MonkeyPatch, *, cudas: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: cudas)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)


@pytest.mark.parametrize(("cudas", "kind"), [(0, "cpu"), (2, "cuda")])
def test_auto_is_cuda_where_it_is_there(monkeypatch: pytest.MonkeyPatch, cudas: int, kind: str) -> None:
    machine(monkeypatch, cudas=cudas, mps=True)
    assert device_of("auto").type == kind


def test_a_device_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cudas=2, mps=True)
    for name in ("cpu", "cuda", "cuda:1", "mps"):
        assert device_of(name) == torch.device(name) == device_of(torch.device(name))


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps", "mps:1", "cpu:1"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch)
    with pytest.raises(ArgumentError, match=f"There is no device '{name}' here; PyTorch finds cpu."):
        device_of(name)
    machine(monkeypatch, cudas=2)
    with pytest.raises(ArgumentError, match=r"PyTorch finds cpu, cuda:0, cuda:1\."):
        device_of("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "meta", "", "auto:1", "xpu"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="device must be auto, cpu, cuda, cuda:N or mps"):
        device_of(name)


def test_cuda_without_a_number_is_the_first() -> None:
    assert same(torch.device("cuda"), torch.device("cuda:0"))
    assert not same(torch.device("cuda"), torch.device("cuda:1"))
    assert not same(torch.device("cuda"), torch.device("cpu"))


def test_a_loaded_model_stays_where_it_is(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(trained, device="cpu")
    machine(monkeypatch, cudas=1)
    assert translate("天", model=model, device="cpu") == translate("天", model=model)
    with pytest.raises(ArgumentError, match="The model is on cpu, but device is 'cuda'"):
        translate("天", model=model, device="cuda")


def test_matrices_are_packed_on_a_cpu_and_nowhere_else(trained: Path) -> None:
    here, elsewhere = load(trained), load(trained)
    elsewhere.model.to("meta")
    assert Translator(here).model is not here.model
    assert Translator(elsewhere).model is elsewhere.model
    assert Translator(elsewhere).device == torch.device("meta")
