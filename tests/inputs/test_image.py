"""Pixels equal those of `transformers` to the last bit (its PIL backend), and every kind of bad image is one sentence.

Grey with 16 bits alone differs, for there a picture would become white (docs/decisions/0016).

Exactness is `torch.equal` on float32 everywhere: no tolerance in this file.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageFile
from torch import Tensor
from transformers import AutoImageProcessor

from polyhead.errors import ArgumentError, CheckpointError, ConfigError, DataError, MissingExtra
from polyhead.inputs.image import FILE, FORMATS, MOST_PIXELS, Images, Shortest, Sides, open_image, standard

TYPES = ["ViTImageProcessor", "DeiTImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor"]
SMALL = {"image_processor_type": TYPES[0], "size": {"height": 9, "width": 12}}


def written(folder: Path, raw: Mapping[str, Any]) -> Path:
    """A model folder with this preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(raw), "utf-8")
    return folder


def theirs(folder: Path, image: Any) -> Tensor:
    """What the processor gives that `transformers` itself chooses for a folder, in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = AutoImageProcessor.from_pretrained(folder)
        assert type(processor).__name__.endswith("Pil")  # without torchvision there is no other
        pixels = processor(images=image, return_tensors="np")["pixel_values"]
    return torch.from_numpy(np.asarray(pixels)).float()  # bytes, where neither rescaled nor normalised


def array(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng((seed, *shape)).integers(0, 256, shape, np.uint8)


def image(mode: str, height: int = 13, width: int = 17) -> Image.Image:
    """Noise in a mode of PIL."""
    if mode == "P+":
        palette = image("RGB", height, width).quantize(16)
        palette.info["transparency"] = bytes(range(0, 256, 16))
        return palette
    if mode in ("P", "1", "YCbCr", "HSV"):
        return image("RGB", height, width).convert(mode)
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), array(height, width, bands).tobytes())


def packed(kind: str, mode: str = "RGB", **how: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image(mode).save(file, kind, **how)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG file whose head claims this size and whose body is empty."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# --- the same as transformers ----------------------------------------------------------------------------------------

side = st.integers(1, 40)
square = st.builds(lambda height, width: {"height": height, "width": width}, side, side)
shortest = st.builds(lambda edge: {"shortest_edge": edge}, side)
each = st.lists(st.floats(0.05, 0.9), min_size=3, max_size=3)
asked = st.fixed_dictionaries(
    {"image_processor_type": st.sampled_from(TYPES)},
    optional={
        "do_convert_rgb": st.none() | st.booleans(),
        "do_resize": st.none() | st.booleans(),
        "size": side | square | shortest | st.lists(side, min_size=2, max_size=2),
        "resample": st.none() | st.integers(0, 5),
        "do_center_crop": st.none() | st.booleans(),
        "crop_size": side | square | st.none(),
        "do_rescale": st.none() | st.booleans(),
        "rescale_factor": st.none() | st.sampled_from([1 / 255, 1 / 127.5, 0.00392156862745098, 1]),
        "do_normalize": st.none() | st.booleans(),
        "image_mean": each | st.floats(0, 1) | st.none(),
        "image_std": each | st.floats(0.05, 1),
        "do_pad": st.none() | st.just(False),
        "return_tensors": st.none(),
    },
)


@pytest.mark.parity
@settings(max_examples=100, deadline=None)
@given(raw=asked, height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 99))
def test_whatever_the_file_asks_the_pixels_are_those_of_transformers(
    raw: dict[str, Any], height: int, width: int, seed: int
) -> None:
    picture = Image.fromarray(array(height, width, 3, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), raw)
        try:
            ours = Images.load(folder).pixels(picture)
        except ConfigError:  # a step lacks what it needs, for them too
            with pytest.raises(ValueError, match=r"must (both )?be specified"):
                theirs(Path(folder), picture)
            return
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs(Path(folder), picture))


@pytest.mark.parity
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("resample", range(6))
@pytest.mark.parametrize("shape", [(500, 333), (224, 224), (100, 301), (7, 5), (256, 1), (1, 1)])
def test_every_resampling_is_theirs_at_full_size(
    tmp_path: Path, kind: str, resample: int, shape: tuple[int, int]
) -> None:
    written(tmp_path, {"image_processor_type": kind, "resample": resample, "image_mean": [0.485, 0.456, 0.406]})
    picture = Image.fromarray(array(*shape, 3))
    ours = Images.load(tmp_path).pixels(picture)
    assert ours.shape == (1, 3, 224, 224)
    assert torch.equal(ours, theirs(tmp_path, picture))


FILES = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "P+", "RGB", "RGBA")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(("GIF", mode) for mode in ("L", "P", "RGB")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")),
    *(("PPM", mode) for mode in ("1", "L", "RGB")),
]


@pytest.mark.parity
@pytest.mark.parametrize("rgb", [None, True])
@pytest.mark.parametrize(("kind", "mode"), FILES)
def test_files_of_every_format_and_mode_become_their_pixels(
    tmp_path: Path, kind: str, mode: str, rgb: bool | None
) -> None:
    written(tmp_path, {**SMALL, "do_convert_rgb": rgb})
    path = tmp_path / "picture"
    path.write_bytes(packed(kind, mode))
    images = Images.load(tmp_path)
    expected = theirs(tmp_path, str(path))
    for spelt in (path, str(path), path.read_bytes()):
        assert torch.equal(images.pixels(spelt), expected)


def deep_file(kind: str, values: NDArray[np.uint16], **how: Any) -> bytes:
    """A file of grey with 16 bits."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **how)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_with_16_bits_is_the_picture_it_is_with_8(kind: str, channels: int) -> None:
    """255 times 257 is white with 16 bits; what is between two greys of 8 bits is the darker one."""
    grey = array(13, 17)
    deep = grey.astype(np.uint16) * 257
    deep[0, 0], grey[0, 0] = 255, 0  # nearly black, and white for one that cuts
    for between in (deep, deep // 256 * 256 + 255):
        for spelt in (deep_file(kind, between), Image.fromarray(between)):
            assert np.array_equal(np.asarray(open_image(spelt, channels=1)), grey)
            assert np.array_equal(np.asarray(open_image(spelt, channels=channels).convert("L")), grey)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_grey_with_16_bits_in_either_order_of_bytes(mode: str) -> None:
    deep = array(13, 17).astype(np.uint16) * 257
    packed_so = deep.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    opened = open_image(Image.frombytes(mode, (17, 13), packed_so), channels=1)
    assert np.array_equal(np.asarray(opened), array(13, 17))


def test_grey_with_16_bits_equals_the_same_picture_in_colours_with_16_bits(tmp_path: Path) -> None:
    """PIL reads such colours itself, and drops their low bytes."""
    deep = np.random.default_rng(1).integers(0, 65536, (13, 17), np.uint16)
    head = struct.pack(">IIBBBBB", 17, 13, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in parts]
    colours = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    images = standard(size=(9, 12))
    assert torch.equal(images.pixels(deep_file("PNG", deep)), images.pixels(colours))


def test_a_tiff_may_have_12_bits_or_its_white_at_0_and_be_turned() -> None:
    grey = array(13, 17)
    deep = grey.astype(np.uint16) * 257
    negative = deep_file("TIFF", 65535 - deep, tiffinfo={262: 0})
    assert np.array_equal(np.asarray(open_image(negative, channels=1)), grey)
    turned = deep_file("TIFF", deep, tiffinfo={274: 3})  # upside down
    assert np.array_equal(np.asarray(open_image(turned, channels=1)), grey[::-1, ::-1])
    twelve = bytes([0xFF, 0xF8, 0x00])  # two numbers with 12 bits: white, and the middle
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 3)]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    file = b"II*\0" + struct.pack("<I", 12) + twelve + b"\0" + table
    assert np.asarray(open_image(file, channels=1)).tolist() == [[255, 128]]


