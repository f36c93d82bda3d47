"""A lesson's numbers are the model's, and what is broken in it is broken in the model as well."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers

from polyhead.errors import ArgumentError, DataError
from polyhead.lens.learn.caught import Part, caught, place_of, without_places
from polyhead.lens.learn.ending import Breaker, ending, pushes
from polyhead.lens.learn.lesson import learn
from polyhead.lens.learn.working import Breaks, cut_sentence, effective, one_by_one, summed, work
from polyhead.lens.watch import shown
from polyhead.tasks.load import load
from tests.lens.learn.worlds import PARTS, text_of

Folder = Callable[[str], Path]
SOURCE = "我爱 吃 苹果 。"


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_every_number_agrees_with_what_the_model_computed(folder: Folder, kind: str, part: Part):
    loaded = load(folder(kind))
    for layer in (0, 1):
        lesson = learn(text_of(kind), model=loaded, part=part, layer=layer)
        assert lesson.off < 2e-5
        np.testing.assert_allclose(lesson.working.weights, lesson.caught.weights, atol=2e-5)
        np.testing.assert_allclose(lesson.working.weights.sum(-1), 1, atol=1e-12)
        np.testing.assert_allclose(lesson.working.parts.sum(0), lesson.caught.output - bias(lesson), atol=1e-3)


def bias(lesson: Any) -> Any:
    found = lesson.caught.projections.out_bias
    return 0 if found is None else found


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_the_weights_are_those_of_transformers(folder: Folder, kind: str):
    theirs = transformers.AutoModel.from_pretrained(folder(kind), attn_implementation="eager").eval()
    for layer in (0, 1):
        lesson = learn(text_of(kind), model=folder(kind), layer=layer)
        with torch.no_grad():
            wanted = theirs(torch.tensor([lesson.source.ids]), output_attentions=True).attentions[layer][0]
        np.testing.assert_allclose(lesson.working.weights, wanted.numpy(), atol=2e-5)


def test_what_goes_on_is_what_the_model_goes_on_with(folder: Folder):
    """The stream after the sum is what the next norm of a model with norms before reads."""
    loaded = load(folder("gpt2"))
    lesson = learn("the cat sat.", model=loaded, layer=0)
    net: Any = loaded.model
    met: list[torch.Tensor] = []
    hook = net.decoder.blocks[0].mlp_norm.register_forward_pre_hook(lambda module, given: met.append(given[0]))
    with torch.no_grad():
        net(torch.tensor([lesson.source.ids]))
    hook.remove()
    np.testing.assert_allclose(lesson.working.after, met[0][0].numpy(), atol=1e-4)


def test_a_loop_over_the_heads_gives_the_same(folder: Folder):
    for kind in ("translator", "llama", "bloom"):
        assert one_by_one(learn(text_of(kind), model=folder(kind)).caught) < 1e-12


def test_a_worked_sum_totals():
    chance = np.random.default_rng(0)
    left, right = chance.normal(size=(2, 40))
    found = summed(left, right, more=0.5)
    assert [abs(p) for _, _, p in found.terms] == sorted((abs(p) for _, _, p in found.terms), reverse=True)
    assert all(product == left[i] * right[i] for i, _, product in found.terms)
    assert found.others == 34
    np.testing.assert_allclose(sum(p for _, _, p in found.terms) + found.rest + 0.5, found.total)
    np.testing.assert_allclose(found.total, left @ right + 0.5)
    assert summed([2.0], [3.0]).others == 0


def test_effective_counts_the_words_that_a_row_is_spread_over():
    np.testing.assert_allclose(effective(np.array([[0.25] * 4, [1.0, 0, 0, 0]])), [4, 1])


# ------------------------------------------------------------------------------------------------------- what is broken


@pytest.mark.parametrize(
    "breaks",
    [Breaks(scale=False), Breaks(temperature=0.3), Breaks(mask=True), Breaks(heads_off=(1, 3)),
     Breaks(scale=False, temperature=2.0, heads_off=(0,))],
    ids=["scale", "temperature", "mask", "heads", "several"],
)  # fmt: skip
def test_the_formula_and_the_broken_model_agree(folder: Folder, breaks: Breaks):
    """The layer's output in a model that runs broken is the output of the broken formula."""
    loaded = load(folder("translator"))
    lesson = learn(SOURCE, model=loaded, layer=0)
    layer = cast(Any, loaded.model).encoder.blocks[0].attn
    met: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, out: met.append(out))
    with shown(Breaker({}, lambda call: None, layer=layer, breaks=breaks)), torch.no_grad():
        cast(Any, loaded.model).encode(torch.tensor([lesson.source.ids]))
    hook.remove()
    wanted = work(lesson.caught, breaks).output
    np.testing.assert_allclose(met[0][0].numpy(), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_a_head_that_is_off_is_one_whose_part_of_the_projection_is_zero(folder: Folder):
    loaded = load(folder("translator"))
    lesson = learn(SOURCE, model=loaded, layer=0, heads_off=[2])
    assert lesson.broken is not None and lesson.broken.ending is not None
    without = copy.deepcopy(loaded.model)
    with torch.no_grad():
        cast(Any, without).encoder.blocks[0].attn.out.weight[:, 8:12] = 0
    met = caught(without, lesson.given, "encoder", 0)
    np.testing.assert_allclose(lesson.broken.working.output, met.output, rtol=1e-4, atol=1e-3)
    wanted = ending(replace(loaded, model=without), lesson.source.ids)
    assert wanted is not None and lesson.broken.ending.ids == wanted.ids


@pytest.mark.parametrize("kind", ["translator", "bert", "gpt2", "llama", "bloom", "t5"])
def test_without_positions_words_are_a_heap(folder: Folder, kind: str):
    """Rows in another order come out in that order, unchanged, where nothing is hidden."""
    loaded = load(folder(kind))
    bare = without_places(loaded.model)
    part = "decoder" if kind in ("gpt2", "llama", "bloom") else "encoder"
    lesson = learn(text_of(kind), model=loaded, part=part, layer=0)
    ids, rest = lesson.given[0], lesson.given[1:]
    order = np.random.default_rng(1).permutation(len(ids))
    straight = caught(bare, (ids, *rest), part, 0)
    mixed = caught(bare, ([ids[i] for i in order], *rest), part, 0)
    free = Breaks(mask=False)
    np.testing.assert_allclose(work(mixed, free).output, work(straight, free).output[order], rtol=1e-3, atol=1e-3)
    kept = caught(loaded.model, ([ids[i] for i in order], *rest), part, 0)
    assert np.abs(work(kept, free).output - work(lesson.caught, free).output[order]).max() > 1e-3


def test_swapped_words_stand_side_by_side_with_what_they_were(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"), layer=1, swap=("吃", "苹果"))
    assert lesson.broken is not None
    order = list(range(len(lesson.source.ids)))
    eat, apple = (lesson.source.words.pieces[lesson.source.words.labels.index(w)] for w in ("吃", "苹果"))
    at = order.index(eat[0])
    moved = [*order[:at], *apple, *eat, *order[at + len(eat) + len(apple) :]]
    met = caught(lesson.loaded.model, ([lesson.source.ids[i] for i in moved], *lesson.given[1:]), "encoder", 1)
    there = np.argsort(moved)
    np.testing.assert_allclose(lesson.broken.weights, work(met).weights[:, there][:, :, there])
    assert lesson.broken.ending is not None


def test_cutting_the_sentence_loses_what_goes_across(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"))
    S, weights = len(lesson.source.ids), lesson.working.weights[lesson.head]
    found = cut_sentence(lesson.caught, lesson.working, lesson.head, 2, lesson.speaking)
    half = round(S / 2)
    assert [*found.groups[0], *found.groups[1]] == list(range(S))
    across = weights[:half, half:].sum() + weights[half:, :half].sum()
    np.testing.assert_allclose(found.crosses, across / S)
    assert found.pairs == half**2 + (S - half) ** 2 and found.of == S * S
    assert (found.lost[0] < half) != (found.lost[1] < half)


@pytest.mark.parametrize("kind", ["translator", "gpt2", "llama"])
def test_what_a_head_pushes_is_its_part_times_the_words(folder: Folder, kind: str):
    lesson = learn(text_of(kind), model=folder(kind), part="decoder", layer=1, head=1)
    found = pushes(lesson.loaded, lesson.working.parts)
    assert found is not None
    weight = cast(Any, lesson.loaded.model).head.weight.detach().double().numpy()
    for i in range(len(lesson.rows.ids)):
        scores = np.sort(lesson.working.parts[1, i] @ weight.T)
        up, down = ([value for _, value in end] for end in found[1][i])
        np.testing.assert_allclose(up, scores[::-1][:3], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(down, scores[:3], rtol=1e-4, atol=1e-4)
    encoder = learn("the cat sat.", model=folder("bert"))
    assert pushes(encoder.loaded, encoder.working.parts) is None


# -------------------------------------------------------------------------------------------------------- what is given


def test_the_named_cell_is_pinned_and_a_second_word_by_its_number(folder: Folder):
    lesson = learn("the cat sat on the mat.", model=folder("bert"), query="the#2", key="cat", layer=1, head=2)
    assert (lesson.row, lesson.rows.labels[lesson.column], lesson.layer, lesson.head) == (5, "cat", 1, 2)
    assert not lesson.chosen and learn("the cat", model=folder("bert"), layer=0).chosen


def test_the_pinned_cell_is_a_link_between_two_words(folder: Folder):
    lesson = learn("the cat sat on the mat.", model=folder("bert"))
    assert lesson.row != lesson.column
    for layer in (0, 1):
        for head in (0, 1, 2):
            lesson = learn("the cat sat on the mat.", model=folder("bert"), layer=layer, head=head)
            pair = {lesson.rows.labels[lesson.row], lesson.columns.labels[lesson.column]}
            assert not pair & {"[CLS]", "[SEP]", "."}


def test_a_given_translation_is_what_the_decoder_reads(folder: Folder):
    lesson = learn(SOURCE, model=folder("translator"), part="cross", translation="I like rain")
    assert lesson.rows.words.labels[:2] == ["<start>", "I"] and lesson.ending is None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"layer": 9}, "layers 0 to 1"),
        ({"head": 9}, "heads 0 to 3"),
        ({"query": "雨"}, "query is '雨', but the words are"),
        ({"part": "crosss"}, "Did you mean 'cross'"),
        ({"mask": False}, "Nothing is hidden"),
        ({"part": "cross", "mask": True}, "no later"),
        ({"temperature": 0}, "above 0"),
        ({"temperature": float("nan")}, "above 0"),
        ({"heads_off": [7]}, "head 7 is to be off"),
        ({"swap": ("吃", "吃")}, "two different words"),
        ({"swap": ("吃", "雨")}, "swap is '雨'"),
    ],
)
def test_what_there_is_not_is_refused(folder: Folder, how: dict[str, Any], said: str):
    with pytest.raises(ArgumentError, match=said):
        learn(SOURCE, model=folder("translator"), **how)


def test_what_cannot_be_learned_from_is_refused(folder: Folder):
    with pytest.raises(DataError, match="empty"):
        learn(" ", model=folder("translator"))
    with pytest.raises(DataError, match="empty"):
        learn(SOURCE, model=folder("translator"), translation=" ")
    with pytest.raises(ArgumentError, match="translation"):
        learn("the cat", model=folder("bert"), translation="a cat")
    with pytest.raises(ArgumentError, match="must be a text"):
        learn(cast(Any, 3), model=folder("bert"))


def test_the_layer_is_found_by_its_name():
    assert place_of("cross", 2) == "decoder.blocks.2.cross"
