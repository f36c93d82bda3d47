"""One step: accumulation, clipping, weight decay and AdamW against plain torch in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from polyhead.errors import CheckpointError
from polyhead.training import optim
from polyhead.training.learner import Learner
from polyhead.training.schedule import Constant
from polyhead.training.settings import Training
from tests.training.tiny import LETTERS, PADDING, Letters, Speller, Spelling, everything, same_bits

SETTINGS = Training(steps=9, lr=3e-2, schedule="constant", warmup=0, weight_decay=0.3, clip=0.0)


class Sober(Spelling):
    """The task in float64, without dropout or noise, so that two ways to one step can be compared."""

    def __init__(self, settings: Training) -> None:
        super().__init__(settings)
        self.model = self.model.double()

    def loss(self, batch: Letters):
        self.model.eval()
        return super().loss(batch)


def learner(settings: Training) -> Learner:
    return Learner(Sober(settings), settings, Constant(peak=settings.lr), "fp32")


def together(batches: list[Letters]) -> Letters:
    """The batches as one, padded to the longest."""
    length = max(batch.ids.shape[1] for batch in batches)
    pad = [(0, length - batch.ids.shape[1]) for batch in batches]
    ids = [nn.functional.pad(batch.ids, p, value=1) for batch, p in zip(batches, pad, strict=True)]
    following = [nn.functional.pad(batch.next, p, value=PADDING) for batch, p in zip(batches, pad, strict=True)]
    return Letters(torch.cat(ids), torch.cat(following))


def test_accumulated_batches_equal_one_big_batch():
    parts, whole = learner(SETTINGS), learner(SETTINGS)
    task = Sober(SETTINGS)
    for step in (1, 2, 3):
        batches = [task.letters(3 * step + i) for i in range(3)]  # of different lengths and numbers of targets
        first, second = parts.learn(batches, step), whole.learn([together(batches)], step)
        assert first.targets == second.targets
        assert first.loss == pytest.approx(second.loss, rel=1e-12)
        assert first.norm == pytest.approx(second.norm, rel=1e-12)
    for name, weight in everything(whole.model).items():
        torch.testing.assert_close(everything(parts.model)[name], weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip", [0.0, 0.1, 1e9])
def test_a_step_is_that_of_plain_torch(clip: float):
    settings = replace(SETTINGS, clip=clip)
    ours, task = learner(settings), Sober(settings)
    plain = Speller().double()
    plain.load_state_dict(ours.model.state_dict())
    matrices = [p for p in plain.parameters() if p.dim() > 1]
    vectors = [p for p in plain.parameters() if p.dim() == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}],
        lr=3e-2,
        betas=settings.betas,
        eps=settings.eps,
    )
    loss_of = nn.CrossEntropyLoss(ignore_index=PADDING, label_smoothing=0.1)
    plain.eval()
    for step in (1, 2, 3):
        batch = task.letters(step)
        learnt = ours.learn([batch], step)
        loss_of(plain(batch.ids).view(-1, LETTERS), batch.next.view(-1)).backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), clip or float("inf"))
        adamw.step()
        adamw.zero_grad()
        assert learnt.norm == pytest.approx(float(norm), rel=1e-9)
        assert clip != 0.1 or learnt.norm > clip  # it did have something to shorten
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(everything(ours.model)[name], weight.detach(), rtol=1e-8, atol=1e-10)


def test_only_matrices_decay():
    model = Speller()
    decays = {
        id(parameter): group["weight_decay"]
        for group in optim.adamw(model, SETTINGS).param_groups
        for parameter in group["params"]
    }
    found = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert found == {
        "letters.weight": 0.3,
        "mix.weight": 0.3,
        "mix.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "out.bias": 0.0,
    }


def test_frozen_parameters_stay():
    task = Sober(SETTINGS)
    task.model.mix.weight.requires_grad_(False)
    before = everything(task.model)
    Learner(task, SETTINGS, Constant(peak=0.1), "fp32").learn([task.letters(0)], 1)
    after = everything(task.model)
    assert torch.equal(after["mix.weight"], before["mix.weight"])
    assert not torch.equal(after["mix.bias"], before["mix.bias"])


def test_a_learner_loads_what_another_saved():
    settings = replace(SETTINGS, ema_decay=0.9)
    one, other = learner(settings), learner(settings)
    task = Sober(settings)
    one.learn([task.letters(0)], 1)
    other.load({part: {name: t.clone() for name, t in tensors.items()} for part, tensors in one.parts().items()})
    for each in (one, other):
        each.learn([task.letters(1)], 2)
    for part, tensors in one.parts().items():
        assert same_bits(tensors, other.parts()[part])


def test_a_state_of_another_model_is_refused_with_every_difference():
    one = learner(SETTINGS)
    parts = one.parts()
    weights = dict(parts["weights"])
    weights["mix.bias"] = torch.zeros(3)
    weights["extra"] = weights.pop("norm.bias")
    wanted = "mix.bias is [3] there and [8] here; norm.bias is not in it; the model has no extra"
    with pytest.raises(CheckpointError) as refused:
        one.load({**parts, "weights": weights})
    assert wanted in str(refused.value)