def test_grey_with_16_bits_and_a_transparent_value_lies_on_white() -> None:
    deep = np.array([[0, 300, 301, 65535]], np.uint16)
    with Image.open(io.BytesIO(deep_file("PNG", deep, transparency=300))) as opened:
        opened.load()
        assert np.asarray(open_image(opened, channels=1)).tolist() == [[0, 1, 1, 255]]
        assert np.asarray(open_image(opened, on_white=True))[..., 0].tolist() == [[0, 255, 1, 255]]


@pytest.mark.parametrize(("kind", "mode"), [("TIFF", "F"), ("TIFF", "I"), ("PPM", "F"), (None, "F"), (None, "I")])
def test_grey_whose_white_nothing_tells_is_refused_with_one_sentence(kind: str | None, mode: str) -> None:
    given = Image.fromarray(array(13, 17).astype(np.float32 if mode == "F" else np.int32))
    assert given.mode == mode
    file = io.BytesIO()
    if kind:
        given.save(file, kind)
    with pytest.raises(DataError) as wrong:
        standard().pixels(file.getvalue() if kind else given)
    held = "fractions" if mode == "F" else "whole numbers with 32 bits"
    assert str(wrong.value) == (
        f"The image is grey in {held} (mode {mode}), of which nothing tells what is black and what is white, expected "
        "8 or 16 bits; scale its numbers to 0 to 255 and save it as a PNG with 8 bits."
    )


