"""Images enter (files, bytes, PIL images, arrays), pixels [B, C, height, width] leave as preprocessor_config.json says.

A byte has 256 values, so all arithmetic is one small table: what each of them becomes in each channel. Needs the extra
`image` (Pillow).
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import ArgumentError, CheckpointError, ConfigError, DataError, extra, perhaps
from polyhead.files import write_text

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | os.PathLike[str] | bytes | Image | NDArray[Any] | Tensor

FILE, NESTED = "preprocessor_config.json", "processor_config.json"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # none of them runs a program, as EPS would
MOST_PIXELS = 89_478_485  # of one image: 256 MiB in three channels, where PIL begins to warn
LONGEST_SIDE = 1 << 14  # that a file may ask for
SQUARE = "default_to_square"  # what one number as a size means; here it goes by the processor's type
WHITE_IS_65535 = ("PNG", "PPM")  # even where PIL has mode I, which has room for more
BITS, BLACK = 258, 262  # tags of TIFF: bits of a number, and which number is black: 1 for 0, 0 for the largest

BILINEAR, BICUBIC = 2, 3  # of PIL's codes: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming

#  Processor types; what each does where a file does not say, `standard` tells.
TYPES = ("ViTImageProcessor", "DeiTImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor")
SHORTER = TYPES[2:]  # of which one number as a size is that of the shorter side
WEB_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images of the web that CLIP learned from (Radford et al. 2021)
WEB_STD = (0.26862954, 0.26130258, 0.27577711)

#  What a step cannot do without.
NEEDS = {
    "do_resize": ("size", "resample"),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
}

#  Keys that must hold one of these values, since nothing else is built here; and keys without a say in pixels.
ONLY = {"do_pad": (False, None), "data_format": ("channels_first", None)}
KEPT = (
    "feature_extractor_type", "processor_class", "transformers_version", "return_tensors", "device",
    "disable_grouping", "image_seq_length", "pad_size", "use_fast", "_name_or_path", "_processor_class",
    "_valid_processor_keys",
)  # fmt: skip


# --- what the file says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sides:
    """Both sides, whatever the image's own proportions."""

    height: int
    width: int

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """What an image of this height and width becomes."""
        return self.height, self.width


@dataclass(frozen=True)
class Shortest:
    """The shorter side; the longer one keeps the proportions."""

    shortest_edge: int

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """What an image of this height and width becomes."""
        short, long = sorted((height, width))
        longer = int(self.shortest_edge * long / short)
        return (longer, self.shortest_edge) if width <= height else (self.shortest_edge, longer)


