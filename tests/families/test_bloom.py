"""BLOOM as it was released: its names of keys and tensors are read, and what computes something else is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from polyhead.errors import ConfigError
from polyhead.families import family_of
from polyhead.tasks.load import read_model
from polyhead.weights.config_keys import read_json
from tests.families.tiny import both, difference, ours_of, some_inputs, some_target, theirs_for

pytestmark = pytest.mark.parity
OLD = {"hidden_size": "n_embed", "n_head": "num_attention_heads"}
LEFT = {"seq_length": 2048, "offset_alibi": 100, "masked_softmax_fusion": True, "n_inner": None, "unk_token_id": 0}


@torch.no_grad()
def test_a_folder_with_the_names_of_the_release_gives_the_same_answers(tmp_path: Path) -> None:
    pair = both("BloomForCausalLM", "", tmp_path / "new")
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text(json.dumps({OLD.get(key, key): value for key, value in pair.raw.items()} | LEFT))
    held = load_file(pair.folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in held.items()}
    save_file(bare | {"lm_head.weight": bare["word_embeddings.weight"].clone()}, old / "model.safetensors")
    raw = read_json(old / "config.json")
    pair.ours = read_model(old, raw, family_of(raw)).eval()
    x, target = some_inputs(pair), some_target()
    assert difference(ours_of(pair, x, target), theirs_for(pair, x, target)) < 1e-5


@pytest.mark.parametrize("key", ["apply_residual_connection_post_layernorm", "slow_but_exact", "alibi"])
def test_what_is_not_built_is_refused(tmp_path: Path, key: str) -> None:
    raw = both("BloomForCausalLM", "", tmp_path).raw | {key: True}
    kind = family_of(raw)
    with pytest.raises(ConfigError, match=key):
        kind.keys.read(raw, kind.config())
