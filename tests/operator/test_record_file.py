"""A record comes back from its file as it was, and a damaged one is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.operator import Causal, MaskMod, Observe, Prefix, Record, ScoreMod, Window, attend
from polyhead.operator.norms import value_norms
from polyhead.operator.statistics.gradient import tensors
from tests.operator.cases import Case, build, cases


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_a_record_of_any_call_comes_back(case: Case) -> None:
    built = build(case, grad=False)
    x = built.tensors
    asked = Observe(links=min(2, case.S), entropy=True, received=True, mean_map=(2, 2), mass={"near": Window(1, 1)})
    _, record = attend(x["query"], x["key"], x["value"], **built.how, observe=asked)
    with TemporaryDirectory() as folder:
        record.save(Path(folder) / "call.safetensors")
        again = Record.load(Path(folder) / "call.safetensors")
    assert torch.equal(again.lse, record.lse)
    assert (again.kernel, again.reasons) == (record.kernel, record.reasons)
    assert torch.equal(again.weights(), record.weights())
    wanted, found = tensors(record.statistics), tensors(again.statistics)
    assert wanted.keys() == found.keys()
    for name, values in wanted.items():
        assert torch.equal(values, found[name])


def saved(folder: Path) -> tuple[Path, Record]:
    query, key = torch.randn(1, 2, 5, 4), torch.randn(1, 1, 6, 4)
    _, record = attend(query, key, key, mask=Causal() & Window(3, 0), observe=Observe(links=2))
    record.save(folder / "call.safetensors")
    return folder / "call.safetensors", record


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"call\.safetensors is damaged or no record .*; save the record again"):
        Record.load(path)


def test_a_record_whose_numbers_changed_is_refused(tmp_path: Path) -> None:
    path, record = saved(tmp_path)
    changed = Record(record.lse + 1, record.kernel, record.reasons, record.request)
    for work in (changed.weights, lambda: changed.observe(Observe(entropy=True)), lambda: changed.save(path)):
        with pytest.raises(DataError, match=r"was changed after the call, for its weights sum to 1 only within 0\.63"):
            work()
    assert torch.equal(Record.load(path).weights(), record.weights())  # nothing was written over


@settings(max_examples=80, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_file_with_one_wrong_bit_is_refused(place: float, bit: int) -> None:
    with TemporaryDirectory() as folder:
        path, record = saved(Path(folder))
        changed = bytearray(path.read_bytes())
        changed[int(place * len(changed))] ^= 1 << bit
        path.write_bytes(changed)
        try:
            again = Record.load(path)
        except DataError as refused:
            assert "\n" not in str(refused)
            return
        assert torch.equal(again.weights(), record.weights())  # a bit that means nothing, such as one of a blank


def test_a_row_that_no_sample_meets_is_held_against_its_checksum(tmp_path: Path) -> None:
    query, key = torch.randn(2, 1, 2, 40, 4)
    attend(query, key, key)[1].save(tmp_path / "call")
    whole = (tmp_path / "call").read_bytes()
    for wrong in (50.0, torch.nan, torch.inf):
        with safe_open(tmp_path / "call", framework="pt") as file:  # pyright: ignore
            held, words = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
        held["lse"][0, 0, 1] = wrong
        save_file(held, tmp_path / "call", words)
        with pytest.raises(DataError, match="lse is not what was written"):
            Record.load(tmp_path / "call")
        (tmp_path / "call").write_bytes(whole)


def test_a_rule_with_numbers_of_numpy_is_saved(tmp_path: Path) -> None:
    x = torch.randn(1, 1, 6, 4)
    for mask in (Window(np.int64(1), 0), Prefix(np.int32(1))):  # pyright: ignore
        record = attend(x, x, x, mask=mask)[1]
        record.save(tmp_path / "call")
        assert torch.equal(Record.load(tmp_path / "call").weights(), record.weights())


def test_no_keys_stand_for_the_values_that_a_file_does_not_hold(tmp_path: Path) -> None:
    query, key, value = torch.randn(3, 1, 2, 6, 4).unbind()
    attend(query, key, value)[1].save(tmp_path / "call")
    found = Record.load(tmp_path / "call").request.value
    assert found.shape == (1, 2, 6, 0)
    with pytest.raises(ArgumentError, match="value must have a width K of at least 1; found 0, as of a record"):
        value_norms(found, torch.randn(8, 8))


@pytest.mark.parametrize("kernel", ["fused", "compiled", "blockwise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e4, 1e6])
def test_scores_of_any_size_are_no_sign_of_damage(
    kernel: str, dtype: torch.dtype, scale: float, tmp_path: Path
) -> None:
    """The last digit of a large score is a large part of its weight."""
    query, key = torch.randn(2, 1, 2, 200, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    _, record = attend(query, key, key, scale=scale, kernel=kernel)
    record.save(tmp_path / "call")
    assert torch.equal(Record.load(tmp_path / "call").weights([0]), record.weights([0]))


def test_another_file_is_refused(tmp_path: Path) -> None:
    save_file({"query": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="is not a record that this version of polyhead wrote"):
        Record.load(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"There is no record .*gone; check the path"):
        Record.load(tmp_path / "gone")


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"mask": Causal() & MaskMod(lambda b, h, i, j: i != j)}, "MaskMod"),
        ({"bias": ScoreMod(lambda score, b, h, i, j: score / 2)}, "ScoreMod"),
    ],
)
def test_a_function_is_refused_and_nothing_is_written(how: dict[str, Any], kind: str, tmp_path: Path) -> None:
    query, key = torch.randn(2, 1, 2, 5, 4)
    _, record = attend(query, key, key, **how)
    with pytest.raises(ArgumentError, match=f"A file cannot hold a {kind}, which is code; hand in a tensor, or one of"):
        record.save(tmp_path / "call.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_every_statistic_is_saved() -> None:
    from polyhead.operator import Statistics
    from polyhead.operator.record_file import PLAIN

    apart = {"links", "mass", "rectangles", "row_error", "way", "reasons"}
    assert {f.name for f in fields(Statistics)} == apart | set(PLAIN)
    assert all(not isinstance(f.default, Tensor) for f in fields(Statistics))
