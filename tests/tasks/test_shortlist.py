"""A short-list: answers are those of the whole vocabulary with all else barred, whatever stands beside a source."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import polyhead
from polyhead.core import packed
from polyhead.core.packed import Int8Linear, PackedLinear, packable, why_not_int8
from polyhead.errors import ArgumentError, DataError
from polyhead.generation import (
    Beam,
    ConstrainedBeam,
    Contrastive,
    DiverseBeam,
    Greedy,
    Sample,
    SampledBeam,
    Search,
)  # fmt: skip
from polyhead.tasks import text_to_text
from polyhead.tasks.asking import Asking
from polyhead.tasks.load import Loaded, load, ready
from polyhead.tasks.shortlist import FORMAT, Shortlist, fingerprint, shortlist
from polyhead.tasks.translator import Translator, translate
from tests.tasks import test_decoding
from tests.tasks.conftest import WORDS, pairs
from tests.tasks.test_decoding import asking
from tests.tasks.words import STORY, asked_in_folder

folder, wild = test_decoding.folder, test_decoding.wild  # a trained toy, and one with random weights
LINES = ["我我我我天天天天", "山水火木。", "好", "我爱你你你", "天地人。", "月星"]
ALWAYS = {0, 1, 2}  # the start, which is the padding; the end; unknown
INT8 = pytest.mark.skipif(why_not_int8(nn.Linear(2, 2)) is not None, reason="this PyTorch has no FBGEMM")
PACKED = pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch packs no products")


def drawn(loaded: Loaded, *, few: int = 5, frequent: int = 12, seed: int = 0) -> Shortlist:
    """A list at random: up to so many words of each source token, and so many of all."""
    random, config = torch.Generator().manual_seed(seed), loaded.config
    counts = torch.randint(0, few + 1, (config.vocab_size,), generator=random)
    words = torch.randint(0, config.words, (int(counts.sum()),), generator=random)
    usual = torch.randint(0, config.words, (frequent,), generator=random)
    starts = torch.cat((torch.zeros(1, dtype=torch.long), counts.cumsum(0)))
    return Shortlist(usual, starts, words, config.words, fingerprint(loaded))


def listed(short: Shortlist, row: list[int], also: set[int] = ALWAYS) -> set[int]:
    """The words of one source, a token at a time."""
    lists = [short.words[short.starts[token] : short.starts[token + 1]].tolist() for token in row]
    return {word for some in [short.frequent.tolist(), *lists] for word in some} | also


class Barred(nn.Module):
    """A head whose scores of all words but some are -inf."""

    def __init__(self, head: nn.Module, allowed: set[int]) -> None:
        super().__init__()
        self.head, self.allowed = head, sorted(allowed)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(x)
        return torch.full_like(scores, -torch.inf).index_copy(1, torch.tensor(self.allowed), scores[:, self.allowed])


def one_by_one(folder: Path, short: Shortlist, lines: list[str], also: set[int] = ALWAYS, **how: Any) -> list[Any]:
    """Each line alone, by a model of the whole vocabulary that is barred from all but its source's list."""
    found: list[Any] = []
    for number, line in enumerate(lines, 1):
        translator = Translator(load(folder), **how)
        [row] = translator.tokenizer.source.encode_batch([translator.asking.of(line)])
        translator.model.head = Barred(translator.model.head, listed(short, row, also))
        found += translator([line], numbers=[number])
    return found


