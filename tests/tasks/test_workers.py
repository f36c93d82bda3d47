"""Workers: several processes give the answers of one, each in its place, and end together."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from polyhead.errors import ArgumentError, PolyheadError
from polyhead.generation import (
    Beam,
    ConstrainedBeam,
    Contrastive,
    DiverseBeam,
    Greedy,
    Hypothesis,
    Sample,
    SampledBeam,
)
from polyhead.tasks import text_to_text as module
from polyhead.tasks.asking import Asking
from polyhead.tasks.load import load
from polyhead.tasks.summarize import Summarizer, summarize
from polyhead.tasks.text_to_text import TextToText
from polyhead.tasks.translator import Translator, translate
from polyhead.tasks.wire import from_wire, to_wire
from polyhead.tasks.workers import MOST, Helper, Workers
from tests.tasks.conftest import pairs
from tests.tasks.words import STORY, asked_in_folder

LINES = [zh for zh, _ in pairs(40, seed=5)]
SEARCHES = [
    Greedy(),
    Beam(3, 0.7, 2, early_stopping="never"),
    ConstrainedBeam(5, words=[("a",), ("b", "c")]),
    ConstrainedBeam(5, forced=[[(1, 2), (3,)]]),
    Contrastive(0.5, 3),
    DiverseBeam(4, groups=2, penalty=0.1),
    Sample(0.1 + 0.2, top_k=7, seed=3, min_p=1e-300),
    SampledBeam(4, draw=Sample(1.5, top_p=0.9)),
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)
def test_a_search_passes_between_processes_as_it_is(search: Any) -> None:
    assert from_wire(json.loads(json.dumps(to_wire(search)))) == search


def test_answers_and_what_is_asked_pass_with_every_bit_of_their_numbers() -> None:
    said = Asking("say: ", " !", None, "you", {"num_beams": 3, "of": {"a": [1, (2, 3)]}, "is": "Beam", "no": None})
    answers = [[Hypothesis([3, 1], 0.1 + 0.2, True), Hypothesis([], -math.inf, False)], [Hypothesis([7], None, True)]]
    for value in (said, answers, 5e-324, float(torch.tensor(-1.2345678)), "\ud83d\n", True):
        assert from_wire(json.loads(json.dumps(to_wire(value)))) == value


@dataclass(frozen=True)
class Own:
    begin = None


@dataclass(frozen=True)
class Beam2(Beam):
    pass


@pytest.mark.parametrize("search", [Own(), Beam2()])
def test_a_search_that_another_process_does_not_know_is_refused(search: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{type(search).__name__} is known to this process only.*Sample"):
        to_wire(search)


def shared(task: TextToText, crew: Workers, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the helpers have a share of the next call, however soon it is done: this process waits until they have
    begun. The numbers of the lines that this process answers come back."""
    mine: list[int] = []
    here = task.batch

    def waiting(ids: Sequence[Sequence[int]], *, numbers: Sequence[int]) -> Any:
        while not all(helper.jobs.empty() for helper in crew.helpers):
            time.sleep(0.01)
        time.sleep(0.05)
        mine.extend(numbers)
        return here(ids, numbers=numbers)

    monkeypatch.setattr(task, "batch", waiting)
    return mine


def test_two_workers_give_the_answers_of_one(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)  # 14 batches
    before = torch.get_num_threads()
    loaded = load(trained)
    for search in (Beam(4, n_best=3), Sample(1.5, seed=3, scored=True)):
        alone = Translator(loaded, search=search)(LINES)
        with Workers(2) as crew:
            together = Translator(loaded, search=search, workers=crew)
            mine = shared(together, crew, monkeypatch)
            heard: list[int] = []
            assert together(["", *LINES], numbers=range(len(LINES) + 1), progress=heard.append)[1:] == alone
            assert sum(heard) == len(LINES) + 1
            assert 0 < len(mine) < len(LINES)
            mine.clear()
            assert together(LINES) == alone  # again, by the same helpers
            assert 0 < len(mine) < len(LINES)
            [helper] = crew.helpers
        assert helper.process.returncode is not None
    assert torch.get_num_threads() == before


def test_two_workers_summarise_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_in_folder(tmp_path, task_specific_params={"summarization": {"prefix": "to: ", "num_beams": 2}})
    monkeypatch.setattr(module, "ROWS", 2)
    how: dict[str, Any] = {"window": 30, "min_new": 2, "max_new": 5}
    texts = [STORY, "", "The dog ran.", STORY]
    alone = Summarizer(load(tmp_path), **how)(texts)
    with Workers(2) as crew:
        together = Summarizer(load(tmp_path), workers=crew, **how)
        mine = shared(together, crew, monkeypatch)
        assert together(texts) == alone
        assert 0 < len(mine) < sum(sum(each.parts) for each in alone)
    assert summarize(texts, model=tmp_path, workers=2, **how) == alone


