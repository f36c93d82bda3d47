"""Whoever else is there, and whenever they come: a request is answered as `generate` answers it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polyhead.errors import ArgumentError
from polyhead.families import family
from polyhead.generation import (
    Beam,
    ConstrainedBeam,
    Contrastive,
    DiverseBeam,
    EndToken,
    Forbid,
    Greedy,
    Hypothesis,
    MinLength,
    NoRepeatNgram,
    RepetitionPenalty,
    Sample,
    SampledBeam,
    generate,
)
from polyhead.generation.continuous import Engine, Handle, Request, side_by_side
from polyhead.operator import Pages, Pool
from polyhead.tasks.decoder import DecoderStep
from polyhead.tasks.serving import PagedDecoderStep

CPU, V = torch.device("cpu"), 31
FAMILIES: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {},
    "LlamaForCausalLM": {"n_kv_heads": 2},
    "MistralForCausalLM": {"n_kv_heads": 2, "window": 5},
    "BloomForCausalLM": {},
}
SIZES = {"vocab_size": V, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 20, "max_len": 90}
SEARCHES = [
    Greedy(scored=True),
    Greedy(),
    Sample(1.1, top_k=9, top_p=0.9, seed=3, scored=True),
    Sample(seed=1, n_best=3),
    Beam(3, n_best=2),
    Beam(2, length_penalty=0.0, early_stopping=True),
    DiverseBeam(3, groups=3, penalty=0.7),
    ConstrainedBeam(3, forced=[[(4, 9)]]),
    SampledBeam(2, draw=Sample(1.2, seed=6)),
]
RULES = [[], [], [RepetitionPenalty(1.3)], [NoRepeatNgram(2), Forbid([5])]]


def model(architecture: str) -> nn.Module:
    """In float64, so that no order of additions changes which token is best."""
    torch.manual_seed(0)
    kind = family(architecture)
    config = kind.config()
    known = {field.name for field in dataclasses.fields(config)}
    sizes = {name: size for name, size in (SIZES | FAMILIES[architecture]).items() if name in known}
    made = kind.build(dataclasses.replace(config, **sizes)).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


@pytest.fixture(scope="module", params=FAMILIES)
def decoder(request: pytest.FixtureRequest) -> nn.Module:
    return model(request.param)


@pytest.fixture(scope="module")
def gpt2() -> nn.Module:
    return model("GPT2LMHeadModel")


def alone(decoder: nn.Module, request: Request) -> list[Hypothesis]:
    return generate(
        DecoderStep(decoder), torch.tensor([list(request.prompt)]), search=request.search, max_new=request.max_new,
        rules=request.rules, stop=request.stop, numbers=[request.number],
    )[0]  # fmt: skip


def check(found: Handle, wanted: Sequence[Hypothesis]) -> None:
    assert found.done and found.error is None
    assert [(x.tokens, x.finished) for x in found.answers] == [(x.tokens, x.finished) for x in wanted]
    assert [x.score for x in found.answers] == pytest.approx([x.score for x in wanted], abs=1e-5)


def engine(decoder: nn.Module, blocks: int = 500, size: int = 4, **how: Any) -> Engine:
    return Engine(PagedDecoderStep(decoder), Pool(blocks, size), CPU, **how)


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Some begin alike, by whole blocks and by parts of them."""
    dice = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    start = torch.randint(2, V, (20,), generator=dice).tolist()
    found: list[Request] = []
    for number in range(draw(st.integers(1, 9))):
        own = torch.randint(2, V, (draw(st.integers(1, 14)),), generator=dice).tolist()
        prompt = [*start[: draw(st.sampled_from([0, 0, 8, 15, 20]))], *own]
        rules = [*draw(st.sampled_from(RULES)), MinLength(len(prompt) + 2, [1])]
        search = draw(st.sampled_from(SEARCHES))
        found.append(Request(prompt, draw(st.integers(1, 18)), search, rules, EndToken([1, 7]), number))
    return found


@settings(max_examples=25, deadline=None)
@given(
    asked=requests(), waits=st.lists(st.integers(0, 6), min_size=9, max_size=9), blocks=st.sampled_from([40, 55, 400]),
    budget=st.integers(7, 60), rows=st.integers(3, 6), apart=st.sampled_from([0, 10, 2048]),
)  # fmt: skip
def test_answers_are_those_of_the_plain_loop(
    decoder: nn.Module, asked: list[Request], waits: list[int], blocks: int, budget: int, rows: int, apart: int
) -> None:
    serving = engine(decoder, blocks, budget=budget, rows=rows, apart=apart)
    handles: list[Handle] = []
    for request, wait in zip(asked, waits, strict=False):
        handles.append(serving.submit(request))
        for _ in range(wait):
            serving.step()
            assert sum(handle.rows for handle in serving.running) <= rows
    serving.run()
    for handle, request in zip(handles, asked, strict=True):
        check(handle, alone(decoder, request))
    assert serving.pool.open == blocks and not any(serving.pool.holders)


