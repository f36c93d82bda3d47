"""Guidance gives the numbers of transformers, and its two steps go on together."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from polyhead.errors import ArgumentError
from polyhead.generation import Beam, EndToken, Greedy, Guided, Sample, generate

WORDS = 19


class Whole:
    """A model of theirs, which reads every row again."""

    def __init__(self, model):
        self.model = model

    def __call__(self, tokens):
        return self.model(tokens).logits[:, -1]

    def keep(self, rows, sources):
        pass


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=2, n_head=2, eos_token_id=0, bos_token_id=0, pad_token_id=0
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


@pytest.mark.parity
@pytest.mark.parametrize("scale", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("length", [1, 3])
def test_guided_greedy_search_gives_transformers_tokens(model, scale, length):
    dice = torch.Generator().manual_seed(length)
    prompt = torch.randint(1, WORDS, (4, 5), generator=dice)
    negative = torch.randint(1, WORDS, (4, length), generator=dice)
    expected = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), negative_prompt_ids=negative, guidance_scale=scale,
        max_new_tokens=12, do_sample=False,
    )  # fmt: skip
    step = Guided(Whole(model), Whole(model), negative=negative, start=5, scale=scale)
    for row, [answer] in zip(
        expected.tolist(), generate(step, prompt, search=Greedy(), stop=EndToken([0]), max_new=12), strict=True
    ):
        assert answer.tokens == [token for token in row[5:] if token != 0]


def test_both_steps_follow_their_rows(toy):
    """The toys check that the rows handed in continue those before; a scale of 1 is the first step alone."""
    for search in (Beam(4, n_best=4), Sample(n_best=3, scored=True), Greedy(scored=True)):
        one, other, alone = toy(range(6)), toy(range(6), seed=1), toy(range(6))
        step = Guided(one, other, negative=other.prompt, start=1, scale=1.0)
        found = generate(step, one.prompt, search=search, stop=EndToken([0]), max_new=9)
        expected = generate(alone, alone.prompt, search=search, stop=EndToken([0]), max_new=9)
        assert [[a.tokens for a in some] for some in found] == [[a.tokens for a in some] for some in expected]
        step = Guided(toy(range(6)), toy(range(6), seed=1), negative=other.prompt, start=1, scale=2.5)
        assert found != generate(step, one.prompt, search=search, stop=EndToken([0]), max_new=9)


def test_a_scale_that_is_no_number_is_refused(toy):
    step = toy([1])
    with pytest.raises(ArgumentError, match="scale is nan, but must be a finite number"):
        Guided(step, step, negative=step.prompt, start=1, scale=float("nan"))
