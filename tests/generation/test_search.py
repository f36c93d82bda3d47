"""What the settings of a search mean, and which are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyhead.errors import ArgumentError
from polyhead.generation import Beam, Greedy, Sample, generate
from polyhead.generation import search as module
from polyhead.generation.beam import best, settled

LOGITS = 2 * torch.randn(13, generator=torch.Generator().manual_seed(0))


class Always:
    """The same logits after every row."""

    def __call__(self, tokens):
        return LOGITS.expand(len(tokens), -1)

    def keep(self, rows, sources):
        pass


def expected(search):
    """The distribution that a setting of `Sample` describes, step by step in float64."""
    share = (LOGITS.double() / search.temperature).softmax(-1)
    order = share.argsort(descending=True)[: search.top_k]
    share = share.new_zeros(13).index_put((order,), share[order] / share[order].sum())
    kept, reached = [], 0.0
    for token in order.tolist():
        if reached < search.top_p:
            kept.append(token)
        reached += float(share[token])
    return share.new_zeros(13).index_put((torch.tensor(kept),), share[kept] / share[kept].sum())


SAMPLES = [
    Sample(),
    Sample(temperature=0.5),
    Sample(temperature=3.0, top_k=4),
    Sample(top_k=1),
    Sample(top_k=100),
    Sample(top_p=0.7),
    Sample(top_p=1e-6),
    Sample(temperature=1.7, top_k=6, top_p=0.8),
]


@pytest.mark.parametrize("search", SAMPLES, ids=str)
def test_evenly_spaced_chances_give_every_token_its_share(search):
    n = 20_000
    drawn = search.draw(LOGITS.expand(n, -1), (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    assert torch.allclose(drawn.bincount(minlength=13) / n, expected(search).float(), atol=1.1 / n)


@pytest.mark.parametrize("search", SAMPLES, ids=str)
def test_sampling_follows_its_distribution(search):
    """Pearson's chi-square over 4,000 answers of two tokens stays below its 99.99 % quantile (Wilson-Hilferty)."""
    search = Sample(search.temperature, search.top_k, search.top_p, seed=11, n_best=4000)
    [answers] = generate(Always(), torch.zeros(1, 1, dtype=torch.long), search=search, max_new=2)
    share = expected(search)
    for place in (0, 1):
        count = torch.tensor([answer.tokens[place] for answer in answers]).bincount(minlength=13)
        assert int(count[share == 0].sum()) == 0
        wanted, count = 4000 * share[share > 0], count[share > 0]
        freedom = len(count) - 1
        square = float(((count - wanted) ** 2 / wanted).sum())
        assert square <= freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3 if freedom else True