@pytest.mark.parity
@pytest.mark.parametrize("turned", range(1, 9))
def test_a_file_stands_upright_as_there_and_a_pil_image_is_not_turned_as_there(tmp_path: Path, turned: int) -> None:
    written(tmp_path, SMALL)
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / "a.jpg"
    image("RGB").save(path, exif=exif)
    images = Images.load(tmp_path)
    upright = images.pixels(path)
    assert torch.equal(upright, theirs(tmp_path, str(path)))
    with Image.open(path) as opened:
        lying = images.pixels(opened)
        assert torch.equal(lying, theirs(tmp_path, opened))
    assert torch.equal(upright, lying) == (turned == 1)


@pytest.mark.parity
@pytest.mark.parametrize("given", ["LA", "RGBA", "P+", "rows", "channels first", "tensor"])
def test_do_convert_rgb_lays_transparency_on_white_as_there(tmp_path: Path, given: str) -> None:
    written(tmp_path, {**SMALL, "do_convert_rgb": True})
    alpha = array(13, 17, 4)
    first = np.moveaxis(alpha, -1, 0)
    arrays = {"rows": alpha, "channels first": first, "tensor": torch.from_numpy(first.copy())}
    picture = arrays[given] if given in arrays else image(given)
    assert torch.equal(Images.load(tmp_path).pixels(picture), theirs(tmp_path, picture))


def test_without_it_the_colours_below_show() -> None:
    alpha = array(13, 17, 4)
    images = standard(size=(9, 12))
    assert torch.equal(images.pixels(alpha), images.pixels(alpha[..., :3]))
    assert torch.equal(images.pixels(Image.fromarray(alpha)), images.pixels(alpha[..., :3]))


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(13, 17, 3), (3, 13, 17), (3, 17, 3), (4, 17, 3), (17, 4, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, torch.uint8, torch.int32])
def test_arrays_are_read_along_the_same_axes(tmp_path: Path, shape: tuple[int, ...], kind: Any) -> None:
    """Where the channels could be first and last, they are first; (4, 17, 3) has four, and is laid on white."""
    written(tmp_path, {**SMALL, "do_convert_rgb": True})
    bytes_ = array(*shape)
    given = torch.from_numpy(bytes_).to(kind) if isinstance(kind, torch.dtype) else bytes_.astype(kind)
    assert torch.equal(Images.load(tmp_path).pixels(given), theirs(tmp_path, bytes_))


