"""Names and files: parts sliced and assembled, spellings and copies read, and all that does not fit named at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyhead.errors import CheckpointError, WriteError
from polyhead.weights.file import TensorFiles, file_tensors, load_into, write
from polyhead.weights.names import Names, Part
from tests.test_files import files_no_larger_than


class Small(nn.Module):
    """Two layers of three projections, a norm and a tied head: enough for every way a file may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(6, 4) for name in ("query", "key", "value")} | {"norm": nn.LayerNorm(6)})
            for _ in range(2)
        )
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("extra", torch.zeros(1, 11))


NAMES = Names(
    {
        "tokens": "model.wte",
        "blocks.{i}.query": Part("model.h.{i}.c_attn", 0, 3, transposed=True),
        "blocks.{i}.key": Part("model.h.{i}.c_attn", 1, 3, transposed=True),
        "blocks.{i}.value": Part("model.h.{i}.c_attn", 2, 3, transposed=True),
        "blocks.{i}.norm": "model.h.{i}.ln",
    },
    tensors={"extra": "extra_bias"},
    prefix="model.",
    spellings={"gamma": "weight", "beta": "bias"},
    copies={"lm_head.weight": "model.wte.weight"},
    ignore=(r"\.attn\.mask$",),
)


def small(seed: int) -> Small:
    torch.manual_seed(seed)
    model = Small()
    for tensor in (*model.parameters(), model.get_buffer("extra")):
        nn.init.normal_(tensor)
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def saved(folder: Path, **changes: Tensor | None) -> Small:
    """A model and its file; `changes` replace tensors of the file (`__` for a dot), None drops them."""
    model = small(0)
    tensors: dict[str, Tensor | None] = dict(file_tensors(model, NAMES))
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: t for name, t in tensors.items() if t is not None}, folder / "model.safetensors")
    return model


def test_fused_and_transposed_tensors_go_both_ways(tmp_path: Path) -> None:
    model, other = small(0), small(1)
    write(tmp_path, file_tensors(model, NAMES))
    held = load_file(tmp_path / "model.safetensors")
    fused = torch.cat([model.get_parameter(f"blocks.1.{name}.weight") for name in ("query", "key", "value")]).T
    assert torch.equal(held["model.h.1.c_attn.weight"], fused)
    assert "lm_head.weight" not in held
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert same(model, other)


@pytest.mark.parametrize("transposed", [False, True])
def test_parts_that_lie_head_by_head_go_both_ways(tmp_path: Path, transposed: bool) -> None:
    model, other = small(0), small(1)
    parts = {
        f"blocks.{{i}}.{name}": Part("model.h.{i}.c_attn", at, 3, transposed, groups=2)
        for at, name in enumerate(("query", "key", "value"))
    }
    names = replace(NAMES, modules={**NAMES.modules, **parts})
    write(tmp_path, file_tensors(model, names))
    held = load_file(tmp_path / "model.safetensors")
    for kind in ("weight", "bias"):
        q, k, v = (model.get_parameter(f"blocks.1.{name}.{kind}") for name in ("query", "key", "value"))
        joined = torch.cat([q[:2], k[:2], v[:2], q[2:], k[2:], v[2:]])  # two heads of two outputs
        assert torch.equal(held[f"model.h.1.c_attn.{kind}"], joined.T if transposed and kind == "weight" else joined)
    load_into(other, TensorFiles(tmp_path), names)
    assert same(model, other)


def test_shards_hold_what_one_file_holds(tmp_path: Path) -> None:
    model, other = small(0), small(1)
    write(tmp_path, file_tensors(model, NAMES), largest_shard=300)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text("utf-8"))
    assert len(set(index["weight_map"].values())) > 2
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert same(model, other)


def test_old_spellings_a_missing_prefix_and_copies_are_read(tmp_path: Path) -> None:
    model, other = small(0), small(1)
    tensors = {name.removeprefix("model."): tensor for name, tensor in file_tensors(model, NAMES).items()}
    for i in range(2):
        tensors[f"h.{i}.ln.gamma"] = tensors.pop(f"h.{i}.ln.weight")
        tensors[f"h.{i}.ln.beta"] = tensors.pop(f"h.{i}.ln.bias")
        tensors[f"h.{i}.attn.mask"] = torch.zeros(3)
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert same(model, other)


def test_weights_are_cast_to_the_models_type(tmp_path: Path) -> None:
    model, other = small(0), small(1)
    write(tmp_path, file_tensors(model, NAMES, torch.float16))
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert torch.equal(other.tokens.weight, model.tokens.weight.half().float())


def test_everything_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    saved(
        tmp_path,
        model__h__0__ln__bias=None,
        model__h__1__ln__weight=torch.zeros(5),
        model__h__9__ln__weight=torch.zeros(6),
    )
    with pytest.raises(CheckpointError) as refused:
        load_into(small(1), TensorFiles(tmp_path), NAMES)
    message = str(refused.value)
    assert "the file lacks model.h.0.ln.bias" in message
    assert "model.h.1.ln.weight has shape [5], the model wants [6]" in message
    assert "the file holds model.h.9.ln.weight, which the model does not read" in message
    assert "\n" not in message


