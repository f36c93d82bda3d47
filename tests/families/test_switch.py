"""What is Switch's own: which layers have experts, words that find no room, steps of a cache, a head of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

from polyhead.core import Run
from polyhead.core.experts import routing
from polyhead.families.switch import Config
from polyhead.operator import Cache
from polyhead.tasks.load import read_model
from polyhead.weights.config_keys import read_json
from tests.families.tiny import SWITCH, Both, both, difference, ours_of, some_inputs, some_target, theirs_for

pytestmark = pytest.mark.parity
NAME = "SwitchTransformersForConditionalGeneration"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Both models, with room for two words of a text in each expert."""
    return both(NAME, "dropped", tmp_path_factory.mktemp("switch"))


@torch.no_grad()
def test_words_without_room_are_dropped_in_both_stacks_where_theirs_are(pair: Both) -> None:
    x, target = some_inputs(pair), some_target()
    with routing() as routes:
        found = ours_of(pair, x, target)
    dropped = [(route.chosen.shape[1], int((route.chosen < 0).sum())) for route in routes]
    assert [words for words, _ in dropped] == [9, 9, 6]  # two layers of the encoder, one of the decoder
    assert all(n >= 2 * (words - 4) for words, n in dropped)  # two texts, two experts, room for two in each
    assert difference(found, theirs_for(pair, x, target)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_steps_with_a_cache_are_theirs(pair: Both, chunk: int) -> None:
    """Each call counts the room anew, here and there, so that one word at a time finds room for all."""
    x, target = some_inputs(pair), some_target()
    memory, run_cache = pair.ours.encode(x), Cache()
    theirs: Any = pair.theirs
    encoded, past, off = theirs.get_encoder()(x), None, []
    whole = ours_of(pair, x, target)
    parts = []
    for part in target.split(chunk, 1):
        ours = pair.ours.head(pair.ours.decode(part, Run(memory=memory, cache=run_cache)))
        answer = theirs(encoder_outputs=encoded, decoder_input_ids=part, past_key_values=past, use_cache=True)
        past = answer.past_key_values
        off.append(difference(ours, answer.logits))
        parts.append(ours)
    assert max(off) < 1e-5
    if chunk == 1:
        assert difference(torch.cat(parts, 1), whole) > 0.01  # where all words are read at once, some are dropped


@pytest.mark.parametrize("layers", [(1, 0), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 4), (12, 6), (3, 0), (2, 5)])
def test_the_layers_with_experts_are_those_of_the_reference(layers: tuple[int, int]) -> None:
    n, sparse = layers
    sizes: dict[str, Any] = SWITCH | {"num_layers": n, "num_sparse_encoder_layers": sparse}
    theirs: Any = SwitchTransformersForConditionalGeneration(SwitchTransformersConfig(**sizes))
    ours = replace(Config(), n_layers=n, n_sparse=sparse).encoder().mixtures
    assert [each is not None for each in ours] == [block.is_sparse for block in theirs.encoder.block]


@torch.no_grad()
def test_a_head_of_its_own_is_read_from_the_tensors(pair: Both, tmp_path: Path) -> None:
    pair.theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = SwitchTransformersForConditionalGeneration.from_pretrained(tmp_path).eval()
    raw = read_json(tmp_path / "config.json")
    ours = read_model(tmp_path, raw, pair.family).eval()
    assert isinstance(ours.config, Config) and not ours.config.tied
    apart, x, target = Both(theirs, ours, pair.family, raw, tmp_path), some_inputs(pair), some_target()
    assert difference(ours_of(apart, x, target), theirs_for(apart, x, target)) < 1e-5
    assert difference(ours_of(apart, x, target), ours_of(pair, x, target)) > 0.1


@torch.no_grad()
def test_in_bfloat16_the_router_scores_in_float32_as_theirs_does(pair: Both) -> None:
    x, target = some_inputs(pair), some_target()
    theirs: Any = SwitchTransformersForConditionalGeneration.from_pretrained(pair.folder, dtype=torch.bfloat16).eval()
    ours: Any = read_model(pair.folder, pair.raw, pair.family, torch.bfloat16).eval()
    with routing() as routes:
        ours.encode(x)
    scores = theirs(input_ids=x, decoder_input_ids=target, output_router_logits=True).encoder_router_logits
    assert {route.scores.dtype for route in routes} == {each.dtype for each in scores} == {torch.float32}
    assert all(difference(a.scores, b) < 0.1 for a, b in zip(routes, scores, strict=True))
