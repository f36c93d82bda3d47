"""A state on disk is whole or absent; a damaged one is seen and passed over; a full disk is one sentence."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
import torch
from rich.console import Console
from torch import Tensor

from polyhead import files
from polyhead.errors import CheckpointError, WriteError
from polyhead.training import checkpoint
from polyhead.training.loop import train
from polyhead.training.settings import Every, Training
from tests.test_files import files_no_larger_than
from tests.training.tiny import Spelling, everything, same_bits

PARTS = {"weights": {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}, "average": {}}
FILES = ["weights.safetensors", "average.safetensors", "state.json", "manifest.json"]


def save(folder: Path, step: int, keep: int = 9, facts: dict | None = None) -> Path:
    return checkpoint.save(folder, step, parts=PARTS, facts=facts or {"step": step, "x": 0.1 + 0.2}, keep=keep)


def quiet(_: str) -> None: ...


def test_what_was_saved_comes_back(tmp_path: Path):
    folder = save(tmp_path, 12)
    found = checkpoint.latest(tmp_path, pytest.fail)
    assert found is not None and (found.folder, found.step) == (folder, 12)
    assert found.facts == {"step": 12, "x": 0.1 + 0.2}
    assert same_bits(found.tensors("weights"), PARTS["weights"]) and found.tensors("average") == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000012"]


def test_nothing_saved_is_nothing_found(tmp_path: Path):
    assert checkpoint.latest(tmp_path, pytest.fail) is None
    assert checkpoint.latest(tmp_path / "absent", pytest.fail) is None


def test_the_last_few_are_kept(tmp_path: Path):
    for step in (1, 2, 9, 10, 100_000_000):
        save(tmp_path, step, keep=3)
    assert [folder.name for folder in checkpoint.states(tmp_path)] == [
        "step-100000000",
        "step-00000010",
        "step-00000009",
    ]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = [halve, flip, empty, Path.unlink]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_passed_over_with_a_sentence(tmp_path: Path, name: str, damage: Callable[[Path], None]):
    for step in (1, 2, 3):
        save(tmp_path, step)
    damage(tmp_path / "step-00000003" / name)
    said: list[str] = []
    found = checkpoint.latest(tmp_path, said.append)
    assert found is not None and found.step == 2
    assert len(said) == 1
    assert said[0].startswith(f"the training state {tmp_path / 'step-00000003'} is damaged: ")
    assert said[0].endswith("; going on from step 2 instead")


def hashed(folder: Path, name: str, content: str) -> None:
    """Change a file so that the manifest agrees: whoever wrote it, it was not us."""
    (folder / name).write_text(content, "utf-8")
    manifest = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.stem != "manifest"
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


ODD: dict[str, Callable[[Path], object]] = {
    "a file in its place": lambda state: (shutil.rmtree(state), state.write_text("")),
    "an empty folder": lambda state: [path.unlink() for path in state.iterdir()],
    "a manifest that is a list": lambda state: (state / "manifest.json").write_text("[]"),
    "a manifest of nothing": lambda state: (state / "manifest.json").write_text("{}"),
    "facts that are a list": lambda state: hashed(state, "state.json", "[1]"),
    "facts that are empty": lambda state: hashed(state, "state.json", "{}"),
    "facts that lack a key": lambda state: hashed(state, "state.json", without(state, "metrics_length")),
    "facts whose state lacks a key": lambda state: hashed(state, "state.json", without(state, "index", "state")),
    "facts with text for a number": lambda state: hashed(state, "state.json", without(state, step="9")),
    "no random state": lambda state: hashed(state, "state.json", without(state, rng={"python": [3, [1], None]})),
    "tensors that are none": lambda state: hashed(state, "weights.safetensors", "junk"),
}


def without(folder: Path, key: str = "", inside: str = "", **instead: object) -> str:
    facts = json.loads((folder / "state.json").read_text("utf-8"))
    place = facts[inside] if inside else facts
    place.pop(key, None)
    (facts["state"] if "step" in instead else facts).update(instead)
    return json.dumps(facts)


@pytest.mark.parametrize("odd", ODD)
def test_a_training_goes_on_from_the_state_before_an_odd_one(tmp_path: Path, odd: str):
    settings = Training(steps=4, warmup=2, checkpoint_every=Every(1, "steps"), keep=3)
    train(Spelling(settings), settings, tmp_path, console=Console(file=StringIO()))
    (tmp_path / "training" / "step-4-copy").mkdir()  # no name of ours
    ODD[odd](tmp_path / "training" / "step-00000004")
    said = StringIO()
    assert train(Spelling(settings), settings, tmp_path, console=Console(file=said)).steps == 4
    assert "manifest.json is not as" not in said.getvalue()
    assert "step-00000004 is damaged: " in said.getvalue() and "going on from step 3 instead" in said.getvalue()
    assert checkpoint.latest(tmp_path / "training", pytest.fail) is not None


def test_only_damaged_states_are_an_error_and_no_new_start(tmp_path: Path):
    save(tmp_path, 1)
    empty(tmp_path / "step-00000001" / "state.json")
    with pytest.raises(CheckpointError, match=r"no training state in .* can be used: .*state\.json is not as it was"):
        checkpoint.latest(tmp_path, quiet)


def test_a_damaged_state_is_replaced_when_its_step_comes_again(tmp_path: Path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    for step in (2, 3):
        halve(tmp_path / f"step-0000000{step}" / "weights.safetensors")
    save(tmp_path, 2, keep=2)
    assert [folder.name for folder in checkpoint.states(tmp_path)] == ["step-00000002", "step-00000001"]
    found = checkpoint.latest(tmp_path, pytest.fail)
    assert found is not None and found.step == 2


@pytest.mark.parametrize("call", range(20))
def test_killed_at_any_moment_of_writing_the_state_before_or_the_new_one_is_whole(
    tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
):
    """Every call that touches the disk is a moment to die in, leaving all as it is: not even `finally` runs."""
    save(tmp_path, 7, facts={"which": "old"})
    count = 0

    def deadly(function: Callable[..., object]) -> Callable[..., object]:
        def call_or_die(*args: object, **how: object) -> object:
            nonlocal count
            count += 1
            if count > call:
                raise SystemExit  # and from here on nothing more can be done
            return function(*args, **how)

        return call_or_die

    for owner, name in [
        (checkpoint, "save_tensors"),
        (files, "flush"),
        (os, "rename"),
        (os, "replace"),
        (shutil, "rmtree"),
    ]:
        monkeypatch.setattr(owner, name, deadly(getattr(owner, name)))
    try:
        save(tmp_path, 7, facts={"which": "new"})
        died = False
    except SystemExit:
        died = True
    monkeypatch.undo()
    found = checkpoint.latest(tmp_path, pytest.fail)
    assert found is not None
    assert found.facts["which"] in (("old", "new") if died else ("new",))
    save(tmp_path, 7, facts={"which": "new"})
    save(tmp_path, 8, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000008"]


def test_a_write_that_fails_in_the_middle_leaves_the_state_before(tmp_path: Path):
    save(tmp_path, 1)
    large = {"weights": {"a": torch.zeros(100_000)}}
    with files_no_larger_than(50_000), pytest.raises(WriteError) as refused:
        checkpoint.save(tmp_path, 2, parts=large, facts={}, keep=1)
    assert str(refused.value).startswith(f"{tmp_path / 'step-00000002'} could not be written (")
    assert "File too large" in str(refused.value) and "make room there" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.latest(tmp_path, pytest.fail) is not None


@pytest.mark.parametrize(("owner", "fails"), [(checkpoint, "save_tensors"), (files, "flush")])
def test_a_training_on_a_full_disk_ends_with_one_sentence_and_goes_on_later(
    tmp_path: Path, owner: ModuleType, fails: str, monkeypatch: pytest.MonkeyPatch
):
    settings = Training(epochs=2, warmup=2, checkpoint_every=Every(3, "steps"), keep=1)
    unbroken = Spelling(settings)
    train(unbroken, settings, tmp_path / "unbroken", console=Console(file=StringIO()))

    out, real, calls = tmp_path / "out", getattr(owner, fails), 0

    def full(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    with monkeypatch.context() as patch, pytest.raises(WriteError) as refused:
        patch.setattr(owner, fails, full)
        train(Spelling(settings), settings, out, console=Console(file=StringIO()))
    assert "could not be written (No space left on device)" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(checkpoint.states(out / "training")) == 1
    resumed = Spelling(settings)
    train(resumed, settings, out, console=Console(file=StringIO()))
    assert same_bits(everything(resumed.model), everything(unbroken.model))


def test_the_metrics_and_the_best_model_meet_a_full_disk_with_a_sentence_too(tmp_path: Path):
    settings = Training(epochs=2, warmup=2, log_every=1)
    with files_no_larger_than(300), pytest.raises(WriteError, match=r"metrics\.jsonl could not be written"):
        train(Spelling(settings), settings, tmp_path / "a", console=Console(file=StringIO()))

    class Unlucky(Spelling):
        def save(self, folder: Path, model: torch.nn.Module, card: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError, match=r"b could not be written \(No space left on device\)"):
        train(Unlucky(settings), settings, tmp_path / "b", console=Console(file=StringIO()))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_training_whose_last_state_is_damaged_ends_with_the_same_bits(tmp_path: Path, damage: Callable[[Path], None]):
    settings = Training(steps=7, warmup=2, checkpoint_every=Every(1, "steps"), keep=3, ema_decay=0.9)
    unbroken = Spelling(settings)
    train(unbroken, settings, tmp_path, console=Console(file=StringIO()))
    for name in ("optimizer.safetensors", "average.safetensors"):
        damage(tmp_path / "training" / "step-00000007" / name)
    said = StringIO()
    resumed = Spelling(settings)
    train(resumed, settings, tmp_path, console=Console(file=said))
    assert "step-00000007 is damaged" in said.getvalue() and "going on from step 6 instead" in said.getvalue()
    assert same_bits(everything(resumed.model), everything(unbroken.model))
    assert checkpoint.latest(tmp_path / "training", pytest.fail) is not None


def test_states_are_plain_files_without_pickle(tmp_path: Path):
    folder = save(tmp_path, 1)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest) == sorted(set(FILES) - {"manifest.json"})
    assert all(len(digest) == 64 for digest in manifest.values())


def test_tensors_of_every_layout_are_saved_as_they_read(tmp_path: Path):
    parts: dict[str, dict[str, Tensor]] = {"weights": {"t": torch.arange(12).view(3, 4).T, "one": torch.tensor(2.5)}}
    checkpoint.save(tmp_path, 1, parts=parts, facts={}, keep=1)
    found = checkpoint.latest(tmp_path, pytest.fail)
    assert found is not None and same_bits(found.tensors("weights"), parts["weights"])
