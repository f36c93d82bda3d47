"""The picture of a part of a sound is that part of the picture of the whole, bit for bit that of transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import WhisperFeatureExtractor

from polyhead.inputs.excerpts import Excerpts
from polyhead.inputs.sound import Sounds
from tests.tasks.speech import RATE, SECONDS, sound

pytestmark = pytest.mark.parity
SOUNDS = Sounds(chunk_length=SECONDS)


@pytest.mark.parametrize("seconds", [0.003, 0.7, 1.9999, 2.0, 2.0001, 7.3333])
def test_every_part_is_a_part_of_the_whole_with_silence_behind_it(seconds: float) -> None:
    samples = sound(seconds)
    samples[len(samples) // 3 : len(samples) // 2] *= 1e-5  # a part that is still beside the rest
    part = Excerpts(SOUNDS, samples)
    silent = torch.cat((samples, torch.zeros(SECONDS * RATE)))
    extractor = WhisperFeatureExtractor(chunk_length=SECONDS)
    how = {"sampling_rate": RATE, "return_tensors": "pt", "truncation": False, "padding": False}
    whole = extractor(silent.numpy(), **how).input_features[0]
    assert part.frames == max(1, len(samples) // 160)
    assert part.seconds == pytest.approx(seconds, abs=1e-4)
    for first in {0, 1, 2, 3, part.frames // 2, part.frames - 1}:
        mirrored = first == 0 and SECONDS * RATE - 200 < len(samples) <= SECONDS * RATE  # at its end, see below
        if first < part.frames and not mirrored:
            assert torch.equal(part.picture(first), whole[:, first : first + 200]), first


@pytest.mark.parametrize("seconds", [0.003, 0.7, 2.0])
def test_a_sound_of_one_picture_has_the_picture_that_the_model_was_trained_on(seconds: float) -> None:
    samples = sound(seconds)
    wanted = WhisperFeatureExtractor(chunk_length=SECONDS)(samples.numpy(), sampling_rate=RATE, return_tensors="pt")
    assert torch.equal(Excerpts(SOUNDS, samples).picture(0), wanted.input_features[0])
