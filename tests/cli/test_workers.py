"""`--workers`: what is written is what one process writes, and whoever ends the command ends all of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import polyhead as library
from polyhead.benchmark import machine
from polyhead.tasks.workers import Workers
from tests.cli.conftest import Polyhead, refused

HEARING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from polyhead.cli.main import main; main()"
)  # tests may run as a shell's background job, which is deaf to Ctrl-C, and so would be what it starts
LINES = ["雨", "", "我爱吃苹果。", "他说她没来。", "  ", "苹果" * 20] * 50
PROCESSES = Path("/proc/self/task")
needs_proc = pytest.mark.skipif(not PROCESSES.is_dir(), reason="children are looked for in /proc, which Linux has")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "in.txt"
    file.write_text("\n".join(LINES) + "\n", "utf-8")
    return file


@pytest.mark.parametrize("how", [("--nbest", 2), ("--json", "--temperature", 1.5, "--seed", 7)], ids=["beam", "drawn"])
def test_two_workers_write_what_one_does(
    polyhead: Polyhead, model: Path, source: Path, tmp_path: Path, how: tuple[object, ...]
):
    files = {count: tmp_path / f"out{count}.txt" for count in (1, 2)}
    for count, file in files.items():
        answer = polyhead("translate", "-m", model, "-i", source, "-o", file, "--workers", count, *how)
        assert (answer.code, answer.out, answer.err) == (0, "", "")
    one, two = (file.read_bytes() for file in files.values())
    assert one == two and len(one.splitlines()) >= len(LINES) - 100


def test_a_line_that_is_too_long_is_refused_as_by_one(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "long.txt").write_text("雨\n" + "我" * 80, encoding="utf-8")
    how = "translate", "-m", model, "-i", tmp_path / "long.txt", "-o", tmp_path / "out.txt"
    two = polyhead(*how, "--workers", 2)
    refused(two, "long.txt line 2 has", "64")
    assert two == polyhead(*how)
    assert [path.name for path in tmp_path.iterdir()] == ["long.txt"]


def test_numbers_that_make_no_workers_are_refused(polyhead: Polyhead, model: Path):
    for count in (0, 65, "many"):
        refused(polyhead("translate", "-m", model, "雨", "--workers", count), "--workers")


def test_no_more_workers_start_than_there_are_lines(
    polyhead: Polyhead, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crews: list[Workers] = []
    enter = Workers.__enter__

    def entered(crew: Workers) -> Workers:
        crews.append(crew)
        return enter(crew)

    monkeypatch.setattr(Workers, "__enter__", entered)
    alone = polyhead("translate", "-m", model, "雨", "苹果")
    monkeypatch.setattr(machine, "cpus", lambda: 1)
    two = polyhead("translate", "-m", model, "雨", "苹果", "--workers", 64)
    assert two.out == alone.out
    assert two.err == "polyhead: 2 workers share 1 CPU; one for each is enough.\n"
    assert polyhead("translate", "-m", model, "--workers", 64, stdin=b"").out == ""
    assert polyhead("translate", "-m", model, "--workers", 64, stdin="雨\n".encode()).out == alone.lines[0] + "\n"
    library.translate(["雨", " ", ""], model=model, workers=64)
    assert [crew.count for crew in crews] == [1, 2, 1, 1, 1]


class Running:
    """A command at work on many lines in a process of its own, with a helper."""

    def __init__(self, model: Path, folder: Path):
        source = folder / "in.txt"
        source.write_text(
            "\n".join(LINES * 3000), "utf-8"
        )  # more than is done before it is ended, however busy the machine
        words = "translate", "-m", str(model), "-i", str(source), "-o", str(folder / "out.txt"), "--workers", "2"
        world = os.environ | {"OMP_NUM_THREADS": "1"}
        self.folder, errors = folder, subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", HEARING, *words], env=world, stderr=errors, text=True)
        until(lambda: len(list(folder.iterdir())) > 1)  # the part of a file that is written to while it works
        until(lambda: len(self.children()) > 0)
        [self.helper] = self.children()
        time.sleep(0.5)

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def ended(self) -> tuple[int, str]:
        """The exit code and what was said; nobody is left."""
        _, said = self.process.communicate(timeout=60)
        until(lambda: not Path(f"/proc/{self.helper}").exists())
        return self.process.returncode, said


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@needs_proc
def test_ctrl_c_ends_all_at_once(model: Path, tmp_path: Path):
    running = Running(model, tmp_path)
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == (130, "Stopped.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


@needs_proc
def test_a_helper_that_is_killed_is_one_sentence(model: Path, tmp_path: Path):
    running = Running(model, tmp_path)
    os.kill(running.helper, signal.SIGKILL)
    code, said = running.ended()
    assert code == 2 and said.count("\n") == 1
    assert said.startswith("polyhead: One of 2 workers was ended by SIGKILL")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


@needs_proc
def test_helpers_of_a_command_that_is_killed_end_too(model: Path, tmp_path: Path):
    running = Running(model, tmp_path)
    running.process.kill()
    assert running.ended() == (-9, "")
