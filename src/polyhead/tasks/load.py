"""A model folder becomes a model that answers, and back: config, weights, tokenizer, generation settings."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from polyhead import memory
from polyhead.core.init import Unfilled
from polyhead.core.linear import made_of
from polyhead.core.packed import Int8Linear, PackedLinear, Product, packed
from polyhead.errors import ArgumentError, CheckpointError, ConfigError, did_you_mean
from polyhead.families import Family, family, family_of
from polyhead.files import together, write_text
from polyhead.inputs.chat_template import TEMPLATE
from polyhead.inputs.image import FILE as IMAGES
from polyhead.inputs.image import NESTED, Images, Sides
from polyhead.inputs.pair import TARGET, Pair, load_pair, save_pair
from polyhead.inputs.sound import Sounds
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.device import Device, device_of, same
from polyhead.weights.config_keys import read_json
from polyhead.weights.fetch import HUB, NAME, fetch
from polyhead.weights.file import INDEX, SINGLE, TensorFiles, file_tensors, load_into, write

ZOO = Path(str(files("polyhead") / "zoo"))
FEW = 64  # numbers of a tensor that are looked at to see whether it changed


#  what a model reads -> how that is read from its folder, by the fields of `Loaded` that hold it
READERS: dict[str, dict[str, Callable[[Path], Any]]] = {
    "pair": {"tokenizer": load_pair},
    "text": {"tokenizer": Tokenizer.load},
    "image": {"images": Images.load},
    "sound": {"sounds": Sounds.load, "tokenizer": load_pair},
    "text or image": {"tokenizer": Tokenizer.load, "images": Images.load},
}


Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: dict[str, tuple[torch.dtype, Product]] = {  # what weights are, and what products are made of
    "fp32": (torch.float32, PackedLinear),
    "bf16": (torch.bfloat16, PackedLinear),
    "int8": (torch.float32, Int8Linear),
}


@dataclass(frozen=True)
class Loaded:
    """A model with everything that its folder holds.

    tokenizer: a `Pair` where the model reads one text and writes another, else a `Tokenizer`; None where it knows no
    words. config: our settings. raw: config.json as it was read. generation: generation_config.json. folder: where
    from. images, sounds: how pixels and pictures of sounds are made, where the model reads them. whole: of a tower, the
    model that it is of, by which its modules are named. precision: of the products that answers are made by.
    """

    model: nn.Module
    tokenizer: Any
    family: Family
    raw: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    images: Images | None = None
    sounds: Sounds | None = None
    whole: nn.Module | None = None
    precision: Precision = "fp32"

    @property
    def packed(self) -> Any:
        """The model made ready to answer: its matrices are laid out once, and anew where its weights have changed.
        Change them under `no_grad`: a few numbers that are changed through `weight.data` may go unseen.

        Raises ArgumentError where the precision is int8 and cannot be had.
        """
        now = [marks(x) for x in self.tensors]
        then, twin, _ = self.__dict__.get("twin", (None, None, None))
        if now != then:
            twin = packed(self.model, PRECISIONS[self.precision][1])
            if twin is not self.model:
                memory.answering()
            held = [x.untyped_storage() for x in self.tensors]  # so that no other tensor comes to lie where they do
            self.__dict__["twin"] = now, twin, held
        return twin

    def heads(self) -> Callable[[Tensor], nn.Module]:
        """The packed model's head of some words alone, LongTensor [C]: vectors [..., D] -> scores [..., C], which round
        as those of all words do from two words on. Their matrix is that of now, as where it is laid out."""
        head = cast(Any, self.model).head
        if self.packed is self.model:
            return partial(head.some, product=made_of)
        memo = {id(x): x for x in (*head.parameters(), *head.buffers())}  # shared, as by `packed`, but for the matrix
        memo |= {id(x): x.detach().clone() for x in head.parameters() if x.dim() == 2}
        return partial(copy.deepcopy(head, memo).some, product=PRECISIONS[self.precision][1])

    def __getstate__(self) -> dict[str, Any]:
        """All but what is laid out, which a copy lays out for itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("twin", "others")}

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.model.parameters(), *self.model.buffers()]

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def at(self, precision: Precision) -> Loaded:
        """The same model in another precision: of the same weights where their type stays, else of a copy. It is made
        once, and anew where weights have changed. Warns where weights that bfloat16 has rounded stay so in a finer one.
        """
        dtype, now = dtype_of(precision), [marks(x) for x in self.tensors]
        then, made = self.__dict__.setdefault("others", {}).get(precision, (None, None))
        if now != then:
            same = all(x.dtype == dtype for x in self.tensors if x.is_floating_point())
            if not same and self.precision == "bf16" and not self.held_in_bf16:
                warnings.warn(
                    f"The weights were rounded to bfloat16 when {self.folder or 'the model'} was loaded, and stay so in"
                    f" {precision}; for its own, load it with precision='{precision}'.",
                    stacklevel=2,
                )
            whole = self.named if same else copy.deepcopy(self.named).to(dtype)
            model = whole.get_submodule(self.under.removesuffix("."))
            made = replace(self, model=model, whole=None if self.whole is None else whole, precision=precision)
            self.__dict__["others"][precision] = now, made
        return made

    @property
    def held_in_bf16(self) -> bool:
        """Whether config.json says that the files' own numbers are bfloat16, which a model in bf16 has as they are."""
        return "bfloat16" in (self.raw.get("dtype"), self.raw.get("torch_dtype"))

    def tower(self, reads: str) -> Loaded:
        """The tower that reads "text" or "image" as a model of its own, of the same weights; the model itself where it
        has no towers."""
        if reads not in self.family.towers:
            return self
        own = family(self.family.towers[reads])
        return replace(self, model=getattr(self.model, reads), family=own, whole=self.model)

    @property
    def name(self) -> str:
        """What errors call it."""
        return called(self.folder) if self.folder else "this model"

    @property
    def named(self) -> nn.Module:
        """The model by which modules are named: the whole, of a tower."""
        return self.model if self.whole is None else self.whole

    @property
    def under(self) -> str:
        """What stands before the names of a tower's modules: "text." or "image."; nothing before others."""
        found = (name for name, module in self.named.named_modules() if module is self.model)
        return "".join(f"{name}." for name in found if name)


