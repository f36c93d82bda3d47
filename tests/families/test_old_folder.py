"""A Marian folder as people have them, with .spm vocabularies and pickled weights, answers here as it does there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from polyhead.errors import CheckpointError
from polyhead.tasks.load import load
from polyhead.tasks.translator import Translator
from polyhead.weights.convert import convert

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]
LINES = ["the cat sat on the mat", "a small dog ran over the big hill", "the sun and the moon", "cats and dogs"]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source.spm, target.spm, vocab.json, config.json and pytorch_model.bin, with every parameter random."""
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder = tmp_path_factory.mktemp("old")
    pieces: dict[str, int] = {"</s>": 0, "<unk>": 1}
    for side, lines in (("source", LINES), ("target", [line.upper() for line in LINES])):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 20), model_prefix=str(folder / side), vocab_size=40, minloglevel=2,
            hard_vocab_limit=False,
        )  # fmt: skip
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
        (folder / f"{side}.vocab").unlink()
        model: Any = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        for i in range(model.get_piece_size()):
            pieces.setdefault(model.id_to_piece(i), len(pieces))
    pieces["<pad>"] = len(pieces)
    (folder / "vocab.json").write_text(json.dumps(pieces), "utf-8")
    MarianTokenizer(
        source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"), vocab=str(folder / "vocab.json"),
        source_lang="en", target_lang="EN",
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config: Any = {
        "vocab_size": len(pieces), "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "eos_token_id": 0,
        "pad_token_id": pieces["<pad>"], "decoder_start_token_id": pieces["<pad>"], "forced_eos_token_id": 0,
        "max_position_embeddings": 64, "activation_function": "swish", "scale_embedding": True,
    }  # fmt: skip
    model = MarianMTModel(MarianConfig(**config))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.config.architectures = ["MarianMTModel"]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # tied weights under each of their names
    return folder


def test_a_pickle_is_refused_with_the_command_that_converts_it(old: Path) -> None:
    with pytest.raises(CheckpointError, match="polyhead convert"):
        load(old)


def test_converted_it_says_what_transformers_says(old: Path, tmp_path: Path) -> None:
    from transformers import MarianMTModel, MarianTokenizer

    convert(old, tmp_path / "new")
    ours = Translator(load(tmp_path / "new"), max_new=12)
    theirs: Any = MarianMTModel.from_pretrained(tmp_path / "new").eval()
    tokenizer: Any = MarianTokenizer.from_pretrained(old)
    for line in LINES:
        ids = tokenizer(line, return_tensors="pt")["input_ids"]
        said = theirs.generate(ids, num_beams=4, max_new_tokens=12, bad_words_ids=[[theirs.config.pad_token_id]])
        assert ours([line])[0].text == tokenizer.decode(said[0], skip_special_tokens=True)