def cost(groups: list[list[int]], sizes: list[tuple[int, int]], apart: int) -> int:
    return sum(apart + max(sizes[i][0] for i in group) * sum(sizes[i][1] for i in group) for group in groups)


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All ways to put some things in groups."""
    if not items:
        yield []
        return
    first, *rest = items
    for groups in partitions(rest):
        yield [[first], *groups]
        for i, group in enumerate(groups):
            yield [*groups[:i], [first, *group], *groups[i + 1 :]]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 3)), min_size=1, max_size=6), apart=st.integers(0, 90)
)
def test_no_grouping_is_cheaper_than_the_one_that_is_found(sizes: list[tuple[int, int]], apart: int) -> None:
    found = side_by_side(sizes, apart)
    assert sorted(i for group in found for i in group) == list(range(len(sizes)))
    assert cost(found, sizes, apart) == min(cost(groups, sizes, apart) for groups in partitions([*range(len(sizes))]))


def test_a_long_answer_is_not_what_short_ones_are_padded_to(gpt2: nn.Module) -> None:
    widths: list[tuple[int, ...]] = []

    class Counting(PagedDecoderStep):
        def __call__(self, tokens: Tensor, pages: Pages) -> Tensor:
            widths.append(tuple(pages.positions[:, -1].tolist()))
            return super().__call__(tokens, pages)

    asked = [*some(3, 5, 4), some(1, 80, 4)[0]]
    for apart, passes in [(100, [(5, 5, 5), (80,)]), (1000, [(80, 5, 5, 5)])]:
        serving = Engine(Counting(gpt2), Pool(100, 4), CPU, budget=400, apart=apart)
        handles = [serving.submit(request) for request in asked]
        while not all(handle.tokens for handle in handles):
            serving.step()
        del widths[:]
        serving.step()
        assert sorted(sorted(some) for some in widths) == sorted(sorted(some) for some in passes)
        serving.run()
        for handle, request in zip(handles, asked, strict=True):
            check(handle, alone(gpt2, request))


def some(n: int, length: int, most: int, **how: Any) -> list[Request]:
    dice = torch.Generator().manual_seed(n)
    prompts = torch.randint(2, V, (n, length), generator=dice).tolist()
    return [Request(prompt, most, number=number, **how) for number, prompt in enumerate(prompts)]


@pytest.mark.parametrize("search", [Greedy(), Sample(seed=2), Beam(3), Sample(n_best=2)], ids=str)
def test_the_youngest_gives_its_blocks_back_and_answers_the_same(gpt2: nn.Module, search: Any) -> None:
    asked = some(5, 9, 30, search=search)
    serving = engine(gpt2, 34, rows=12)
    handles = [serving.submit(request) for request in asked]
    done: list[Handle] = []
    while serving.busy:
        done += [handle for handle in serving.step() if handle.done]
    assert serving.preempted > 0
    assert done[0] is handles[0]  # the oldest is never put back
    for handle, request in zip(handles, asked, strict=True):
        check(handle, alone(gpt2, request))


@pytest.mark.parametrize("budget", [42, 256])
def test_a_beginning_that_is_shared_is_read_once(gpt2: nn.Module, budget: int) -> None:
    reads: list[int] = []

    class Counting(PagedDecoderStep):
        def __call__(self, tokens: Tensor, pages: Pages) -> Tensor:
            reads.append(sum(pages.new))
            return super().__call__(tokens, pages)

    start = some(1, 41, 1)[0].prompt
    asked = [Request([*start, 2 + i], 3) for i in range(6)]
    serving = Engine(Counting(gpt2), Pool(100, 4), CPU, budget=budget, rows=8)
    handles = [serving.submit(request) for request in asked]
    serving.step()
    serving.step()
    assert len(serving.running) == 6
    firsts = {tuple(handle.tables[0].blocks[:10]) for handle in serving.running}
    assert len(firsts) == 1
    serving.run()
    assert sum(reads) == 42 + 5 * 2 + 6 * 2  # the first prompt, what others do not share of theirs, and two tokens each
    reads.clear()
    again = serving.submit(Request(start, 4))
    serving.run()
    assert sum(reads) == 1 + 3  # all that was read is still known
    for handle, request in zip([*handles, again], [*asked, Request(start, 4)], strict=True):
        check(handle, alone(gpt2, request))


def test_answers_go_on_while_a_long_prompt_is_read(gpt2: nn.Module) -> None:
    serving = engine(gpt2, budget=16, rows=4)
    first = serving.submit(some(1, 5, 30)[0])
    serving.step()
    long = serving.submit(some(2, 60, 3)[0])
    steps = 0
    while not long.tokens:
        before = len(first.tokens)
        assert first in serving.step()
        assert len(first.tokens) == before + 1
        steps += 1
    assert steps == 4  # 60 tokens, 15 a step beside the one of the answer
    newcomer = serving.submit(some(3, 4, 2)[0])
    serving.step()
    assert len(newcomer.tokens) == 1  # it need not wait for anybody to finish


def test_those_that_are_done_leave_at_once(gpt2: nn.Module) -> None:
    serving = engine(gpt2, rows=2)
    short, long, waiting = (
        serving.submit(dataclasses.replace(request, max_new=most))
        for request, most in zip(some(3, 6, 1), [2, 12, 3], strict=True)
    )
    serving.step()
    assert serving.running == [short, long] and list(serving.waiting) == [waiting]
    serving.step()
    assert short.done and serving.running == [long]
    serving.step()
    assert serving.running == [long, waiting] and len(waiting.tokens) == 1


def test_a_stream_gives_tokens_as_they_are_chosen(gpt2: nn.Module) -> None:
    asked = some(2, 6, 9, stop=EndToken([7, 12]), search=Sample(seed=4))
    serving = engine(gpt2)
    one, other = (serving.submit(request) for request in asked)
    seen: list[int] = []
    for token in serving.stream(one):
        seen.append(token)
        assert len(other.tokens) == len(seen) or other.done
    assert seen == one.answers[0].tokens == alone(gpt2, asked[0])[0].tokens
    serving.run()
    assert list(serving.stream(other)) == other.answers[0].tokens


def test_a_request_may_be_cancelled_wherever_it_is(gpt2: nn.Module) -> None:
    asked = some(4, 6, 9, search=Beam(2))
    serving = engine(gpt2, rows=4)
    handles = [serving.submit(request) for request in asked]
    serving.step()
    serving.step()
    for handle in (handles[0], handles[3]):  # one that runs, and one that waits
        serving.cancel(handle)
    serving.run()
    assert handles[0].done and handles[0].answers == [] and handles[3].answers == []
    for handle, request in zip(handles[1:3], asked[1:3], strict=True):
        check(handle, alone(gpt2, request))
        before = handle.answers
        serving.cancel(handle)
        assert handle.answers == before
    assert serving.pool.open == serving.pool.blocks


def test_a_rule_may_cancel_whoever_is_read_in_the_same_step(gpt2: nn.Module) -> None:
    first, second, third = some(3, 6, 9)
    handles: list[Handle] = []

    def cancelling(scores: Tensor, tokens: Tensor) -> Tensor:
        if len(handles) == 3:
            serving.cancel(handles[1])
        return scores

    serving = engine(gpt2)
    handles.append(serving.submit(dataclasses.replace(first, rules=[cancelling])))
    serving.step()
    handles += [serving.submit(second)]
    handles += [serving.submit(dataclasses.replace(third, prompt=[3]))]  # read with the first one's next token
    serving.step()
    serving.run()
    assert handles[1].done and handles[1].answers == []
    check(handles[0], alone(gpt2, first))
    check(handles[2], alone(gpt2, dataclasses.replace(third, prompt=[3])))
    assert not any(serving.pool.holders)


def test_one_that_finds_no_token_harms_nobody_else(gpt2: nn.Module) -> None:
    asked = some(3, 6, 9)
    asked[1] = dataclasses.replace(asked[1], rules=[MinLength(10, range(V))])
    serving = engine(gpt2)
    handles = [serving.submit(request) for request in asked]
    serving.run()
    assert isinstance(handles[1].error, ArgumentError) and handles[1].done and handles[1].answers == []
    with pytest.raises(ArgumentError, match="No token can follow in source 1"):
        list(serving.stream(handles[1]))
    for i in (0, 2):
        check(handles[i], alone(gpt2, asked[i]))


def test_an_interrupt_ends_the_one_that_it_met_and_the_others_go_on(gpt2: nn.Module) -> None:
    def stop(scores: Tensor, tokens: Tensor) -> Tensor:
        if tokens.shape[1] == 8:
            raise KeyboardInterrupt
        return scores

    asked = some(3, 6, 9)
    asked[1] = dataclasses.replace(asked[1], rules=[stop])
    serving = engine(gpt2)
    handles = [serving.submit(request) for request in asked]
    with pytest.raises(KeyboardInterrupt):
        serving.run()
    assert isinstance(handles[1].error, KeyboardInterrupt) and not (handles[0].done or handles[2].done)
    for _ in range(40):
        serving.step()
    assert not serving.busy
    for i in (0, 2):
        check(handles[i], alone(gpt2, asked[i]))


def test_what_could_never_be_answered_is_refused(gpt2: nn.Module) -> None:
    serving = engine(gpt2, 10, rows=3)
    with pytest.raises(ArgumentError, match="A prompt of 30 tokens with 11 to add to 1 rows needs 11 blocks of 4"):
        serving.submit(some(1, 30, 11)[0])
    serving.submit(some(1, 30, 10)[0])
    with pytest.raises(ArgumentError, match="the engine 3 rows"):
        serving.submit(some(1, 3, 4, search=Beam(4))[0])
    with pytest.raises(ArgumentError, match="answered by Greedy, Sample or a kind of Beam, but"):
        serving.submit(some(1, 3, 4, search=Contrastive())[0])
    with pytest.raises(ArgumentError, match="with at least one token"):
        serving.submit(Request([], 4))
    with pytest.raises(ArgumentError, match="max_new is 0"):
        serving.submit(Request([3], 0))
    with pytest.raises(ArgumentError, match="rows is 8 and budget 8"):
        engine(gpt2, rows=8, budget=8)
    serving.run()
