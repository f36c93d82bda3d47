"""The same tokens, order and scores as `generate` of transformers, on a tiny Marian with random weights and on a
table of logits whose answers end at every length."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
import torch
from transformers import (
    GenerationMixin,
    LogitsProcessorList,
    MarianConfig,
    MarianMTModel,
    PreTrainedConfig,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast

from polyhead.generation import (
    Beam,
    EndsGrow,
    EndToken,
    Forbid,
    ForcedAt,
    Greedy,
    MinLength,
    NoRepeatNgram,
    RepetitionPenalty,
    Sample,
    generate,
)

pytestmark = pytest.mark.parity
EOS, PAD, VOCABULARY = 0, 18, 19
SEEDS = range(2)


def tiny_marian(seed):
    """Every parameter random, positions and cross-attention the most, and a bias towards the end."""
    torch.manual_seed(seed)
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=12,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_position_embeddings=48,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        decoder_start_token_id=PAD,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 2.0 if "positions" in name else 1.5 if "encoder_attn" in name else 0.5)
        model.final_logits_bias.normal_(0, 0.5)
        model.final_logits_bias[0, EOS] += random.Random(seed).uniform(0.5, 3.0)
    model.generation_config.forced_eos_token_id = model.generation_config.bad_words_ids = None
    return model


class Step:
    """Their encoder and decoder behind our protocol, without a cache."""

    def __init__(self, model, source, mask):
        self.model, self.mask = model, mask
        self.memory = model.get_encoder()(source, attention_mask=mask).last_hidden_state

    def __call__(self, tokens):
        n = len(tokens) // len(self.memory)
        return self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.memory.repeat_interleave(n, 0)),
            attention_mask=self.mask.repeat_interleave(n, 0),
            decoder_input_ids=tokens,
        ).logits[:, -1]

    def keep(self, rows, sources):
        if sources is not None:
            self.memory, self.mask = self.memory[sources], self.mask[sources]


@pytest.fixture(scope="module", params=SEEDS)
def case(request):
    """A model, four sources with padding, and a prompt of one to three tokens."""
    dice = random.Random(request.param)
    model = tiny_marian(request.param)
    lengths = torch.tensor([dice.randint(1, 7) for _ in range(3)] + [7])
    mask = (torch.arange(7) < lengths[:, None]).long()
    source = torch.randint(1, PAD, (4, 7)).where(mask.bool(), PAD)
    prompt = torch.randint(1, PAD, (4, dice.randint(1, 3)))
    prompt[:, 0] = PAD
    return model, source, mask, prompt


def theirs(case, **how):
    model, source, mask, prompt = case
    return model.generate(
        source,
        attention_mask=mask,
        decoder_input_ids=prompt,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **how,
    )


def ours(case, search, **how):
    model, source, mask, prompt = case
    return generate(Step(model, source, mask), prompt, search=search, stop=EndToken([EOS]), **how)


def assert_same(reference, prompt, answers, *, pad=PAD):
    """Whole rows, padding included, and the scores where they are given."""
    found = [
        row + answer.tokens + [EOS] * answer.finished
        for row, some in zip(prompt.tolist(), answers, strict=True)
        for answer in some
    ]
    longest = max(map(len, found))
    assert reference.sequences.tolist() == [row + [pad] * (longest - len(row)) for row in found]
    if "sequences_scores" in reference:
        scores = torch.tensor([answer.score for some in answers for answer in some])
        assert torch.allclose(reference.sequences_scores, scores, rtol=1e-5, atol=1e-5)


def rules_for(case, length):
    """Their settings and our rules, in the order in which transformers applies them."""
    start = case[3].shape[1]
    return [
        ({"bad_words_ids": [[PAD]]}, [Forbid([PAD])]),
        ({"min_length": start + length // 2}, [MinLength(start + length // 2, [EOS])]),
        ({"no_repeat_ngram_size": 2}, [NoRepeatNgram(2)]),
        ({"repetition_penalty": 1.8}, [RepetitionPenalty(1.8)]),
        ({"exponential_decay_length_penalty": (1, 1.2)}, [EndsGrow(start + 1, 1.2, [EOS])]),
        ({"forced_eos_token_id": EOS}, [ForcedAt(start + length, [EOS])]),
        (
            {
                "repetition_penalty": 0.7,
                "no_repeat_ngram_size": 3,
                "bad_words_ids": [[PAD], [3]],
                "min_length": start + length // 3,
                "forced_eos_token_id": EOS,
            },
            [
                RepetitionPenalty(0.7),
                NoRepeatNgram(3),
                Forbid([PAD, 3]),
                MinLength(start + length // 3, [EOS]),
                ForcedAt(start + length, [EOS]),
            ],
        ),
    ]


@pytest.mark.parametrize("length", [1, 12])
def test_greedy_gives_transformers_tokens(case, length):
    assert_same(theirs(case, max_new_tokens=length), case[3], ours(case, Greedy(), max_new=length))
    assert_same(theirs(case, max_new_tokens=length), case[3], ours(case, Beam(1), max_new=length))
    for settings, rules in rules_for(case, length):
        reference = theirs(case, max_new_tokens=length, **settings)
        for search in (Greedy(), Beam(1)):
            assert_same(reference, case[3], ours(case, search, rules=rules, max_new=length))


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("width", [2, 4, 5])
def test_beam_gives_transformers_tokens(case, width, length_penalty, early_stopping):
    for length, n_best in ((1, 1), (12, width)):
        reference = theirs(
            case,
            num_beams=width,
            num_return_sequences=n_best,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            max_new_tokens=length,
        )
        beam = Beam(width, length_penalty, n_best, early_stopping)
        assert_same(reference, case[3], ours(case, beam, max_new=length))


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("rule", range(7))
def test_beam_with_rules_gives_transformers_tokens(case, rule, early_stopping):
    settings, rules = rules_for(case, 8)[rule]
    reference = theirs(
        case, num_beams=3, num_return_sequences=3, early_stopping=early_stopping, max_new_tokens=8, **settings
    )
    assert_same(
        reference, case[3], ours(case, Beam(3, n_best=3, early_stopping=early_stopping), rules=rules, max_new=8)
    )


def test_several_end_tokens_give_transformers_tokens(case):
    ends = [EOS, 4, 9]
    reference = theirs(case, num_beams=4, num_return_sequences=4, max_new_tokens=9, eos_token_id=ends)
    model, source, mask, prompt = case
    answers = generate(Step(model, source, mask), prompt, search=Beam(4, n_best=4), stop=EndToken(ends), max_new=9)
    scores = torch.tensor([answer.score for some in answers for answer in some])
    assert torch.allclose(reference.sequences_scores, scores, rtol=1e-5, atol=1e-5)
    start = prompt.shape[1]
    for row, answer in zip(reference.sequences.tolist(), [a for some in answers for a in some], strict=True):
        assert row[start : start + len(answer.tokens)] == answer.tokens
        assert not answer.finished or row[start + len(answer.tokens)] in ends


class Table(PreTrainedModel, GenerationMixin):
    """The toy's logits behind their interface; the source is known by its prompt."""

    def __init__(self, toy):
        settings: dict[str, Any] = {"vocab_size": 11, "num_hidden_layers": 1, "eos_token_id": 0, "pad_token_id": 10}
        super().__init__(PreTrainedConfig(**settings))
        self.toy, self.nothing = toy, torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, **others):
        return CausalLMOutputWithPast(logits=self.toy.logits(input_ids[:, 0], input_ids)[:, None])


