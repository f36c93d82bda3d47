"""Whoever proposes, what comes out is what the model writes: the same tokens, or the same distribution of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation import Beam, EndToken, Forbid, Greedy, MinLength, NoRepeatNgram, Sample, Search, generate
from polyhead.generation.speculative import MOST, PLACE, REST, Draft, Lookup, Pace, Proposal, speculate

END = EndToken([0])


class Book:
    """A model that is a table of logits: they depend on the last two tokens and the length. It checks that what it is
    asked about continues what it has read, and counts what it reads."""

    def __init__(self, seed: int, vocabulary: int = 9, ending: float = 0.0, sharp: float = 2.0) -> None:
        dice = torch.Generator().manual_seed(seed)
        self.table = sharp * torch.randn(53, vocabulary, generator=dice)
        self.table[:, 0] += ending
        self.seen: list[int] = []
        self.reads = 0

    def after(self, row: Sequence[int]) -> Tensor:
        return self.table[(31 * row[-1] + 7 * (row[-2] if len(row) > 1 else 0) + 13 * len(row)) % 53]

    def last(self, tokens: Tensor, n: int) -> Tensor:
        row = tokens[0].tolist()
        assert row[: len(self.seen)] == self.seen and len(self.seen) <= len(row) - n
        self.reads += len(row) - len(self.seen)
        self.seen = row
        return torch.stack([self.after(row[: len(row) - n + 1 + i]) for i in range(n)])[None]

    def __call__(self, tokens: Tensor) -> Tensor:
        return self.last(tokens, 1)[:, -1]

    def keep(self, rows: Tensor, sources: Tensor | None) -> None:
        raise AssertionError("one row stays one row")

    def cut(self, length: int) -> None:
        self.seen = self.seen[:length]


class Guess:
    """Proposes whatever it draws."""

    cost, draws = 0.0, False

    def __init__(self, seed: int, vocabulary: int = 9) -> None:
        self.dice, self.vocabulary = torch.Generator().manual_seed(seed), vocabulary

    def propose(self, tokens: Tensor, n: int, choose: Any) -> Proposal:
        n = int(torch.randint(0, n + 1, (1,), generator=self.dice))
        return Proposal(torch.randint(0, self.vocabulary, (n,), generator=self.dice).tolist())


def draft(seed: int, cost: float = 0.2, **how: Any) -> Draft:
    return Draft(Book(seed, **how), words=9, places=100, cost=cost)


PROPOSERS: dict[str, Callable[[int], Any]] = {
    "itself": lambda seed: draft(seed),
    "another": lambda seed: draft(seed + 1),
    "fewer words": lambda seed: draft(seed + 1, vocabulary=7),
    "more words": lambda seed: draft(seed + 1, vocabulary=12),
    "lookup": lambda seed: Lookup(1, 3),
    "guess": Guess,
}
RULES = [[], [NoRepeatNgram(2)], [MinLength(8, [0]), Forbid([3])]]


def plain(seed: int, prompt: list[int], search: Search, most: int, rules: Sequence[Any], number: int = 0) -> Any:
    book = Book(seed, ending=0.5)
    rows = torch.tensor([prompt])
    return generate(book, rows, search=search, max_new=most, rules=rules, stop=END, numbers=[number])[0][0]


@pytest.mark.parametrize("who", PROPOSERS)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 500), prompt=st.lists(st.integers(1, 8), min_size=1, max_size=9), most=st.integers(1, 25),
    rules=st.sampled_from(RULES),
)  # fmt: skip
def test_greedy_answers_are_those_of_plain_greedy_search(
    who: str, seed: int, prompt: list[int], most: int, rules: list[Any]
) -> None:
    book, greedy = Book(seed, ending=0.5), Greedy(scored=True)
    found, told = speculate(
        book, torch.tensor([prompt]), proposer=PROPOSERS[who](seed), search=greedy, max_new=most, rules=rules, stop=END
    )
    wanted = plain(seed, prompt, greedy, most, rules)
    assert (found.tokens, found.finished) == (wanted.tokens, wanted.finished)
    assert found.score == pytest.approx(wanted.score, abs=1e-4)
    assert told.tokens == len(found.tokens) + found.finished
    assert told.tokens in (told.taken + told.passes, told.taken + told.passes - 1)  # it may end with a proposal
    assert len(book.seen) == len(prompt) + told.tokens - 1  # the last token is chosen, and not read
    assert book.reads == len(prompt) + told.proposed + told.passes - 1


@pytest.mark.parametrize("who", ["lookup", "guess"])
def test_draws_are_the_same_with_proposals_that_were_not_drawn(who: str) -> None:
    search = Sample(1.2, top_k=7, top_p=0.95, seed=4, scored=True)
    for seed in range(20):
        found, _ = speculate(
            Book(seed, ending=0.5), torch.tensor([[1, 2, 1]]), proposer=PROPOSERS[who](seed), search=search, max_new=15,
            stop=END, number=seed,
        )  # fmt: skip
        wanted = plain(seed, [1, 2, 1], search, 15, [], seed)
        assert (found.tokens, found.finished) == (wanted.tokens, wanted.finished)
        assert found.score == pytest.approx(wanted.score, abs=1e-4)


def shares(scores: Tensor, search: Sample) -> list[float]:
    """What a token is drawn by, in plain words: over the temperature, the k best, and of these the fewest that reach
    the share p."""
    best = sorted(range(len(scores)), key=lambda token: -float(scores[token]))[: search.top_k]
    weight = {token: math.exp(float(scores[token]) / search.temperature) for token in best}
    kept, mass = {}, 0.0
    for token in best:
        if mass < search.top_p * sum(weight.values()):
            kept[token] = weight[token]
        mass += weight[token]
    return [kept.get(token, 0.0) / sum(kept.values()) for token in range(len(scores))]


@pytest.mark.parametrize(
    "search",
    [Sample(), Sample(0.6, seed=2), Sample(1.5, top_k=3, seed=3), Sample(1.3, top_p=0.8, seed=4)],
    ids=["plain", "temperature", "top k", "top p"],
)
def test_drawn_answers_are_distributed_as_the_models_own(search: Sample) -> None:
    vocabulary, most, n = 4, 3, 1200
    book = Book(3, vocabulary, sharp=0.7)
    small = Draft(Book(8, vocabulary, sharp=1.0), words=vocabulary, places=100, cost=0.0)
    counts, proposed, taken = Counter[tuple[int, ...]](), 0, 0
    for number in range(n):
        book.cut(0)
        found, told = speculate(book, torch.tensor([[1]]), proposer=small, search=search, max_new=most, number=number)
        counts[tuple(found.tokens)] += 1
        proposed, taken = proposed + told.proposed, taken + told.taken
    assert 0.2 * proposed < taken < 0.95 * proposed  # so that both ways are trodden
    chance = {
        whole: math.prod(shares(book.after([1, *whole[:i]]), search)[whole[i]] for i in range(most))
        for whole in itertools.product(range(vocabulary), repeat=most)
    }
    assert sum(chance.values()) == pytest.approx(1)
    assert all(chance[whole] > 0 for whole in counts)
    likely = [whole for whole, p in chance.items() if n * p >= 5]
    rest = n - sum(n * chance[whole] for whole in likely)
    pairs = [(counts[whole], n * chance[whole]) for whole in likely]
    pairs += [(n - sum(seen for seen, _ in pairs), rest)] if rest >= 5 else []
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in pairs)
    freedom = torch.tensor((len(pairs) - 1) / 2)
    assert float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2))) > 0.001


def test_the_same_seed_draws_the_same_and_others_do_not() -> None:
    def tokens(seed: int, number: int) -> list[int]:
        found, _ = speculate(
            Book(1), torch.tensor([[1, 2]]), proposer=draft(2), search=Sample(seed=seed), max_new=12, number=number
        )
        return found.tokens

    assert tokens(0, 0) == tokens(0, 0)
    assert len({tuple(tokens(*which)) for which in [(0, 0), (0, 1), (1, 0), (1, 1)]}) == 4


def test_a_model_that_proposes_to_itself_is_always_right() -> None:
    for search in (Greedy(), Sample(seed=5)):
        _, told = speculate(Book(1), torch.tensor([[1]]), proposer=draft(1, cost=0.0), search=search, max_new=60)
        assert told.taken == told.proposed and told.passes < 60 / 4
        assert (
            str(told) == f"{told.taken} of {told.taken} proposed tokens were taken; 60 tokens in {told.passes} passes"
        )


def test_what_was_only_proposed_is_never_told() -> None:
    told: list[list[int]] = []

    def listen(scores: Tensor, tokens: Tensor) -> Tensor:
        told.append(tokens[0].tolist())
        return scores

    found, _ = speculate(
        Book(1), torch.tensor([[1]]), proposer=draft(2), search=Sample(seed=1), max_new=20, tell=[listen]
    )
    assert told == [[1, *found.tokens[:n]] for n in range(20)]


def test_a_draft_reads_nothing_twice() -> None:
    small = draft(1)
    book = small.step
    assert isinstance(book, Book)
    first, _ = speculate(Book(1), torch.tensor([[1, 2, 3]]), proposer=small, search=Greedy(), max_new=20)
    seen = book.reads
    row = [1, 2, 3, *first.tokens]
    speculate(Book(1), torch.tensor([[*row, 4]]), proposer=small, search=Greedy(), max_new=2)
    assert seen < 3 + 20 and book.reads - seen <= 4  # what it lacked of the first answer, and what came behind it
    speculate(Book(1), torch.tensor([[4, 4]]), proposer=small, search=Greedy(), max_new=2)


def test_a_draft_stops_where_its_places_end() -> None:
    small = Draft(Book(1), words=9, places=6, cost=0.0)
    found, told = speculate(Book(1), torch.tensor([[1, 2, 3]]), proposer=small, search=Greedy(), max_new=30)
    assert len(found.tokens) == 30 and told.proposed == 4
    assert isinstance(small.step, Book) and len(small.step.seen) <= 6


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ([5, 6, 7, 8, 9, 5, 6], [7, 8, 9]),
        ([5, 6, 1, 5, 6, 2, 5, 6], [2, 5, 6]),  # the latest of equally long runs
        ([3, 5, 6, 1, 2, 5, 6, 4, 3, 5, 6], [1, 2, 5]),  # but the longest before it
        ([1, 2, 1, 2], [1, 2, 1]),  # what repeats goes on
        ([7, 7, 7], [7, 7, 7]),
        ([1, 2, 3, 4, 3], []),  # one token alone says too little
        ([1], []),
    ],
)
def test_a_lookup_says_what_followed_the_last_time(row: list[int], found: list[int]) -> None:
    assert list(Lookup().propose(torch.tensor([row]), 3, None).tokens) == found  # type: ignore[arg-type]


def test_as_much_is_proposed_as_pays() -> None:
    for cost, share in itertools.product([0.0, 0.1, 0.5], [0.0, 0.3, 0.8, 1.0]):
        pace = Pace(cost)
        for _ in range(200):
            n = pace.length()
            taken = share * n if share < 1 else n
            pace.taken, pace.judged = 0.9 * pace.taken + taken, 0.9 * pace.judged + n
        brings = [sum(share**i for i in range(n + 1)) / (1 + n * (cost + PLACE)) for n in range(MOST + 1)]
        assert brings[pace.length()] == pytest.approx(max(brings), rel=1e-3)
    assert Pace(0.0).length() > Pace(0.5).length()


def test_what_does_not_pay_is_tried_now_and_then() -> None:
    pace, tried = Pace(0.3), list[int]()
    for _ in range(60):
        tried.append(pace.length())
        pace.note(tried[-1], 0)
    assert tried[-2 * REST :].count(1) == 2 and set(tried[-2 * REST :]) <= {0, 1}
    while pace.length() < 2:  # and taken up again when it pays
        n = pace.length()
        pace.note(n, n)


def test_tokens_behind_a_refused_one_are_not_judged() -> None:
    one, other = Pace(0.1), Pace(0.1)
    one.note(8, 2)
    other.note(3, 2)
    assert one == other
    other.note(2, 2)
    assert other.judged - other.taken < one.judged - one.taken


def test_what_proposals_cannot_help_is_refused() -> None:
    for search in (Beam(4), Sample(n_best=2)):
        with pytest.raises(ArgumentError, match="leave out the one or change the other"):
            speculate(Book(1), torch.tensor([[1]]), proposer=Lookup(), search=search, max_new=3)
    with pytest.raises(ArgumentError, match="prompt holds 2 rows"):
        speculate(Book(1), torch.tensor([[1], [2]]), proposer=Lookup(), search=Greedy(), max_new=3)
    with pytest.raises(ArgumentError, match="from 3 to 2"):
        Lookup(3, 2)
