"""One folder, two sides: a joint vocabulary, separate ones, or Marian's .spm files, read the same way."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import MarianTokenizer

from polyhead.errors import CheckpointError, MissingExtra, WriteError
from polyhead.inputs.pair import Pair, load_pair, save_pair, spelled
from polyhead.inputs.spm import SpmTokenizer
from polyhead.inputs.tokenizer import Piece, Tokenizer
from tests.inputs.samples import PAIRS, TEXTS
from tests.test_files import files_no_larger_than

ODD = [
    "",
    " ",
    "ＡＢＣ 她 has  two",
    "🍎 naïve ﬁ",
    ">>eng<<她没来。",
    ">>eng<< 她没来。",
    ">>xyz<< 她",
    ">> not a code",
    "她\u3000来",
]


def spm(texts: list[str], **how: Any) -> bytes:
    """A small sentencepiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, hard_vocab_limit=False, minloglevel=2, num_threads=1, **how
    )
    return model.getvalue()


@pytest.fixture(scope="session", params=["unigram", "bpe", "separate"])
def marian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Marian's converters write it: ids are counted by vocab.json, not by the .spm files."""
    folder = tmp_path_factory.mktemp("marian")
    kind = "bpe" if request.param == "bpe" else "unigram"
    vocabularies: list[list[str]] = []
    for side, name in enumerate(("source", "target")):
        model = spm([pair[side] for pair in PAIRS], model_type=kind, vocab_size=120, character_coverage=1.0)
        (folder / f"{name}.spm").write_bytes(model)
        inner = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [inner.id_to_piece(id) for id in range(inner.get_piece_size())]
        vocabularies.append([piece for piece in pieces if piece not in ("<unk>", "<s>", "</s>")][::-1])
    separate = request.param == "separate"
    for name, pieces in zip(
        ("vocab.json", "target_vocab.json") if separate else ("vocab.json",),
        vocabularies if separate else [vocabularies[0] + vocabularies[1]],
        strict=True,
    ):
        tokens = dict.fromkeys(["</s>", "<unk>", *pieces[5:], ">>eng<<", "<pad>"])  # some pieces have no id
        (folder / name).write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    config = {"source_lang": "zho", "target_lang": "eng", "separate_vocabs": separate}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


# --- tokenizer.json --------------------------------------------------------------------------------------------------


def test_a_joint_vocabulary_is_one_object_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_pair(Pair(tokenizer, tokenizer), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    pair = load_pair(tmp_path)
    assert pair.source is pair.target
    assert pair.source.fingerprint() == tokenizer.fingerprint()


def test_separate_vocabularies_stay_apart(tmp_path: Path) -> None:
    chinese = Tokenizer.train([zh for zh, _ in PAIRS], size=330)
    english = Tokenizer.train([en for _, en in PAIRS], size=330)
    save_pair(Pair(chinese, english), tmp_path)
    pair = load_pair(tmp_path)
    assert [pair.source.fingerprint(), pair.target.fingerprint()] == [chinese.fingerprint(), english.fingerprint()]


def test_a_folder_without_any_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no tokenizer, expected tokenizer\.json, or source\.spm"):
        load_pair(tmp_path)


def test_ids_and_the_text_they_came_from_spell_the_same_words(tokenizer: Tokenizer):
    for text in TEXTS[:40]:
        assert spelled(tokenizer, tokenizer.encode(text)) == (text, tokenizer.pieces(text))


def covered(text: str, pieces: list[Piece]) -> str:
    places = dict.fromkeys((piece.start, piece.end) for piece in pieces)
    return "".join(text[start:end] for start, end in places)


@pytest.mark.parametrize("text", ["我𠀀吃", "𠀀", "a 🍎🍎 b", "naïve ß"])
def test_the_bytes_of_a_character_all_spell_it(tokenizer: Tokenizer, text: str):
    found, pieces = spelled(tokenizer, tokenizer.encode(text))
    assert found == tokenizer.decode(tokenizer.encode(text))
    for piece in pieces[:-1]:
        assert not piece.text.startswith("<0x") or piece.end == piece.start + 1
    assert covered(found, pieces) == found


def test_bytes_that_make_no_character_and_special_tokens_have_their_place(tokenizer: Tokenizer):
    inner = tokenizer.inner
    ids = [inner.token_to_id("<0xE6>"), tokenizer.unk_id, tokenizer.encode("我")[-2], tokenizer.eos_id]
    text, pieces = spelled(tokenizer, ids)
    assert text == "\ufffd我"
    assert [piece.text for piece in pieces] == ["<0xE6>", "<unk>", pieces[2].text, "</s>"]
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 1), (1, 1), (1, 2), (2, 2)]