def test_of_many_tensors_that_do_not_fit_some_are_named_and_all_counted(tmp_path: Path) -> None:
    saved(tmp_path, **{f"model__h__{i}__ln__weight": torch.zeros(6) for i in range(10, 30)})
    with pytest.raises(CheckpointError, match=r"model\.h\.10\.ln\.weight.*; and 15 more$"):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


def test_a_copy_that_differs_from_its_original_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, lm_head__weight=torch.ones(11, 6))
    with pytest.raises(CheckpointError, match=r"lm_head.weight and model.wte.weight with different values"):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


def test_nothing_is_loaded_when_something_does_not_fit(tmp_path: Path) -> None:
    saved(tmp_path, extra_bias=None)
    model, untouched = small(1), small(1)
    with pytest.raises(CheckpointError):
        load_into(model, TensorFiles(tmp_path), NAMES)
    assert same(model, untouched)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged, cut short or no safetensors file"):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, file_tensors(small(0), NAMES), largest_shard=300)
    (tmp_path / "model-00002-of-00004.safetensors").unlink(missing_ok=True)
    lost = sorted(tmp_path.glob("model-*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(CheckpointError, match="lacks the shard"):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


def test_a_shard_outside_the_folder_is_refused(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(CheckpointError, match="outside its folder"):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="polyhead convert"):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    model = saved(tmp_path)
    with files_no_larger_than(500), pytest.raises(WriteError, match=r"model\.safetensors could not be written"):
        write(tmp_path, file_tensors(small(1), NAMES))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    other = small(2)
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert same(model, other)


def test_an_older_save_never_shines_through(tmp_path: Path) -> None:
    for first, second in ((300, 1 << 30), (1 << 30, 300)):
        write(tmp_path, file_tensors(small(0), NAMES), largest_shard=first)
        write(tmp_path, file_tensors(small(3), NAMES), largest_shard=second)
        other = small(1)
        load_into(other, TensorFiles(tmp_path), NAMES)
        assert same(other, small(3))


@pytest.mark.parametrize("rows", [14, 11, 15])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_joined_tensor_of_more_rows_than_its_parts_is_refused(tmp_path: Path, rows: int, groups: int) -> None:
    parts = {
        f"blocks.{{i}}.{name}": Part("model.h.{i}.c_attn", at, 3, groups=groups)
        for at, name in enumerate(("query", "key", "value"))
    }
    names = replace(NAMES, modules={**NAMES.modules, **parts})
    tensors = file_tensors(small(0), names)
    tensors["model.h.1.c_attn.weight"] = torch.randn(rows, 6)
    write(tmp_path, tensors)
    with pytest.raises(CheckpointError) as refused:
        load_into(small(1), TensorFiles(tmp_path), names)
    told = f"describes: model.h.1.c_attn.weight has shape [{rows}, 6], the model wants [12, 6]"
    assert str(refused.value).endswith(told)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
def test_whole_numbers_are_never_taken_for_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = file_tensors(small(0), NAMES)
    tensors["model.h.1.ln.weight"] = torch.ones(4).to(dtype)
    write(tmp_path, tensors)
    told = r"model\.h\.1\.ln\.weight holds numbers of type (I64|I8|BOOL), the model wants floating-point ones"
    with pytest.raises(CheckpointError, match=told):
        load_into(small(1), TensorFiles(tmp_path), NAMES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_types_are_cast(tmp_path: Path, dtype: torch.dtype) -> None:
    model, other = small(0), small(1)
    write(tmp_path, file_tensors(model, NAMES, dtype))
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert torch.equal(other.tokens.weight, model.tokens.weight.to(dtype).float())


def test_weights_are_the_files_memory_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    """Mapped, not copied, the joined and the transposed too; who changes a weight changes a copy of its own."""
    model = saved(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    loaded, other = small(1), small(2)
    files = TensorFiles(tmp_path)
    load_into(loaded, files, NAMES)
    assert same(loaded, model) and loaded.head.weight is loaded.tokens.weight
    where = {each.untyped_storage().data_ptr() for each in loaded.parameters()}
    read = {files.read(name, Part(name)).untyped_storage().data_ptr() for name in files.names() if name != "extra_bias"}
    assert where == read
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1.0)
    load_into(other, TensorFiles(tmp_path), NAMES)
    assert same(other, model) and not same(loaded, model)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_model_saved_over_its_own_file_keeps_its_numbers(tmp_path: Path) -> None:
    model, loaded = saved(tmp_path), small(1)
    load_into(loaded, TensorFiles(tmp_path), NAMES)
    write(tmp_path, {name: 2 * tensor for name, tensor in file_tensors(loaded, NAMES).items()})
    assert same(loaded, model)
