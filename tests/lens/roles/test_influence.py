"""What heads are worth: importance, ablation and copying against models whose weights were changed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead import load
from polyhead.lens.roles import influence
from polyhead.lens.roles.trials import Trial, trials
from polyhead.tasks.load import Loaded
from tests.cli.conftest import write_model
from tests.tasks.words import decoder_in_folder, in_folder

MADE = ("translator", "decoder", "hidden words", "labels", "vectors")
each_model = pytest.mark.parametrize("kind", MADE)


def made(folder: Path, kind: str) -> tuple[Loaded, list[Trial]]:
    match kind:
        case "translator":
            write_model(folder)
        case "decoder":
            decoder_in_folder(folder, "GPT2LMHeadModel")
        case "hidden words":
            in_folder(folder, "BertForMaskedLM")
        case "labels":
            in_folder(folder, "BertForSequenceClassification", num_labels=3)
        case _:
            in_folder(folder, "BertModel")
    loaded = load(folder)
    shown, n, _ = trials(loaded, ["the cat sat on the mat", "not good"], None)
    found = list(shown)
    assert len(found) == n
    return loaded, found


def loss_of(trial: Trial) -> torch.Tensor:
    assert trial.loss is not None
    return trial.loss(trial.answer(1))[0]


def turned(module: Any, head: int, factor: float) -> None:
    """Scale what one head says, in the weights of the projection after it."""
    width = module.width
    with torch.no_grad():
        module.out.weight[:, head * width : (head + 1) * width] *= factor


@each_model
def test_importance_is_the_slope_of_the_loss_as_a_head_is_turned_down(tmp_path: Path, kind: str) -> None:
    loaded, (trial, *_) = made(tmp_path, kind)
    loaded.model.double()
    found = influence.importance(loaded, trial, 0)
    step = 1e-4
    for name, module in influence.layers(loaded.model).items():
        for head in range(len(found[name])):
            ends: list[torch.Tensor] = []
            for factor in (1 + step, (1 - step) / (1 + step)):
                turned(module, head, factor)
                with torch.no_grad():
                    ends.append(loss_of(trial) if trial.loss else trial.answer(1)[0])
            turned(module, head, 1 / (1 - step))
            slope = (ends[0] - ends[1]) / (2 * step)
            if trial.loss:
                assert found[name][head] == pytest.approx(abs(float(slope)), rel=1e-3, abs=1e-6), (name, head)
            else:  # from random products: within three standard deviations
                assert found[name][head] == pytest.approx(
                    float(slope.norm()), rel=3 / (2 * influence.DIRECTIONS) ** 0.5
                )


@each_model
@pytest.mark.parametrize("by", ["mean", "zero"])
def test_ablation_is_what_a_model_without_the_head_loses(tmp_path: Path, kind: str, by: str) -> None:
    loaded, shown = made(tmp_path, kind)
    spoken = [trial for trial in shown if trial.spoken]
    means = influence.Means.none()
    for trial in spoken:
        means.add(loaded.model, trial)
    found = influence.ablation(loaded, spoken[0], means if by == "mean" else None)
    with torch.no_grad():
        before = spoken[0].answer(1)
        for name, module in influence.layers(loaded.model).items():
            for head in range(len(found[name])):
                columns = slice(head * module.width, (head + 1) * module.width)
                weight, bias = module.out.weight.clone(), module.out.bias
                assert bias is not None
                said = bias.clone()
                if by == "mean":
                    bias += weight[:, columns] @ means.of(name)[head].float()
                module.out.weight[:, columns] = 0.0
                after = spoken[0].answer(1)
                module.out.weight.copy_(weight)
                bias.copy_(said)
                if spoken[0].loss is None:
                    wanted = 1 - float((before * after).sum())
                else:
                    wanted = float(spoken[0].loss(after) - spoken[0].loss(before))
                assert found[name][head] == pytest.approx(wanted, abs=2e-5), (name, head)


def test_copying_is_the_share_of_the_rise_that_the_attended_token_has(tmp_path: Path) -> None:
    """With loops over rows, from weights and values that are rebuilt from the layer itself."""
    loaded, shown = made(tmp_path, "decoder")
    trial = next(each for each in shown if not each.spoken)
    calls = {call.name: call for call in trial.one.watched()}
    axes = {name: trial.axes[call.part] for name, call in calls.items()}
    words = influence.unembedding(loaded)
    assert words is not None
    words = words.detach()
    found = influence.copying(loaded, trial, calls, axes, words)
    caught: dict[str, torch.Tensor] = {}
    for name, module in influence.layers(loaded.model).items():
        module.value.register_forward_hook(lambda m, i, o, name=name: caught.update({name: o[0].detach()}))  # pyright: ignore
    with torch.no_grad():
        trial.one.vectors()
    for name, call in calls.items():
        axis, module = axes[name][1], influence.layers(loaded.model)[name]
        assert axis.ids is not None
        body = [i for i in range(axis.count) if i not in axis.special]
        candidates = sorted({axis.ids[i] for i in body})
        P = call.weights()[0].double()
        for head in range(P.shape[0]):
            columns = slice(head * module.width, (head + 1) * module.width)
            shares: list[float] = []
            for i in body:
                j = int(P[head, i].argmax())
                if j not in body:
                    continue
                says = (P[head, i] @ caught[name][:, columns].double()) @ module.out.weight[
                    :, columns
                ].detach().double().T
                scores = words[candidates].double() @ says
                rise = (scores - scores.mean()).clamp(min=0)
                shares.append(float(rise[candidates.index(axis.ids[j])] / rise.sum()))
            assert found[name][0][head] == pytest.approx(2 * np.mean(shares) - 1, abs=1e-5)
        assert found[name][1] == pytest.approx(2 / len(candidates) - 1)


def test_a_head_that_writes_the_token_it_looks_at_copies_and_its_opposite_does_not(tmp_path: Path) -> None:
    loaded, shown = made(tmp_path, "decoder")
    trial = next(each for each in shown if not each.spoken)
    [name, *_] = influence.layers(loaded.model)
    call: Any = trial.one.watched()[name]
    axis = trial.axes["decoder"][1]
    assert axis.ids is not None
    module = influence.layers(loaded.model)[name]
    width, best = module.width, call.observe(influence.Observe(links=1)).links.keys[0, ..., 0]  # [H, T]
    candidates = sorted({id for i, id in enumerate(axis.ids) if i not in axis.special})
    words = torch.zeros(loaded.config.vocab_size, loaded.config.d_model, dtype=torch.float64)
    # a readout under which the head's own output at each row speaks for what it looked at there, or against it
    says: list[torch.Tensor] = []
    module.out.register_forward_hook(lambda m, i, o: says.append(i[0][0].detach().double()))
    with torch.no_grad():
        trial.one.vectors()
    own = says[0][:, :width] @ module.out.weight[:, :width].detach().double().T  # [T, D]
    aims = [[i for i in range(axis.count) if axis.ids[int(best[0, i])] == id] for id in candidates]
    for id, rows in zip(candidates, aims, strict=True):
        words[id] = own[rows].mean(0) if rows else 0.0
    for sign in (1.0, -1.0):
        found = influence.copying(loaded, trial, {name: call}, {name: (axis, axis)}, sign * words)
        score, chance = found[name][0][0], found[name][1]
        assert (score > chance) == (sign > 0)