def same(found: list[Any], wanted: list[Any]) -> None:
    assert [each.text for each in found] == [each.text for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert [c.text for c in one.candidates] == [c.text for c in other.candidates]
        assert [c.finished for c in one.candidates] == [c.finished for c in other.candidates]
        scores = [c.score for c in other.candidates]
        assert [c.score for c in one.candidates] == (scores if None in scores else pytest.approx(scores, rel=1e-4))


@pytest.mark.parametrize(
    "search",
    [
        Greedy(), Greedy(scored=True), Beam(4), Beam(5, n_best=5, length_penalty=0.6), Sample(seed=3),
        Sample(1.5, top_k=20, seed=1, n_best=3, scored=True), Sample(top_p=0.7, min_p=0.01),
        DiverseBeam(4, groups=2, n_best=4), ConstrainedBeam(4, forced=[[[60, 61]], [[70], [71, 72]]]),
        Contrastive(0.6, 4), SampledBeam(4, draw=Sample(1.3, top_k=340, seed=2)), SampledBeam(3, draw=Sample(top_k=9)),
    ],
    ids=repr,
)  # fmt: skip
def test_it_says_what_the_whole_vocabulary_says_with_all_else_barred(wild: Path, search: Search) -> None:
    short = drawn(load(wild))
    also = ALWAYS | ({60, 61, 70, 71, 72} if isinstance(search, ConstrainedBeam) else set())
    found = Translator(load(wild), search=search, max_new=12, shortlist=short)(LINES)
    same(found, one_by_one(wild, short, LINES, also, search=search, max_new=12))
    assert [t.text for t in found] != [t.text for t in Translator(load(wild), search=search, max_new=12)(LINES)]


@pytest.mark.parametrize(
    ("settings", "also"),
    [
        ({"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.7}, set()),
        ({"num_beams": 2, "min_length": 9}, set()),
        ({"num_beams": 2, "bad_words_ids": [[0], [5], [6], *([n, n + 1] for n in range(9, 330))]}, set()),
        ({"num_beams": 3, "forced_bos_token_id": 50, "forced_eos_token_id": 51}, {50, 51}),
        ({"num_beams": 1, "eos_token_id": [1, *range(200, 240), 99_999]}, set(range(200, 240))),
        ({"num_beams": 2, "suppress_tokens": [*range(20, 60)], "begin_suppress_tokens": [*range(60, 90)]}, set()),
        ({"num_beams": 1, "sequence_bias": [[[50], 3.0], [[50, 51], 9.0], [[7], -9.0]]}, {50, 51}),
        ({"num_beams": 1, "exponential_decay_length_penalty": [2, 1.5]}, set()),
        ({"num_beams": 3, "renormalize_logits": True, "suppress_tokens": [*range(20, 60)]}, set()),
        ({"num_beams": 3, "encoder_repetition_penalty": 5.0, "encoder_no_repeat_ngram_size": 1}, set()),
        ({"num_beams": 1, "stop_strings": ["a", "o"]}, set()),
    ],
    ids=repr,
)
def test_every_rule_of_a_folder_holds_in_it(wild: Path, settings: dict[str, Any], also: set[int]) -> None:
    asking(wild, **settings)
    short = drawn(load(wild), few=9)
    found = Translator(load(wild), max_new=12, shortlist=short)(LINES)
    same(found, one_by_one(wild, short, LINES, ALWAYS | also, max_new=12))


@pytest.mark.parity
@pytest.mark.parametrize("beams", [1, 4])
def test_it_says_what_transformers_says_where_only_some_tokens_are_allowed(wild: Path, beams: int) -> None:
    from transformers import MarianMTModel

    loaded = load(asking(wild, num_beams=beams, renormalize_logits=True, num_return_sequences=1))
    short = drawn(loaded)
    translator = Translator(loaded, max_new=12, shortlist=short)
    theirs: Any = MarianMTModel.from_pretrained(wild).eval()
    rows = translator.tokenizer.source.encode_batch(LINES)
    for row, [found] in zip(rows, translator.batch(rows), strict=True):
        allowed = sorted(listed(short, row))
        expected = theirs.generate(
            torch.tensor([row]), prefix_allowed_tokens_fn=lambda batch, ids, some=allowed: some, max_new_tokens=12,
            max_length=None, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        tokens = expected.sequences[0].tolist()[1:]
        assert found.tokens == tokens[: tokens.index(1)] if 1 in tokens else tokens
        if beams > 1:
            assert found.score == pytest.approx(float(expected.sequences_scores[0]), rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("int8", marks=INT8)])
@pytest.mark.parametrize("search", [Greedy(scored=True), Beam(4, n_best=3)])
def test_a_list_of_all_words_changes_no_bit(wild: Path, precision: Any, search: Search) -> None:
    loaded = ready(load(wild), precision=precision)
    words = torch.arange(loaded.config.words)
    every = Shortlist(
        words, torch.zeros(loaded.config.vocab_size + 1).long(), words[:0], len(words), fingerprint(loaded)
    )
    found = Translator(loaded, search=search, shortlist=every)(LINES)
    assert found == Translator(loaded, search=search)(LINES)


@PACKED
def test_weights_that_change_later_do_not_mix_with_those_that_were_laid_out(wild: Path) -> None:
    loaded = load(wild)
    words = torch.arange(loaded.config.words)
    none = torch.zeros(loaded.config.vocab_size + 1).long()
    every = Shortlist(words, none, words[:0], len(words), fingerprint(loaded))
    whole, few = (Translator(loaded, max_new=12, shortlist=short) for short in (None, every))
    before = whole(LINES)
    with torch.no_grad():
        for x in loaded.tensors:  # the head's matrix too
            x.add_(torch.randn_like(x))
    assert few(LINES) == whole(LINES)
    assert Translator(loaded, max_new=12, shortlist=every)(LINES) == Translator(loaded, max_new=12)(LINES) != before


@pytest.mark.parametrize("token", [99_999, -1])
def test_a_forced_token_that_there_is_not_is_refused(wild: Path, token: int) -> None:
    search = ConstrainedBeam(4, forced=[[[60, token], [61, token]]])
    with pytest.raises(ArgumentError, match=rf"forced holds the token {token}, which is none of the \d+ that may be"):
        Translator(load(wild), search=search, max_new=12, shortlist=drawn(load(wild)))(LINES)


@pytest.mark.parametrize("search", [Greedy(), Beam(4, n_best=4), Sample(seed=3), SampledBeam(4)])
def test_lines_of_one_batch_do_not_widen_each_others_lists(wild: Path, search: Search) -> None:
    translator = Translator(load(wild), search=search, max_new=12, shortlist=drawn(load(wild)))
    together = translator(LINES)
    alone = [translator([line], numbers=[n])[0] for n, line in enumerate(LINES, 1)]
    same(together, alone)


def test_a_source_is_read_without_its_padding(wild: Path) -> None:
    short = drawn(load(wild))
    source = torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0]])
    among = short.candidates(source, torch.tensor([3, 1]), [0, 1])
    assert among.allowed is not None and among.ids.equal(among.ids.unique())
    for row, wanted in zip(among.allowed, ([5, 6, 7], [8]), strict=True):
        assert set(among.ids[row].tolist()) == listed(short, wanted, {0, 1})