def marks(x: Tensor) -> tuple[int, int, float]:
    """What tells that a tensor's numbers are others than before: where they lie, how often they were changed in sight
    of PyTorch, and a few of them, for changes out of it; of those on a CPU, where matrices are laid out."""
    if x.device.type != "cpu":
        return x.data_ptr(), 0 if x.is_inference() else x._version, 0.0
    few = x.detach().flatten()[:: max(1, x.numel() // FEW)] if x.is_contiguous() else x.detach()[:1].flatten()[:FEW]
    return x.data_ptr(), 0 if x.is_inference() else x._version, float(few.double().nan_to_num(0, 0, 0).sum())


def shipped() -> list[str]:
    """The names of the models inside the package."""
    return sorted(path.name for path in ZOO.iterdir() if (path / "config.json").is_file()) if ZOO.is_dir() else []


def called(folder: Path) -> str:
    """A shipped model by its name, another by its folder."""
    return folder.name if folder.parent == ZOO else str(folder)


def find(name: str | Path) -> Path:
    """The folder that a model argument means: a path, a shipped model's name, or hf:owner/name on the hub.

    Only what is written with hf: ever becomes a request (see `fetch`). Raises CheckpointError where there is no such
    model, ArgumentError for what is no name.
    """
    if not isinstance(name, str | Path):
        raise ArgumentError(
            f"model must be a folder, a shipped model's name or what load returned, found {name!r:.80}."
        )
    if str(name).startswith(HUB):
        return fetch(str(name))
    folder = Path(name)
    if (folder / "config.json").is_file():
        return folder
    if str(name) in shipped():
        return ZOO / str(name)
    if folder.is_dir():
        raise CheckpointError(f"{folder} holds no config.json; a model folder has config.json and model.safetensors")
    raise CheckpointError(
        f"There is no model '{name}': it is neither a folder nor a shipped model ({', '.join(shipped()) or 'none'})."
        + did_you_mean(str(name), shipped())
        + (f" To fetch it from the Hugging Face hub, write {HUB}{name}." if NAME.fullmatch(str(name)) else "")
    )


def load(name: str | Path, *, precision: Precision = "fp32", device: Device = "cpu") -> Loaded:
    """Load a model folder, a shipped model, or hf:owner/name (@revision, if need be) from the hub, ready to answer.

    precision: "fp32"; "bf16", in which weights and all that passes take half the memory; or "int8", in which products
    are made of whole numbers, on a CPU. device: "auto" is CUDA where there is one, but for int8. Raises CheckpointError
    or ConfigError naming everything that does not fit, ArgumentError for a device that is not here or an unknown
    precision.
    """
    dtype = dtype_of(precision)
    place = device_of("cpu" if device == "auto" and precision == "int8" else device)
    folder = find(name)
    raw = read_json(folder / "config.json")
    kind = family_of(raw)
    model = read_model(folder, raw, kind, dtype)
    inputs = {"tokenizer": None, **{name: load(folder) for name, load in READERS[kind.reads].items()}}
    fits(inputs["tokenizer"], model, folder)
    if getattr(model.config, "filled", False):
        inputs["tokenizer"].fill = cast(Any, model.config).max_len
    shows(inputs.get("images"), model, folder)
    generation = read_json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    told = {"raw": raw, "generation": generation, "folder": folder, "precision": precision}
    return Loaded(model.to(place).eval(), family=kind, **told, **inputs)


def fits(tokenizer: Pair | Tokenizer | None, model: nn.Module, folder: Path) -> None:
    """Refuse a tokenizer that has more words than the model."""
    if tokenizer is None:
        return
    config: Any = model.config
    source, target = (tokenizer.source, tokenizer.target) if isinstance(tokenizer, Pair) else (tokenizer, None)
    for size, words in ((source.size, config.vocab_size), (target.size if target else 0, getattr(config, "words", 0))):
        if size > words:
            raise CheckpointError(f"The tokenizer in {folder} has {size} words, but the model knows only {words}")


def shows(images: Images | None, model: nn.Module, folder: Path) -> None:
    """Refuse settings that make every image another size than the model reads."""
    size = images and (images.crop_size if images.do_center_crop else images.size if images.do_resize else None)
    config: Any = model.config
    if isinstance(size, Sides) and (size.height, size.width) != config.image_size:
        height, width = config.image_size
        raise CheckpointError(
            f"{folder / IMAGES} makes images of {size.height} x {size.width} pixels (height x width), but the model"
            f" reads {height} x {width}; mend {'crop_size' if images and images.do_center_crop else 'size'} there"
        )


def dtype_of(precision: Precision) -> torch.dtype:
    """The type of the weights; raises ArgumentError for a precision that there is not."""
    if precision not in PRECISIONS:
        near = did_you_mean(str(precision), PRECISIONS)
        raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}; found {precision!r}.{near}")
    return PRECISIONS[precision][0]


def ready(model: str | Path | Loaded, device: Device = "auto", precision: Precision | None = None) -> Loaded:
    """The model that a task was given: a name or a folder is loaded onto the device, a loaded one stays where it is.

    precision: fp32, or a loaded model's own, unless given; another one than its own gives a model of the same weights.
    """
    if not isinstance(model, Loaded):
        return load(model, device=device, precision=precision or "fp32")
    if device != "auto" and not same(device_of(device), model.device):
        raise ArgumentError(
            f"The model is on {model.device}, but device is '{device}'; load it there: load(name, device='{device}')."
        )
    return model if precision in (None, model.precision) else model.at(precision)


def read_model(folder: Path, raw: dict[str, Any], family: Family, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model that config.json describes, filled from the folder's tensors. Raises ConfigError, CheckpointError."""
    files = TensorFiles(folder)
    config = family.settle(family.keys.read(raw, family.config()), files.get)
    with torch.random.fork_rng(devices=[]), Unfilled():  # the weights are read from the file next
        model = typed(built(family, config, folder), dtype)
    load_into(model, files, family.names(config))
    return model


def typed(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model in a type: its parameters, which hold no numbers yet, are made anew without a look at their memory."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = torch.empty_like(parameter.data, dtype=dtype)
    return model.to(dtype)


def texts_of(texts: object) -> list[str]:
    """One text or many, as a list; raises ArgumentError for what is no text."""
    lines = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else None
    if lines is None or not all(isinstance(line, str) for line in lines):
        wrong = texts if lines is None else next(line for line in lines if not isinstance(line, str))
        raise ArgumentError(f"texts must be a text or an iterable of texts, found {type(wrong).__name__}")
    return cast(list[str], lines)


def built(family: Family, config: Any, folder: Path) -> nn.Module:
    """The model that a config describes, or one sentence on why there can be none."""
    try:
        return family.build(config)
    except (ArgumentError, MemoryError, RuntimeError) as refused:
        path = folder / "config.json"
        bytes_needed = None if isinstance(refused, ArgumentError) else needed(family, config)
        if bytes_needed is None:
            raise ConfigError(f"{path} describes no model that can be built ({refused})") from refused
        raise ConfigError(
            f"{path} describes a model that needs {bytes_needed / 1e9:,.1f} GB in float32, more memory than can be had"
            " here; check its sizes, or take a smaller model"
        ) from refused


def needed(family: Family, config: Any) -> int | None:
    """How many bytes the tensors of such a model take; None where sizes alone already make none."""
    try:
        with torch.device("meta"):  # sizes without numbers
            model = family.build(config)
    except (ArgumentError, MemoryError, RuntimeError):
        return None
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def save(loaded: Loaded, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a standard Hugging Face folder that `transformers` loads unchanged: all its files, or none.

    Raises WriteError.
    """
    with together(Path(folder), stale=(TARGET, TEMPLATE, SINGLE, INDEX, NESTED)) as new:
        write_readers(new, loaded)
        write_generation(new, loaded)
        write_model(new, loaded.model, loaded.family, loaded.raw, dtype)


def write_readers(folder: Path, loaded: Loaded) -> None:
    """How texts, images and sounds are read, in the files that it is read from."""
    if isinstance(loaded.tokenizer, Pair):
        save_pair(loaded.tokenizer, folder)
    for part in (loaded.tokenizer, loaded.images, loaded.sounds):
        if part is not None and not isinstance(part, Pair):
            part.save(folder)


def write_generation(folder: Path, loaded: Loaded) -> None:
    if loaded.generation or hasattr(loaded.model, "decode"):
        write_text(folder / "generation_config.json", json.dumps(loaded.generation, indent=2) + "\n")


def write_model(
    folder: Path, model: nn.Module, family: Family, raw: dict[str, Any], dtype: torch.dtype | None = None
) -> None:
    """config.json, with all that was once read in it, and the tensors under the names of the family's files."""
    write(folder, file_tensors(model, family.names(model.config), dtype))
    write_config(folder, model, family, raw, dtype)


def write_config(
    folder: Path, model: nn.Module, family: Family, raw: dict[str, Any], dtype: torch.dtype | None = None
) -> None:
    raw = family.keys.write(model.config, raw)
    raw |= {"architectures": [family.architecture], "model_type": family.model_type}
    raw["dtype"] = str(dtype or next(model.parameters()).dtype).removeprefix("torch.")
    write_text(folder / "config.json", json.dumps(raw, indent=2, ensure_ascii=False) + "\n")