def test_arrays_in_any_layout_are_one_image() -> None:
    colours = array(13, 17, 3)
    images = standard(size=(9, 12))
    expected = images.pixels(Image.fromarray(colours))
    turned = np.asfortranarray(colours)
    backwards = np.ascontiguousarray(colours[::-1])[::-1]
    first = torch.from_numpy(colours).permute(2, 0, 1)
    for spelt in (colours, turned, backwards, first, first.contiguous()):
        assert torch.equal(images.pixels(spelt), expected)
    grey = array(13, 17)
    expected = images.pixels(np.stack([grey] * 3))
    for spelt in (grey, grey[None], grey[..., None], torch.from_numpy(grey), Image.fromarray(grey)):
        assert torch.equal(images.pixels(spelt), expected)


@pytest.mark.parity
@pytest.mark.parametrize("kind", TYPES[:2])  # the others make three channels of every image
def test_grey_models_see_one_channel_as_there(tmp_path: Path, kind: str) -> None:
    raw = {"image_processor_type": kind, "size": 28, "crop_size": 20, "image_mean": [0.1], "image_std": [0.3]}
    images = Images.load(written(tmp_path, raw))
    grey = image("L")
    assert images.channels == 1
    expected = theirs(tmp_path, grey)
    assert expected.shape[1] == 1
    for spelt in (grey, np.asarray(grey), np.asarray(grey)[None], packed("PNG", "L")):
        assert torch.equal(images.pixels(spelt), expected)
    colours = image("RGB")
    assert torch.equal(images.pixels(colours), images.pixels(colours.convert("L")))


def test_a_batch_is_its_images_side_by_side() -> None:
    images = standard("DeiTImageProcessor", (16, 16))
    many = [array(10, 20, 3), packed("GIF"), image("CMYK"), torch.zeros(40, 30, dtype=torch.uint8)]
    together = images.pixels(*many)
    assert together.shape == (4, 3, 16, 16) and together.is_contiguous()
    assert torch.equal(together, torch.cat([images.pixels(one) for one in many]))


def test_the_picture_is_what_the_numbers_were_made_from() -> None:
    images = standard("DeiTImageProcessor", (16, 20))
    picture = images.picture(packed("JPEG"))
    assert picture.shape == (16, 20, 3) and picture.dtype == np.uint8
    back = (images.pixels(packed("JPEG"))[0] * 0.5 + 0.5) * 255
    assert np.array_equal(back.round().permute(1, 2, 0).numpy().astype(np.uint8), picture)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_seen(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    file = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **lossless)
    images = standard(size=(8, 8))
    assert torch.equal(images.pixels(file.getvalue()), images.pixels(frames[0]))


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("kind", TYPES)
def test_the_standard_is_theirs(tmp_path: Path, kind: str) -> None:
    written(tmp_path, {"image_processor_type": kind})
    assert standard(kind) == Images.load(tmp_path)
    AutoImageProcessor.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert standard(kind) == Images.load(tmp_path)
    standard(kind).save(tmp_path / "ours")
    ours = AutoImageProcessor.from_pretrained(tmp_path / "ours").to_dict()
    full = AutoImageProcessor.from_pretrained(tmp_path).to_dict()
    assert {key: ours[key] for key in full} == full
    assert set(ours) - set(full) <= {"do_center_crop", "do_convert_rgb"}
    assert not any(ours[key] for key in set(ours) - set(full))


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_without_a_file_the_standard_holds_or_nothing_does(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    mine = standard("DeiTImageProcessor", (384, 192), 1)
    assert Images.load(tmp_path / folder, mine) is mine
    assert (mine.size, mine.crop_size, mine.image_mean) == (Sides(438, 219), Sides(384, 192), (0.5,))
    with pytest.raises(CheckpointError, match=rf"There is no .*{folder}.*preprocessor_config.json; the folder"):
        Images.load(tmp_path / folder)


def test_type_and_channels_of_the_standard_hold_where_the_file_does_not_say(tmp_path: Path) -> None:
    written(tmp_path, {"size": 32})
    with pytest.raises(ConfigError, match="image_processor_type is missing, expected one of"):
        Images.load(tmp_path)
    images = Images.load(tmp_path, standard("DeiTImageProcessor", (99, 99), 1))
    assert (images.channels, images.size, images.crop_size) == (1, Sides(32, 32), Sides(224, 224))
    assert images.image_mean == (0.5,)


@pytest.mark.parametrize(
    "raw",
    [
        {"image_processor_type": "DeiTImageProcessorFast"},
        {"image_processor_type": "DeiTImageProcessorPil"},
        {"feature_extractor_type": "DeiTFeatureExtractor"},
        {"feature_extractor_type": "ViTFeatureExtractor", "image_processor_type": "DeiTImageProcessor"},
    ],
)
@pytest.mark.parity
def test_a_type_is_known_by_its_other_names(tmp_path: Path, raw: dict[str, Any]) -> None:
    images = Images.load(written(tmp_path, raw))
    assert images.image_processor_type == "DeiTImageProcessor"
    picture = array(30, 20, 3)
    assert torch.equal(images.pixels(picture), theirs(tmp_path, picture))
    images.save(tmp_path / "again")
    assert torch.equal(images.pixels(picture), theirs(tmp_path / "again", picture))


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(50, 33), (33, 50), (21, 21), (20, 60)])
def test_clips_released_file_gives_its_pixels(tmp_path: Path, shape: tuple[int, int]) -> None:
    """One number as the size is the shorter side there, and old files name a feature extractor."""
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    raw = {
        "crop_size": 21, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 21,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": mean, "image_std": std,
    }  # fmt: skip
    images = Images.load(written(tmp_path, raw))
    assert (images.size, images.crop_size, images.do_convert_rgb) == (Shortest(21), Sides(21, 21), True)
    picture = array(*shape, 3)
    assert torch.equal(images.pixels(picture), theirs(tmp_path, picture))
    images.save(tmp_path / "again")
    assert Images.load(tmp_path / "again") == images
    assert torch.equal(images.pixels(picture), theirs(tmp_path / "again", picture))


