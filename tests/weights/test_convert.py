"""Pickled weights become safe ones, and only tensors get through."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polyhead.errors import CheckpointError, WriteError
from polyhead.weights.convert import convert
from tests.test_files import files_no_larger_than


def old_folder(folder: Path, held: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"a": 1}', "utf-8")
    torch.save(held, folder / "pytorch_model.bin")
    return folder


def test_tensors_come_through_and_tied_ones_once(tmp_path: Path) -> None:
    shared = torch.randn(4, 3)
    turned = torch.randn(5, 2).T
    folder = old_folder(tmp_path / "old", {"a.weight": shared, "b.weight": shared, "c.weight": turned})
    convert(folder, tmp_path / "new")
    held = load_file(tmp_path / "new" / "model.safetensors")
    assert held.keys() == {"a.weight", "c.weight"}
    assert torch.equal(held["a.weight"], shared) and torch.equal(held["c.weight"], turned)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors"]


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.place),)


def test_a_program_in_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    folder = old_folder(tmp_path / "old", {"a": Trap(tmp_path / "trapped")})
    with pytest.raises(CheckpointError, match="something other than tensors"):
        convert(folder, tmp_path / "new")
    assert not (tmp_path / "trapped").exists() and not (tmp_path / "new").exists()


def test_a_pickle_of_another_protocol_is_one_sentence(tmp_path: Path) -> None:
    """PyTorch would warn of it besides; warnings are errors here."""
    folder = old_folder(tmp_path / "old", {"a": torch.ones(1)})
    [path] = folder.glob("*.bin")
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(CheckpointError, match=path.name):
        convert(folder, tmp_path / "new")


@pytest.mark.parametrize("held", [[1, 2], {"a": 3}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, held: object) -> None:
    with pytest.raises(CheckpointError, match="must hold named tensors"):
        convert(old_folder(tmp_path / "old", held), tmp_path / "new")


@pytest.mark.filterwarnings("ignore:.*quantiz", "ignore:Sparse CSR", "ignore:TypedStorage")  # torch's own
@pytest.mark.parametrize(
    ("odd", "what"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
        (lambda: torch.zeros(3, device="meta"), "without numbers"),
        (lambda: torch.zeros(3, dtype=torch.complex128), "complex128"),
    ],
)
def test_a_tensor_that_the_new_file_cannot_hold_is_named(
    tmp_path: Path, odd: Callable[[], torch.Tensor], what: str
) -> None:
    folder = old_folder(tmp_path / "old", {"a.weight": torch.zeros(2), "b.odd": odd()})
    with pytest.raises(CheckpointError, match=rf"holds b\.odd \({what}\), which safetensors cannot hold"):
        convert(folder, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    folder = old_folder(tmp_path / "old", {"a": torch.randn(1000)})
    with files_no_larger_than(2000), pytest.raises(WriteError, match=rf"^{tmp_path / 'new'} could not be written"):
        convert(folder, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_cut_file_is_one_sentence(tmp_path: Path) -> None:
    folder = old_folder(tmp_path / "old", {"a": torch.randn(100)})
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        convert(folder, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_nothing_to_convert_and_nowhere_to_write_are_said(tmp_path: Path) -> None:
    folder = old_folder(tmp_path / "old", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="exists"):
        convert(folder, tmp_path)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="nothing to convert"):
        convert(folder, tmp_path / "new")
