"""The loop's promises, on a model that is a table of logits."""

from __future__ import annotations

import itertools

import pytest
import torch

from polyhead.errors import ArgumentError
from polyhead.generation import (
    Beam,
    EndToken,
    Forbid,
    Greedy,
    MinLength,
    NoRepeatNgram,
    RepetitionPenalty,
    Sample,
    generate,
    restore,
    sorted_batches,
)
from polyhead.generation.loop import remaining

END = EndToken([0])
SEARCHES = [
    Greedy(scored=True),
    Sample(temperature=1.3, top_k=7, top_p=0.95, seed=5, n_best=3, scored=True),
    Beam(4, n_best=4),
    Beam(3, n_best=2, length_penalty=0.6, early_stopping=True),
    Beam(5, n_best=5, early_stopping="never"),
]


def spoken(toy, source, tokens, vocabulary=11):
    """The log-probability of `tokens` after a source's prompt, one by one."""
    step = toy([source], vocabulary=vocabulary)
    row, total = step.prompt, 0.0
    for token in tokens:
        total += float(step(row).log_softmax(-1)[0, token])
        row = torch.cat((row, torch.tensor([[token]])), 1)
    return total


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_source_gives_the_same_tokens_in_every_batch(toy, search):
    sources = list(range(40))
    limit = torch.randint(1, 15, (40,), generator=torch.Generator().manual_seed(1))

    def answers(rows):
        batches = sorted_batches(limit.tolist(), budget=10**6, rows=rows)
        outputs = []
        for batch in batches:
            step = toy(batch)
            outputs.append(generate(step, step.prompt, search=search, stop=END, max_new=limit[batch], numbers=batch))
        return restore(batches, outputs)

    alone = answers(1)
    assert len({len(found[0].tokens) for found in alone}) > 5
    for rows in (3, 7, 40):
        assert answers(rows) == alone
    step = toy(sources)
    assert generate(step, step.prompt, search=search, stop=END, max_new=limit) == alone


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_finished_rows_leave_the_batch(toy, search):
    step = toy(range(12))
    answers = generate(step, step.prompt, search=search, stop=END, max_new=20)
    width = getattr(search, "width", search.n_best if isinstance(search, Sample) else 1)
    assert step.calls[0] == 12
    sources = [calls // width for calls in step.calls[1:]]
    assert sources == sorted(sources, reverse=True)
    assert sources[-1] < 12
    if isinstance(search, Greedy | Sample):  # a beam may be done before or after its answers are complete
        steps = [max(len(answer.tokens) + answer.finished for answer in found) for found in answers]
        assert sources == [sum(n > done for n in steps) for done in range(1, max(steps))]


@pytest.mark.parametrize("seed", range(20))
def test_sources_that_go_on_keep_their_places_but_those_that_fill_gaps(seed):
    done = torch.rand(12, generator=torch.Generator().manual_seed(seed)) < seed / 19
    staying = remaining(done)
    assert sorted(staying.tolist()) == (~done).nonzero().flatten().tolist()
    assert [n for n, source in enumerate(staying.tolist()) if source != n] == done[
        : len(staying)
    ].nonzero().flatten().tolist()


def test_the_limit_counts_new_tokens_of_each_source(toy):
    step = toy(range(5))
    limit = torch.tensor([1, 4, 2, 9, 4])
    answers = generate(step, step.prompt, search=Greedy(), max_new=limit)
    assert [len(found[0].tokens) for found in answers] == limit.tolist()
    assert not any(found[0].finished for found in answers)
    assert step.calls == [5, 4, 3, 3, 1, 1, 1, 1, 1]


def test_an_answer_is_what_follows_the_prompt_without_its_end(toy):
    step = toy(range(20))
    answers = [found[0] for found in generate(step, step.prompt, search=Greedy(), stop=EndToken([0, 3]), max_new=9)]
    assert {answer.finished for answer in answers} == {True, False}
    for source, answer in enumerate(answers):
        step = toy([source])
        row = step.prompt
        for token in answer.tokens:
            assert token == int(step(row).argmax()) and token not in (0, 3)
            row = torch.cat((row, torch.tensor([[token]])), 1)
        assert answer.finished == (len(answer.tokens) < 9)
        if answer.finished:
            assert int(step(row).argmax()) in (0, 3)


@pytest.mark.parametrize(
    "search", [Greedy(scored=True), Sample(seed=3, n_best=2, scored=True), Beam(3, 0.0, 3)], ids=str
)
def test_a_score_is_the_log_probability_of_the_answer_and_its_end(toy, search):
    step = toy(range(6))
    for source, found in enumerate(generate(step, step.prompt, search=search, stop=END, max_new=8)):
        for answer in found:
            tokens = [*answer.tokens, 0] if answer.finished else answer.tokens
            assert answer.score == pytest.approx(spoken(toy, source, tokens), abs=1e-4)


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_a_beam_as_wide_as_the_tree_finds_the_best_answers_of_all(toy, penalty):
    step = toy([0, 1, 2], vocabulary=3)
    beam = Beam(12, penalty, n_best=4, early_stopping="never")
    answers = generate(step, step.prompt, search=beam, stop=END, max_new=3)
    whole = [
        [*body, *end]
        for n in range(4)
        for body in itertools.product((1, 2), repeat=n)
        for end in ([[0]] if n < 3 else [[]])
    ]
    for source, found in enumerate(answers):
        scored = sorted(((spoken(toy, source, row, 3) / len(row) ** penalty, row) for row in whole), reverse=True)[:4]
        if penalty < 0:  # "never" bounds scores that fall with length; a negative penalty may stop too soon
            assert found[0].score <= scored[0][0] + 1e-4
            continue
        assert [[*answer.tokens, 0][: len(row)] for answer, (_, row) in zip(found, scored, strict=True)] == [
            row for _, row in scored
        ]
        assert [answer.score for answer in found] == pytest.approx([score for score, _ in scored], abs=1e-4)


def test_a_beam_of_one_is_greedy(toy):
    for rules in ((), (Forbid([4]), MinLength(3, [0]), NoRepeatNgram(2))):
        ours, theirs = toy(range(20)), toy(range(20))
        beam = generate(ours, ours.prompt, search=Beam(1), rules=rules, stop=END, max_new=9)
        greedy = generate(theirs, theirs.prompt, search=Greedy(), rules=rules, stop=END, max_new=9)
        assert [(x.tokens, x.finished) for [x] in beam] == [(x.tokens, x.finished) for [x] in greedy]


def test_the_same_tokens_whether_scored_or_not(toy):
    rules = (RepetitionPenalty(1.5), Forbid([2]))
    for search in (Greedy, Sample):
        found = []
        for scored in (True, False):
            step = toy(range(9))
            found.append(generate(step, step.prompt, search=search(scored=scored), rules=rules, stop=END, max_new=9))
        assert [a[0].tokens for a in found[0]] == [a[0].tokens for a in found[1]]
        assert all(a[0].score is None for a in found[1])


def test_any_stop_rule_ends_a_row(toy):
    class AfterPair:
        """Complete when the same token comes twice in a row."""

        ids = ()

        def __call__(self, tokens, chosen):
            return chosen == tokens[:, -1:]

    for search in (Greedy(), Sample(n_best=2), Beam(3, n_best=3)):
        step = toy(range(20))
        answers = generate(step, step.prompt, search=search, stop=[END, AfterPair()], max_new=12)
        ends = set()
        for source, found in enumerate(answers):
            for answer in found:
                row = [source % 11, *answer.tokens]
                pairs = [i for i in range(1, len(row)) if row[i] == row[i - 1]]
                assert 0 not in answer.tokens
                assert not pairs or (answer.finished and pairs == [len(row) - 1])
                ends.add("pair" if pairs else "end" if answer.finished else "limit")
        assert {"pair", "end"} <= ends


def test_no_sources_give_no_answers(toy):
    assert generate(toy([0]), torch.zeros(0, 1, dtype=torch.long), search=Greedy(), max_new=3) == []


def test_no_gradient_is_recorded(toy):
    step = toy([1, 2])
    step.table.requires_grad_()
    recorded = []

    def watch(scores, tokens):
        recorded.append(scores.requires_grad)
        return scores

    generate(step, step.prompt, search=Beam(2), rules=[watch], max_new=3)
    assert recorded == [False] * 3


@pytest.mark.parametrize("search", [Greedy(), Sample(n_best=2), Beam(1), Beam(3)], ids=str)
def test_an_empty_vocabulary_and_broken_logits_are_refused(toy, search):
    step = toy([6, 7])
    with pytest.raises(ArgumentError, match=r"source 6: its best score is -inf.*rules forbid every token"):
        generate(step, step.prompt, search=search, rules=[Forbid(range(11))], max_new=3, numbers=[6, 7])
    step = toy([6, 7])
    step.table[7] = float("nan")
    with pytest.raises(ArgumentError, match=r"scores are not numbers.*nan.*weights are damaged"):
        generate(step, step.prompt, search=search, max_new=3, numbers=[6, 7])


def test_rows_that_are_complete_may_run_dry(toy):
    """Complete rows idle until their source is done; that nothing may follow them is nobody's error."""

    def nothing_after_the_end(scores, tokens):
        return scores.masked_fill((tokens[:, 1:] == 0).any(1, keepdim=True), float("-inf"))

    for search in (Sample(n_best=4), Sample(top_k=3, n_best=4, scored=True)):
        found = []
        for rules in ((), (nothing_after_the_end,)):
            step = toy(range(6))
            found.append(generate(step, step.prompt, search=search, rules=rules, stop=END, max_new=9))
        assert found[0] == found[1]
        assert len({len(answer.tokens) for some in found[0] for answer in some}) > 4


def test_a_beam_gives_the_answers_there_are(toy):
    """Only token 0, which ends, may follow: a beam of three finds one answer."""
    step = toy([1, 2])
    answers = generate(step, step.prompt, search=Beam(3, n_best=3), rules=[Forbid(range(1, 11))], stop=END, max_new=5)
    assert [[answer.tokens for answer in found] for found in answers] == [[[]], [[]]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_new": 0}, "max_new is 0, but must be at least 1"),
        ({"max_new": torch.tensor([3, 0])}, "max_new is 0, but must be at least 1"),
        ({"max_new": torch.tensor([3, 3, 3])}, r"max_new is torch.int64 of shape \[3\], but must be .*\[2\]"),
        ({"max_new": torch.tensor([3.0, 3.0])}, "max_new is torch.float32"),
        ({"prompt": torch.zeros(2, 0, dtype=torch.long)}, r"prompt is torch.int64 of shape \[2, 0\]"),
        ({"prompt": torch.zeros(2, dtype=torch.long)}, r"prompt is torch.int64 of shape \[2\]"),
        ({"prompt": torch.zeros(2, 1)}, "prompt is torch.float32"),
        ({"numbers": [1]}, "numbers holds 1 numbers for 2 sources"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(toy, change, sentence):
    step = toy([0, 1])
    arguments = {"prompt": step.prompt, "search": Greedy(), "max_new": 3, **change}
    with pytest.raises(ArgumentError, match=sentence):
        generate(step, arguments.pop("prompt"), **arguments)