def test_what_only_its_list_holds_is_said_of_no_other_source(wild: Path) -> None:
    """And the end can always be: with nothing but it on a list, an answer is empty."""
    loaded = load(wild)
    none = torch.zeros(0).long()
    short = Shortlist(
        none, torch.zeros(loaded.config.vocab_size + 1).long(), none, loaded.config.words, fingerprint(loaded)
    )
    asking(wild, bad_words_ids=[[2]])  # unknown, which is on every list too
    found = Translator(load(wild), search=Beam(1), shortlist=short)(LINES)
    assert {t.text for t in found} == {""} and all(t.candidates[0].finished for t in found)


@pytest.mark.parametrize(
    ("architecture", "how"),
    [
        ("T5ForConditionalGeneration", {"tie_word_embeddings": True}),  # whose head scales
        ("T5ForConditionalGeneration", {"tie_word_embeddings": False}),
        ("BartForConditionalGeneration", {}),
    ],
)
def test_other_families_do_the_same(tmp_path: Path, architecture: str, how: dict[str, Any]) -> None:
    theirs = asked_in_folder(tmp_path, architecture, num_beams=2, **how)
    if hasattr(theirs, "final_logits_bias"):
        theirs.final_logits_bias.normal_()
        theirs.save_pretrained(tmp_path)
    loaded, lines = load(tmp_path), [STORY[:30], STORY[30:55], "a"]
    short = drawn(loaded, few=9)
    always = {loaded.config.start_id, loaded.config.eos_id, 1, 2}
    said = Asking()
    found = Translator(loaded, max_new=9, shortlist=short, said=said)(lines)
    same(found, one_by_one(tmp_path, short, lines, always, max_new=9, said=said))