def test_a_step_with_null_is_left_out_and_what_no_step_needs_may_be_null(tmp_path: Path) -> None:
    kind = {"image_processor_type": "DeiTImageProcessor"}
    off = dict.fromkeys(("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_pad", "pad_size", "odd"))
    images = Images.load(written(tmp_path, {**kind, **off}))
    assert images == replace(standard("DeiTImageProcessor"), do_resize=False, do_center_crop=False)
    needed = dict.fromkeys(("size", "resample", "crop_size", "rescale_factor", "image_mean", "image_std"))
    with pytest.raises(ConfigError) as refused:
        Images.load(written(tmp_path, {**kind, **needed}))
    assert all(f"asks for {key}, which is null" in str(refused.value) for key in needed)
    with pytest.raises(ConfigError, match=r"default_to_square=None is not supported \(only True\)"):
        Images.load(written(tmp_path, {**kind, "default_to_square": None}))


def test_what_was_read_is_written_as_it_was_spelt_with_every_setting(tmp_path: Path) -> None:
    raw = {
        "image_processor_type": "ViTFeatureExtractor", "size": 24, "image_mean": 0.4, "processor_class": "Mine",
        "do_convert_rgb": None, "rescale_factor": 1, "resample": 5,
    }  # fmt: skip
    images = Images.load(written(tmp_path / "a", raw))
    images.save(tmp_path / "b")
    after = json.loads((tmp_path / "b" / FILE).read_text("utf-8"))
    steps = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True}
    assert after == {**raw, **steps, "image_std": [0.5, 0.5, 0.5]}
    assert Images.load(tmp_path / "b") == images
    Images.load(tmp_path / "b").save(tmp_path / "c")
    assert (tmp_path / "b" / FILE).read_bytes() == (tmp_path / "c" / FILE).read_bytes()


