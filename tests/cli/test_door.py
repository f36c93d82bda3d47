"""The door: every error meant for people is one sentence and exit code 2; files are whole or absent."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from polyhead.cli.door import apart, guarded, lines, output
from polyhead.errors import DataError, PolyheadError
from tests.cli.conftest import Polyhead, refused


def failing(error: BaseException):
    def verb() -> None:
        raise error

    return guarded(verb)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("train.tsv line 17: has 1 column"), 2, "polyhead: train.tsv line 17: has 1 column\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "x.txt"),
            2,
            "polyhead: There is no 'x.txt'; check the path.\n",
        ),
        (PermissionError(errno.EACCES, "Denied", "x.txt"), 2, "No permission for 'x.txt'"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), 2, "'x' is a folder"),
        (OSError(errno.ENOSPC, "No space left on device", "out.txt"), 2, "The disk is full while writing 'out.txt'"),
        (OSError(errno.EIO, "Input/output error"), 2, "Cannot use a file: Input/output error."),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
    ],
    ids=["ours", "missing", "permission", "folder", "full", "other", "ctrl-c"],
)
def test_errors_become_sentences(error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        failing(error)()
    assert left.value.code == code
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())()


def test_a_sentence_may_hold_what_the_terminal_would_obey_but_does_not_pass_it_on(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        failing(PolyheadError("no file 'a\x1b[2Jb\u202e'"))()
    assert capsys.readouterr().err == "polyhead: no file 'a␛[2Jb‹U+202E›'\n"


def test_a_closed_pipe_is_quiet():
    script = "from polyhead.cli.door import guarded\nguarded(lambda: print('x' * 100_000))()"
    reader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert reader.stdout and reader.stderr
    reader.stdout.close()
    assert reader.stderr.read() == b""
    reader.stderr.close()
    assert reader.wait() == 128 + signal.SIGPIPE


def test_translations_are_utf8_and_all_else_survives_a_terminal_without_chinese():
    script = (
        "from polyhead.cli.door import guarded, output\n"
        "guarded(lambda: print('苹果'))()\n"
        "with output(None) as out: out.write('苹果')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert run.stderr == b""
    assert run.stdout.splitlines() == [rb"\u82f9\u679c", "苹果".encode()]


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "out.txt"
    with pytest.raises(RuntimeError), output(path) as stream:
        stream.write("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with output(path) as stream:
        stream.write("雨\n")
        assert not path.exists()
    assert path.read_bytes() == "雨\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["out.txt"]


def test_a_file_gets_the_permissions_that_the_person_has_set(tmp_path: Path):
    before = os.umask(0o027)
    try:
        with output(tmp_path / "out.txt"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o640


def test_a_link_goes_on_pointing_at_its_file(tmp_path: Path):
    (tmp_path / "real.txt").touch()
    (tmp_path / "link.txt").symlink_to("real.txt")
    with output(tmp_path / "link.txt") as stream:
        stream.write("x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "x"


def test_devices_are_written_to_and_not_replaced():
    with output(Path(os.devnull)) as stream:
        stream.write("x")
    assert not Path(os.devnull).is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]):
    def verb() -> None:
        with output(Path("/dev/full")) as stream:
            stream.write("x")

    with pytest.raises(SystemExit) as left:
        guarded(verb)()
    assert left.value.code == 2
    assert "/dev/full could not be written (No space left on device); make room" in capsys.readouterr().err


def test_a_missing_folder_for_the_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def verb() -> None:
        with output(tmp_path / "no" / "out.txt"):
            pass

    with pytest.raises(SystemExit):
        guarded(verb)()
    assert capsys.readouterr().err == f"polyhead: There is no '{tmp_path / 'no'}'; check the path.\n"


def test_a_fault_of_the_input_is_not_taken_for_one_of_the_output(tmp_path: Path):
    with (
        pytest.raises(DataError, match=r"in\.txt cannot be read \(No such file"),
        output(tmp_path / "out.txt") as stream,
    ):
        stream.writelines(lines(tmp_path / "in.txt"))
    with pytest.raises(DataError, match="Is a directory"), output(tmp_path / "out.txt") as stream:
        stream.writelines(lines(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_is_read_is_not_written_over(polyhead: Polyhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    file, link = Path("f.txt"), Path("link.txt")
    file.write_text("雨\n", "utf-8")
    link.symlink_to("f.txt")
    os.link("f.txt", "hard.txt")
    for there in (file, link, "./f.txt", "hard.txt"):
        for words in (
            ("translate", "-i", file, "-o", there),
            ("summarize", "-m", "any", file, "-o", there),
            ("embed", "-m", "any", "-i", file, "-o", there),
            ("answer", "-m", "any", "--pairs", file, "-o", there),
            ("search", "a rainy day", file, "-m", "any", "-o", there),
            ("transcribe", "-m", "any", file, "-o", there),
            ("evaluate", file, "-o", there),
            ("shortlist", "--texts", file, "-o", there),
            ("heads", "zh-en", file, "--figure", there),
            ("see", "--recording", file, "--save", there),
        ):
            refused(polyhead(*words), Path(there).name, "is read, so --", "cannot write there; give it another file.")
    assert file.read_text("utf-8") == "雨\n" and link.is_symlink()


def test_a_device_may_be_read_and_written():
    apart({"input_file": Path(os.devnull), "output_file": Path(os.devnull)})


def test_lines_are_what_lies_between_line_ends(tmp_path: Path):
    file = tmp_path / "in.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\n\nb\x0bc\xe2\x80\xa8d\ne")
    assert list(lines(file)) == ["a", "", "b\x0bc\u2028d", "e"]


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path):
    file = tmp_path / "in.txt"
    file.write_bytes(b"a\nbc\xff\n")
    with pytest.raises(DataError, match=r"in\.txt line 2: byte 0xff at position 3 is not UTF-8"):
        list(lines(file))


def test_a_pipe_that_is_not_utf8_is_told_what_it_begins_as(polyhead: Polyhead):
    answer = polyhead("translate", stdin="雨\n".encode("utf-16"))
    refused(answer, "the standard input line 1: byte 1 is not UTF-8 (", "iconv -f UTF-16 -t UTF-8).")
    refused(polyhead("translate", stdin="雨\n".encode("gb18030")), "iconv -f GB18030 -t UTF-8).")


def test_a_private_file_stays_private(tmp_path: Path):
    (tmp_path / "out.txt").touch(mode=0o600)
    with output(tmp_path / "out.txt") as stream:
        stream.write("new")
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o600
    assert (tmp_path / "out.txt").read_text("utf-8") == "new"