def test_a_worker_that_is_killed_is_told_and_ends_the_others(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    with Workers(3) as crew:
        translator = Translator(load(trained), workers=crew)
        shared(translator, crew, monkeypatch)
        translator(LINES)
        helpers = list(crew.helpers)
        os.kill(helpers[0].process.pid, signal.SIGKILL)
        with pytest.raises(PolyheadError, match=r"^One of 3 workers was ended by SIGKILL, as .* try fewer of them\.$"):
            translator(LINES)
        assert [helper.process.returncode for helper in helpers] == [-9, -9]


def test_what_a_worker_refuses_or_breaks_at_is_told(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    loaded = load(trained)
    for wrong, told in ({"precision": "fp99"}, "must be one of"), ({"precise": 1}, r"ended \(TypeError: "):
        with Workers(2) as crew:
            translator = Translator(loaded, workers=Workers())
            [helper] = crew.helpers
            how = {"precision": "fp32", "kind": "Translator", "folder": str(trained), "threads": 1, "how": to_wire({})}
            helper.open(**(how | wrong))
            translator.workers = crew
            shared(translator, crew, monkeypatch)
            with pytest.raises(PolyheadError, match=told) as error:
                translator(LINES)
            assert isinstance(error.value, ArgumentError) == ("precision" in wrong)  # as one process says it


def test_what_goes_wrong_here_ends_the_others(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workers(2) as crew:
        translator = Translator(load(trained), workers=crew)
        [helper] = crew.helpers
        monkeypatch.setattr(translator, "batch", lambda ids, numbers: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            translator(LINES)
        assert helper.process.returncode == -9


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def hearing_threads(task: TextToText, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads this process has in each batch that it answers."""
    heard: list[int] = []
    here = task.batch

    def hearing(ids: Sequence[Sequence[int]], *, numbers: Sequence[int]) -> Any:
        heard.append(torch.get_num_threads())
        return here(ids, numbers=numbers)

    monkeypatch.setattr(task, "batch", hearing)
    return heard


@pytest.mark.usefixtures("three_threads")
def test_each_has_as_many_threads_whoever_takes_a_batch(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    really = Helper.open

    def telling(self: Helper, **how: Any) -> None:
        told.append(how["threads"])
        really(self, **how)

    monkeypatch.setattr(Helper, "open", telling)
    with Workers(2) as crew:
        translator = Translator(load(trained), workers=crew)
        heard = hearing_threads(translator, monkeypatch)
        translator(LINES[:3])
    assert told == [1] and heard == [1]


@pytest.mark.usefixtures("three_threads")
def test_who_breaks_off_gets_all_threads_back(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    alone = Translator(load(trained))(LINES)
    with Workers(2) as crew:
        translator = Translator(load(trained), workers=crew)
        [helper] = crew.helpers
        heard = hearing_threads(translator, monkeypatch)
        with pytest.raises(ZeroDivisionError) as kept:  # with all frames that it went through
            translator(LINES, progress=lambda n: divmod(n, 0) and None)
        assert torch.get_num_threads() == 3 and helper.process.returncode == -9
        del kept
        assert set(heard) == {1}
        heard.clear()
        assert translator(LINES) == alone  # by this process
        assert heard == [3] * 14


@pytest.mark.usefixtures("three_threads")
def test_calls_of_two_threads_by_one_crew_wait_for_each_other(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Translator(load(trained))(LINES[:3])
    entered, found = threading.Event(), list[Any]()
    with Workers(2) as crew:
        translator = Translator(load(trained), workers=crew)
        here = translator.batch

        def second(ids: Sequence[Sequence[int]], *, numbers: Sequence[int]) -> Any:
            entered.set()
            return here(ids, numbers=numbers)

        other = threading.Thread(target=lambda: found.append(translator(LINES[:3])))

        def first(ids: Sequence[Sequence[int]], *, numbers: Sequence[int]) -> Any:
            monkeypatch.setattr(translator, "batch", second)
            other.start()
            assert not entered.wait(0.3)
            return here(ids, numbers=numbers)

        monkeypatch.setattr(translator, "batch", first)
        assert translator(LINES[:3]) == alone
        other.join()
    assert found == [alone]
    assert torch.get_num_threads() == 3


def test_a_function_takes_workers_for_a_folder_only(trained: Path) -> None:
    assert translate(LINES[:3], model=trained, workers=2) == translate(LINES[:3], model=trained)
    with pytest.raises(ArgumentError, match="2 workers each open the model's folder for themselves; give its name"):
        translate(LINES, model=load(trained), workers=2)
    assert translate(LINES[:3], model=load(trained), workers=1) == translate(LINES[:3], model=trained)


@pytest.mark.parametrize("count", [0, -1, MOST + 1, True, 1.5, "2"])
def test_a_number_that_is_none_is_refused(trained: Path, count: Any) -> None:
    with pytest.raises(ArgumentError, match=f"workers is {count!r}, but must be a whole number from 1 to {MOST}"):
        translate(LINES, model=trained, workers=count)


def test_workers_share_a_cpu_only(trained: Path) -> None:
    elsewhere = load(trained)
    elsewhere.model.to("meta")
    with Workers(2) as crew, pytest.raises(ArgumentError, match="share the cores of a CPU, but the model is on meta"):
        Translator(elsewhere, workers=crew)
