"""Which expert each token is sent to: as the routers of `transformers` say, in all texts, with what is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import polyhead
from polyhead import ArgumentError, DataError
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.experts import Layer, Routing, experts
from polyhead.lens.looking import answer_text
from polyhead.tasks.load import load
from tests.tasks.words import asked_in_folder, decoder_in_folder

pytestmark = pytest.mark.parity
TEXT = "the cat sat on the mat, and the dog ran."


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("my-mixtral")
    return decoder_in_folder(folder, "MixtralForCausalLM", num_local_experts=4), folder


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("my-switch")
    how = {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 3, "expert_capacity": 3}
    task = {"summarization": {"prefix": "to: ", "max_length": 12}}
    return asked_in_folder(
        folder, "SwitchTransformersForConditionalGeneration", task_specific_params=task, **how
    ), folder


def test_every_layer_of_mixtral_tells_what_its_router_said(mixtral: tuple[Any, Path]) -> None:
    theirs, folder = mixtral
    found = polyhead.experts(TEXT, model=folder)
    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        scores = theirs(ids, output_router_logits=True).router_logits
    assert [layer.name for layer in found.layers] == ["decoder.blocks.0.mlp", "decoder.blocks.1.mlp"]
    for layer, theirs_said in zip(found.layers, scores, strict=True):
        shares = theirs_said.softmax(-1)
        assert "".join("".join(layer.tokens).split()) == TEXT.replace(" ", "")
        torch.testing.assert_close(layer.probabilities, shares, rtol=1e-4, atol=1e-5)
        assert torch.equal(layer.chosen, shares.topk(2, -1).indices)
        entropy = float(-(shares.double() * shares.double().log()).sum(-1).mean())
        assert layer.entropy == pytest.approx(entropy, rel=1e-4)
        assert layer.dropped == 0 and int(layer.counts.sum()) == 2 * ids.shape[1]


def test_both_stacks_of_switch_tell_theirs_and_what_was_dropped(switch: tuple[Any, Path]) -> None:
    theirs, folder = switch
    found = experts("The dog ran.", model=folder)
    one = answer_text(load(folder), "The dog ran.")
    with torch.no_grad():
        told = theirs(input_ids=one.given[0], decoder_input_ids=one.given[1], output_router_logits=True)
    assert found.sources == ("to: The dog ran.",) and found.targets == (one.target,)
    assert [(layer.part, layer.number) for layer in found.layers] == [("encoder", 1), ("decoder", 1)]
    for layer, scores in zip(found.layers, (told.encoder_router_logits, told.decoder_router_logits), strict=True):
        best = scores[0][0].argmax(-1)
        room = [3] * 3
        for n, expert in enumerate(best.tolist()):
            room[expert] -= 1
            assert layer.chosen[n].tolist() == [expert if room[expert] >= 0 else -1]
        assert layer.dropped == pytest.approx(1 - sum(3 - max(left, 0) for left in room) / len(best))
        assert layer.dropped > 0


def test_texts_are_told_together(mixtral: tuple[Any, Path]) -> None:
    texts = ["the cat", "a dog ran"]
    both, alone = experts(texts, model=mixtral[1]), [experts(text, model=mixtral[1]) for text in texts]
    for name in ("decoder.blocks.0.mlp", "decoder.blocks.1.mlp"):
        assert torch.equal(both[name].counts, torch.stack([one[name].counts for one in alone]).sum(0))
        assert both[name].tokens == alone[0][name].tokens + alone[1][name].tokens
    assert both.sources == tuple(texts) and both.targets == ()


def made(chosen: list[list[int]], n: int = 3, *, part: Any = "decoder", number: int = 0) -> Layer:
    tokens = tuple("the cat sat on the mat".split()[: len(chosen)])
    return Layer(
        f"{part}.blocks.{number}.mlp", part, number, tokens, torch.full((len(chosen), n), 1 / n), torch.tensor(chosen)
    )


def test_an_expert_has_its_tokens_and_the_picture_shows_them() -> None:
    layer = made([[0], [2], [-1], [2]])
    assert layer.counts.tolist() == [1, 0, 2]
    assert (layer.sent(2), layer.sent(1), layer.sent(0)) == (["cat", "on"], [], ["the"])
    assert layer.dropped == 0.25 and layer.entropy == pytest.approx(1.0986, abs=1e-4)
    with pytest.raises(ArgumentError, match="experts 0 to 2, but expert is 3"):
        layer.sent(3)
    drawn = str(Routing("m", ("the cat sat on",), (), (layer,)).draw(layer=0)).splitlines()
    assert drawn[:3] == ["the cat sat on", "", "decoder layer 0: 2 of 3 experts took some of 4 tokens, each sent to 1."]
    assert [line.split() for line in drawn[5:8]] == [
        ["2", "2", "cat", "on"],
        ["0", "1", "the"],
        ["dropped", "1", "sat"],
    ]


def test_all_layers_are_a_line_each() -> None:
    routing = Routing("m", ("a",), (), (made([[0], [2], [-1], [2]]), made([[1], [1], [1], [0]], number=2)))
    lines = str(routing).splitlines()
    assert lines[-3].split() == ["0", "1", "2", "dropped", "entropy"]
    assert lines[-2].split() == ["decoder", "layer", "0", "1", "0", "2", "25.0", "%", "1.10"]
    assert lines[-1].split() == ["decoder", "layer", "2", "1", "3", "0", "0.0", "%", "1.10"]


@pytest.mark.parametrize("width", [40, 60, 100])
def test_of_many_experts_the_busiest_are_told_and_no_line_is_too_long(width: int) -> None:
    chosen = [[e] for e in (7, 7, 7, 61, 61, 5)]
    routing = Routing("m", ("a",), (), (made(chosen, 64),))
    table, list_ = (routing.draw(layer=layer, canvas=Canvas(width=width)).plain.splitlines() for layer in (None, 0))
    rows = [*table[-2:], *list_[list_.index("expert  tokens") :]]
    assert len(rows) >= 6 and all(len(row) <= width for row in rows)
    assert "7: 3" in table[-1] and list_[-1].split()[:2] == ["5", "1"]


def test_what_cannot_be_told_is_refused(mixtral: tuple[Any, Path], switch: tuple[Any, Path], tmp_path: Path) -> None:
    decoder_in_folder(tmp_path, "LlamaForCausalLM")
    with pytest.raises(ArgumentError, match="LlamaForCausalLM without experts"):
        experts("a", model=tmp_path)
    with pytest.raises(ArgumentError, match="writes no answer, so prefix says nothing"):
        experts("a", model=mixtral[1], prefix="say: ")
    with pytest.raises(ArgumentError, match="There are no texts"):
        experts([], model=mixtral[1])
    with pytest.raises(DataError, match="empty text"):
        experts(" ", model=mixtral[1])
    found = experts("a cat", model=switch[1])
    with pytest.raises(
        ArgumentError, match=r"no experts in its encoder layer 0; it has some in encoder layer 1, decoder"
    ):
        found.draw("encoder", layer=0)
    with pytest.raises(ArgumentError, match=r"no experts at 'decoder\.blocks\.0\.mlp'"):
        found["decoder.blocks.0.mlp"]
