"""Engines side by side: they do the same work, take turns, and what is not there or cannot be done is told."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM

import polyhead
from polyhead.benchmark.bench import ENGINES, Process
from polyhead.benchmark.engines.plan import plan
from polyhead.benchmark.job import Job
from polyhead.benchmark.machine import Neighbours
from polyhead.benchmark.processes import Engine, interleaved
from polyhead.benchmark.result import Comparison, Line, Measured, agreement
from polyhead.benchmark.speeds import percentile, ratio, spread
from polyhead.benchmark.table import table
from polyhead.benchmark.wording import SAID, heading, notes, said
from polyhead.cli.bench import drawn
from polyhead.errors import ArgumentError, PolyheadError
from polyhead.tasks.load import save
from tests.cli.conftest import LINES, write_model
from tests.structure.worlds import WORLDS
from tests.tasks.speech import sound, speech_in_folder, write_wave
from tests.tasks.words import decoder_in_folder, in_folder

ONE: dict[str, Any] = {"threads": 1, "quick": True}


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("translator"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    ids = {f"{role}_token_id": config[f"{role}_token_id"] for role in ("pad", "eos", "decoder_start")}
    says = {**ids, "bad_words_ids": [[ids["pad_token_id"]]], "num_beams": 2}
    (folder / "generation_config.json").write_text(json.dumps(says), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lines") / "lines.txt"
    file.write_text("\n".join([*LINES, "", *LINES]) + "\n", encoding="utf-8")
    return file


def rows_of(file: str, job: Job, scratch: Path, precision: str = "fp32") -> Any:
    """What an engine answers, here in the process of the tests."""
    verbs = import_module(f"polyhead.benchmark.engines.{file}").VERBS
    verbs["open"](job=job.__dict__, precision=precision, threads=1, scratch=str(scratch))
    return verbs["run"](least=0.0)["rows"]


def planned(model: Path, scratch: Path, data: Path | None = None, beam: int | None = None) -> Job:
    return Job(**plan(str(model), str(scratch), None if data is None else str(data), beam, quick=True))


def test_every_engine_translates_as_transformers_does_here(translator: Path, lines: Path, tmp_path: Path) -> None:
    """Row by row and without batches, in this process, is the reference."""
    job = planned(translator, tmp_path, lines, beam=1)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(translator).eval()
    assert len(job.rows) == 4 and sorted(i for batch in job.batches for i in batch) == [0, 1, 2, 3]
    longest = job.longest(job.batches[0])
    expected = []
    for row in job.rows:
        found = model.generate(torch.tensor([row]), num_beams=1, max_new_tokens=longest)[0, 1:].tolist()
        end = found.index(job.end[0]) if job.end[0] in found else len(found)
        expected.append(found[:end])
    assert max(map(len, expected)) > 1
    for file, _ in ENGINES.values():
        assert rows_of(file, job, tmp_path) == expected, file


def test_every_engine_goes_on_by_as_many_tokens_as_asked(tmp_path: Path) -> None:
    decoder_in_folder(tmp_path / "writer", "LlamaForCausalLM")
    job = planned(tmp_path / "writer", tmp_path)
    ours, *others = (rows_of(file, job, tmp_path) for file, _ in ENGINES.values())
    assert {len(row) for row in ours} == {job.new}
    assert others == [ours] * 3


def test_every_engine_labels_alike(tmp_path: Path) -> None:
    WORLDS["classify"](tmp_path)
    for name, data, amount in (("my-classifier", "comments.txt", None), ("my-digits", "seven.png", 1)):
        job = planned(tmp_path / name, tmp_path, tmp_path / data)
        assert amount is None or job.amount == amount
        reference = rows_of("by_transformers", job, tmp_path)
        for file in ("ours", "by_onnxruntime"):
            np.testing.assert_allclose(rows_of(file, job, tmp_path), reference, rtol=1e-4, atol=1e-5, err_msg=file)
        with pytest.raises(ArgumentError, match="gives no labels"):
            rows_of("by_ctranslate2", job, tmp_path)


def test_every_engine_writes_the_same_of_a_sound(tmp_path: Path) -> None:
    speech_in_folder(tmp_path / "hearer")
    write_wave(tmp_path / "a.wav", sound(1.2))
    job = planned(tmp_path / "hearer", tmp_path, tmp_path / "a.wav")
    assert job.amount == pytest.approx(1.2) and job.rows[0]
    ours, *others = (rows_of(file, job, tmp_path) for file, _ in ENGINES.values())
    assert ours[0] and others == [ours] * 3


def test_every_engine_gives_the_mean_of_a_texts_vectors(tmp_path: Path) -> None:
    in_folder(tmp_path / "encoder", "BertModel")
    job = planned(tmp_path / "encoder", tmp_path)
    model: Any = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    with torch.inference_mode():
        expected = [model(torch.tensor([row])).last_hidden_state[0].mean(0).numpy() for row in job.rows]
    assert len({len(row) for row in job.rows}) > 1
    assert job.amount == sum(map(len, job.rows))
    for file, _ in ENGINES.values():
        np.testing.assert_allclose(rows_of(file, job, tmp_path), expected, rtol=1e-4, atol=1e-5, err_msg=file)


def test_a_comparison_has_a_line_for_every_engine_and_precision(translator: Path, lines: Path) -> None:
    told: list[str] = []
    found = polyhead.bench(translator, data=lines, beam=2, progress=told.append, **ONE)
    [each] = found.comparisons
    assert [line.name for line in each.lines] == [f"{e} {p}" for e, (_, some) in ENGINES.items() for p in some]
    assert each.base.name == "transformers fp32" and each.ratios(each.base) == (1.0, 1.0, 1.0)
    full = {line.name: line.agrees for line in each.lines}
    assert full["polyhead fp32"] == full["ctranslate2 fp32"] == 1.0
    assert "beam" in each.lines[-1].why and not each.lines[-1].speeds
    assert all(line.speeds[0] > 0 for line in each.lines[:-1])
    assert (found.missing, found.threads, each.rows, each.beams) == ({}, 1, 4, 2)
    assert told[0] == f"reading {translator}" and told[-1].endswith("round 1 of 1")
    assert json.loads(str(found))["comparisons"][0]["base"] == "transformers fp32"
    head, *rows = (line.split("\t") for line in found.tsv.splitlines())
    assert {len(row) for row in rows} == {len(head)} and len(rows) == len(each.lines)


def blocked(folder: Path, *names: str) -> dict[str, str]:
    """A world where importing these packages fails as it does where they are not installed."""
    for name in names:
        why = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n"
        (folder / f"{name}.py").write_text(why, encoding="utf-8")
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def test_a_peer_that_is_not_installed_is_told_with_how_to_get_it(translator: Path, tmp_path: Path) -> None:
    """Without any peer, ratios are to ours; and this shows that no peer is needed, in the reader's process least."""
    world = blocked(tmp_path, "transformers", "ctranslate2", "onnxruntime")
    command = [sys.executable, "-m", "polyhead", "bench", str(translator), "--quick", "--threads", "1", "--lang", "en"]
    done = subprocess.run(command, capture_output=True, text=True, env=world, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "polyhead fp32" in done.stdout and "as fast as polyhead fp32" in " ".join(done.stdout.split())
    for name in ("transformers", "ctranslate2", "onnxruntime"):
        assert f"Not measured: {name} (pip install {name}" in done.stdout


def test_no_peer_is_imported_by_who_asks(translator: Path) -> None:
    code = (
        f"import polyhead, sys; polyhead.bench({str(translator)!r}, engines=['ctranslate2'], threads=1, quick=True)\n"
    )
    code += "print([name for name in ('torch', 'transformers', 'ctranslate2', 'onnxruntime') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_of_the_readers_folder_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    process = Process("nobody", 1)
    assert process.ask("open")["lacks"] == "polyhead"  # it got so far as to look for an engine of that name
    process.close()


def test_nothing_is_left_behind(translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = {path: path.stat().st_mtime_ns for path in translator.iterdir()}
    polyhead.bench(translator, engines=["ctranslate2"], **ONE)
    assert not list(tmp_path.iterdir())
    assert {path: path.stat().st_mtime_ns for path in translator.iterdir()} == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"engines": ["onnx"]}, "no engine 'onnx', only polyhead"),
        ({"engines": []}, "engines is empty"),
        ({"threads": 0}, "threads is 0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"beam": 0}, "beam is 0"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_is_begun(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        polyhead.bench(**given)


def test_what_a_model_cannot_do_is_one_sentence(translator: Path, lines: Path, tmp_path: Path) -> None:
    in_folder(tmp_path / "encoder", "BertModel")
    decoder_in_folder(tmp_path / "vectors", "GPT2Model")
    speech_in_folder(tmp_path / "hearer")
    (tmp_path / "long.txt").write_text(" ".join(LINES * 999) + "\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    for model, data, beam, words in (
        (tmp_path / "none", None, None, "none"),
        (tmp_path / "encoder", None, 2, "--beam is of models that translate"),
        (tmp_path / "vectors", None, None, "bench has no work for a GPT2Model"),
        (tmp_path / "hearer", None, None, "give --data, a sound or a folder of sounds"),
        (translator, tmp_path / "none.txt", None, "There is no file"),
        (
            translator,
            tmp_path / "long.txt",
            None,
            "None of the 1 texts can be read: the model reads \\d+ tokens at once",
        ),
        (translator, tmp_path / "empty.txt", None, "is empty"),
    ):
        with pytest.raises(PolyheadError, match=words):
            planned(model, tmp_path, data, beam)
    with pytest.raises(ArgumentError, match=r"No engine can do the work of .*: onnxruntime searches by no beam"):
        polyhead.bench(translator, data=lines, beam=2, engines=["onnxruntime"], threads=1, quick=True)


def test_an_engine_that_ends_is_told_with_its_last_words() -> None:
    process = Process("ours", 1)
    with pytest.raises(PolyheadError, match=r"The engine ours ended at 'run' \(.*AttributeError.*\)"):
        process.ask("run", least=0.0)  # nothing was opened
    process.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux tells which processes there are")
def test_an_engine_that_ends_in_a_round_takes_no_figure_from_the_others(translator: Path, lines: Path) -> None:
    def end_one(told: str) -> None:
        if not told.endswith("round 2 of 3"):
            return
        for each in Path("/proc").iterdir():
            if each.name.isdigit() and f"PPid:\t{os.getpid()}\n" in (each / "status").read_text("utf-8"):
                if b"by_ctranslate2" in (each / "cmdline").read_bytes():
                    os.kill(int(each.name), signal.SIGKILL)

    engines = ["ctranslate2", "polyhead"]
    found = polyhead.bench(translator, data=lines, beam=1, engines=engines, threads=1, rounds=3, progress=end_one)
    lost, kept = (
        [line for line in found.comparisons[0].lines if line.engine == engine] for engine in ("ctranslate2", "polyhead")
    )
    assert all(not line.speeds and "The engine by_ctranslate2 ended at 'run'" in line.why for line in lost)
    assert all(len(line.speeds) == 3 and not line.why for line in kept)
    assert "ended at 'run'" in table(found, width=80, language="en").plain


def test_answers_without_a_token_have_no_speed(translator: Path, lines: Path, tmp_path: Path) -> None:
    loaded: Any = polyhead.load(translator)
    with torch.no_grad():
        loaded.model.head.fixed_bias[..., loaded.config.eos_id] += 1e4
    save(loaded, tmp_path / "silent")
    with pytest.raises(ArgumentError, match=r"No engine can do the work of .*silent: polyhead wrote no token in any"):
        polyhead.bench(tmp_path / "silent", data=lines, engines=["polyhead"], **ONE)


def test_what_the_folder_asks_for_and_others_do_not_is_told(translator: Path, lines: Path, tmp_path: Path) -> None:
    folder = tmp_path / "asking"
    shutil.copytree(translator, folder)
    says = json.loads((folder / "generation_config.json").read_text("utf-8"))
    more = {"no_repeat_ngram_size": 2, "length_penalty": 0.6, "repetition_penalty": 1.0, "bad_words_ids": [[3, 4], [5]]}
    (folder / "generation_config.json").write_text(json.dumps(says | more), encoding="utf-8")
    assert planned(translator, tmp_path, lines).rules == []
    assert planned(folder, tmp_path, lines, beam=1).rules == ["no_repeat_ngram_size", "bad_words_ids"]
    job = planned(folder, tmp_path, lines, beam=2)
    assert job.rules == ["no_repeat_ngram_size", "length_penalty", "bad_words_ids"] and list(job.never) == [5]
    [each] = measured().comparisons
    for rules, told in (tuple(job.rules), "(no_repeat_ngram_size, length_penalty, bad_words_ids)"), ((), None):
        found = replace(measured(), comparisons=(replace(each, rules=rules),))
        assert (
            any(told in note for note in notes(found, "en")) if told else notes(found, "en") == notes(measured(), "en")
        )


def test_engines_take_turns_and_the_first_round_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyhead.benchmark.processes.PAUSE", 0.0)
    said: list[str] = []
    found = interleaved({n: lambda n=n: said.append(n) or len(said) for n in "ab"}, rounds=2)
    assert said == list("ababab") and found == {"a": [3, 5], "b": [4, 6]}


def test_figures_of_rounds() -> None:
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == "2.00x"  # of 2, 3 and 1
    assert spread([9.0, 10.0, 12.0]) == "30%"
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.95)] == [2.0, 4.0]
    assert agreement([[1, 2], [3]], [[1, 2], [4]], written=True) == 0.5
    assert agreement([[3.0, 4.0], [1.0, 0.0]], [[6.0, 8.0], [1.0, 1.0]], written=False) == pytest.approx(0.5**0.5)


