"""Scores of words: the product with the embedding and the fixed bias, one tensor where they are tied."""

from __future__ import annotations

import torch
from torch import nn

from polyhead.readout.words import FixedBiasWords, shifted


def random(head: FixedBiasWords) -> FixedBiasWords:
    for tensor in (*head.parameters(), head.fixed_bias):
        nn.init.normal_(tensor)
    return head


def test_a_score_is_the_product_with_a_words_vector_and_its_bias() -> None:
    torch.manual_seed(0)
    head, x = random(FixedBiasWords(5, 7)), torch.randn(2, 3, 5)
    expected = torch.einsum("btd,vd->btv", x.double(), head.weight.double()) + head.fixed_bias.double()
    torch.testing.assert_close(head(x).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_tied_head_is_the_embedding_and_learns_with_it() -> None:
    tokens = nn.Embedding(7, 5)
    head = random(FixedBiasWords(5, 7, tied=tokens))
    assert head.weight is tokens.weight
    head(tokens(torch.tensor([[1, 2]]))).sum().backward()
    assert tokens.weight.grad is not None and bool(tokens.weight.grad.abs().sum() > 0)


def test_training_leaves_the_fixed_bias_alone_and_files_keep_it() -> None:
    head = random(FixedBiasWords(5, 7))
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    assert torch.equal(head.state_dict()["fixed_bias"], head.fixed_bias)


def test_the_decoder_reads_the_start_and_all_but_the_last_word() -> None:
    target = torch.randint(0, 50, (4, 6))
    read = shifted(target, 51)
    assert read[:, 0].tolist() == [51] * 4 and torch.equal(read[:, 1:], target[:, :-1])
