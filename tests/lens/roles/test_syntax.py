"""Heads against a treebank: pieces are joined, offsets beaten, and heads judged on what they were not chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead import load
from polyhead.inputs.conllu import Sentence, Word
from polyhead.lens.roles.syntax import DIRECTIONS, Pairs, groups_of, judged, strongest, syntax
from tests.lens.roles.made import call_of, drawn
from tests.tasks.words import decoder_in_folder, in_folder


def word(form: str, start: int, head: int = -1, relation: str = "root") -> Word:
    return Word(form, start, start + len(form), head, relation, True)


def test_tokens_belong_to_the_word_they_share_most_with() -> None:
    words = [word("don't", 0), word("eat", 6)]
    assert groups_of(words, [(0, 0), (0, 2), (2, 5), (5, 9), (9, 9)]) == [[1, 2], [3]]  # a piece may hold its space
    assert groups_of(words, [(0, 3), (4, 9)]) == [[0], [1]]


def test_the_word_looked_at_most_is_found_through_its_pieces() -> None:
    P = drawn(1, 3, 70, 70, seed=2)
    groups = [[i] for i in range(1, 40)] + [[40, 41, 42], []] + [[i] for i in range(43, 69)]
    found = strongest(call_of(P), groups)
    for head in range(3):
        for number, own in enumerate(groups):
            if not own:
                assert found[head, number] == -1
                continue
            looked = [float(P[0, head, own][:, group].sum(-1).mean()) if group else -1.0 for group in groups]
            looked[number] = -1.0
            assert found[head, number] == int(np.argmax(looked))


def test_scores_baselines_and_the_head_that_was_chosen() -> None:
    """80 sentences of two pairs; head 0 is right in the even sentences only, head 1 in three quarters of all."""
    pairs = Pairs()
    for number in range(80):
        hits = np.zeros((2, 2, 3), np.bool_)
        hits[:, 0, 0] = number % 2 == 0
        hits[:, 0, 1] = number % 8 < 6
        pairs.found.append(hits)
        pairs.asked.append(np.ones((2, 2), np.bool_))
        pairs.relations += ["obj", "obj"]
        pairs.sentences += [number] * 2
        pairs.offsets += [1, -2 if number % 4 < 2 else 1]
    found = judged(pairs, {"a": 2, "b": 1}, 200, sentences=80, left_out=1)
    assert found.relations == ("obj",) and found.pairs == (160,) and found.left_out == 1
    np.testing.assert_allclose(found.scores[0, :, :, 0], [[50.0, 75.0], [0.0, np.nan]])
    assert found.offset[:, 0].tolist() == [1, -1] and found.baseline[0, 0] == 75.0
    best = next(each for each in found.best if each.direction == DIRECTIONS[0])
    assert (best.call, best.head, best.score, best.pairs) == ("a", 0, 0.0, 80)  # perfect where it was chosen
    assert not best.syntactic
    assert found.low[0, 0, 1, 0] < 75 < found.high[0, 0, 1, 0]


LINES = ["the cat sat on the mat.", "a dog ran to the garden", "where is the good red cats?"]


def tree(text: str) -> Sentence:
    """Each word depends on the one two places on, the last ones on the first."""
    words: list[Word] = []
    forms, start = text.replace(".", " .").replace("?", " ?").split(), 0
    for i, form in enumerate(forms):
        start = text.index(form, start)
        words.append(word(form, start, i + 2 if i + 2 < len(forms) else 0, "even" if i % 2 == 0 else "odd"))
        start += len(form)
    return Sentence(text, tuple(words), 1)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_models_scores_are_those_of_its_eager_attention(tmp_path: Path, kind: str) -> None:
    """Weights of `transformers`, joined to words and counted with loops."""
    theirs: Any = (
        in_folder(tmp_path, "BertModel") if kind == "encoder" else decoder_in_folder(tmp_path, "LlamaForCausalLM")
    )
    theirs.set_attn_implementation("eager")
    loaded = load(tmp_path)
    found = syntax(loaded, [tree(text) for text in LINES], 0)
    hits: dict[Any, list[bool]] = {}
    for text in LINES:
        sentence, pieces = tree(text), loaded.tokenizer.pieces(text)
        with torch.no_grad():
            weights = theirs(torch.tensor([[piece.id for piece in pieces]]), output_attentions=True).attentions
        groups = groups_of(sentence.words, [(piece.start, piece.end) for piece in pieces])
        for layer, P in enumerate(weights):
            for head in range(P.shape[1]):
                for i, each in enumerate(sentence.words):
                    for d, (row, aim) in enumerate(((i, each.head), (each.head, i))):
                        if kind == "decoder" and aim > row:
                            continue
                        looked = [float(P[0, head][groups[row]][:, group].sum(-1).mean()) for group in groups]
                        looked[row] = -1.0
                        hits.setdefault((d, layer, head, each.relation), []).append(int(np.argmax(looked)) == aim)
    for (d, layer, head, relation), some in hits.items():
        assert found.scores[d, layer, head, found.relations.index(relation)] == pytest.approx(100 * np.mean(some))