def test_the_ends_of_the_chances_stay_inside():
    for search in SAMPLES:
        drawn = search.draw(LOGITS.expand(2, -1), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
        assert (expected(search)[drawn] > 0).all()


def test_a_seed_and_a_number_fix_the_answers(toy):
    def answers(seed, sources, **how):
        step = toy(sources)
        return generate(step, step.prompt, search=Sample(seed=seed, **how), max_new=9, numbers=sources)

    first = answers(1, [3, 4, 5], n_best=2)
    assert first == answers(1, [3, 4, 5], n_best=2)
    assert first[1:] == answers(1, [4, 5], n_best=2)
    assert [found[:1] for found in first] == answers(1, [3, 4, 5], n_best=1)
    assert first != answers(2, [3, 4, 5], n_best=2)
    assert all(found[0] != found[1] for found in first)


def test_a_longer_limit_only_adds_tokens(toy):
    found = []
    for limit in (4, 11):
        step = toy(range(6))
        found.append(generate(step, step.prompt, search=Sample(seed=2), max_new=limit))
    for [short], [long] in zip(*found, strict=True):
        assert long.tokens[:4] == short.tokens


@pytest.mark.parametrize(
    ("search", "setting", "sentence"),
    [
        (Beam, {"width": 0}, "width is 0, but must be from 1 to 1000"),
        (Beam, {"width": 4, "n_best": 5}, "n_best is 5, but must be from 1 to the beam's width, 4"),
        (Beam, {"n_best": 0}, "n_best is 0"),
        (Beam, {"length_penalty": float("nan")}, "length_penalty is nan"),
        (Beam, {"early_stopping": "always"}, "early_stopping is 'always', but must be True, False or \"never\""),
        (Beam, {"early_stopping": 1}, "early_stopping is 1"),
        (Sample, {"temperature": 0}, r"temperature is 0, but must be above 0; Greedy\(\)"),
        (Sample, {"temperature": float("nan")}, "temperature is nan"),
        (Sample, {"top_k": 0}, "top_k is 0"),
        (Sample, {"top_p": 0.0}, "top_p is 0.0, but must be above 0 and at most 1"),
        (Sample, {"top_p": 1.1}, "top_p is 1.1"),
        (Sample, {"seed": -1}, "seed is -1"),
        (Sample, {"n_best": 0}, "n_best is 0"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(search, setting, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        search(**setting)


def test_settings_are_values():
    assert Beam(4, 0.6) == Beam(4, 0.6) != Beam(4, 0.7)
    assert {Greedy(), Greedy(), Sample(), Sample(seed=0)} == {Greedy(), Sample()}


@given(
    st.integers(1, 6).flatmap(lambda R: st.lists(st.lists(st.integers(0, R - 1), min_size=R, max_size=R), max_size=4))
)
def test_children_take_their_parents_place_where_they_can(parents: list[list[int]]) -> None:
    rows = torch.tensor(parents, dtype=torch.long).view(len(parents), -1 if parents else 1)
    order = settled(rows)
    for row, places in zip(rows.tolist(), order.tolist(), strict=True):
        assert sorted(places) == list(range(len(row)))  # every child has one place
        for place in set(row):
            assert places[place] == row.index(place)  # the first child of a row stays in it


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=400), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans()
)
def test_the_best_of_groups_are_the_best_of_all(ties: list[int], k: int, seed: int, tied: bool) -> None:
    dice = torch.Generator().manual_seed(seed)
    scores = torch.tensor(ties, dtype=torch.float32).repeat(3, 1)
    scores = scores if tied else scores + torch.randn(scores.shape, generator=dice)
    scores[1, torch.randperm(len(ties), generator=dice)[: len(ties) // 2]] = -torch.inf
    k = min(k, len(ties))
    value, token = best(scores, k)
    assert torch.equal(value, scores.topk(k).values)
    assert torch.equal(scores.gather(1, token), value)
    assert all(len(set(row)) == k for row in token.tolist())


@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-30, 1e-3])
def test_the_lowest_temperature_takes_the_best_token(temperature):
    logits = torch.randn(6, 19) * torch.tensor(
        [[1.0], [10.0], [1e3], [1e6], [1e30], [1e37]]
    )  # at most 1e38, as float32 holds
    logits[:, 3] = -torch.inf
    for search in (Sample(temperature), Sample(temperature, top_k=4, top_p=0.9)):
        assert search.draw(logits, torch.rand(6).double()).tolist() == logits.argmax(-1).tolist()


@settings(deadline=None)
@given(
    rows=st.integers(1, 5),
    words=st.integers(1, 700) | st.sampled_from([128, 256, 384]),
    levels=st.integers(1, 50),
    seed=st.integers(0, 10_000),
    hidden=st.booleans(),
)
def test_the_first_of_the_best_tokens_is_that_of_argmax(
    rows: int, words: int, levels: int, seed: int, hidden: bool
) -> None:
    """However many tokens share the highest score, and where some are forbidden."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (rows, words), generator=draw).float()
    if hidden:
        scores[torch.rand(rows, words, generator=draw) < 0.5] = -torch.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SMALL", 0)
        assert torch.equal(module.first_best(scores), scores.argmax(-1))
