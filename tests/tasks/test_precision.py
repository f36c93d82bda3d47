"""One model in three precisions: the same weights, nearly the same answers, and products laid out once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from polyhead.core import Run
from polyhead.core.packed import Int8Linear, PackedLinear, packable, why_not_int8
from polyhead.errors import ArgumentError
from polyhead.lens.watch import watch
from polyhead.tasks.embed import embed
from polyhead.tasks.load import load, ready, save
from polyhead.tasks.translator import translate
from tests.tasks.clip import clip_in_folder
from tests.tasks.words import in_folder

LINES = ["我爱吃苹果。", "他昨天没来。", "虽然下雨，但我很开心。"]
INT8 = pytest.mark.skipif(why_not_int8(torch.nn.Linear(2, 2)) is not None, reason="this PyTorch has no FBGEMM")


@INT8
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_shipped_translator_hardly_changes_its_words(precision: Any) -> None:
    wanted = translate(LINES)
    found = translate(LINES, precision=precision)
    same = sum(a.text == b.text for a, b in zip(wanted, found, strict=True))
    assert same >= 2, [each.text for each in found]
    assert [a.candidates[0].score for a in wanted] != [b.candidates[0].score for b in found]


@INT8
@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.05), ("int8", 0.05)])
def test_vectors_are_near_those_of_full_precision(tmp_path: Path, precision: Any, most: float) -> None:
    in_folder(tmp_path, "BertModel")
    exact, near = (embed(["the cat", "a dog sees the cat"], model=tmp_path, precision=p) for p in ("fp32", precision))
    off = float(abs(exact - near).max() / abs(exact).max())
    assert 0 < off < most


def test_products_are_laid_out_once_and_anew_where_weights_change() -> None:
    loaded = load("zh-en")
    first = loaded.packed
    assert loaded.packed is first
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1.0)
    second = loaded.packed
    assert second is not first and loaded.packed is second


@INT8
def test_another_precision_shares_the_weights_where_their_type_stays() -> None:
    loaded = load("zh-en")
    whole, half = ready(loaded, precision="int8"), ready(loaded, precision="bf16")
    assert whole.model is loaded.model and half.model is not loaded.model
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert any(isinstance(m, Int8Linear) for m in whole.packed.modules())
    assert not any(isinstance(m, Int8Linear) for m in loaded.packed.modules())
    assert any(isinstance(m, PackedLinear) for m in half.packed.modules()) == packable(half.model)
    assert ready(loaded) is loaded and ready(loaded, precision="fp32") is loaded
    assert ready(loaded, precision="int8") is whole and ready(loaded, precision="bf16") is half  # made once
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1.0)
    assert ready(loaded, precision="bf16") is not half  # but not of other weights


def test_weights_that_were_rounded_say_so_in_a_finer_precision(tmp_path: Path) -> None:
    half = load("zh-en", precision="bf16")
    with pytest.warns(
        UserWarning, match=r"rounded to bfloat16 when .*zh-en was loaded, .* with precision='fp32'"
    ) as told:
        back = ready(half, precision="fp32")
        assert ready(half, precision="fp32") is back
    assert len(told) == 1
    for rounded, held in zip(back.model.parameters(), half.model.parameters(), strict=True):
        assert rounded.dtype == torch.float32 and torch.equal(rounded, held.float())
    save(half, tmp_path / "half", dtype=torch.bfloat16)
    exact = load(tmp_path / "half", precision="fp32")
    again = ready(load(tmp_path / "half", precision="bf16"), precision="fp32")  # nothing was lost: no warning
    for a, b in zip(again.model.parameters(), exact.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_tower_in_another_precision_is_a_part_of_that_whole(tmp_path: Path) -> None:
    clip_in_folder(tmp_path)
    loaded = load(tmp_path)
    for reads in ("text", "image"):
        half, int8 = (loaded.tower(reads).at(precision) for precision in ("bf16", "int8"))
        assert half.under == int8.under == f"{reads}."
        assert half.named.get_submodule(reads) is half.model and int8.named is loaded.model
        assert {p.dtype for p in half.named.parameters()} == {torch.bfloat16}


class Converted(TorchDispatchMode):
    """Counts the numbers that become bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        source: Any = args[1] if func is torch.ops.aten.copy_.default else args[0] if args else None
        if (
            func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
            and source.dtype != found.dtype == torch.bfloat16
        ):
            self.count += found.numel()
        return found


def test_a_model_is_loaded_into_the_precision_asked_for_number_by_number_once() -> None:
    with Converted() as seen:
        loaded = load("zh-en", precision="bf16")
    buffers = sum(x.numel() for x in loaded.model.buffers())  # which hold numbers before the file's, too
    assert 0 < seen.count <= sum(x.numel() for x in loaded.model.parameters()) + 2 * buffers
    for half, whole in zip(loaded.tensors, load("zh-en").tensors, strict=True):
        assert torch.equal(half, whole.to(half.dtype))


def test_a_precision_that_there_is_not_is_one_sentence() -> None:
    with pytest.raises(ArgumentError, match=r"precision must be one of fp32, bf16, int8; found 'int9'.*int8"):
        load("zh-en", precision="int9")  # pyright: ignore[reportArgumentType]


@INT8
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_watching_changes_no_bit_in_any_precision(precision: Any) -> None:
    loaded = load("zh-en", precision=precision)
    source, target = torch.tensor([[5, 9, 30, 77, 1]]), torch.tensor([[0, 12, 40]])

    def scores() -> torch.Tensor:
        model = loaded.packed
        return model.head(model.decode(target, Run(memory=model.encode(source))))

    with torch.inference_mode():
        blind = scores()
        with watch(loaded.model) as recording:
            seen = scores()
    assert torch.equal(blind, seen) and len(recording) == 9


def test_changes_out_of_pytorchs_sight_are_seen_and_a_copy_is_whole() -> None:
    loaded = load("zh-en")
    first = loaded.packed
    next(loaded.model.parameters()).data.mul_(1.5)
    assert loaded.packed is not first
    parameter = next(loaded.model.parameters())
    second = loaded.packed
    for _ in range(2):  # memory that was given back is not taken for what lay there
        parameter.data = parameter.data.clone()
        assert loaded.packed is not second
        second = loaded.packed
    twin = copy.deepcopy(loaded)
    assert twin.model is not loaded.model and twin.packed is not loaded.packed


@INT8
def test_whole_numbers_are_multiplied_on_a_cpu_unless_somebody_says_where() -> None:
    assert load("zh-en", precision="int8", device="auto").device.type == "cpu"
