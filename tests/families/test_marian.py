"""Marian here and in `transformers`: the same logits and the same tokens, through saved files, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from polyhead.core.packed import packed
from polyhead.families import family_of
from polyhead.generation import Beam, Greedy, Search
from polyhead.inputs.pair import Pair, save_pair
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.load import Loaded, load, save
from polyhead.tasks.translator import Translator
from polyhead.weights.config_keys import read_json

PAD, EOS = 60, 3
SHAPES: list[dict[str, Any]] = [
    {},
    {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 77},
    {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 77, "tie_word_embeddings": False},
    {"activation_function": "gelu", "scale_embedding": False, "encoder_layers": 1, "decoder_attention_heads": 8},
]
pytestmark = pytest.mark.parity


def theirs(seed: int = 0, **changes: Any) -> Any:
    """A tiny model of odd sizes with every parameter and buffer random."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 91, "d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 56, "decoder_ffn_dim": 40, "max_position_embeddings": 40,
        "activation_function": "swish", "scale_embedding": True, "pad_token_id": PAD, "eos_token_id": EOS,
        "forced_eos_token_id": EOS, "decoder_start_token_id": PAD, "dropout": 0.0,
    }  # fmt: skip
    model = MarianMTModel(MarianConfig(**(settings | changes))).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:  # the sinusoids are computed
            torch.nn.init.normal_(parameter, std=0.3)
    model.final_logits_bias.normal_()
    return model


def lively(model: Any) -> Any:
    """With norms near identity, so that some answers end early and others at the limit."""
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, mean=1.0, std=0.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    model.final_logits_bias[0, EOS] += 4
    return model


