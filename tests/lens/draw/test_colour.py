"""The ramp can be read by everybody: lightness alone tells the order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from polyhead.lens.draw.colour import CUBE, RGB, colour, in_cube, ink_on, luminance

# Machado, Oliveira and Fernandes 2009, severity 1: what the three dichromats see of linear red, green and blue.
DICHROMATS = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
STEPS = [i / 50 for i in range(51)]


def test_a_larger_weight_is_always_lighter():
    light = [luminance(colour(step)) for step in STEPS]
    assert all(a < b for a, b in pairwise(light))


@pytest.mark.parametrize("kind", DICHROMATS)
def test_a_larger_weight_is_lighter_to_the_colour_blind(kind: str):
    light = [luminance(seen_by(DICHROMATS[kind], colour(step))) for step in STEPS]
    assert all(a < b for a, b in pairwise(light))


@pytest.mark.parametrize("kind", [None, *DICHROMATS])
def test_of_256_colours_too_a_larger_weight_is_lighter_to_everybody(kind: str | None):
    steps = [in_cube((i + 0.5) / len(CUBE))[1] for i in range(len(CUBE))]
    light = [luminance(seen_by(DICHROMATS[kind], rgb) if kind else rgb) for rgb in steps]
    assert all(a < b for a, b in pairwise(light))


def test_the_cubes_colours_are_those_of_terminals():
    assert [in_cube(weight)[0] for weight in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [17, 17, 102, 227, 227]
    assert in_cube(0.0)[1] == (0, 0, 95)
    assert in_cube(1.0)[1] == (255, 255, 95)


def test_numbers_on_every_colour_have_a_contrast_of_at_least_four_and_a_half():
    for ground in [colour(step) for step in STEPS] + [in_cube(step)[1] for step in STEPS]:
        low, high = sorted((luminance(ground), luminance(ink_on(ground))))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_weights_outside_the_scale_take_its_ends():
    assert colour(-1.0) == colour(0.0)
    assert colour(2.0) == colour(1.0)


def seen_by(matrix: tuple[tuple[float, ...], ...], rgb: RGB) -> RGB:
    linear = [(v / 255) ** 2.2 for v in rgb]
    red, green, blue = (
        round(255 * min(max(sum(m * v for m, v in zip(row, linear, strict=True)), 0.0), 1.0) ** (1 / 2.2))
        for row in matrix
    )
    return red, green, blue
