"""Every format gives the same pairs, and every kind of broken file one sentence with its place."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.readers import LONGEST_LINE, Skipped, Source, read, read_lines
from tests.inputs.samples import PAIRS, write

TSV = "".join(f"{english}\t{chinese}\tsomeone\t{i % 3}\n" for i, (chinese, english) in enumerate(PAIRS))


def pairs(source: Source, **how: Any) -> list[tuple[str, str]]:
    return [(example.source, example.target) for example in read(source, **how)]


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, packed: str) -> None:
    records = [json.dumps({"zh": zh, "en": en}, ensure_ascii=False) for zh, en in PAIRS]
    tsv = write(tmp_path / f"a.tsv{packed}", TSV)
    headed = write(tmp_path / f"b.tsv{packed}", "english\tchinese\tby\tkind\n" + TSV)
    jsonl = write(tmp_path / f"c.jsonl{packed}", "\n".join(records))
    left = write(tmp_path / f"d.zh{packed}", "\r\n".join(zh for zh, _ in PAIRS))
    right = write(tmp_path / f"d.en{packed}", "".join(f"  {en} \n" for _, en in PAIRS))
    assert pairs(Source(path=tsv, columns=(2, 1))) == PAIRS
    assert pairs(Source(path=headed, columns=["chinese", "english"])) == PAIRS
    assert pairs(Source(path=jsonl, columns=("zh", "en"))) == PAIRS
    assert pairs(Source(path=(left, right))) == PAIRS


def test_packed_files_are_known_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "no_ending"
    path.write_bytes(gzip.compress(b"a\tb\n"))
    assert pairs(Source(path=path)) == [("a", "b")]


def test_only_the_rows_asked_for_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", TSV)
    headed = write(tmp_path / "b.tsv", "en\tzh\tby\tkind\n" + TSV)
    records = "\n".join(json.dumps({"zh": zh, "en": en, "kind": i % 3}) for i, (zh, en) in enumerate(PAIRS))
    jsonl = write(tmp_path / "a.jsonl", records)
    wanted = [pair for i, pair in enumerate(PAIRS) if i % 3 != 1]
    assert pairs(Source(path=path, columns=(2, 1), where={4: ("0", "2")})) == wanted
    assert pairs(Source(path=headed, columns=(2, 1), where={"kind": ("0", "2")})) == wanted
    assert pairs(Source(path=jsonl, columns=("zh", "en"), where={"kind": ("0", "2")})) == wanted


def test_examples_know_their_line_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "\ufeffa\tb\n\n \t\nc\td")
    assert list(read(Source(path=path))) == [("a", "b", 1), ("c", "d", 4)]
    sides = write(tmp_path / "a.zh", "甲\n\n乙"), write(tmp_path / "a.en", "a\n\nb\n")
    assert list(read(Source(path=sides))) == [("甲", "a", 1), ("乙", "b", 3)]


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_byte_order_mark_is_no_part_of_any_format(tmp_path: Path, packed: str) -> None:
    jsonl = write(tmp_path / f"a.jsonl{packed}", '\ufeff{"zh": "甲", "en": "a"}\n{"zh": "乙", "en": "b"}\n')
    headed = write(tmp_path / f"a.tsv{packed}", "\ufeffzh\ten\n甲\ta\n乙\tb\n")
    for path in (jsonl, headed):
        assert pairs(Source(path=path, columns=("zh", "en"))) == [("甲", "a"), ("乙", "b")]


@pytest.mark.parametrize("wanted", ["true", "True", True])
def test_a_truth_value_is_found_as_it_is_written_in_json_and_in_python(tmp_path: Path, wanted: Any) -> None:
    rows = [{"zh": "甲", "en": "a", "ok": True}, {"zh": "乙", "en": "b", "ok": False}, {"zh": "丙", "en": "c", "ok": 1}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert pairs(Source(path=path, columns=("zh", "en"), where={"ok": [wanted]})) == [("甲", "a")]


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_rows_that_were_not_asked_for_are_counted_as_lines(tmp_path: Path, name: str) -> None:
    content = "甲\ta\n乙\tb\n" if name == "a.tsv" else '{"1": "甲", "2": "a"}\n{"1": "乙", "2": "b"}\n'
    with pytest.raises(DataError, match=r"gives no pair in 2 lines\. Rows were asked for where \{1: \['x'\]\}"):
        pairs(Source(path=write(tmp_path / name, content), where={1: ["x"]}))


def test_lines_of_a_text_file_keep_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeffone\r\n\n  two \n\n")
    assert list(read_lines(path)) == ["one", "", "  two ", ""]


def test_repeats_are_left_out_and_counted_by_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "a\tb\nc\td\na \t b\nc\tb\n")
    report = Skipped()
    assert pairs(Source(path=path, distinct=True), report=report) == [("a", "b"), ("c", "d"), ("c", "b")]
    assert report.reasons == {"repeated pair": 1}
    assert len(pairs(Source(path=path))) == 4


def test_a_file_is_read_as_it_is_asked_for_and_never_held(tmp_path: Path) -> None:
    line = "x" * 500 + "\t" + "y" * 500 + "\n"
    path = write(tmp_path / "a.tsv.gz", line * 4000)
    tracemalloc.start()
    assert sum(1 for _ in read(Source(path=path))) == 4000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(line) * 4000 / 10


# --- what is wrong ---------------------------------------------------------------------------------------------------

BROKEN = {
    "one column": ("a.tsv", b"a\tb\nonly\n", r"a\.tsv line 2: has 1 column, expected at least 2"),
    "empty side": ("a.tsv", b"a\tb\nc\t \n", r"a\.tsv line 2: the target side is empty"),
    "not UTF-8": (
        "a.tsv",
        b"a\tb\n\xc4\xe3\t\xba\xc3\n",
        r"a\.tsv line 2: byte 0xc4 at position 1 is not UTF-8 .*GB18030",
    ),
    "UTF-8 cut short": ("a.tsv", "a\tb\nc\t我".encode()[:-1], r"line 2: byte 0xe6 at position 3 is not UTF-8"),
    "not JSON": ("a.jsonl", b'{"1": "a", "2": "b"}\n{"1": "a"\n', r"a\.jsonl line 2: is not JSON"),
    "not an object": ("a.jsonl", b'{"1": "a", "2": "b"}\n[1, 2]\n', r"line 2: holds list, expected a JSON object"),
    "deep JSON": ("a.jsonl", b'{"1": "a", "2": "b"}\n' + b"[" * 9999, r"line 2: is not JSON"),
    "missing key": ("a.jsonl", b'{"1": "a", "2": "b"}\n{"1": "a", "x": 1}\n', r"line 2: lacks \['2'\], its keys are"),
    "not text": ("a.jsonl", b'{"1": "a", "2": "b"}\n{"1": "a", "2": 7}\n', r"line 2: '1' and '2' must hold text"),
    "too long": ("a.tsv", b"a\tb\n" + b"z" * (LONGEST_LINE + 1) + b"\n", r"line 2: is 1,048,578 bytes long"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_named_with_file_and_number(tmp_path: Path, case: str) -> None:
    name, content, sentence = BROKEN[case]
    source = Source(path=write(tmp_path / name, content))
    with pytest.raises(DataError, match=sentence):
        list(read(source))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_skipped_and_counted_by_choice(tmp_path: Path, case: str) -> None:
    name, content, sentence = BROKEN[case]
    good = b'\n{"1": "c", "2": "d"}\n' if name == "a.jsonl" else b"\nc\td\n"
    source, report = Source(path=write(tmp_path / name, content + good)), Skipped()
    assert pairs(source, on_error="skip", report=report) == [("a", "b"), ("c", "d")]
    assert report.total == 1
    with pytest.raises(DataError, match=sentence):
        raise DataError(str(report))


@pytest.mark.parametrize(("left", "right"), [("a\nb\nc\nd", "a\n"), ("a\n", "a\nb\nc\nd\n")])
def test_parallel_files_of_different_length_are_refused_with_both_counts(tmp_path: Path, left: str, right: str) -> None:
    source = Source(path=(write(tmp_path / "x.zh", left), write(tmp_path / "x.en", right)))
    counts = [len(side.splitlines()) for side in (left, right)]
    with pytest.raises(DataError, match=rf"x\.zh has {counts[0]} and .*x\.en has {counts[1]};"):
        list(read(source, on_error="skip"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "a.txt",
            "雨\n".encode("utf-16"),
            r"0xff at .* \(the file begins as UTF-16 does; .*: iconv -f UTF-16 -t UTF-8\)",
        ),
        ("a.txt", b"\xfe\xff" + "a\n".encode("utf-16-be"), r"0xfe at position 1 .*: iconv -f UTF-16 -t UTF-8\)"),
        ("a.txt", "a\n".encode("utf-16-le"), r"0x00 at position 2 is of no text \(.*: iconv -f UTF-16LE -t UTF-8\)"),
        ("a.txt", "雨\n".encode("utf-32"), r"0xff at .*iconv -f UTF-32 -t UTF-8\)"),
        (
            "a.png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            r"0x89 at position 1 is not UTF-8 \(this is not a text file; give one",
        ),
        ("a.bin", b"a\0" * (1 << 20), r"0x00 at position 2 is of no text \(this is not a text file; give one"),
        ("a.txt.gz", b"PK\x03\x04\xff\0\n", r"0xff .* \(the file is called \.gz, but is not gzip; give it packed"),
        ("a.txt.gz", gzip.compress("雨\n".encode("utf-16")), r"0xff .*the file begins as UTF-16 does"),
    ],
    ids=[
        "UTF-16",
        "UTF-16 in the other order",
        "UTF-16 without a mark",
        "UTF-32",
        "no text",
        "no text and no lines",
        "no gzip",
        "gzip",
    ],
)
def test_a_file_of_another_encoding_and_one_that_is_no_text_are_told_by_how_they_begin(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} line 1: byte {sentence}"):
        list(read_lines(tmp_path / name))


def test_text_that_is_called_gz_is_read_and_so_is_a_stray_nul(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes("雨\na\0b\n".encode())
    assert list(read_lines(tmp_path / "a.txt.gz")) == ["雨", "a\0b"]


def test_a_line_that_is_blank_on_one_side_is_broken(tmp_path: Path) -> None:
    source = Source(path=(write(tmp_path / "x.zh", "甲\n\n"), write(tmp_path / "x.en", "a\nb\n")))
    with pytest.raises(DataError, match=r"x\.en line 2: the source side is empty"):
        list(read(source))


@pytest.mark.parametrize("content", ["", "\n\n", "a\tb\tno\n"])
def test_a_source_without_any_pair_is_refused(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "a.tsv", content)
    with pytest.raises(DataError, match=r"a\.tsv (gives no pair|is empty)"):
        list(read(Source(path=path, where={3: ("yes",)})))


def test_a_source_with_nothing_but_broken_lines_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "one column\n" * 3)
    with pytest.raises(DataError, match="3 lines, of which 3 were skipped: 3 x too few columns"):
        list(read(Source(path=path), on_error="skip"))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tsv cannot be read \(No such file or directory\)"):
        list(read(Source(path=tmp_path / "none.tsv")))
    with pytest.raises(DataError, match="cannot be read"):
        list(read(Source(path=tmp_path)))
    whole = gzip.compress(TSV.encode())
    for name, content in (("cut", whole[: len(whole) // 2]), ("scratched", whole[:40] + b"????" + whole[44:])):
        with pytest.raises(DataError, match=rf"{name}\.tsv\.gz cannot be read \(damaged: "):
            path = tmp_path / f"{name}.tsv.gz"
            path.write_bytes(content)
            list(read(Source(path=path)))


def test_a_column_that_the_header_lacks_suggests_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "english\tchinese\na\tb\n")
    with pytest.raises(DataError, match=r"no column 'chinesse', .* Did you mean 'chinese'\?"):
        list(read(Source(path=path, columns=("chinesse", "english"))))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"path": "a.tsv", "where": {4: "simp"}}, r"must list the values that column 4 may have, .* found 'simp'"),
        ({"path": "a.tsv", "where": {"kind": 5}}, r"""as in {'kind': \["yes"\]}, but found 5"""),
        ({"path": "a.tsv", "where": {4: [None]}}, r"found \[None\]"),
        ({"path": "a.tsv", "format": "jsnl"}, r"'jsnl' is not one of .* Did you mean 'jsonl'\?"),
        ({"path": "a.tsv", "format": "parallel"}, "'parallel' reads two files, but path names 1"),
        ({"path": ("a", "b"), "format": "tsv"}, "'tsv' reads one file, but path names 2"),
        ({"path": "a.tsv", "columns": (0, 1)}, "counted from 1"),
        ({"path": "a.tsv", "columns": (1, 2, 3)}, "columns are 1, 2, 3; they must be two"),
        ({"path": "a.tsv", "weight": float("nan")}, r"weight \(nan\) of a\.tsv must be above 0"),
        ({"path": "a.tsv", "weight": 1e30}, r"weight \(1e\+30\) of a\.tsv must be above 0 and at most 1000"),
        ({"path": "a.tsv", "weight": 0}, r"weight \(0\) of a\.tsv must be above 0"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused_when_it_is_made(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        Source(**settings)


@pytest.mark.parametrize(("name", "expected"), [("a.tsv", "lines of two columns"), ("a.jsonl", "lines of JSON")])
def test_an_empty_file_is_told_what_belongs_there(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(DataError, match=rf"is empty, expected {expected}; check the file\.$"):
        list(read(Source(path=write(tmp_path / name, ""))))


def test_a_broken_line_names_the_way_to_skip_it_that_its_reader_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "one column\n")
    with pytest.raises(DataError, match=r'have broken ones skipped \(on_error="skip"\)\.$'):
        list(read(Source(path=path)))
    with pytest.raises(DataError, match=r"have broken ones skipped \(--skip-broken\)\.$"):
        list(read(Source(path=path, skip="--skip-broken")))