def in_folder(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    words = Tokenizer.train(["a b c d e f g h i j k"], size=40, byte_fallback=False, coverage=1.0)
    save_pair(Pair(words, words), folder)
    return folder


def some_batch(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Source ids [3, 9] of the lengths [3], and target ids [3, 6]."""
    torch.manual_seed(1)
    words = (
        model.config.vocab_size if model.config.share_encoder_decoder_embeddings else model.config.decoder_vocab_size
    )
    return torch.randint(4, 60, (3, 9)), torch.tensor([9, 4, 1]), torch.randint(0, words, (3, 6))


def their_logits(model: Any, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
    seen = (torch.arange(source.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        return model(input_ids=source, attention_mask=seen, decoder_input_ids=target).logits


def difference(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("changes", SHAPES)
def test_their_folder_gives_their_logits_here(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = theirs(**changes)
    ours = load(in_folder(model, tmp_path)).model
    batch = some_batch(model)
    with torch.no_grad():
        assert difference(ours(batch[0], batch[2], batch[1]), their_logits(model, *batch)) < 1e-5


#  What config.json of the translators of 2020 held beside sizes and ids, each key in one of them or another.
LEFT_OVER: dict[str, Any] = {
    "_num_labels": 3, "add_bias_logits": False, "add_final_layer_norm": False, "architectures": ["MarianMTModel"],
    "bad_words_ids": [[PAD]], "bos_token_id": 0, "classif_dropout": 0.0, "do_blenderbot_90_layernorm": False,
    "extra_pos_embeddings": PAD + 1, "force_bos_token_to_be_generated": False, "forced_bos_token_id": None,
    "gradient_checkpointing": False, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "is_encoder_decoder": True, "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}, "length_penalty": 1.0,
    "max_length": 512, "model_type": "marian", "normalize_before": False, "normalize_embedding": False,
    "num_beams": 6, "num_return_sequences": 1, "output_past": True, "save_step": 12,
    "static_position_embeddings": True, "task_specific_params": {"translation": {"num_beams": 6}},
    "tokenizer_class": "MarianTokenizer", "torch_dtype": "float32", "use_cache": True,
}  # fmt: skip
SIZES = (
    "activation_dropout activation_function attention_dropout d_model decoder_attention_heads decoder_ffn_dim "
    "decoder_layerdrop decoder_layers decoder_start_token_id dropout encoder_attention_heads encoder_ffn_dim "
    "encoder_layerdrop encoder_layers eos_token_id init_std max_position_embeddings num_hidden_layers pad_token_id "
    "scale_embedding vocab_size"
).split()


def test_a_config_written_as_those_of_2020_gives_their_logits_here(tmp_path: Path) -> None:
    folder = in_folder(theirs(forced_eos_token_id=0), tmp_path)
    now = read_json(folder / "config.json") | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps({key: now[key] for key in SIZES} | LEFT_OVER), "utf-8")
    model: Any = MarianMTModel.from_pretrained(folder).eval()
    ours, batch = load(folder), some_batch(model)
    with torch.no_grad():
        assert difference(ours.model(batch[0], batch[2], batch[1]), their_logits(model, *batch)) < 1e-5
    save(ours, tmp_path / "again")
    assert read_json(tmp_path / "again" / "config.json").items() >= LEFT_OVER.items()  # nothing is lost


@pytest.mark.parametrize("changes", SHAPES)
def test_our_folder_gives_our_logits_there(tmp_path: Path, changes: dict[str, Any]) -> None:
    loaded = load(in_folder(theirs(**changes), tmp_path / "theirs"))
    torch.manual_seed(7)
    for tensor in (*loaded.model.parameters(), loaded.model.get_buffer("head.fixed_bias")):
        torch.nn.init.normal_(tensor, std=0.3)
    save(loaded, tmp_path / "ours")
    model = MarianMTModel.from_pretrained(tmp_path / "ours").eval()
    batch = some_batch(model)
    with torch.no_grad():
        assert difference(loaded.model(batch[0], batch[2], batch[1]), their_logits(model, *batch)) < 1e-5


@pytest.mark.parametrize("changes", SHAPES)
def test_file_to_model_to_file_changes_no_tensor_and_no_setting(tmp_path: Path, changes: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    folder = in_folder(theirs(**changes), tmp_path / "theirs")
    save(load(folder), tmp_path / "ours")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    settings = (json.loads((path / "config.json").read_text("utf-8")) for path in (folder, tmp_path / "ours"))
    before, after = settings
    assert {key: after[key] for key in before if key != "transformers_version"} == {
        key: value for key, value in before.items() if key != "transformers_version"
    }


@pytest.mark.parametrize(
    ("search", "options"),
    [
        (Greedy(), {"num_beams": 1}),
        (Beam(4), {"num_beams": 4}),
        (Beam(3, length_penalty=0.6, n_best=3), {"num_beams": 3, "length_penalty": 0.6, "num_return_sequences": 3}),
    ],
)
@pytest.mark.parametrize("packing", [False, True])
def test_greedy_and_beam_say_the_same_words(
    tmp_path: Path, search: Search, options: dict[str, Any], packing: bool
) -> None:
    model = lively(theirs(seed=4, **SHAPES[2], scale_embedding=False))
    loaded = load(in_folder(model, tmp_path))
    translator = Translator(loaded, search=search)
    translator.model = packed(loaded.model) if packing else loaded.model
    torch.manual_seed(5)
    rows = [torch.randint(4, 60, (n,)).tolist() for n in (9, 7, 7, 5, 3, 2, 1, 1)]
    found = translator.batch(rows)
    assert len({len(hypotheses[0].tokens) for hypotheses in found}) > 2
    for row, hypotheses in zip(rows, found, strict=True):
        longest = min(2 * len(row) + 31, 40)
        expected = model.generate(
            torch.tensor([row]), do_sample=False, max_length=longest, bad_words_ids=[[PAD]],
            forced_eos_token_id=EOS if longest == 40 else None, **options,
        )  # fmt: skip
        theirs_ = [[token for token in line.tolist()[1:] if token not in (PAD, EOS)] for line in expected]
        assert [hypothesis.tokens for hypothesis in hypotheses] == theirs_


def test_old_files_hold_tied_weights_twice_and_load_the_same(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = in_folder(theirs(), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    shared = tensors["model.shared.weight"]
    for copy in ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"):
        tensors[copy] = shared.clone()
    tensors["model.encoder.embed_positions.weight"] = torch.zeros(40, 48)
    before = load(folder).model.state_dict()
    save_file(tensors, folder / "model.safetensors")
    after = load(folder).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_settings_a_file_leaves_out_mean_what_they_mean_there() -> None:
    """An old config.json holds only what differs from the defaults of MarianConfig, not from ours."""
    raw = {"architectures": ["MarianMTModel"], "model_type": "marian"}
    family, expected = family_of(raw), MarianConfig()
    config = family.keys.read(raw, family.config())
    written = family.keys.write(config)
    assert {key: written[key] for key in written if hasattr(expected, key) and key != "decoder_vocab_size"} == {
        key: getattr(expected, key) for key in written if hasattr(expected, key) and key != "decoder_vocab_size"
    }


def test_the_defaults_are_the_base_model_of_the_paper() -> None:
    config = family_of({"architectures": ["MarianMTModel"]}).config()
    sizes = config.n_layers, config.n_decoder_layers, config.n_heads, config.d_model, config.d_ff, config.dropout
    assert sizes == (6, 6, 8, 512, 2048, 0.1)


def test_a_saved_config_names_every_setting(tmp_path: Path) -> None:
    loaded: Loaded = load(in_folder(theirs(), tmp_path / "theirs"))
    save(Loaded(loaded.model, loaded.tokenizer, loaded.family), tmp_path / "ours")
    raw = read_json(tmp_path / "ours" / "config.json")
    for ours in loaded.family.keys.table:
        for key in loaded.family.keys.places(ours):
            assert key in raw
