"""Each search of many rows gives what its paper's algorithm gives, written as a plain loop over one source's lists."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.errors import ArgumentError
from polyhead.generation import (
    Beam,
    ConstrainedBeam,
    Contrastive,
    DiverseBeam,
    EndToken,
    Greedy,
    NoRepeatNgram,
    Sample,
    SampledBeam,
    Source,
    SourceNoRepeatNgram,
    SourceReward,
    generate,
)

SEEDS = range(40)
END = 0

Row = list[int]
Scored = tuple[float, Row]


class Plain:
    """One source of a toy, row by row."""

    def __init__(self, toy, source: int):
        self.toy, self.source, self.start = toy, source, [int(toy.prompt[toy.sources.tolist().index(source), 0])]

    def __call__(self, row: Row) -> list[float]:
        """The log-probabilities of what may follow a row."""
        owner = torch.tensor([self.source])
        return self.toy.logits(owner, torch.tensor([row])).log_softmax(-1)[0].tolist()


def found(step, search, **how) -> list[list[tuple[Row, float | None, bool]]]:
    answers = generate(step, step.prompt, search=search, stop=EndToken([END]), **how)
    return [[(a.tokens, a.score, a.finished) for a in some] for some in answers]


def assert_same(answers, expected: list[Scored], start: int = 1) -> None:
    """Rows with their end tokens, in order, and their scores."""
    rows = [tokens + [END] * finished for tokens, _, finished in answers]
    assert rows == [row[start:] for _, row in expected]
    assert [score for _, score, _ in answers] == pytest.approx([score for score, _ in expected], abs=1e-4)


class Pool:
    """The best W answers of a beam, and when a beam is done."""

    def __init__(self, search: Beam, width: int):
        self.search, self.width, self.held = search, width, list[Scored]()

    def add(self, total: float, row: Row) -> None:
        self.held.append((total / (len(row) - 1) ** self.search.length_penalty, row))
        self.held = sorted(self.held, key=lambda answer: -answer[0])[: self.width]

    def done(self, best: float, length: int, limit: int) -> bool:
        if len(self.held) < self.width:
            return best == -math.inf
        if self.search.early_stopping is True:
            return True
        hopeful = self.search.early_stopping == "never" and self.search.length_penalty > 0
        return best / (limit if hopeful else length) ** self.search.length_penalty <= self.held[-1][0]


# --- diverse beam search: Vijayakumar et al. 2016, algorithm 1, with Hamming diversity -------------------------------


def diverse(plain: Plain, search: DiverseBeam, limit: int) -> list[Scored]:
    W = search.width // search.groups
    beams: list[list[Scored]] = [[(0.0, plain.start)] for _ in range(search.groups)]
    pools, open = [Pool(search, W) for _ in beams], [True] * search.groups
    for length in range(1, limit + 1):
        taken = Counter[int]()
        for g in range(search.groups):
            if not open[g]:
                continue
            options = [
                (total + score - search.penalty * taken[token], [*row, token])
                for total, row in beams[g]
                for token, score in enumerate(plain(row))
            ]
            options = sorted(options, key=lambda option: -option[0])[: 2 * W]
            for total, row in options[:W]:
                if row[-1] == END or length == limit:
                    pools[g].add(total, row)
            beams[g] = [option for option in options if option[1][-1] != END][:W]
            taken.update(row[-1] for _, row in beams[g])
            open[g] = bool(beams[g]) and not pools[g].done(beams[g][0][0], length, limit)
    return sorted(itertools.chain(*(pool.held for pool in pools)), key=lambda answer: -answer[0])[: search.n_best]


@pytest.mark.parametrize("seed", SEEDS)
def test_diverse_beam_is_the_plain_loop(toy, seed):
    dice = random.Random(seed)
    groups, rows = dice.choice((1, 2, 3)), dice.choice((1, 2, 3))
    stopping, power = dice.choice((True, False, "never")), dice.choice((0.0, 0.7, 1.0))
    search = DiverseBeam(
        groups * rows, power, dice.randint(1, groups * rows), stopping,
        groups=groups, penalty=dice.choice((0.0, 0.4, 1.5, 9.0)),
    )  # fmt: skip
    step = toy(range(5), seed=seed, ending=dice.uniform(0, 4))
    plains, limit = [Plain(toy(range(5), seed=seed), n) for n in range(5)], dice.randint(1, 9)
    for plain in plains:
        plain.toy.table = step.table
    for answers, plain in zip(found(step, search, max_new=limit), plains, strict=True):
        assert_same(answers, diverse(plain, search, limit))


def test_one_group_and_no_penalty_is_the_plain_beam(toy):
    plain = found(toy(range(6)), Beam(4, n_best=4), max_new=8)
    assert found(toy(range(6)), DiverseBeam(4, n_best=4, groups=1, penalty=5.0), max_new=8) == plain
    alike = found(toy(range(6)), DiverseBeam(8, n_best=8, groups=2, penalty=0.0), max_new=8)
    assert [some[::2] for some in alike] == plain and [some[1::2] for some in alike] == plain


def test_a_large_penalty_keeps_groups_apart(toy):
    """At no place do the rows of two groups agree while both go on."""
    [answers] = found(toy([3], ending=-20), DiverseBeam(3, n_best=3, groups=3, penalty=99.0), max_new=3)
    assert all(len(set(tokens)) == 3 for tokens in zip(*(tokens for tokens, _, _ in answers), strict=True))


# --- constrained beam search: Post and Vilar 2018, all continuations in banks ----------------------------------------


def missing(forced, row: Row) -> int:
    """What a row, its prompt left out, lacks of the phrases."""
    lacks = 0
    for phrases in forced:
        held = any(row[i : i + len(phrase)] == list(phrase) for phrase in phrases for i in range(len(row)))
        begun = [
            len(phrase) - max(n for n in range(len(phrase)) if row[len(row) - n :] == list(phrase[:n]))
            for phrase in phrases
        ]
        lacks += 0 if held else min(begun)
    return lacks


def constrained(plain: Plain, search: ConstrainedBeam, limit: int) -> list[Scored]:
    W, beam, pool = search.width, [(0.0, plain.start)], Pool(search, search.width)
    short: list[tuple[int, float, Row]] = []
    for length in range(1, limit + 1):
        banks: dict[int, list[Scored]] = {}
        for total, row in beam:
            for token, score in enumerate(plain(row)):
                grown = [*row, token]
                lacks = missing(search.forced, grown[1:])
                if not (token == END and lacks):
                    banks.setdefault(lacks, []).append((total + score, grown))
        for bank in banks.values():
            bank.sort(key=lambda option: -option[0])
        turns = itertools.zip_longest(*(banks[lacks] for lacks in sorted(banks)))
        order = [option for turn in turns for option in turn if option is not None]
        for total, row in order[:W]:
            if row[-1] == END or length == limit:
                lacks = missing(search.forced, row[1:])
                if lacks:
                    short.append((lacks, -total / length**search.length_penalty, row))
                else:
                    pool.add(total, row)
        beam = [option for option in order if option[1][-1] != END and length < limit][:W]
        if not beam or pool.done(max(total for total, _ in beam), length, limit):
            break
    return [*pool.held, *((-score, row) for _, score, row in sorted(short))][: search.n_best]


@pytest.mark.parametrize("seed", SEEDS)
def test_constrained_beam_is_the_plain_loop(toy, seed):
    dice = random.Random(seed)
    forced = [
        [[dice.randint(1, 4) for _ in range(dice.randint(1, 3))] for _ in range(dice.choice((1, 1, 2)))]
        for _ in range(dice.randint(1, 2))
    ]
    width = dice.choice((1, 3, 5, 8))
    search = ConstrainedBeam(
        width, dice.choice((0.0, 1.0)), dice.randint(1, width), dice.choice((True, False, "never")), forced=forced
    )
    step, limit = toy(range(4), seed=seed, ending=dice.uniform(0, 4)), dice.randint(1, 9)
    plains = [Plain(toy(range(4)), n) for n in range(4)]
    for plain in plains:
        plain.toy.table = step.table
    for answers, plain in zip(found(step, search, max_new=limit), plains, strict=True):
        assert_same(answers, constrained(plain, search, limit))


@pytest.mark.parametrize("seed", range(10))
def test_an_answer_holds_every_phrase_or_the_limit_cut_it(toy, seed):
    dice = random.Random(seed)
    forced = [[[dice.randint(1, 9) for _ in range(dice.randint(1, 4))] for _ in range(2)] for _ in range(2)]
    step = toy(range(8), seed=seed, ending=3)
    for answers in found(step, ConstrainedBeam(6, n_best=6, forced=forced), max_new=20):
        for tokens, _, finished in answers:
            assert finished <= (missing(forced, tokens) == 0)
        assert missing(forced, answers[0][0]) == 0


def test_a_wide_beam_finds_the_best_answer_that_holds_a_phrase(toy):
    """Among all answers of at most four tokens of a vocabulary of five."""
    step = toy([2], vocabulary=5, seed=3, ending=1)
    plain, forced = Plain(step, 2), [[[4, 1]]]
    every: list[Scored] = []
    for row in itertools.product(range(5), repeat=4):
        whole = [*plain.start, *(row[: row.index(END) + 1] if END in row else row)]
        total = sum(plain(whole[:n])[whole[n]] for n in range(1, len(whole)))
        every += [(total / (len(whole) - 1), whole)] if not missing(forced, whole[1:]) else []
    [[(tokens, score, finished)]] = found(step, ConstrainedBeam(200, forced=forced, early_stopping="never"), max_new=4)
    best = max(every)
    assert (tokens + [END] * finished, score) == (best[1][1:], pytest.approx(best[0], abs=1e-5))


@pytest.mark.parametrize("token", [-1, 11, 99_999])
def test_a_forced_token_that_no_one_can_say_is_named(toy, token):
    with pytest.raises(ArgumentError, match=f"forced holds the token {token}, but there are 11, from 0 on"):
        found(toy([3]), ConstrainedBeam(4, forced=[[[1, token]]]), max_new=4)


# --- contrastive search: Su et al. 2022 ----------------------------------------------------------------------------


class Vectors:
    """A toy that tells vectors: of a token at its place in its source, drawn once."""

    def __init__(self, step, *, prompt: torch.Tensor | None = None):
        self.step, self.prompt = step, step.prompt if prompt is None else prompt
        self.table = torch.randn(50, 40, 11, 6, generator=torch.Generator().manual_seed(9)) + 0.5
        self.read = 0

    def __call__(self, tokens):
        self.tokens, self.read = tokens[:, self.read :], tokens.shape[1]
        self.owner = self.step.sources.repeat_interleave(len(tokens) // len(self.step.sources))
        self.place = torch.arange(self.read - self.tokens.shape[1], self.read)
        return self.step(tokens)

    def hidden(self):
        return self.table[self.owner[:, None], self.place, self.tokens]

    def keep(self, rows, sources):
        self.step.keep(rows, sources)


def contrastive(plain: Plain, table, search: Contrastive, limit: int) -> Scored:
    def vector(place: int, token: int) -> np.ndarray:
        v = table[plain.source, place, token].double().numpy()
        return v / np.linalg.norm(v)

    row, total = list(plain.start), 0.0
    while len(row) <= limit and (len(row) == 1 or row[-1] != END):
        scores = plain(row)
        tried = sorted(range(len(scores)), key=lambda token: -scores[token])[: search.top_k]

        def value(token: int, row=row, scores=scores) -> float:
            like = max(float(vector(len(row), token) @ vector(i, old)) for i, old in enumerate(row))
            return (1 - search.alpha) * math.exp(scores[token]) - search.alpha * like

        chosen = max(tried, key=value)
        total, row = total + scores[chosen], [*row, chosen]
    return total, row


@pytest.mark.parametrize("seed", SEEDS)
def test_contrastive_search_is_the_plain_loop(toy, seed):
    dice = random.Random(seed)
    search = Contrastive(dice.choice((0.0, 0.3, 0.6, 1.0)), dice.randint(1, 6), scored=True)
    step = Vectors(toy(range(5), seed=seed, ending=dice.uniform(0, 4)))
    limits = torch.tensor([dice.randint(1, 9) for _ in range(5)])
    plains = [Plain(toy(range(5)), n) for n in range(5)]
    for plain in plains:
        plain.toy.table = step.step.table
    answers = found(step, search, max_new=limits)
    for some, plain, limit in zip(answers, plains, limits.tolist(), strict=True):
        assert_same(some, [contrastive(plain, step.table, search, limit)])


def test_contrastive_search_without_alpha_or_choice_is_greedy(toy):
    greedy = found(toy(range(6)), Greedy(scored=True), max_new=9)
    for search in (Contrastive(0.0, 5, scored=True), Contrastive(0.9, 1, scored=True)):
        for one, other in zip(found(Vectors(toy(range(6))), search, max_new=9), greedy, strict=True):
            assert one[0][0] == other[0][0] and one[0][1] == pytest.approx(other[0][1], abs=1e-5)


def test_contrastive_search_never_tries_what_rules_forbid(toy):
    step = Vectors(toy(range(8), vocabulary=11, ending=-9))
    for [answer] in generate(step, step.prompt, search=Contrastive(1.0, 11), rules=[NoRepeatNgram(1)], max_new=9):
        assert len(set(answer.tokens)) == 9


def test_contrastive_search_needs_vectors(toy):
    step = toy(range(2))
    with pytest.raises(ArgumentError, match="Contrastive needs a step that tells its vectors"):
        generate(step, step.prompt, search=Contrastive(), max_new=3)


# --- beams that are drawn --------------------------------------------------------------------------------------------


def drawable(scores: list[float], draw: Sample, least: int) -> list[tuple[float, int]]:
    """The scores of a row as drawn from, and their tokens: best first where some are cut, which then have -inf."""
    heated = [(score / draw.temperature, token) for token, score in enumerate(scores)]
    if draw.top_k is None and draw.top_p == draw.typical_p == 1 and draw.min_p == 0:
        return heated
    heated = sorted(heated, key=lambda pair: -pair[0])[: len(scores) if draw.top_k is None else max(draw.top_k, least)]
    whole = math.log(sum(math.exp(score) for score, _ in heated))
    likely = [score - whole for score, _ in heated]  # log-probabilities, the likeliest first
    stays = {*range(len(heated))}
    if draw.top_p < 1:  # those before which the share is not reached
        before = itertools.accumulate(map(math.exp, likely), initial=0.0)
        stays &= {i for i, held in zip(range(len(heated)), before, strict=False) if held < draw.top_p or i < least}
    if draw.min_p > 0:
        stays &= {i for i, p in enumerate(likely) if math.exp(p) >= draw.min_p * math.exp(likely[0]) or i < least}
    if draw.typical_p < 1:  # the nearest to the entropy, until they hold the share
        entropy = -sum(math.exp(p) * p for p in likely)
        near = sorted(stays, key=lambda i: abs(-likely[i] - entropy))
        held = [*itertools.accumulate(math.exp(likely[i]) for i in near)]
        stays = {*near[: max(least, 1 + sum(share < draw.typical_p for share in held))]}
    return [(score if i in stays else -math.inf, token) for i, (score, token) in enumerate(heated)]


def drawn(plain: Plain, search: SampledBeam, limit: int, number: int) -> list[Scored]:
    W, beam, pool = search.width, [(0.0, plain.start)], Pool(search, search.width)
    for length in range(1, limit + 1):
        options: list[Scored] = []
        for total, row in beam:
            options += [(total + score, [*row, token]) for score, token in drawable(plain(row), search.draw, 2)]
        noise = np.random.default_rng([search.draw.seed, number, length - 1])
        luck = noise.gumbel(size=(len(options) // len(beam), len(beam))).T.ravel()  # a token's of all rows together
        order = sorted(range(len(options)), key=lambda i: -(options[i][0] + luck[i]))
        chosen = [options[i] for i in order if options[i][0] > -math.inf][: 2 * W]
        for total, row in chosen[:W]:
            if row[-1] == END or length == limit:
                pool.add(total, row)
        going = [option for option in chosen if option[1][-1] != END and length < limit]
        beam = sorted(going, key=lambda option: -option[0])[:W]
        if not beam or pool.done(beam[0][0], length, limit):
            break
        beam += [(-math.inf, plain.start)] * (W - len(beam))  # places that nobody takes have their noise as well
    return pool.held[: search.n_best]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawn_beam_follows_its_chances(toy, seed):
    dice = random.Random(seed)
    how: dict[str, Any] = dice.choice(
        ({}, {"top_k": 7}, {"top_p": 0.7, "temperature": 1.5}, {"typical_p": 0.4}, {"min_p": 0.15, "top_k": 9})
    )
    search = SampledBeam(2, dice.choice((0.0, 1.0)), 2, dice.choice((True, False)), draw=Sample(seed=seed, **how))
    step, limit = toy(range(4), seed=seed, ending=dice.uniform(0, 3)), dice.randint(1, 7)
    plains = [Plain(toy(range(4)), n) for n in range(4)]
    for plain in plains:
        plain.toy.table = step.table
    for n, (answers, plain) in enumerate(zip(found(step, search, max_new=limit), plains, strict=True)):
        assert_same(answers, drawn(plain, search, limit, n))


def test_the_first_candidates_of_a_drawn_beam_have_their_shares(toy):
    """Of the two drawn without putting back, the first has the model's share."""
    step, counts, n = toy([3], ending=-30), Counter[int](), 3000
    share = Plain(step, 3)([int(step.prompt[0, 0])])
    for number in range(n):
        fresh = toy([3], ending=-30)
        search = SampledBeam(2, n_best=1, early_stopping=True, draw=Sample(seed=1))
        state_answers = generate(fresh, fresh.prompt, search=search, max_new=1, numbers=[number])
        counts[state_answers[0][0].tokens[0]] += 1
    # the better of the two is given back: token a is, where a is drawn with some b that is less likely
    p = [math.exp(score) for score in share]
    for a in range(len(p)):
        better = sum(p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]) for b in range(len(p)) if p[b] < p[a])
        assert counts[a] / n == pytest.approx(better, abs=4 * math.sqrt(max(better, 1e-4) / n))