@pytest.mark.skipif(Neighbours().then is None, reason="only Linux tells who used the CPUs")
def test_what_a_process_below_this_one_used_is_no_neighbours() -> None:
    neighbours = Neighbours()
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    busy = [sys.executable, "-c", "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"]
    subprocess.run(busy, check=True)
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
    (then, everyone, ours), (now, everyone_now, ours_now) = neighbours.then or (0, 0, 0), neighbours._now() or (0, 0, 0)
    assert ours_now - ours >= used - 0.1 > 0.3
    assert neighbours.busy() == pytest.approx((everyone_now - everyone - (ours_now - ours)) / (now - then), abs=0.2)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_lines_up_in_eighty_columns(language: Any) -> None:
    from rich.cells import cell_len

    found = measured()
    text = table(found, width=80, language=language).plain
    rows = [line for line in text.splitlines() if "fp32" in line or "int8" in line]
    ran = [line for line in rows if "x  " in line]
    assert len(ran) == 3 and {cell_len(line) for line in ran} == {cell_len(ran[0])}
    assert cell_len(ran[0]) <= 80
    assert [line.count("█") for line in ran] == sorted((line.count("█") for line in ran), reverse=True)
    plain = table(found, width=80, language=language, blocks=False).plain
    assert "█" not in plain and "####" in plain
    assert any("pip install onnxruntime" in note for note in notes(found, language))
    assert heading(found.comparisons[0], language) in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_an_engine_does_not_run_is_told_once_beside_its_name(language: Any) -> None:
    [each] = measured().comparisons
    why = "CTranslate2 does not run this model: " + "a reason of many words, " * 9
    for precisions, name in ((("fp32", "int8"), "ctranslate2"), (("int8",), "ctranslate2 int8")):
        refused = tuple(Line("ctranslate2", precision, why=why) for precision in precisions)
        found = replace(measured(), comparisons=(replace(each, lines=(*each.lines[:2], *refused)),))
        lines = table(found, width=80, language=language).plain.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(name))
        column = lines[start].index("CTranslate2 does not")
        assert lines[start][:column].strip() == name
        assert (
            all(line[:column].isspace() and len(line) <= 80 for line in lines[start + 1 :]) and len(lines) > start + 2
        )
        assert " ".join(" ".join(line[column:] for line in lines[start:]).split()) == why.strip()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_round_has_no_spread_and_no_thin_lines(language: Any) -> None:
    def told(found: Measured) -> str:
        shown = [table(found, width=80, language=language).plain, *drawn(found, language).drawing.texts]
        return "\n".join([*shown, *notes(found, language)])

    many = measured()
    [each] = many.comparisons
    one = replace(
        many, rounds=1, comparisons=(replace(each, lines=tuple(replace(a, speeds=a.speeds[:1]) for a in each.lines)),)
    )
    for key in ("spread", "whiskers"):
        word = said(key, language)
        assert word in told(many) and word not in told(one)
    assert said("ratio", language) in told(one)


def test_both_languages_say_all_and_leave_the_same_places_open() -> None:
    import re

    for english, chinese in SAID.values():
        assert sorted(re.findall(r"\{[^}]*\}", english)) == sorted(re.findall(r"\{[^}]*\}", chinese))


def measured() -> Measured:
    lines = (
        Line("polyhead", "fp32", (400.0, 410.0, 420.0), 1.0),
        Line("transformers", "fp32", (100.0, 100.0, 110.0), 1.0),
        Line("ctranslate2", "int8", (50.0, 60.0, 55.0), 0.75),
        Line("ctranslate2", "fp32", why="does not run this model"),
    )
    each = Comparison("models/a-model", "translate", "tokens written", 16, 4, None, lines)
    hardware = "A processor, 2 CPUs (avx2), 8 GiB"
    return Measured((each,), {"onnxruntime": "pip install onnxruntime"}, 2, 3, "2026-11-30", hardware, ("Python 3.11",),
                    0.02, False)  # fmt: skip


def test_a_process_that_is_closed_at_once_is_gone() -> None:
    process = Engine("polyhead.benchmark.engines.engine", "plan", threads=1)
    process.close(wait=False)
    assert process.process.returncode == -9
