"""config.json both ways: every key is mapped, held, ignored by name or refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyhead.errors import CheckpointError, ConfigError
from polyhead.weights.config_keys import Inner, Keys, read_json


@dataclass(frozen=True)
class Config:
    d_model: int = 8
    n_layers: int = 2
    theta: float = 1.0


KEYS = Keys(
    {"d_model": "hidden_size", "n_layers": ("num_layers", "num_hidden_layers"), "theta": "rope_theta"},
    absent={"theta": 5.0},
    only={"is_decoder": False},
    ignore=("init_std",),
)


def test_a_file_goes_in_and_comes_out_whole() -> None:
    raw = {"hidden_size": 16, "num_layers": 3, "num_hidden_layers": 3, "rope_theta": 2.0, "init_std": 0.1}
    config = KEYS.read(raw, Config())
    assert config == Config(16, 3, 2.0)
    assert KEYS.write(config, raw) == raw | {"is_decoder": False}


def test_an_absent_key_means_what_it_means_in_the_file() -> None:
    assert KEYS.read({"num_layers": 4}, Config()) == Config(8, 4, 5.0)


def test_what_holds_null_asks_nothing_and_settings_of_decoding_no_model() -> None:
    raw = {"hidden_size": 16, "forced_bos_token_id": None, "num_beams": 6, "length_penalty": 2.0}
    assert KEYS.read(raw, Config()) == Config(16, 2, 5.0)
    assert KEYS.write(Config(16, 2, 5.0), raw).items() >= raw.items()


def test_everything_wrong_is_said_at_once() -> None:
    raw = {"hidden_sise": 16, "num_layers": 3, "num_hidden_layers": 4, "is_decoder": True}
    with pytest.raises(ConfigError) as refused:
        KEYS.read(raw, Config())
    message = str(refused.value)
    assert "hidden_sise=16 is not a known setting (did you mean 'hidden_size'?); is_decoder" in message
    assert "num_layers=3 and num_hidden_layers=4 must be equal" in message
    assert "is_decoder=True is not supported (only False)" in message


def test_only_what_is_near_is_suggested() -> None:
    keys = Keys({}, only={"tie_word_embeddings": True, "d_ff": 4})
    with pytest.raises(ConfigError) as refused:
        keys.read({"max_position_embeddings": 40, "intermediate_size": 20, "tie_word_embedding": True}, Config())
    told = (
        "config.json cannot be honoured: max_position_embeddings=40 is not a known setting; intermediate_size=20 is "
        "not a known setting; tie_word_embedding=True is not a known setting (did you mean 'tie_word_embeddings'?)"
    )
    assert str(refused.value) == told


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_file_that_is_no_object_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError) as refused:
        read_json(path)
    assert str(path) in str(refused.value)


RAW: dict[str, Any] = {"hidden_size": 16, "num_layers": 3, "num_hidden_layers": 3, "rope_theta": 2.0}


@dataclass(frozen=True)
class Outer:
    inner: Config = field(default_factory=Config)
    scale: float = 1.0


OUTER = Keys({"inner": Inner(("inner_dict", "inner_config"), KEYS), "scale": "scale"})


def test_a_config_inside_a_config_goes_in_and_comes_out_whole() -> None:
    told: dict[str, Any] = {"inner_config": {**RAW, "init_std": 0.02}, "scale": 2.0}
    config = OUTER.read(told, Outer())
    assert config == Outer(KEYS.read(RAW, Config()), 2.0)
    assert OUTER.write(config, told) == {"inner_config": KEYS.write(config.inner, told["inner_config"]), "scale": 2.0}
    assert OUTER.read(OUTER.write(config), Outer()) == config
    assert OUTER.read({"inner_config": None}, Outer()) == Outer()


def test_of_two_dicts_of_one_config_the_first_holds_and_both_are_written() -> None:
    told = {"inner_dict": RAW, "inner_config": {}}
    config = OUTER.read(told, Outer())
    assert config.inner == KEYS.read(RAW, Config())
    written = OUTER.write(config, told)
    assert OUTER.read({"inner_config": written["inner_config"]}, Outer()) == config


def test_what_is_wrong_inside_is_said_with_its_place_and_with_all_else() -> None:
    with pytest.raises(ConfigError) as told:
        OUTER.read({"inner_config": {**RAW, "odd": 3}, "scale": "large"}, Outer())
    assert "in inner_config, odd=3 is not a known setting" in str(told.value) and "scale must be" in str(told.value)
    with pytest.raises(ConfigError, match="inner_config must be a dict of settings, found 3"):
        OUTER.read({"inner_config": 3}, Outer())
