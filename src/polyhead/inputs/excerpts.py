"""A whole sound enters, and the picture of any part of it leaves, as it stands in the picture of the whole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from polyhead.inputs.sound import Sounds, loudness, mel_filters, picture


class Excerpts:
    """One sound [samples] at the rate of `sounds`, silence after its end; a part is drawn when it is asked for.

    The loudest point, from which the depth of a picture counts, is that of the whole sound, as in `transformers` and
    in the paper's own code: what is still beside what is loud stays still. A sound of at most one picture has the
    picture that `Sounds.pictures` draws. `frames`: how many the sound fills, at least one.
    """

    def __init__(self, sounds: Sounds, samples: Tensor):
        self.sounds, self.samples = sounds, samples.float()
        self.frames = max(1, len(samples) // sounds.hop_length)
        self.seconds = len(samples) / sounds.sampling_rate
        self.filters = mel_filters(sounds.feature_size, n_fft=sounds.n_fft, rate=sounds.sampling_rate)
        self.margin = -(-sounds.n_fft // (2 * sounds.hop_length))  # frames that reach out of a cut
        self.whole = sounds.pictures([samples])[0] if len(samples) <= sounds.n_samples else None
        starts = range(0, self.frames, sounds.nb_max_frames)
        self.loudest = torch.stack([self.loudness(start).amax() for start in starts]).amax()

    def picture(self, first: int) -> Tensor:
        """[bands, frames] of one picture that begins at a frame of the sound."""
        if first == 0 and self.whole is not None:
            return self.whole
        return picture(self.loudness(first), self.loudest)

    def loudness(self, first: int) -> Tensor:
        """How loud the bands are [bands, frames] from this frame on."""
        hop, before = self.sounds.hop_length, min(first, self.margin)
        begin, end = (first - before) * hop, (first + self.sounds.nb_max_frames + self.margin) * hop
        part = self.samples[begin:end]
        part = F.pad(part, (0, end - begin - len(part)), value=self.sounds.padding_value)
        return loudness(part[None], self.filters, hop_length=hop)[0, :, before : before + self.sounds.nb_max_frames]
