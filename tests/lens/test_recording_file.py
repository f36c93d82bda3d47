"""A file of a recording gives back every bit, or one sentence."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polyhead.core import Run
from polyhead.core.position import Position
from polyhead.errors import ArgumentError, DataError, WriteError
from polyhead.lens import recording_file
from polyhead.lens.recording import Call, Level, Recording
from polyhead.lens.rulers import Words
from polyhead.lens.watch import watch
from polyhead.operator import Observe
from tests.lens.tiny import (
    CROSS,
    LENGTHS,
    NAMES,
    SOURCE,
    TARGET,
    each_level,
    marian,
    ran,
    same,
    stack_of,
)


def held(call: Call) -> dict[str, Tensor]:
    return recording_file.folded(call)[1]


@each_level
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("into", [False, True], ids=["save", "into"])
def test_a_file_gives_back_every_bit(level: Level, dtype: torch.dtype, into: bool, tmp_path: Path) -> None:
    asked = Observe.everything(links=2, grid=(3, 3))
    path, model = tmp_path / "folder" / "run.safetensors", marian(dtype)
    _, recording = ran(model, level=level, observe=asked)
    recording.rulers = {"encoder": ["我", "爱"], "decoder": ["I"]}
    if into:
        with watch(model, level=level, observe=asked, into=path) as written, torch.no_grad():
            model(SOURCE, TARGET[:, :7], LENGTHS)
            written.rulers = recording.rulers
        assert torch.equal(written[CROSS].lse, recording[CROSS].lse)
    else:
        recording.save(path)
    again = Recording.load(path)
    assert (again.level, again.version) == (level, torch.__version__)
    assert again.rulers == {"encoder": Words(("我", "爱")), "decoder": Words(("I",))}
    assert again.names() == recording.names() == NAMES
    assert repr(again) == repr(recording)
    for wanted, found in zip(recording, again, strict=True):
        assert (found.kind, found.kernel, found.reasons) == (wanted.kind, wanted.kernel, wanted.reasons)
        assert (found.norms.after, found.exactness) == (wanted.norms.after, wanted.exactness)
        assert recording_file.folded(found)[0] == recording_file.folded(wanted)[0]
        assert held(found).keys() == held(wanted).keys()
        assert all(torch.equal(held(found)[name], x) for name, x in held(wanted).items())
        if level == "rows":
            assert torch.equal(found.weights(), wanted.weights())
    assert [path.name for path in path.parent.iterdir()] == ["run.safetensors"]


def test_a_replayed_call_in_a_file_stays_marked(tmp_path: Path) -> None:
    again = ran(marian(), level="inputs")[1].replay(CROSS)
    Recording(entries=[(CROSS, lambda: again)]).save(tmp_path / "run")
    assert Recording.load(tmp_path / "run")[CROSS].exactness == again.exactness


def test_a_call_is_read_when_it_is_asked_for_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(marian())[1].save(tmp_path / "run")
    read: list[str] = []
    open_file: Any = recording_file.safe_open

    class Counted:
        def __init__(self, *given: Any, **how: Any):
            self.file = open_file(*given, **how)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def get_tensor(self, name: str) -> Tensor:
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(recording_file, "safe_open", Counted)
    recording = Recording.load(tmp_path / "run")
    assert recording.names() == NAMES and len(recording) == 6
    assert read == []
    call = recording[CROSS]
    call.weights()
    assert recording[CROSS] is call  # while somebody has it; a file is not kept in memory for nobody
    place = NAMES.index(CROSS)
    assert (
        sorted(set(read))
        == sorted(read)
        == sorted(f"{place}/{x}" for x in ("lse", "norms", "query", "key", "rule.keys"))
    )


def test_readers_of_safetensors_can_read_it(tmp_path: Path) -> None:
    """Numbers of every size, each at a place that its size divides."""
    from safetensors import safe_open

    model = stack_of(Position())
    with watch(model, observe=Observe(links=1)) as recording:
        model(torch.randn(1, 3, 24), Run(mask=torch.tensor([True, True, False]), bias=torch.randn(3, 3)))
        model(torch.randn(1, 5, 24), Run())
    recording.save(tmp_path / "run")
    content = (tmp_path / "run").read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    for name, told in head.items():
        if name != "__metadata__":
            assert (8 + size + told["data_offsets"][0]) % {"F32": 4, "I64": 8, "BOOL": 1, "U8": 1}[told["dtype"]] == 0
    with safe_open(tmp_path / "run", framework="np") as file:
        assert file.get_tensor("2/query").shape == (1, 4, 5, 6)
    run = json.loads(head["__metadata__"]["run"])
    assert [call["name"] for call in run["calls"]] == ["blocks.0.attn", "blocks.1.attn"] * 2
    assert run["calls"][0]["exactness"] == "weights exact to the rounding of float32 products"


def test_a_damaged_file_ends_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run"
    ran(marian())[1].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"run is damaged or no recording \(.*\); save the recording again"):
        Recording.load(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="damaged or no recording"):
        Recording.load(path)
    path.write_bytes(whole.replace(b'\\"Causal\\"', b'\\"Carnal\\"'))
    with pytest.raises(DataError, match=r"damaged or no recording \(the run in its head is not what was written\)"):
        list(Recording.load(path))
    path.write_bytes(whole.replace(b'\\"scale\\": 0.', b'\\"scale\\": 9.'))
    with pytest.raises(DataError, match="in its head is not what was written"):
        Recording.load(path)
    with pytest.raises(DataError, match="damaged or no recording"):
        Recording.load(tmp_path)


@each_level
def test_a_file_with_one_wrong_bit_gives_no_wrong_number(level: Level, tmp_path: Path) -> None:
    ran(marian(), level=level, observe=Observe(entropy=True))[1].save(tmp_path / "run")
    whole = (tmp_path / "run").read_bytes()
    draw = random.Random(level)
    for _ in range(60):
        place = draw.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        (tmp_path / "run").write_bytes(changed)
        try:
            calls = [*Recording.load(tmp_path / "run")]
        except DataError as refused:
            assert "\n" not in str(refused)
            continue
        (tmp_path / "right").write_bytes(whole)  # a bit that means nothing, as of the bytes between two calls
        for call, right in zip(calls, Recording.load(tmp_path / "right"), strict=True):
            assert torch.equal(call.lse, right.lse) and torch.equal(call.norms.values, right.norms.values)
            same(call.statistics, right.statistics, torch.equal)


def test_other_files_are_refused(tmp_path: Path) -> None:
    call = ran(marian())[1][CROSS]
    call.record.save(tmp_path / "call")
    with pytest.raises(DataError, match="is not a recording that this version of polyhead wrote"):
        Recording.load(tmp_path / "call")
    with pytest.raises(
        DataError, match=r"There is no recording .*gone; check the path, and that the run which wrote it"
    ):
        Recording.load(tmp_path / "gone")


@pytest.mark.parametrize("rulers", [["a"], {"encoder": "ab"}, {"encoder": [1]}, {1: ["a"]}])
def test_rulers_that_are_no_words_are_refused(rulers: Any, tmp_path: Path) -> None:
    recording = ran(marian())[1]
    recording.rulers = rulers
    with pytest.raises(ArgumentError, match="rulers must be rulers or lists of words by name"):
        recording.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_nothing_remains_of_a_run_that_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the data ended"), watch(marian(), into=tmp_path / "run") as recording:
        recording.model(SOURCE, TARGET)  # pyright: ignore[reportOptionalCall]
        raise OSError("the data ended")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        ArgumentError, match=r"cross goes to .*run, which can be read when the block of `watch` has ended"
    ):
        recording[CROSS]
    with pytest.raises(DataError, match="There is no recording"):
        Recording.load(tmp_path / "run")


def test_nothing_remains_of_a_run_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, torch, tests.lens.tiny as t\n"
        "with t.watch(t.marian(), into=sys.argv[1]) as r:\n"
        "    r.model(t.SOURCE, t.TARGET)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], env={**os.environ, "PYTHONPATH": "."})
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not be written"), watch(marian(), into=tmp_path / "file" / "run"):
        pass
    with pytest.raises(WriteError, match="could not be written"):
        ran(marian())[1].save(tmp_path / "file" / "run")


def test_the_memory_of_a_run_that_is_written_does_not_grow(tmp_path: Path) -> None:
    """No tensor of a call outlives its writing."""
    import gc
    import weakref

    model, seen = marian(), list[Any]()
    attend = recording_file.Writer.add

    def add(self: Any, call: Call) -> None:
        seen.extend(weakref.ref(x) for x in (call.lse, call.norms.values))
        attend(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording_file.Writer, "add", add)
        with watch(model, into=tmp_path / "run"), torch.no_grad():
            model(SOURCE, TARGET)
            gc.collect()
            assert len(seen) == 12 and all(ref() is None for ref in seen)