@pytest.mark.parametrize("seed", range(60))
def test_beam_gives_transformers_tokens_whenever_answers_end(toy, seed):
    dice = random.Random(seed)
    width, length = dice.choice((2, 3, 4, 5, 8)), dice.randint(1, 14)
    n_best, penalty = dice.randint(1, width), dice.choice((-0.5, 0.0, 0.3, 0.6, 1.0, 2.0))
    early_stopping = dice.choice((False, True, "never"))
    step = toy(range(1, 10), seed=seed, ending=dice.uniform(-1, 4))
    prompt, table = step.prompt, cast(Any, Table(step))
    reference = table.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        use_cache=False,
        do_sample=False,
        num_beams=width,
        num_return_sequences=n_best,
        length_penalty=penalty,
        early_stopping=early_stopping,
        max_new_tokens=length,
        return_dict_in_generate=True,
        output_scores=True,
    )
    beam = Beam(width, penalty, n_best, early_stopping)
    assert_same(reference, prompt, generate(step, prompt, search=beam, stop=EndToken([0]), max_new=length), pad=10)


def test_the_table_ends_answers_at_every_length(toy):
    """A comparison is worth what its cases are."""
    ends = set()
    for ending in range(-1, 5):
        step = toy(range(1, 10), seed=ending + 1, ending=ending)
        for found in generate(step, step.prompt, search=Beam(4, n_best=4), stop=EndToken([0]), max_new=14):
            ends |= {len(answer.tokens) if answer.finished else None for answer in found}
    assert ends >= {None, *range(10)}


@pytest.mark.parametrize("search", [Sample(0.7), Sample(1.4, 5), Sample(1.0, None, 0.6), Sample(0.9, 8, 0.8)], ids=str)
def test_sampling_has_transformers_distribution(search):
    warpers: Any = LogitsProcessorList([TemperatureLogitsWarper(search.temperature)])
    if search.top_k is not None:
        warpers.append(TopKLogitsWarper(search.top_k))
    warpers.append(TopPLogitsWarper(search.top_p))
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(4))
    share = warpers(torch.zeros(1, 1, dtype=torch.long), logits.double())[0].softmax(-1)
    n = 20_000
    drawn = search.draw(logits.expand(n, -1), (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    assert torch.allclose(drawn.bincount(minlength=30) / n, share.float(), atol=1.1 / n)
