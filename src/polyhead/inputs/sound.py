"""A sound enters (a file, or numbers with their rate), log-mel pictures [B, bands, frames] of 30 seconds each leave.

The order of the file is the order of the flow: `read` or `mono` give one channel, `resample` the rate that a model
hears, `Sounds.pieces` cuts what is long, `Sounds.pictures` draws. The pictures equal those of `transformers`, bit for
bit on a CPU; what is asked for by a model's preprocessor_config.json and cannot be drawn so is refused by name.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from polyhead.errors import ArgumentError, CheckpointError, ConfigError, DataError, extra, perhaps
from polyhead.files import write_text

# What a sound may be. Its header is asked first, so that nothing beyond these is ever read into memory.
RATES = (1_000, 768_000)  # numbers a second
MOST_CHANNELS = 64
LONGEST = 6 * 3600  # seconds
MOST_SAMPLES = 1 << 30  # of the one channel that is kept: 4 GiB, or 6 hours at 48 kHz
LOUDEST = 256.0  # where 1 is full scale; beyond it somebody forgot to divide, and squares leave float32

# How a picture is drawn (Radford et al. 2022, section 2.2).
TOP = 8000.0  # Hz, the upper end of the highest band
FLOOR = 1e-10  # no band is quieter
DEPTH = 8  # powers of ten below the loudest point, where a picture ends

# How the rate is changed: a sinc under a Kaiser window, which lets nothing through from half the lower rate on.
REACH = 64  # zero crossings of the sinc on either side
DAMPING = 80  # decibels by which what cannot be kept is lowered; also how flat the rest stays
BLOCK = 2048  # outputs at a time, so that the numbers being weighed stay near the processor

NESTED, SETTINGS = "processor_config.json", "preprocessor_config.json"


class Sound(NamedTuple):
    """One channel [samples], float32 from -1 to 1, and how many samples a second has."""

    samples: Tensor
    rate: int


class Piece(NamedTuple):
    """A part of a sound, as long as one picture: where its own sound starts and ends, in seconds; silence follows."""

    start: float
    end: float
    samples: Tensor  # [n_samples]


# --- settings ---------------------------------------------------------------------------------------------------------

WHOLE = {  # what must be in the file, from and to
    "sampling_rate": RATES,
    "feature_size": (1, 1024),
    "n_fft": (2, 1 << 16),
    "hop_length": (1, 1 << 20),
    "chunk_length": (1, 3600),
}
ONLY = {"dither": 0, "padding_side": "right"}  # noise in the sound, silence before it: no picture is drawn so here
IGNORED = {
    "feature_extractor_type",  # others of the same settings draw the same
    "processor_class",
    "return_attention_mask",  # is about what is handed out beside a picture
    "do_normalize",  # is asked for in a call; what the file says of it changes nothing
    "mel_filters",  # older files spell the filters out; they follow from the rest
}
DERIVED = ("n_samples", "nb_max_frames")


@dataclass(frozen=True, kw_only=True)
class Sounds:
    """What a model's preprocessor_config.json says of the pictures it looks at, named as in that file.

    sampling_rate: samples a second. feature_size: bands of a picture. n_fft: samples under one window.
    hop_length: samples from one frame to the next. chunk_length: seconds of one picture.
    padding_value: what follows a sound that ends before its picture does.
    settings: the whole file as it was read, which `save` writes back.
    Raises ConfigError, with all that is wrong.
    """

    sampling_rate: int = 16_000
    feature_size: int = 80
    n_fft: int = 400
    hop_length: int = 160
    chunk_length: int = 30
    padding_value: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    def __post_init__(self) -> None:
        if faults := _faults(vars(self)):
            raise ConfigError(f"Such pictures cannot be drawn: {'; '.join(faults)}.")

    @property
    def n_samples(self) -> int:
        """Samples of one picture."""
        return self.chunk_length * self.sampling_rate

    @property
    def nb_max_frames(self) -> int:
        """Frames of one picture."""
        return self.n_samples // self.hop_length

    @classmethod
    def load(cls, folder: str | Path) -> Sounds:
        """Read the settings of a model folder: preprocessor_config.json, or the part of processor_config.json that
        stands for it in newer folders and, as in `transformers`, goes first.

        Raises CheckpointError where there is no such file, ConfigError with every setting that cannot be honoured.
        """
        path, settings = _settings(Path(folder))
        faults = [f"{name} is missing" for name in WHOLE if name not in settings]
        faults += _faults(settings)
        faults += [
            f"{name} is {settings[name]!r:.40}, expected {only!r}"
            for name, only in ONLY.items()
            if settings.get(name, only) != only
        ]
        known = {*WHOLE, *ONLY, *IGNORED, *DERIVED, "padding_value"}
        faults += [f"'{name}' is unknown{perhaps(name, known)}" for name in settings if name not in known]
        if not faults:
            sounds = cls(**_own(settings), settings=settings)
            faults += [
                f"{name} is {settings[name]!r:.40}, expected {getattr(sounds, name)} as the other settings have it"
                for name in DERIVED
                if settings.get(name, getattr(sounds, name)) != getattr(sounds, name)
            ]
            if not faults:
                return sounds
        raise ConfigError(f"{path} asks for pictures that are not drawn here: {'; '.join(faults)}; fetch it anew.")

    def save(self, folder: str | Path) -> None:
        """Write preprocessor_config.json: what was read, and what was replaced since. Raises WriteError."""
        said = dict(self.settings)
        if not said or Sounds(**_own(said)) != self:
            said.pop("mel_filters", None)  # of the old values
            said = {**ONLY, "return_attention_mask": False, **said, **_own(vars(self))}
            said |= {name: getattr(self, name) for name in DERIVED}
        write_text(Path(folder) / SETTINGS, json.dumps(said, indent=2) + "\n")

    def read(self, path: str | Path) -> Tensor:
        """The sound of a file, one channel at `sampling_rate`: [samples]. Raises DataError."""
        return resample(*read(path), self.sampling_rate)

    def take(self, samples: ArrayLike | Tensor, *, rate: int, name: str = "The sound") -> Tensor:
        """The sound of an array, as `mono` takes it, at `sampling_rate`: [samples]. Raises DataError."""
        return resample(*mono(samples, rate=rate, name=name), self.sampling_rate)

    def pieces(self, sound: Tensor) -> list[Piece]:
        """A sound [samples] at `sampling_rate`, cut every `chunk_length` seconds; nothing is left out.

        All pieces but the last share the memory of the sound.
        """
        self._check(sound, "The sound", longest=None)
        return [
            Piece(start := float(i * self.chunk_length), start + len(part) / self.sampling_rate, self._filled(part))
            for i, part in enumerate(sound.split(self.n_samples))
        ]

    def pictures(self, sounds: Sequence[Tensor] | Tensor) -> Tensor:
        """[B, feature_size, nb_max_frames], float32, of sounds [samples] that are at most one piece long each."""
        if not len(sounds):
            raise ArgumentError("There is no sound to draw; give at least one.")
        for i, sound in enumerate(sounds, 1):
            self._check(sound, f"Sound {i} of {len(sounds)}", longest=self.n_samples)
        batch = torch.stack([self._filled(sound.float()) for sound in sounds])  # [B, n_samples]
        filters = mel_filters(self.feature_size, n_fft=self.n_fft, rate=self.sampling_rate)
        return log_mel(batch, filters, hop_length=self.hop_length)

    def _filled(self, sound: Tensor) -> Tensor:
        """A sound with what follows it."""
        missing = self.n_samples - len(sound)
        return F.pad(sound, (0, missing), value=self.padding_value) if missing else sound

    def _check(self, sound: Tensor, name: str, *, longest: int | None) -> None:
        """Whether this is one channel of numbers, none of them wild, and no longer than it may be."""
        if sound.ndim != 1 or not sound.is_floating_point():
            found = f"{sound.dtype} of shape {list(sound.shape)}".removeprefix("torch.")
            raise ArgumentError(f"{name} is {found}, expected floats [samples]; `take` makes them of an array.")
        if not len(sound):
            raise DataError(f"{name} holds no samples; leave it out.")
        if longest is not None and len(sound) > longest:
            raise ArgumentError(
                f"{name} lasts {len(sound) / self.sampling_rate:,.4f} seconds, expected at most {self.chunk_length}; "
                "`pieces` cuts it without losing any."
            )
        _check_values(sound, self.sampling_rate, name)


def _settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file of a folder that holds the settings, and what they are."""
    for path in (folder / NESTED, folder / SETTINGS):
        try:
            value: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as wrong:
            raise CheckpointError(f"{path} cannot be read as JSON ({wrong}); fetch it anew.") from None
        if path.name == NESTED and isinstance(value, dict):
            value = value.get("feature_extractor", value.get("audio_processor"))
            if value is None:
                continue
        if not isinstance(value, dict):
            raise CheckpointError(
                f"{path} holds {type(value).__name__}, expected an object of settings; fetch it anew."
            )
        return path, cast("dict[str, Any]", value)
    raise CheckpointError(f"{folder} holds no {SETTINGS}; give the folder of a model that hears.")


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that are fields of `Sounds`."""
    return {it.name: settings[it.name] for it in fields(Sounds) if it.name in settings and it.name != "settings"}


def _faults(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values that are there, each for itself and, if none is, all together."""
    faults = [
        f"{name} is {settings[name]!r:.40}, expected a whole number from {least:,} to {most:,}"
        for name, (least, most) in WHOLE.items()
        if name in settings and not (type(settings[name]) is int and least <= settings[name] <= most)
    ]
    padding = settings.get("padding_value", 0.0)
    if type(padding) not in (int, float) or not abs(padding) <= LOUDEST:
        faults.append(f"padding_value is {padding!r:.40}, expected a number that a sound may hold")
    if faults or any(name not in settings for name in WHOLE):
        return faults
    rate, bands, n_fft, hop, seconds = (settings[name] for name in WHOLE)
    if n_fft % 2:
        faults.append(f"n_fft is {n_fft}, expected an even number")
    if max(hop, n_fft // 2 + 1) > seconds * rate:
        faults.append(f"n_fft is {n_fft:,} and hop_length {hop:,}, too much for {seconds * rate:,} samples")
    if empty := int((mel_filters(bands, n_fft=n_fft, rate=rate).amax(0) <= 0).sum()):
        faults.append(
            f"feature_size is {bands}, but {empty} of so many bands hold none of the {n_fft // 2 + 1} frequencies of "
            f"n_fft {n_fft} at sampling_rate {rate:,}"
        )
    return faults


# --- pictures ---------------------------------------------------------------------------------------------------------


def mel_filters(bands: int, *, n_fft: int, rate: int) -> Tensor:
    """How much of each frequency a band hears: [n_fft // 2 + 1, bands], float64 (Slaney 1998, Auditory Toolbox).

    Each band is a triangle between the middles of its neighbours, of area 1, so that a band twice as wide is half as
    high. The middles stand evenly on a scale that follows frequency up to 1000 Hz, its logarithm above.
    """
    top = 15 + 27 * math.log(TOP / 1000) / math.log(6.4)  # 15 steps to 1000 Hz, 27 more to 6400 Hz
    steps = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    edges = torch.where(steps < 15, steps * (200 / 3), 1000 * 6.4 ** ((steps - 15) / 27))  # Hz
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]  # [bands]
    heard = torch.linspace(0, rate // 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    triangles = torch.minimum((heard - low) / (middle - low), (high - heard) / (high - middle)).clamp(min=0)
    return triangles * (2 / (high - low))


def log_mel(sounds: Tensor, filters: Tensor, *, hop_length: int) -> Tensor:
    """Sounds [B, N] as pictures [B, bands, N // hop_length]: how loud each band is, in powers of ten, about -1 to 1.5.

    filters: [n_fft // 2 + 1, bands], see `mel_filters`; n_fft is even. All is worked out in the sounds' own precision.
    The frames stand at 0, hop_length, 2 * hop_length, ...; a sound is mirrored at its ends, for frames that reach out.
    """
    loud = loudness(sounds, filters, hop_length=hop_length)
    return picture(loud, loud.amax((-2, -1), keepdim=True))


def loudness(sounds: Tensor, filters: Tensor, *, hop_length: int) -> Tensor:
    """How loud each band is, in powers of ten: sounds [B, N] -> [B, bands, N // hop_length], see `log_mel`."""
    n_fft = 2 * (len(filters) - 1)
    window = torch.hann_window(n_fft, periodic=True, dtype=sounds.dtype, device=sounds.device)
    with torch.autocast(sounds.device.type, enabled=False):
        waves = torch.stft(
            sounds, n_fft, hop_length, window=window, center=True, pad_mode="reflect", return_complex=True
        )  # [B, n_fft // 2 + 1, frames + 1]
        power = waves[..., :-1].abs().square().contiguous()  # the last frame stands at the end of the sound
        return (filters.to(sounds).T @ power).clamp(min=FLOOR).log10()  # [B, bands, frames]


def picture(loud: Tensor, loudest: Tensor) -> Tensor:
    """Loudness as a picture: it ends `DEPTH` below the loudest point of its sound."""
    return (torch.maximum(loud, loudest - DEPTH) + 4) / 4


# --- one channel, at the right rate -----------------------------------------------------------------------------------


def mono(samples: ArrayLike | Tensor, *, rate: int, name: str = "The sound") -> Sound:
    """Numbers [samples] or [channels, samples], int16 or floats from -1 to 1, as one channel, the mean of all.

    Raises DataError, which calls the sound by its `name`.
    """
    if isinstance(samples, Tensor):
        tensor = samples.detach().cpu()
        samples = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    try:
        array = np.asarray(samples)
    except ValueError:
        raise DataError(f"{name} is made of rows of different lengths, expected channels of one length.") from None
    short = array.dtype.kind == "i" and array.dtype.itemsize == 2
    if not (short or array.dtype.kind == "f"):
        raise DataError(f"{name} holds {array.dtype}, expected int16 or floats from -1 to 1; convert it.")
    channels, length = {1: (1, *array.shape), 2: array.shape}.get(array.ndim, (0, 0))
    if not channels or channels > max(1, length):
        shape = list(array.shape)
        raise DataError(f"{name} has the shape {shape}, expected [samples] or [channels, samples]; turn its axes.")
    _check_header(rate, channels, length, name)
    with np.errstate(all="ignore"):  # what is no number is met below
        floats = np.array(array, np.float32, order="C") / np.float32(32768 if short else 1)
        kept = torch.from_numpy(floats if array.ndim == 1 else floats.mean(0))
    _check_values(kept, rate, name)
    return Sound(kept, int(rate))


def resample(samples: Tensor, rate: int, to: int) -> Tensor:
    """A sound [samples] at another rate: [ceil(samples * to / rate)], the first sample where it was.

    Up to nine tenths of half the lower rate every tone stays as it is, from half the lower rate on nothing is left,
    to one part in ten thousand either way. Silence lies before and after. It is a weighted sum around each place, whose
    weights repeat after as many outputs as the reduced fraction `to / rate` says: thirty lines, and no package that
    would change the numbers with its version.
    """
    if rate == to:
        return samples
    up, down = to // math.gcd(rate, to), rate // math.gcd(rate, to)
    count = -(-len(samples) * up // down)
    half = math.ceil(REACH * max(1, down / up))
    padded = F.pad(samples.float(), (half, half + down))
    resampled = padded.new_empty(count)
    for phase in range(min(up, count)):
        before, rest = divmod(phase * down, up)
        weights = _weights(half, rest / up, min(1, up / down)).to(padded)  # [2 * half + 1]
        outputs = -(-(count - phase) // up)  # phase, phase + up, phase + 2 * up, ... stand `down` samples apart
        for first in range(0, outputs, BLOCK):
            last = min(first + BLOCK, outputs) - 1
            heard = padded[before + first * down : before + last * down + len(weights)]
            places = slice(phase + first * up, phase + last * up + 1, up)
            resampled[places] = heard.unfold(0, len(weights), down) @ weights
    return resampled


def _weights(half: int, shift: float, share: float) -> Tensor:
    """The weights of the samples -half ... half around a place that lies `shift` after the middle one; their sum is 1.

    share: the lower rate in terms of the rate of the samples. Kaiser's formulas for his window.
    """
    width = (DAMPING - 7.95) / (14.36 * 2 * REACH)  # from what is kept to what is not, in terms of the lower rate
    places = torch.arange(-half, half + 1, dtype=torch.float64) - shift
    inside = (1 - (places * share / REACH).square()).clamp(min=0).sqrt()
    window = torch.special.i0(0.1102 * (DAMPING - 8.7) * inside) * (inside > 0)
    weights = torch.sinc(places * share * (1 - width)) * window
    return weights / weights.sum()


# --- files ------------------------------------------------------------------------------------------------------------


def read(path: str | Path) -> Sound:
    """The sound of a WAV, FLAC, OGG (Vorbis, Opus) or MP3 file, one channel, the mean of all, at its own rate.

    Plain WAV (8 to 32 bits, floats) is read here; the rest by soundfile, which the extra `sound` brings. Raises
    DataError for what is no sound, cut off, empty, not finite, or larger than the limits above, which is seen in its
    header, before the rest is read. What an MP3 that does not say how long it is has lost at its end, nobody can tell.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            found = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise DataError(f"{path} is {found}, expected a sound file; give the path of one.")
        with open(path, "rb", buffering=0) as file:
            return _read(cast("BinaryIO", file), str(path))
    except (OSError, ValueError) as wrong:  # a ValueError is a path with a zero in it
        why = (isinstance(wrong, OSError) and wrong.strerror) or wrong
        raise DataError(f"{path} cannot be read ({why}); check the path and the file.") from None


class _Opened(NamedTuple):
    """A file whose header was read: what it promises, and its sound, [n, channels] at a time."""

    rate: int
    channels: int
    length: int
    blocks: Iterator[NDArray[np.float32]]
    slack: int = 0  # by how many samples the promise may be too great


def _read(file: BinaryIO, name: str) -> Sound:
    """What `read` gives, of an open file."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise DataError(f"{name} is empty (0 bytes), expected a sound; fetch it anew.")
    head = file.read(12)
    opened: _Opened | None = None
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        opened = _open_wave(file, size, name)
    elif head[:4] == b"OggS":
        _check_last_page(file, size, name)
    elif not (head[:4] == b"fLaC" or head[:3] == b"ID3" or (head[0] == 0xFF and head[1:2] > b"\xdf")):
        raise DataError(f"{name} is not a sound that is known here, expected WAV, FLAC, OGG or MP3; convert it to WAV.")
    opened = opened or _open_other(file, name)
    _check_header(opened.rate, opened.channels, opened.length, name)
    kept, done = np.empty(opened.length, np.float32), 0
    with np.errstate(all="ignore"):  # what is no number is met below
        for block in opened.blocks:
            kept[done : done + len(block)] = block.mean(1)
            done += len(block)
    if done < max(1, opened.length - opened.slack):
        raise _cut_off(name, f"its head promises {opened.length:,} samples, {done:,} are there")
    samples = torch.from_numpy(kept[:done])
    _check_values(samples, opened.rate, name)
    return Sound(samples, opened.rate)


def _cut_off(name: str, found: str) -> DataError:
    return DataError(f"{name} is cut off or damaged ({found}), expected a whole file; fetch it anew.")


def _unsaid(name: str) -> DataError:
    return DataError(f"{name} does not say how long it is, as after a pipe, expected a head that does; save it as WAV.")


PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
UNSAID = (0xFFFFFFFF, 0x7FFFF000)  # the length of what was written into a pipe, by ffmpeg and by sox
MP3_FRAME = 1152  # samples
SPELLINGS = {  # of a number: its type, and which value of it is full scale
    (PCM, 1): ("u1", 1 << 7),
    (PCM, 2): ("<i2", 1 << 15),
    (PCM, 3): ("<i4", 1 << 31),  # once it is made wider
    (PCM, 4): ("<i4", 1 << 31),
    (FLOAT, 4): ("<f4", 1),
    (FLOAT, 8): ("<f8", 1),
}


def _open_wave(file: BinaryIO, size: int, name: str) -> _Opened | None:
    """A WAV file whose first 12 bytes were read; None if its numbers are packed, which soundfile reads."""
    about, begin, length = b"", 0, 0
    for _ in range(1000):  # chunks: a name, a length, as many bytes, and one more if that is odd
        head = file.read(8)
        if len(head) < 8:
            raise _cut_off(name, "there is no sound in it")
        kind, length = struct.unpack("<4sI", head)
        begin = file.tell()
        if kind == b"data":
            break
        if kind == b"fmt ":
            about = file.read(min(length, 40))
        file.seek(begin + length + length % 2)
    else:
        raise _cut_off(name, "a thousand chunks and no sound")
    if len(about) < 16:
        raise _cut_off(name, "nothing says how its numbers are spelled")
    length = size - begin if length in UNSAID else length
    if begin + length > size:
        raise _cut_off(name, f"its head promises {length:,} bytes of sound, {size - begin:,} are there")
    code, channels, rate, _, step, bits = struct.unpack("<HHIIHH", about[:16])
    if code == EXTENSIBLE and len(about) >= 26:
        (code,) = struct.unpack("<H", about[24:26])
    width = step // max(channels, 1)
    if (code, width) not in SPELLINGS:
        return None
    if width * channels != step or not 0 < bits <= 8 * width:
        raise _cut_off(name, f"{channels} channels of {bits} bits do not make {step} bytes")
    return _Opened(rate, channels, length // step, _wave_blocks(file, begin, length // step, channels, code, width))


def _wave_blocks(
    file: BinaryIO, begin: int, length: int, channels: int, code: int, width: int
) -> Iterator[NDArray[np.float32]]:
    """The numbers of a WAV file, [n, channels] at a time."""
    kind, full = SPELLINGS[code, width]
    step, at_once = width * channels, max(1, (1 << 22) // (width * channels))
    file.seek(begin)
    while length and len(raw := file.read(step * min(length, at_once))) >= step:
        count = len(raw) // step
        length -= count
        numbers = np.frombuffer(raw, np.uint8, count * step)
        if width == 3:  # a zero byte below makes the number wider, and as loud as before
            numbers = np.pad(numbers.reshape(-1, 3), ((0, 0), (1, 0)))
        floats = numbers.reshape(-1).view(kind).astype(np.float32)
        yield ((floats - 128 if width == 1 else floats) / np.float32(full)).reshape(count, channels)


def _check_last_page(file: BinaryIO, size: int, name: str) -> None:
    """Whether an Ogg file ends with a whole page that says it is the last, which soundfile does not ask."""
    file.seek(max(0, size - (27 + 255 + 255 * 255)))  # no page is longer
    end = file.read()
    page = end[max(end.rfind(b"OggS"), 0) :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(lengths):
        raise _cut_off(name, "its last page is missing")


def _open_other(file: BinaryIO, name: str) -> _Opened:
    """A file that soundfile reads."""
    soundfile = extra("soundfile", "sound")
    guessed = _is_guessed(file)
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    try:
        opened = soundfile.SoundFile(file.fileno(), closefd=False)
    except soundfile.LibsndfileError as wrong:
        raise _cut_off(name, wrong.error_string.rstrip(".")) from None
    length, mp3 = opened.frames, opened.format == "MP3"
    if length >= 1 << 62:
        raise _unsaid(name)
    at_once = max(1, (1 << 20) // opened.channels)

    def blocks() -> Iterator[NDArray[np.float32]]:
        left = length
        try:
            while left and len(block := opened.read(min(left, at_once), dtype="float32", always_2d=True)):
                left -= len(block)
                yield block
        except soundfile.LibsndfileError as wrong:
            raise _cut_off(name, wrong.error_string.rstrip(".")) from None
        if mp3 and guessed and os.lseek(file.fileno(), 0, os.SEEK_CUR) < 0.95 * os.fstat(file.fileno()).st_size - 8192:
            raise _unsaid(name)  # there is more than was guessed
        opened.close()

    slack = (length if guessed else 2 * MP3_FRAME) if mp3 else 0
    return _Opened(opened.samplerate, opened.channels, length, blocks(), slack)


def _is_guessed(file: BinaryIO) -> bool:
    """Whether an MP3 file lacks the frame that says how long it is, so that its length is guessed from its size."""
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":  # a tag, whose length is four times seven bits
        file.seek(10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:10]))))
    start = file.read(4096)
    return not any(mark in start for mark in (b"Xing", b"Info", b"VBRI"))


# --- what is refused --------------------------------------------------------------------------------------------------


def _check_header(rate: int, channels: int, length: int, name: str) -> None:
    """Whether a sound is one that can be taken in, by its numbers alone."""
    least, most = RATES
    if not isinstance(rate, int | np.integer) or isinstance(rate, bool) or not least <= rate <= most:
        raise DataError(
            f"{name} has a sampling rate of {rate!r}, expected a whole number from {least:,} to {most:,} Hz; mend that."
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise DataError(f"{name} has {channels:,} channels, expected 1 to {MOST_CHANNELS}; keep some of them.")
    if length < 1:
        raise DataError(f"{name} holds no samples, expected a sound; leave it out.")
    if length > min(LONGEST * rate, MOST_SAMPLES):
        raise DataError(
            f"{name} lasts {length / rate / 3600:,.1f} hours in {length:,} samples, expected at most "
            f"{LONGEST // 3600} hours and {MOST_SAMPLES:,} samples; cut it into parts."
        )


def _check_values(samples: Tensor, rate: int, name: str) -> None:
    """Whether every sample is a number, and near enough to full scale."""
    peak = float(samples.abs().max())
    if not math.isfinite(peak):
        wrong = (~samples.isfinite()).nonzero()[:, 0]
        raise DataError(
            f"{name} holds {len(wrong):,} values that are no numbers (NaN or infinite), the first at "
            f"{int(wrong[0]) / rate:,.3f} seconds, expected numbers from -1 to 1; record or convert it again."
        )
    if peak > LOUDEST:
        raise DataError(
            f"{name} reaches {peak:,.0f}, expected numbers from -1 to 1; divide them by what stands for full scale, "
            "as by 32768 where they were 16 bits."
        )