@settings(max_examples=50, deadline=None)
@given(raw=asked)
def test_whatever_was_read_is_saved(raw: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            images = Images.load(written(Path(folder), raw))
        except ConfigError:  # a step lacks what it needs
            return
        images.save(folder)
        assert Images.load(folder) == images


def test_a_changed_setting_is_written_in_place_of_the_old(tmp_path: Path) -> None:
    raw = {"image_processor_type": TYPES[0], "size": 24}
    images = Images.load(written(tmp_path, raw))
    Images(size=Shortest(7), raw=images.raw).save(tmp_path)
    assert json.loads((tmp_path / FILE).read_text("utf-8"))["size"] == {"shortest_edge": 7}


REFUSED = {
    "crop_pct": (0.9, "crop_pct=0.9 is not a known setting"),
    "do_reduce_labels": (False, "do_reduce_labels=False is not a known setting"),
    "do_resise": (True, "do_resise=True is not a known setting (did you mean 'do_resize'?)"),
    "auto_map": ({"AutoImageProcessor": "mine.Mine"}, "auto_map={'AutoImageProcessor': 'mine.Mine'} is not a known"),
    "input_data_format": ("channels_last", "input_data_format='channels_last' is not a known setting"),
    "do_pad": (True, "do_pad=True is not supported (only False)"),
    "default_to_square": (False, "default_to_square=False is not supported (only True)"),
    "data_format": ("channels_last", "data_format='channels_last' is not supported (only 'channels_first')"),
    "do_resize": (1, "do_resize must be true or false, found 1"),
    "size": ({"longest_edge": 5}, "size must be a height and a width from 1 to 16384, or one number for both, or a"),
    "crop_size": ({"shortest_edge": 5}, "crop_size must be a height and a width from 1 to 16384, or one number"),
    "resample": (6, "resample must be a whole number from 0 to 5, one of PIL's codes for resampling, found 6"),
    "rescale_factor": (0, "rescale_factor must be a number above 0, found 0"),
    "image_mean": ([0.5, "0.5"], "image_mean must be a number, or one for each channel, found [0.5, '0.5']"),
    "image_std": ([0.5, 0, 1], "image_std must be a number above 0, or one for each channel, found [0.5, 0, 1]"),
    "image_processor_type": ("BlipImageProcessor", "image_processor_type must be one of ViTImageProcessor, DeiTImage"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, key: str) -> None:
    value, told = REFUSED[key]
    with pytest.raises(ConfigError) as refused:
        Images.load(written(tmp_path, {"image_processor_type": TYPES[0], key: value}))
    assert told in str(refused.value) and str(tmp_path / FILE) in str(refused.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        Images.load(written(tmp_path, {key: value for key, (value, _) in REFUSED.items()}))
    assert all(told in str(refused.value) for _, told in REFUSED.values())


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "224", [1], [1, 2, 3], {"height": 3}, 1 << 40, [4, 0], []])
def test_a_size_is_of_whole_numbers_above_zero(tmp_path: Path, value: Any) -> None:
    for size in (value, {"shortest_edge": value}, {"height": 3, "width": value}):
        with pytest.raises(ConfigError, match="size must be a height and a width"):
            Images.load(written(tmp_path, {"image_processor_type": TYPES[0], "size": size}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"do_center_crop": True}, "do_center_crop asks for a crop_size, which is missing"),
        ({"channels": 4}, r"channels \(4\) must be 1 \(grey\) or 3"),
        ({"channels": 1}, "image_mean has 3 numbers, expected 1, one for each channel; image_std has 3"),
        ({"do_convert_rgb": True, "channels": 1}, "do_convert_rgb asks for 3 channels, but the model reads 1"),
        ({"image_std": float("nan")}, "image_std must be a number above 0"),
        ({"size": None}, "size must be"),
        ({"image_processor_type": "Vit"}, "image_processor_type must be one of"),
    ],
)
def test_settings_made_in_python_are_held_to_the_same(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Images(**changes)


def test_settings_made_in_python_may_be_spelt_as_in_a_file() -> None:
    spelt: dict[str, Any] = {"size": 24, "image_mean": [0.1, 0.2, 0.3]}
    images = Images(**spelt)
    assert images == Images(size=Sides(24, 24), image_mean=(0.1, 0.2, 0.3)) and hash(images)


@pytest.mark.parametrize("content", ["", "{", "[]", "\ud800", "[" * 100_000])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json (cannot be read|must hold a JSON object)"):
        Images.load(tmp_path, standard())


@pytest.mark.parity
def test_settings_inside_the_file_of_newer_folders_go_first_as_there(tmp_path: Path) -> None:
    written(tmp_path, {**SMALL, "size": {"height": 5, "width": 5}})
    newer = tmp_path / "processor_config.json"
    newer.write_text("{}", "utf-8")
    assert Images.load(tmp_path).size == Sides(5, 5)
    newer.write_text(json.dumps({"image_processor": SMALL, "processor_class": "CLIPProcessor"}), "utf-8")
    picture = array(30, 20, 3)
    assert Images.load(tmp_path).size == Sides(9, 12)
    assert torch.equal(Images.load(tmp_path).pixels(picture), theirs(tmp_path, picture))
    newer.write_text(json.dumps({"image_processor": [SMALL]}), "utf-8")
    with pytest.raises(CheckpointError, match=r"processor_config.json: image_processor must be a JSON object"):
        Images.load(tmp_path)
    newer.write_text(json.dumps({"image_processor": {**SMALL, "size": "large"}}), "utf-8")
    with pytest.raises(ConfigError, match=r"processor_config.json: The settings .* size must be"):
        Images.load(tmp_path)


# --- bad images ------------------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) = quit\n"
BAD: dict[str, tuple[Any, str]] = {
    "empty": (b"", "is empty, expected an image; check the file."),
    "text": (b"hello, this is no image", "is not an image that can be read, expected PNG, JPEG, WEBP, BMP, GIF, TIFF,"),
    "eps": (EPS, "is not an image that can be read"),
    "truncated": (packed("PNG")[:300], "is damaged or of an odd kind (image file is truncated"),
    "no pixels": (np.zeros((0, 5, 3), np.uint8), "is 5 x 0 pixels, expected at least one"),
    "no pixels, grey": (torch.zeros(5, 0, dtype=torch.uint8), "is 0 x 5 pixels, expected at least one"),
    "no pixels, PIL": (Image.new("RGB", (0, 7)), "is 0 x 7 pixels, expected at least one"),
    "no pixels, PNG": (png(0, 7), "is not an image that can be read"),
    "large": (png(9460, 9460), "has too many pixels, expected at most 89,478,485; make it smaller."),
    "huge": (png(100_000, 100_000), "has too many pixels, expected at most 89,478,485; make it smaller."),
    "float": (
        np.zeros((4, 5, 3), np.float32),
        "holds numbers of type float32, expected whole ones from 0 to 255; make",
    ),
    "NaN": (np.full((4, 5), np.nan), "holds numbers of type float64, NaN among them, expected whole ones"),
    "bfloat16": (torch.full((3, 4, 5), torch.nan, dtype=torch.bfloat16), "type bfloat16, NaN among them, expected"),
    "bool": (np.zeros((4, 5), bool), "holds numbers of type bool, expected whole ones"),
    "complex": (torch.zeros(4, 5, dtype=torch.complex64), "holds numbers of type complex64, expected whole ones"),
    "objects": (np.array([[None]]), "holds numbers of type object, expected whole ones"),
    "negative": (np.full((4, 5), -1), "holds numbers from -1 to -1, expected 0 to 255"),
    "16 bits": (np.full((4, 5), 300, np.uint16), "holds numbers from 300 to 300, expected 0 to 255"),
    "axes": (array(5, 7, 9), "has shape [5, 7, 9], expected [height, width], [C, height, width] or"),
    "two channels": (array(5, 7, 2), "has shape [5, 7, 2], expected"),
    "a batch": (array(2, 3, 5, 7), "has shape [2, 3, 5, 7], expected"),
    "a line": (array(5), "has shape [5], expected"),
    "a list": ([array(5, 5)], "is of type list, expected a path, bytes, a PIL image or an array."),
    "nothing": (None, "is of type NoneType, expected a path"),
    "LAB": (Image.new("LAB", (3, 3)), "is damaged or of an odd kind (conversion from LAB to"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_image_is_one_sentence_that_names_it(tmp_path: Path, what: str) -> None:
    bad, told = BAD[what]
    images = standard(size=(8, 8), channels=1)
    names = {"The image": (bad,), "Image 2 of 3": (array(5, 5), bad, array(5, 5))}
    if isinstance(bad, bytes):
        path = tmp_path / f"{what}.png"
        path.write_bytes(bad)
        names[str(path)] = (array(5, 5), path)
    for name, several in names.items():
        with pytest.raises(DataError) as wrong:
            images.pixels(*several)
        sentence = str(wrong.value)
        assert sentence.startswith(f"{name} ") and told in sentence and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize(
    ("path", "why"),
    [("missing.png", "No such file or directory"), ("", "Is a directory"), ("a\0b", "embedded null byte")],
)
def test_a_path_without_a_file_is_one_sentence(tmp_path: Path, path: str, why: str) -> None:
    with pytest.raises(DataError) as wrong:
        standard().pixels(tmp_path / path)
    assert str(wrong.value) == f"{tmp_path / path} cannot be read ({why}); check the path."


def test_no_image_at_all_is_refused() -> None:
    with pytest.raises(ArgumentError, match="called with no image"):
        standard().pixels()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_short_anywhere_is_refused_or_whole(kind: str) -> None:
    whole = packed(kind)
    expected = np.asarray(open_image(whole))
    refused = 0
    for length in range(0, len(whole), 7):
        try:
            assert np.array_equal(np.asarray(open_image(whole[:length])), expected)
        except DataError:
            refused += 1
    assert refused > 0.8 * len(range(0, len(whole), 7))


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_file_with_changed_bytes_is_an_image_or_one_sentence(kind: str, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(packed(kind))
    for place, value in changes:
        damaged[int(place * min(len(damaged), 200))] = value  # where the heads are
    try:
        assert open_image(bytes(damaged), most_pixels=100_000).mode == "RGB"
    except DataError as wrong:
        assert str(wrong).startswith("The image ")


def test_nothing_is_decoded_of_an_image_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    images = Images(most_pixels=220)
    for large in (png(13, 17), image("RGB"), array(13, 17, 3), array(3, 13, 17)):
        with pytest.raises(DataError, match=r"pixels, expected at most 220 in all; make it smaller"):
            images.pixels(large)
    with pytest.raises(DataError, match="too many pixels"):
        open_image(png(1 << 15, 1 << 15))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # whoever turned PIL's own limit off
    with pytest.raises(DataError, match=f"expected at most {MOST_PIXELS:,} in all"):
        open_image(png(1 << 15, 1 << 15))


def test_an_image_that_would_become_too_large_is_refused() -> None:
    images = Images(size=Shortest(300), most_pixels=100_000)
    assert images.pixels(array(20, 21)).shape == (1, 3, 300, 315)
    with pytest.raises(DataError, match="is 2000 x 1 pixels and would become 600000 x 300, expected at most 100,000"):
        images.pixels(array(1, 2000))


def test_images_of_one_batch_must_agree() -> None:
    images = Images(size=Shortest(10))
    with pytest.raises(DataError, match="Image 3 of 3 becomes 10 x 30 pixels, but Image 1 of 3 20 x 10; in one batch"):
        images.pixels(array(5, 10), array(20, 40), array(30, 10))


@pytest.mark.parametrize("name", ["a.eps", "a.png"])
def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", run)
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(DataError, match="is not an image that can be read"):
        standard().pixels(tmp_path / name)


def test_an_address_is_a_path_like_any_other() -> None:
    with pytest.raises(DataError, match=r"https://example.org/cat.png cannot be read \(No such file or directory\)"):
        standard().pixels("https://example.org/cat.png")


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"pip install 'polyhead\[image\]'"):
        standard().pixels(array(5, 5))


def test_opening_leaves_the_image_it_was_given_as_it_was() -> None:
    given = image("RGB")
    before = given.tobytes()
    opened = open_image(given)
    opened.putpixel((0, 0), (1, 2, 3))
    assert given.tobytes() == before
    assert open_image(image("CMYK"), channels=1).mode == "L"
