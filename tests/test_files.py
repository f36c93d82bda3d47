"""What is written appears whole or not at all, whoever is killed and whatever the disk refuses."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from safetensors.torch import load_file

from polyhead.errors import WriteError
from polyhead.files import hold, together, whole, write_bytes, write_tensors, write_text

LARGE = torch.arange(100_000.0)
WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "文" * 100_000),
    "bytes": lambda path: write_bytes(path, bytes(300_000)),
    "tensors": lambda path: write_tensors(path, {"a": LARGE}),
}


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A real refusal by the system in the middle of a write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_is_there_and_everybody_may_read_it(tmp_path: Path):
    write_text(tmp_path / "new" / "a.txt", "她没来。\n")
    write_tensors(tmp_path / "a.safetensors", {"a": LARGE.view(2, -1).T})
    assert (tmp_path / "new" / "a.txt").read_bytes() == "她没来。\n".encode()
    assert torch.equal(load_file(tmp_path / "a.safetensors")["a"], LARGE.view(2, -1).T)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o444 == 0o444
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a.safetensors"}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_refuses_leaves_what_was_there_and_is_one_sentence(tmp_path: Path, writer: str):
    path = tmp_path / "a.file"
    path.write_text("as before")
    with files_no_larger_than(50_000), pytest.raises(WriteError) as refused:
        WRITERS[writer](path)
    assert re.fullmatch(
        rf"{path} could not be written \(.*File too large.*\); make room there or .*", str(refused.value)
    )
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.file", "as before")]


def test_a_folder_is_whole_or_absent_and_named_by_its_own_name(tmp_path: Path):
    with files_no_larger_than(50_000), pytest.raises(WriteError, match=rf"^{tmp_path / 'all'} could not be written"):
        with whole(tmp_path / "all") as folder:
            folder.mkdir()
            write_text(folder / "small.txt", "small")
            write_text(folder / "large.txt", "x" * 60_000)
    assert list(tmp_path.iterdir()) == []
    with whole(tmp_path / "all") as folder:
        folder.mkdir()
        write_text(folder / "small.txt", "small")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["all", "all/small.txt"]


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/a\.txt could not be written \((Not a directory|File exists)\)"):
        write_text(tmp_path / "file" / "a.txt", "")


KILLED = """
import os, signal, sys
from pathlib import Path
from polyhead.files import whole
with whole(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
HOLDING = """
import sys
from pathlib import Path
from polyhead.files import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_gone_after_the_next_write_and_a_living_ones_is_not(tmp_path: Path):
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    left = [aside.name for aside in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".a.txt.")
    with whole(path) as part:
        part.write_text("slow")
        assert left[0] not in [aside.name for aside in tmp_path.iterdir()]
        write_text(path, "fast")
    assert path.read_text() == "slow"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_held_by_one_process_until_it_dies(tmp_path: Path):
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDING, lock], stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            hold(lock)
        other.kill()
    hold(lock).close()


def test_files_that_belong_together_appear_together_and_stale_ones_go(tmp_path: Path):
    folder = tmp_path / "new" / "model"
    with together(folder) as part:
        write_text(part / "a.txt", "one")
        write_text(part / "b.txt", "one")
        assert not (folder / "a.txt").exists()
    (folder / "b.txt").chmod(0o600)
    (folder / "mine.txt").write_text("kept")
    with files_no_larger_than(50_000), pytest.raises(WriteError, match=rf"^{folder}\S* could not be written"):
        with together(folder, stale=["a.txt"]) as part:
            write_text(part / "b.txt", "two")
            write_text(part / "c.txt", "x" * 60_000)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a.txt": "one", "b.txt": "one", "mine.txt": "kept",
    }  # fmt: skip
    with together(folder, stale=["a.txt", "b.txt", "none.txt"]) as part:
        write_text(part / "b.txt", "two")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"b.txt": "two", "mine.txt": "kept"}
    assert (folder / "b.txt").stat().st_mode & 0o777 == 0o600
