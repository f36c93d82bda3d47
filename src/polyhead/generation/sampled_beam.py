"""Beam search whose candidates are drawn: a continuation's chance is its share of the probability of all of its source.

Drawn without putting back: the K largest of log-probability + Gumbel noise (Kool et al., 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.beam import Beam, BeamState
from polyhead.generation.search import Call, Sample, widest


@dataclass(frozen=True)
class SampledBeam(Beam):
    """A beam whose candidates are drawn after the temperature and the cuts of `draw`, by its seed.

    The draws depend on (seed, number of the source, position) and on nothing else. Scores are those after temperature
    and cuts, as in `transformers`.
    """

    draw: Sample = field(default_factory=Sample, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw.n_best != 1:
            raise ArgumentError(f"draw has n_best {self.draw.n_best}, but how many answers come back is the beam's.")

    def begin(self, call: Call) -> BeamState:
        return SampledBeamState(self, call)


class SampledBeamState(BeamState):
    def __init__(self, beam: SampledBeam, call: Call) -> None:
        super().__init__(beam, call)
        self.draw, self.least = beam.draw, 1 + max(1, len(call.stop.ids))  # a row may end and must be able to go on

    def candidates(self, scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        B, R = self.total.shape
        value, names = self.draw.shaped(scores, least=self.least)  # [N, K]
        K = value.shape[1]
        value = (value + self.total.view(-1, 1)).view(B, -1)  # [B, R * K]
        luck = self.luck(tokens.shape[1] - self.call.start, K)
        place = (value + luck.view(B, -1)).topk(min(self.most, R * K)).indices
        row = place // K + R * torch.arange(B, device=place.device)[:, None]
        token = place % K if names is None else names.reshape(B, -1).gather(1, place)
        return value.gather(1, place), row, token

    def luck(self, added: int, K: int) -> Tensor:
        """Gumbel noise for the token after so many were added, [B, R, K]: the first for the best row, and so on; that
        of a token among the K does not change with K."""
        numbers = [self.call.numbers[int(source)] for source in self.sources]
        size = K, self.total.shape[1]
        noise = [np.random.default_rng([self.draw.seed, number, added]).gumbel(size=size).T for number in numbers]
        rank = self.total.sort(descending=True, stable=True).indices.sort().indices  # [B, R]
        return (
            torch.tensor(np.array(noise))
            .to(rank.device, widest(rank.device))
            .gather(1, rank[:, :, None].expand(-1, -1, K))
        )