def test_draws_of_a_beam_do_not_depend_on_batch_mates(toy):
    search = SampledBeam(3, n_best=3, draw=Sample(1.3, 8, seed=4))
    together = found(toy([3, 4, 5]), search, max_new=8, numbers=[3, 4, 5])
    assert together[1:] == found(toy([4, 5]), search, max_new=8, numbers=[4, 5])


# --- what they share -------------------------------------------------------------------------------------------------

EACH: list[Callable[[], Beam]] = [
    lambda: DiverseBeam(6, n_best=6, groups=3, penalty=0.7),
    lambda: ConstrainedBeam(5, n_best=5, forced=[[[3, 1], [2]], [[4]]]),
]


@pytest.mark.parametrize("make", EACH)
def test_batch_mates_change_nothing(toy, make):
    sources = [7, 1, 4, 9]
    step = toy(sources)
    together = generate(step, step.prompt, search=make(), stop=EndToken([END]), max_new=torch.tensor([9, 2, 5, 7]))
    for source, limit, answers in zip(sources, (9, 2, 5, 7), together, strict=True):
        alone = toy([source])
        assert generate(alone, alone.prompt, search=make(), stop=EndToken([END]), max_new=limit) == [answers]


def test_rules_of_a_source_stay_with_it_when_others_leave(toy):
    sources, limits = [7, 1, 4, 9], torch.tensor([2, 9, 5, 9])
    ids = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9], [3, 6, 9]])
    step, source = toy(sources, ending=-9), Source(ids, torch.ones_like(ids, dtype=torch.bool))
    rules = [SourceNoRepeatNgram(1, source), SourceReward(3.0, source)]
    together = generate(step, step.prompt, search=Beam(2), rules=rules, max_new=limits)
    for i, [answer] in enumerate(together):
        assert not {*answer.tokens} & {*ids[i].tolist()}
        alone, row = toy([sources[i]], ending=-9), source.keep(torch.tensor([i]))
        how = [SourceNoRepeatNgram(1, row), SourceReward(3.0, row)]
        assert generate(alone, alone.prompt, search=Beam(2), rules=how, max_new=int(limits[i])) == [[answer]]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DiverseBeam(4, groups=3), "groups is 3, but must divide the beam's width, 4"),
        (lambda: DiverseBeam(4, groups=0), "groups is 0"),
        (lambda: DiverseBeam(4, penalty=-1.0), "penalty is -1.0, but must be at least 0"),
        (lambda: DiverseBeam(4, n_best=5), "n_best is 5"),
        (lambda: ConstrainedBeam(4), "forced must hold at least one phrase"),
        (lambda: ConstrainedBeam(4, forced=[[]]), "forced must hold at least one phrase"),
        (lambda: ConstrainedBeam(4, forced=[[[1], []]]), "no phrase may be empty"),
        (lambda: Contrastive(1.5), "alpha is 1.5, but must be from 0 to 1"),
        (lambda: Contrastive(0.5, 0), "top_k is 0"),
        (lambda: Contrastive(0.5, 1001), "top_k is 1001, but must be from 1 to 1000, for all of them are tried"),
        (lambda: ConstrainedBeam(10**9, forced=[[[1]]]), "width is 1000000000, but must be from 1 to 1000"),
        (lambda: SampledBeam(4, draw=Sample(n_best=2)), "draw has n_best 2"),
    ],
)
def test_bad_settings_are_one_sentence(make, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        make()


# --- all of them ------------------------------------------------------------------------------------------------------

ALL = [
    Greedy(scored=True),
    Sample(n_best=2, scored=True),
    Beam(3, n_best=3),
    DiverseBeam(4, n_best=4, groups=2),
    SampledBeam(3, n_best=3),
    ConstrainedBeam(3, forced=[[(4, 2)]], n_best=2),
]


@pytest.mark.parametrize("search", ALL, ids=lambda search: type(search).__name__)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_process_own_dtype_changes_no_answer(toy, search, dtype):
    """As a thread sets it, while another loads a model by `transformers`."""
    steps = [toy(range(5), seed=4) for _ in range(2)]
    wanted, before = found(steps[0], search, max_new=8), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert found(steps[1], search, max_new=8) == wanted
    finally:
        torch.set_default_dtype(before)


def test_a_number_below_zero_is_one_sentence(toy):
    with pytest.raises(ArgumentError, match=r"The number of a source counts from 0, and here is -1"):
        found(toy([3]), Sample(), max_new=2, numbers=[-1])
