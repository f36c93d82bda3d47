"""Positions that are added to words, against the formula of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from polyhead.embedding.positions import Learned, Sinusoidal
from polyhead.errors import ArgumentError


@pytest.mark.parametrize("width", [8, 7])
def test_sinusoids_follow_the_paper(width: int) -> None:
    side_by_side = Sinusoidal(20, width)(torch.arange(20)[None])[0]
    halves = Sinusoidal(20, width, layout="halves")(torch.arange(20)[None])[0]
    for place in (0, 1, 13):
        for i in range(width):
            angle = place / 10_000 ** (2 * (i // 2) / width)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert side_by_side[place, i] == pytest.approx(expected, abs=1e-6)
            moved = i // 2 + (-(-width // 2) if i % 2 else 0)
            assert halves[place, moved] == pytest.approx(expected, abs=1e-6)


def test_learned_positions_skip_what_is_no_place() -> None:
    positions = Learned(5, 3, offset=2)
    places = torch.tensor([[0, 4], [1, 1]])
    assert torch.equal(positions(places), positions.weight[places + 2])


@pytest.mark.parametrize("positions", [Sinusoidal(4, 6), Learned(4, 6, offset=1)])
def test_a_place_beyond_the_last_is_refused(positions: torch.nn.Module) -> None:
    with pytest.raises(ArgumentError, match="reaches position 5, but the model knows only 4"):
        positions(torch.arange(5)[None])
    with pytest.raises(ArgumentError, match="reaches position 5, but the model knows only 4"):
        positions(slice(2, 5))
    assert torch.equal(positions(slice(1, 4)), positions(torch.arange(1, 4)[None])[0])