@PACKED
@pytest.mark.parametrize("product", [PackedLinear, pytest.param(Int8Linear, marks=INT8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_of_some_words_rounds_as_that_of_all(product: Any, dtype: torch.dtype) -> None:
    if product is Int8Linear and dtype != torch.float32:
        pytest.skip("products in 8 bits are made from float32")
    random = torch.Generator().manual_seed(0)
    for V, D in ((301, 40), (2000, 512), (700, 1056)):
        weight, bias = (torch.randn(*size, generator=random).to(dtype) for size in ((V, D), (V,)))
        whole = product(weight, bias)
        for C in (2, 3, 16, 50, 300):
            ids = torch.randperm(V, generator=random)[:C].sort().values
            some = product(weight[ids], bias[ids])
            for N in (1, 2, 7, 64):
                x = torch.randn(N, D, generator=random).to(dtype)
                assert some(x).equal(whole(x)[:, ids]), (V, D, C, N)


# --- learned from pairs ----------------------------------------------------------------------------------------------


def test_a_learned_list_holds_the_translations_that_the_pairs_were_made_of(trained: Path) -> None:
    loaded = load(trained)
    short = shortlist(pairs(400, seed=1), model=loaded, frequent=3, best=2)
    assert len(short.frequent) == 3 and int(short.starts.diff().max()) <= 3  # two, and the copy
    source, target = loaded.tokenizer.source, loaded.tokenizer.target
    for chinese, english in WORDS.items():
        if chinese not in "我天":  # of two English words, or in two places
            row = [token for token in source.encode(chinese) if token != source.eos_id]
            assert {*target.encode(f"a {english}")[1:-1]} & listed(short, row), (chinese, english)


def test_a_learned_list_holds_the_most_frequent_words_and_the_copy_of_each_token(trained: Path) -> None:
    loaded, rows = load(trained), pairs(100, seed=4)
    short = shortlist(iter(rows), model=loaded, frequent=5, best=0, most=60)
    seen = torch.tensor([id for _, en in rows[:60] for id in loaded.tokenizer.target.encode(en)]).bincount()
    assert sorted(seen[short.frequent].tolist()) == sorted(seen.topk(5).values.tolist())
    assert short.words.tolist() == [*range(loaded.tokenizer.source.size)]  # one vocabulary: each token is its own copy
    assert short.starts.tolist() == [*range(loaded.config.vocab_size + 1)]


def test_what_is_no_pair_is_refused(trained: Path) -> None:
    for wrong, sentence in [
        ([("天", 3)], r"Pair 1 must be \(source, target\), two texts, found \('天', 3\)"),
        ([("天", "sky"), "山"], "Pair 2 must be"),
        (["山水"], "Pair 1 must be"),
    ]:
        with pytest.raises(ArgumentError, match=sentence):
            shortlist(wrong, model=trained)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ArgumentError, match=r"pairs must be an iterable of \(source, target\), two texts each, found None"
    ):
        shortlist(None, model=trained)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="There is no pair of at most 128 tokens on either side"):
        shortlist([("天" * 200, "sky")], model=trained)
    with pytest.raises(ArgumentError, match="frequent is 0, but must be a whole number of at least 1"):
        shortlist([("天", "sky")], model=trained, frequent=0)
    with pytest.raises(ArgumentError, match="shortlist must be a Shortlist or the name of its file, found 3"):
        translate("天", model=trained, shortlist=3)  # pyright: ignore


# --- in files --------------------------------------------------------------------------------------------------------


def test_a_file_gives_the_same_list(wild: Path, tmp_path: Path) -> None:
    loaded = load(wild)
    short = drawn(loaded)
    short.save(tmp_path / "list")
    again = polyhead.Shortlist.load(tmp_path / "list")
    for name in ("frequent", "starts", "words", "targets", "tokenizers"):
        one, other = getattr(short, name), getattr(again, name)
        assert one.equal(other) if isinstance(one, Tensor) else one == other
    found = translate(LINES, model=loaded, shortlist=tmp_path / "list")
    assert found == translate(LINES, model=loaded, shortlist=short) != translate(LINES, model=loaded)


def test_a_list_of_another_model_is_refused(wild: Path) -> None:
    short = drawn(load(wild))
    with pytest.raises(ArgumentError, match=r"was made for the words of another model than .*zh-en; make one for it"):
        Translator(load("zh-en"), shortlist=short)


def test_a_list_made_by_hand_is_checked_before_it_is_used(wild: Path) -> None:
    short = drawn(load(wild))
    for wrong, sentence in [
        ({"starts": short.starts.flip(0)}, r"no short-list \(starts must rise from 0 .*\); make one with"),
        ({"words": short.words - 1000}, "words must be ids below"),
        ({"frequent": torch.tensor([short.targets])}, "frequent must be ids below"),
        ({"frequent": torch.tensor([1.0])}, "frequent, starts, words must each be a LongTensor of one dimension"),
        ({"words": short.words[None]}, "must each be a LongTensor"),
        ({"starts": short.starts.tolist()}, "must each be a LongTensor"),
    ]:
        with pytest.raises(ArgumentError, match=sentence):
            Translator(load(wild), shortlist=replace(short, **wrong))


GOOD = {"frequent": [1, 2], "starts": [0, 1, 3], "words": [3, 4, 5]}


@pytest.mark.parametrize(
    ("tables", "told", "sentence"),
    [
        ({"starts": [0, 1, 2]}, {}, "starts must rise from 0 to the number of words"),
        ({"starts": [0, 4, 3]}, {}, "starts must rise"),
        ({"starts": [1, 1, 3]}, {}, "starts must rise"),
        ({"starts": []}, {}, "starts must rise"),
        ({"words": [3, 4, 9]}, {}, "words must be ids below 9"),
        ({"words": [3, -1, 5]}, {}, "words must be ids below 9"),
        ({"frequent": [9]}, {}, "frequent must be ids below 9"),
        ({"words": [[3, 4, 5]]}, {}, "words must be rows of int32"),
        ({"words": [3.0, 4.0, 5.0]}, {}, "words must be rows of int32"),
        ({"words": None}, {}, "it has no words"),
        ({}, {"kind": "polyhead images 1"}, "it says 'polyhead images 1', expected 'polyhead shortlist 1'"),
        ({}, {"kind": None}, "it says None"),
        ({}, {"targets": "many"}, "invalid literal"),
        ({}, {"targets": None}, "targets"),
        ({}, {"tokenizers": None}, "tokenizers"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, tables: Any, told: Any, sentence: str) -> None:
    path = tmp_path / "list"
    rows = {name: torch.tensor(x) for name, x in (GOOD | tables).items() if x is not None}
    rows = {name: x.to(torch.int32) if x.dtype == torch.long or not len(x) else x for name, x in rows.items()}
    words = {"kind": FORMAT, "targets": "9", "tokenizers": "a b"} | told
    save_file(rows, path, metadata={name: text for name, text in words.items() if text is not None})
    with pytest.raises(DataError) as told_so:
        Shortlist.load(path)
    assert sentence in str(told_so.value) and "make one with polyhead shortlist" in str(told_so.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, json.dumps(GOOD).encode()])
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(
        DataError, match=r"list is not a short-list that polyhead shortlist wrote [(]damaged, or something"
    ):
        Shortlist.load(tmp_path / "list")
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError, match=rf"{path} cannot be read \({why}.*\); check the path and the file"):
            Shortlist.load(path)


def test_many_batches_are_answered_alike(wild: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(load(wild), max_new=12, shortlist=drawn(load(wild)))
    whole = translator(LINES)
    monkeypatch.setattr(text_to_text, "ROWS", 2)
    same(translator(LINES), whole)


def test_several_workers_read_it_from_its_file(wild: Path, tmp_path: Path) -> None:
    short = drawn(load(wild))
    short.save(tmp_path / "list")
    found = translate(LINES, model=wild, max_new=12, workers=2, shortlist=tmp_path / "list")
    assert found == translate(LINES, model=wild, max_new=12, shortlist=short)
    with pytest.raises(ArgumentError, match="Several workers read a short-list from its file; save it"):
        translate(LINES, model=wild, workers=2, shortlist=short)


def test_products_that_are_not_packed_do_the_same(wild: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that is no CPU."""
    monkeypatch.setattr(packed, "packable", lambda model: False)  # pyright: ignore
    short = drawn(load(wild))
    found = Translator(load(wild), max_new=12, shortlist=short)(LINES)
    same(found, one_by_one(wild, short, LINES, max_new=12))