@dataclass(frozen=True, kw_only=True)
class Images:
    """How a model wants its images: the settings of preprocessor_config.json under their own names.

    channels: 3 for red, green and blue, 1 for grey. most_pixels: an image of more, or one that would become more, is
    refused before it is decoded. raw: the file's keys as they were read, for `save`.
    Raises ConfigError that names every setting which cannot be honoured.
    """

    image_processor_type: str = "ViTImageProcessor"
    do_convert_rgb: bool = False
    do_resize: bool = True
    size: Sides | Shortest = Sides(224, 224)
    resample: int = BILINEAR
    do_center_crop: bool = False
    crop_size: Sides | None = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: float | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: float | tuple[float, ...] = (0.5, 0.5, 0.5)
    channels: int = 3
    most_pixels: int = MOST_PIXELS
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    def __post_init__(self) -> None:
        written = {key: _written(getattr(self, key)) for key in KEYS}
        values, wrong = _read({key: value for key, value in written.items() if (key, value) != ("crop_size", None)})
        for key, value in values.items():  # in one spelling, whichever of a file's was given
            object.__setattr__(self, key, value)
        if self.channels not in (1, 3):
            wrong.append(f"channels ({self.channels}) must be 1 (grey) or 3 (red, green, blue)")
        for key in ("image_mean", "image_std"):
            many = values.get(key)
            if self.do_normalize and isinstance(many, tuple) and len(many) != self.channels:
                wrong.append(f"{key} has {len(many)} numbers, expected {self.channels}, one for each channel")
        if self.do_center_crop and self.crop_size is None:
            wrong.append("do_center_crop asks for a crop_size, which is missing")
        if self.do_convert_rgb and self.channels == 1:
            wrong.append("do_convert_rgb asks for 3 channels, but the model reads 1")
        _refuse(wrong)

    @classmethod
    def load(cls, folder: str | Path, absent: Images | None = None) -> Images:
        """The settings in a model folder; what the file leaves out is as its processor type has it in `transformers`.

        Those inside processor_config.json, where newer folders have them, go before preprocessor_config.json, as there.
        absent: the settings where there is no file (see `standard`); its type and channels hold where a file does not
        say. Raises CheckpointError if there is nothing to go by, ConfigError naming all that cannot be honoured.
        """
        path = Path(folder) / FILE
        raw = (_read_json(path.with_name(NESTED)) or {}).get("image_processor")
        if raw is not None:
            path = path.with_name(NESTED)
            if not isinstance(raw, dict):
                raise CheckpointError(f"{path}: image_processor must be a JSON object, but is {raw!r:.80}")
        else:
            raw = _read_json(path)
        if raw is None and absent is None:
            raise CheckpointError(f"There is no {path}; the folder of a model that reads images has one")
        if raw is None:
            return cast("Images", absent)
        try:
            return _from_raw(cast("dict[str, Any]", raw), absent)
        except ConfigError as told:
            raise ConfigError(f"{path}: {told}") from None

    def save(self, folder: str | Path) -> None:
        """Write preprocessor_config.json: what was once read, as it was spelt, and every setting. Raises WriteError."""
        ours = {key: _written(getattr(self, key)) for key in KEYS}
        spelt, _ = _read(_given(self.raw))
        changed = {
            key: value
            for key, value in ours.items()
            if value is not None and not (key in spelt and spelt[key] == getattr(self, key))
        }
        write_text(Path(folder) / FILE, json.dumps({**self.raw, **changed}, indent=2) + "\n")

    # --- pixels ------------------------------------------------------------------------------------------------------

    def pixels(self, *images: Picture) -> Tensor:
        """Images, each as `open_image` takes them -> [B, C, height, width] float32, ready for the model.

        Raises DataError naming the image that cannot be read, or that becomes another size than the first.
        """
        if not images:
            raise ArgumentError("pixels() was called with no image; it takes one or more, as in pixels('cat.png')")
        names = [_name(image, i, len(images)) for i, image in enumerate(images)]
        many = list(map(self.picture, images, names))
        for one, name in zip(many, names, strict=True):
            if one.shape != many[0].shape:
                raise DataError(
                    f"{name} becomes {one.shape[1]} x {one.shape[0]} pixels, but {names[0]} {many[0].shape[1]} x "
                    f"{many[0].shape[0]}; in one batch all must agree: hand them over one by one, or have them cropped."
                )
        return self.numbers(many)

    def numbers(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """What `picture` gave for each, all of one size -> [B, C, height, width] float32, ready for the model."""
        together = np.stack(pictures)  # [B, height, width, C]
        return torch.from_numpy(
            np.stack([row[together[..., channel]] for channel, row in enumerate(self._table())], axis=1)
        )

    def picture(self, image: Picture, name: str | None = None) -> NDArray[np.uint8]:
        """What the model is shown, before it becomes numbers: resized and cropped, [height, width, C].

        name: what an error calls the image, where its path does not say.
        """
        name = name or _name(image, 0, 1)
        opened = open_image(
            image, channels=self.channels, on_white=self.do_convert_rgb, most_pixels=self.most_pixels, name=name
        )
        if self.do_resize:
            height, width = self.size.fit(opened.height, opened.width)
            if height * width > self.most_pixels:
                raise DataError(
                    f"{name} is {opened.width} x {opened.height} pixels and would become {width} x {height}, expected "
                    f"at most {self.most_pixels:,} pixels; crop it."
                )
            opened = opened.resize((width, height), resample=self.resample)
        if self.do_center_crop and self.crop_size is not None:
            height, width = self.crop_size.height, self.crop_size.width
            left, top = (opened.width - width) // 2, (opened.height - height) // 2
            opened = opened.crop((left, top, left + width, top + height))  # black where it reaches beyond
        return np.asarray(opened).reshape(opened.height, opened.width, self.channels)

    def _table(self) -> NDArray[np.float32]:
        """What each value of a byte becomes, a row for each channel: [C, 256].

        Scaled in float64, then normalised in float32: the roundings of the reference.
        """
        values = np.arange(256, dtype=np.float64) * (self.rescale_factor if self.do_rescale else 1)  # [256]
        table = np.tile(values.astype(np.float32), (self.channels, 1))  # [C, 256]
        if self.do_normalize:
            mean, std = (np.array(x, np.float32).reshape(-1, 1) for x in (self.image_mean, self.image_std))
            table = (table - mean) / std  # mean and std: [C, 1], or [1, 1] for all channels
        return table


def standard(kind: str = "ViTImageProcessor", size: tuple[int, int] = (224, 224), channels: int = 3) -> Images:
    """What a processor of this type does for a model of (height, width) and channels, where no file says otherwise.

    DeiT's makes an image a seventh too large, CLIP's its shorter side as long as the model's, and both crop the middle.
    """
    grey = (0.5,) * channels
    images = Images(image_processor_type=kind, size=Sides(*size), image_mean=grey, image_std=grey, channels=channels)
    match images.image_processor_type:
        case "DeiTImageProcessor":
            larger = Sides(size[0] * 8 // 7, size[1] * 8 // 7)  # 256 for 224
            return replace(images, size=larger, resample=BICUBIC, do_center_crop=True, crop_size=Sides(*size))
        case "CLIPImageProcessor":
            images = replace(
                images, size=Shortest(max(size)), resample=BICUBIC, do_center_crop=True, crop_size=Sides(*size)
            )
            if channels == 3:
                images = replace(images, do_convert_rgb=True, image_mean=WEB_MEAN, image_std=WEB_STD)
            return images
        case "SiglipImageProcessor":
            return replace(images, resample=BICUBIC, do_convert_rgb=channels == 3)
        case _:
            return images


# --- one image -------------------------------------------------------------------------------------------------------


def open_image(
    image: Picture,
    *,
    channels: int = 3,
    on_white: bool = False,
    most_pixels: int = MOST_PIXELS,
    name: str = "The image",
) -> Image:
    """A PIL image in mode RGB, or L for one channel, from a path, the bytes of a file, a PIL image or an array.

    A file (of FORMATS; nothing is run or fetched for it) stands upright as its EXIF says, gives its first frame if it
    has several, and loses its transparency: the colours below it show. PIL images and arrays are not turned, and
    `on_white` lays what is transparent in them on white. All this is what `transformers` does. Grey with 16 bits gives
    its high byte, as PIL has it of colours with 16 bits, and grey whose black and white nothing tells (whole numbers
    with 32 bits, fractions) is refused; `transformers` cuts both at 255. An array holds whole numbers from 0 to 255 as
    [height, width], [C, height, width] or [height, width, C] with C of 1, 3 or 4; where both could be meant, the
    channels come first.
    Raises DataError that opens with `name`; an image of more than `most_pixels` is not decoded.
    """
    pil: ModuleType = extra("PIL.Image", "image")
    if isinstance(image, str | os.PathLike | bytes):
        with _file(image, name) as file, _decoding(pil, name, most_pixels):
            if not file.read(1):
                raise DataError(f"{name} is empty, expected an image; check the file.")
            opened = pil.open(file, formats=FORMATS)  # reads the head only
            _check_size(opened.width, opened.height, most_pixels, name)
            upright = extra("PIL.ImageOps", "image").exif_transpose(opened)
            upright = _shallow(pil, upright, opened, name)
            return _converted(pil, upright, channels, on_white=False)  # as the reference does, whatever is asked
    if isinstance(image, np.ndarray | Tensor):
        array = _array(image, name)
        _check_size(array.shape[1], array.shape[0], most_pixels, name)
        opened: Image = pil.fromarray(array)
    elif isinstance(image, pil.Image):
        opened = cast("Image", image)
        _check_size(opened.width, opened.height, most_pixels, name)
    else:
        raise DataError(f"{name} is of type {type(image).__name__}, expected a path, bytes, a PIL image or an array.")
    with _decoding(pil, name, most_pixels):
        return _converted(pil, _shallow(pil, opened, opened, name), channels, on_white)


def _file(image: str | os.PathLike[str] | bytes, name: str) -> BinaryIO:
    """Something to read the bytes of an image from."""
    if isinstance(image, bytes):
        return io.BytesIO(image)
    try:
        return Path(image).open("rb")
    except (OSError, ValueError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        raise DataError(f"{name} cannot be read ({why}); check the path.") from None


@contextmanager
def _decoding(pil: ModuleType, name: str, most_pixels: int) -> Iterator[None]:
    """Turn what PIL says of bytes that it cannot decode into one sentence."""
    try:
        yield
    except DataError:
        raise
    except (pil.DecompressionBombError, pil.DecompressionBombWarning):
        most = min(most_pixels, pil.MAX_IMAGE_PIXELS or most_pixels)  # the one that refused it
        raise DataError(f"{name} has too many pixels, expected at most {most:,}; make it smaller.") from None
    except pil.UnidentifiedImageError:
        raise DataError(
            f"{name} is not an image that can be read, expected {', '.join(FORMATS)}; check or convert the file."
        ) from None
    except Exception as wrong:  # on damaged bytes decoders raise whatever they stumble over
        why = " ".join(str(wrong).split()) or type(wrong).__name__
        raise DataError(f"{name} is damaged or of an odd kind ({why}); check or convert the file.") from None


def _check_size(width: int, height: int, most_pixels: int, name: str) -> None:
    """An image must have pixels, and not too many."""
    if not width or not height:
        raise DataError(f"{name} is {width} x {height} pixels, expected at least one; check where it comes from.")
    if width * height > most_pixels:
        raise DataError(
            f"{name} is {width} x {height} pixels, expected at most {most_pixels:,} in all; make it smaller."
        )


def _shallow(pil: ModuleType, image: Image, opened: Image, name: str) -> Image:
    """Grey with 16 bits as its high byte; other images as they are. `opened`, not turned yet, tells of its file."""
    deep = image.mode.startswith("I;16") or (image.mode == "I" and opened.format in WHITE_IS_65535)
    if not deep and image.mode in ("I", "F"):
        held = "fractions" if image.mode == "F" else "whole numbers with 32 bits"
        raise DataError(
            f"{name} is grey in {held} (mode {image.mode}), of which nothing tells what is black and what is white, "
            "expected 8 or 16 bits; scale its numbers to 0 to 255 and save it as a PNG with 8 bits."
        )
    if not deep:
        return image
    tags: Mapping[int, Any] = getattr(opened, "tag_v2", {})  # of a TIFF
    values = np.asarray(image)  # [height, width]
    grey = (values >> (tags.get(BITS, (16,))[0] - 8)).astype(np.uint8)
    shallow = pil.fromarray(255 - grey if tags.get(BLACK) == 0 else grey)
    if (clear := image.info.get("transparency")) is not None:
        shallow.putalpha(pil.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return shallow


def _converted(pil: ModuleType, image: Image, channels: int, on_white: bool) -> Image:
    """In mode RGB or L, whatever it was before."""
    transparent = image.info.get("transparency") is not None
    if on_white and (transparent or "A" in image.getbands()):
        white = pil.new("RGBA", image.size, "white")
        image = pil.alpha_composite(white, image.convert("RGBA"))
    elif transparent and image.mode == "P":
        image = image.convert("RGBA")  # the same colours as without this step, which PIL would warn about
    return image.convert("RGB" if channels == 3 else "L")


def _array(image: NDArray[Any] | Tensor, name: str) -> NDArray[np.uint8]:
    """Bytes as PIL takes them: [height, width] or [height, width, 3 or 4]."""
    kind = str(image.dtype).removeprefix("torch.")
    if not isinstance(image, np.ndarray):
        tensor = image.detach().cpu()
        image = (tensor.double() if tensor.is_floating_point() else tensor).numpy()  # numpy has no bfloat16
    if image.dtype.kind not in "iu":
        nan = ", NaN among them" if image.dtype.kind == "f" and np.isnan(image).any() else ""
        raise DataError(f"{name} holds numbers of type {kind}{nan}, expected whole ones from 0 to 255; make it uint8.")
    found = list(image.shape)
    if image.ndim == 3 and image.shape[0] in (1, 3, 4):
        image = np.moveaxis(image, 0, -1)  # [height, width, C]
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]  # [height, width]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (3, 4))):
        raise DataError(
            f"{name} has shape {found}, expected [height, width], [C, height, width] or [height, width, C] "
            "with C of 1, 3 or 4; hand over one image at a time, its axes in such an order."
        )
    if image.size and (image.min() < 0 or image.max() > 255):
        raise DataError(
            f"{name} holds numbers from {image.min()} to {image.max()}, expected 0 to 255; scale them first."
        )
    return np.ascontiguousarray(image, np.uint8)


def _name(image: object, i: int, count: int) -> str:
    """What an error calls an image: its path, or which of them it is."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    return f"Image {i + 1} of {count}" if count > 1 else "The image"


# --- settings in a file ----------------------------------------------------------------------------------------------


def _from_raw(raw: Mapping[str, Any], absent: Images | None) -> Images:
    """Settings from a file's dict: what it leaves out is as its processor type has it, a step with null is left out."""
    given = _given(raw)
    kind = given.get("image_processor_type") or given.get("feature_extractor_type")
    kind = kind or (absent.image_processor_type if absent else None)
    values, wrong = _read({**given, "image_processor_type": kind} if kind else given)
    if not kind:
        wrong.append(f"image_processor_type is missing, expected one of {', '.join(TYPES)}")
    known = {*KEYS, *ONLY, *KEPT, SQUARE}
    square = values.get("image_processor_type") not in SHORTER
    if SQUARE in raw and raw[SQUARE] != square:
        wrong.append(f"{SQUARE}={raw[SQUARE]!r} is not supported (only {square})")
    for key, value in raw.items():
        if key in ONLY and value not in ONLY[key]:
            wrong.append(f"{key}={value!r} is not supported (only {ONLY[key][0]!r})")
        elif key not in known and value is not None:
            wrong.append(f"{key}={value!r} is not a known setting{perhaps(key, known)}")
    _refuse(wrong)
    mean = values.get("image_mean")
    channels = absent.channels if absent else len(mean) if isinstance(mean, tuple) else 3
    base = standard(values["image_processor_type"], channels=channels)
    images = replace(base, **values, raw=dict(raw), most_pixels=absent.most_pixels if absent else MOST_PIXELS)
    needed = [(step, key) for step, keys in NEEDS.items() for key in keys if getattr(images, step)]
    _refuse([f"{step} asks for {key}, which is null" for step, key in needed if key in raw and raw[key] is None])
    return images


def _refuse(wrong: Sequence[str]) -> None:
    """Tell all that is wrong, if anything is."""
    if wrong:
        raise ConfigError(f"The settings for images cannot be honoured: {'; '.join(wrong)}")


def _given(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is not null; a step with null is one that is not done."""
    steps = {key: False for key in raw if key in KEYS and key.startswith("do_")}
    return {**steps, **{key: value for key, value in raw.items() if value is not None}}


def _read(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our values of the settings among the keys, and what is wrong with those that have none."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    if type(given.get("size")) is int and _shorter(given.get("image_processor_type")):
        given = {**given, "size": {"shortest_edge": given["size"]}}  # one number is the shorter side there
    for key, read in KEYS.items():
        if key in given:
            try:
                values[key] = read(given[key])
            except ValueError as expected:
                wrong.append(f"{key} must be {expected}, found {given[key]!r}")
    return values, wrong


def _written(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, Sides | Shortest):
        return dataclasses.asdict(value)
    return list(value) if isinstance(value, tuple) else value


def _kind(value: Any) -> str:
    """A processor type by its plain name; files also have it as its other makes and its forerunner were named."""
    if isinstance(value, str):
        value = value.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if value not in [*TYPES]:
        raise ValueError(f"one of {', '.join(TYPES)}")
    return value


def _shorter(value: Any) -> bool:
    try:
        return _kind(value) in SHORTER
    except ValueError:  # which is told elsewhere
        return False


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _code(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 5:
        raise ValueError("a whole number from 0 to 5, one of PIL's codes for resampling")
    return int(value)


def _sides(value: Any) -> Sides:
    """Two sides, or one for a square."""
    if isinstance(value, dict) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    sides: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value] * 2
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= LONGEST_SIDE for side in sides):
        raise ValueError(f"a height and a width from 1 to {LONGEST_SIDE}, or one number for both")
    return Sides(*sides)


def _size(value: Any) -> Sides | Shortest:
    if isinstance(value, dict) and set(value) == {"shortest_edge"}:
        return Shortest(_sides(value["shortest_edge"]).height)
    try:
        return _sides(value)
    except ValueError as expected:
        raise ValueError(f"{expected}, or a shortest_edge") from None


def _positive(value: Any) -> float:
    if not _finite(value) or value <= 0:
        raise ValueError("a number above 0")
    return float(value)


def _means(value: Any) -> float | tuple[float, ...]:
    many = value if isinstance(value, list) else [value]
    if not many or not all(_finite(number) for number in many):
        raise ValueError("a number, or one for each channel")
    return tuple(map(float, many)) if isinstance(value, list) else float(value)


def _deviations(value: Any) -> float | tuple[float, ...]:
    many = value if isinstance(value, list) else [value]
    if not many or not all(_finite(number) and number > 0 for number in many):
        raise ValueError("a number above 0, or one for each channel")
    return _means(value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None if there is no such file, or CheckpointError saying what is wrong with it."""
    try:
        value: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as broken:
        raise CheckpointError(f"{path} cannot be read as JSON ({broken})") from broken
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, but holds a {type(value).__name__}")
    return cast("dict[str, Any]", value)


#  The settings of the file, each with what reads it: a value of JSON -> ours, or ValueError saying what was expected.
KEYS: Mapping[str, Callable[[Any], Any]] = {
    "image_processor_type": _kind,
    "do_convert_rgb": _truth,
    "do_resize": _truth,
    "size": _size,
    "resample": _code,
    "do_center_crop": _truth,
    "crop_size": _sides,
    "do_rescale": _truth,
    "rescale_factor": _positive,
    "do_normalize": _truth,
    "image_mean": _means,
    "image_std": _deviations,
}