def test_no_ids_spell_nothing(tokenizer: Tokenizer):
    assert spelled(tokenizer, []) == ("", [])


# --- .spm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_folders_give_the_ids_and_texts_of_transformers(marian: Path) -> None:
    theirs, ours = MarianTokenizer.from_pretrained(marian), load_pair(marian)
    assert (ours.source.pad_id, ours.source.eos_id, ours.source.unk_id) == (
        theirs.pad_token_id,
        theirs.eos_token_id,
        theirs.unk_token_id,
    )
    for text in TEXTS + ODD:
        source, target = ours.source.encode(text), ours.target.encode(text)
        assert source == theirs(text).input_ids
        assert target == theirs(text_target=text).input_ids
        assert ours.target.decode(target) == theirs.decode(target, skip_special_tokens=True)
    assert ours.source.encode_batch(TEXTS) == theirs(TEXTS).input_ids
    ids = ours.target.encode_batch([en for _, en in PAIRS])
    assert ours.target.decode_batch(ids) == theirs.batch_decode(ids, skip_special_tokens=True)


def test_ids_of_marian_folders_spell_their_text(marian: Path) -> None:
    tokenizer = load_pair(marian).target
    for _, text in PAIRS[:10]:
        found, pieces = spelled(tokenizer, tokenizer.encode(text))
        assert found == tokenizer.decode(tokenizer.encode(text))
        assert covered(found, pieces) == found
        for ours, theirs in zip(pieces, tokenizer.pieces(text), strict=True):
            assert ours.text == ("<unk>" if theirs.id == tokenizer.unk_id else theirs.text)


def test_marian_folders_come_out_as_they_went_in(marian: Path, tmp_path: Path) -> None:
    save_pair(load_pair(marian), tmp_path)
    for path in marian.iterdir():
        saved = tmp_path / path.name
        if path.suffix == ".spm":
            assert saved.read_bytes() == path.read_bytes()
        else:
            assert json.loads(saved.read_text()) == json.loads(path.read_text())
    assert load_pair(tmp_path).target.fingerprint() == load_pair(marian).target.fingerprint()


def test_a_full_disk_leaves_the_spm_files_that_were_there(marian: Path, tmp_path: Path) -> None:
    (tmp_path / "source.spm").write_text("as before")
    with files_no_larger_than(1000), pytest.raises(WriteError, match=r"source\.spm could not be written"):
        load_pair(marian).source.save(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("source.spm", "as before")]


@pytest.mark.parametrize("text", [*TEXTS[:6], *ODD])
def test_marian_pieces_are_the_ids_with_their_places(marian: Path, text: str) -> None:
    tokenizer = load_pair(marian).source
    pieces = tokenizer.pieces(text)
    assert [piece.id for piece in pieces] == tokenizer.encode(text)
    assert pieces[-1][1:] == ("</s>", len(text), len(text))
    shown = "".join(text[piece.start : piece.end] for piece in pieces)
    assert "".join(shown.split()) == "".join(text.split())


def test_a_special_token_that_a_person_types_is_text(marian: Path) -> None:
    tokenizer = load_pair(marian).source
    assert tokenizer.encode("她 </s> <pad>").count(tokenizer.eos_id) == 1
    assert tokenizer.pad_id not in tokenizer.encode("她 </s> <pad>")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("target.spm", None, r"has \.spm vocabularies but no target\.spm"),
        ("vocab.json", None, r"has \.spm vocabularies but no vocab\.json"),
        ("vocab.json", b"{", "source vocabulary of .* is damaged"),
        ("vocab.json", b'{"</s>": 0, "<unk>": 1}', "vocabulary of the source side lacks <pad>"),
        ("source.spm", b"junk", "source vocabulary of .* is damaged"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    for side in ("source", "target"):
        (tmp_path / f"{side}.spm").write_bytes(spm(TEXTS, vocab_size=120))
    (tmp_path / "vocab.json").write_text('{"</s>": 0, "<unk>": 1, "<pad>": 2}')
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        load_pair(tmp_path)


def test_a_missing_sentencepiece_names_its_extra(marian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtra, match=r"polyhead\[spm\]"):
        SpmTokenizer.load(marian, side="source")
