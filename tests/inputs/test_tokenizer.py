"""A vocabulary trained here: nothing is lost, both scripts are one, and `transformers` agrees through the folder."""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from polyhead.errors import ArgumentError, CheckpointError, DataError, WriteError
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Tokenizer
from tests.inputs.samples import TEXTS
from tests.test_files import files_no_larger_than

ANY = [
    "Tom's cat didn't come, did it?",
    "用Python写程序",
    "𠮷野家 🍎 naïve ﬁ",
    "a </s> b <pad> <0x41>",
    "",
    " two  spaces ",
    "▁",
]
lines = st.text(st.one_of(st.characters(), st.sampled_from("我她昨天。， aTo'm2é\u0301")), max_size=30).map(clean)


@given(line=lines)
@settings(max_examples=300)
def test_what_goes_in_comes_out(tokenizer: Tokenizer, line: str) -> None:
    line = line.replace("▁", "_")  # the sign that stands for a space
    normal = tokenizer.inner.normalizer.normalize_str("\0" + line)[2:].replace("▁", " ")
    assert tokenizer.decode(tokenizer.encode(line)) == normal


@pytest.mark.parametrize("text", TEXTS[:40] + ANY[:3])
def test_english_and_simplified_chinese_come_out_exactly(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFKC", text)


def test_traditional_and_simplified_text_are_the_same_ids(tokenizer: Tokenizer) -> None:
    both = {
        "雖然下雨，但我很開心。": "虽然下雨，但我很开心。",
        "老師讀了三本書，妳呢": "老师读了三本书，你呢",
        "她看著一隻著名的貓，甚麼也沒說": "她看着一只著名的猫，什么也没说",
        "「沒來」": "“没来”",
        "我瞭解他的計畫": "我了解他的计划",
    }
    for traditional, simplified in both.items():
        assert tokenizer.encode(traditional) == tokenizer.encode(simplified)


def test_simplified_text_stays_as_it_is(tokenizer: Tokenizer) -> None:
    for text in (
        "看着一位著名的著作者",
        "土著",
        "某人 著",
        "显著的原著",
        "画画的计算机",
        "瞭望台上的望远镜",
        "甚至",
        "他在乎什么后果",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_full_width_forms_are_the_plain_ones(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Ｔｏｍ　２０１３！") == tokenizer.encode("Tom 2013!")
    assert tokenizer.encode("她没来，我们？") == tokenizer.encode("她没来,我们?")
    assert tokenizer.decode(tokenizer.encode("她没来。")) == "她没来。"


def test_every_text_ends_with_its_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == [tokenizer.eos_id]
    ids = tokenizer.encode_batch(TEXTS)
    assert ids == [tokenizer.encode(text) for text in TEXTS]
    assert all(row.count(tokenizer.eos_id) == 1 and row[-1] == tokenizer.eos_id for row in ids)
    assert tokenizer.decode_batch(ids) == [tokenizer.decode(row) for row in ids]


def test_a_special_token_that_a_person_types_is_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a </s> <pad> <unk> <0x41>")
    assert not {tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id} & set(ids[:-1])
    assert tokenizer.decode(ids) == "a </s> <pad> <unk> <0x41>"


def test_special_ids_are_where_they_were_asked_for() -> None:
    made = Tokenizer.train(TEXTS, size=380, specials=("</s>", "<unk>", "<2en>", "<pad>"), coverage=1.0)
    assert (made.eos_id, made.unk_id, made.named("<2en>"), made.pad_id) == (0, 1, 2, 3)
    assert made.specials == ["</s>", "<unk>", "<2en>", "<pad>"]
    assert made.decode([2, *made.encode("She didn't come."), 3]) == "She didn't come."
    with pytest.raises(ArgumentError, match=r"no token '<2zh>'; its special tokens are \['</s>'"):
        made.named("<2zh>")


def test_words_numbers_and_chinese_are_never_merged_across(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        for piece in (piece.text for piece in tokenizer.pieces(text)[:-1]):
            kinds = {
                "digit" if c.isdigit() else "chinese" if c > "\u3400" else "other" for c in piece if c not in "▁。"
            }
            assert len(kinds) <= 1, piece
            assert "。" not in piece or piece == "。"
            assert sum(c.isdigit() for c in piece) <= 1, piece


def test_a_word_of_chinese_is_the_same_token_wherever_it_stands(bpe: Tokenizer) -> None:
    first, later = bpe.pieces("我们在北京"), bpe.pieces("Tom,我们在北京")
    assert [piece.text for piece in first] == [piece.text for piece in later][-len(first) :]


@pytest.mark.parametrize("word", ["come", "didn't come", "北京", "我们在", "Python", "naïve"])
def test_a_phrase_is_written_as_within_a_text(tokenizer: Tokenizer, word: str) -> None:
    """Wherever it stands, one of the ways is part of the whole text's ids, and each of them says it and no more."""
    ways = tokenizer.phrases(f" {word} ")
    assert [tokenizer.decode(way).strip() for way in ways] == [word] * len(ways)
    for text in (f"{word}.", f"Tom {word}", f"Tom, {word} it", *([f"他{word}了。"] if word > "\u2e80" else [])):
        ids = tokenizer.encode(text)
        assert any(ids[i : i + len(way)] == way for way in ways for i in range(len(ids))), text


def test_a_phrase_without_tokens_is_refused() -> None:
    tokenizer = Tokenizer.train(["I like apples."], size=40, byte_fallback=False)
    with pytest.raises(ArgumentError, match="The model has no tokens for '苹果', so no answer of its can hold it"):
        tokenizer.phrases("苹果")
    with pytest.raises(ArgumentError, match="no tokens for ''"):
        tokenizer.phrases("  ")


def test_the_rarest_characters_stay_outside_but_are_not_lost() -> None:
    texts = [*TEXTS, "罕见的龘"]
    all_in = Tokenizer.train(texts, size=400, coverage=1.0)
    some_out = Tokenizer.train(texts, size=400, coverage=0.998)
    without_bytes = Tokenizer.train(texts, size=400, coverage=0.998, byte_fallback=False)
    assert len(all_in.encode("龘")) == 2
    assert len(some_out.encode("龘")) == 4
    assert some_out.decode(some_out.encode("龘")) == "龘"
    assert without_bytes.encode("龘") == [without_bytes.unk_id, without_bytes.eos_id]


def test_training_reads_the_lines_once_and_gives_the_same_again() -> None:
    def once() -> Iterator[str]:
        yield from TEXTS

    first = Tokenizer.train(once(), size=400, coverage=1.0)
    again = Tokenizer.train(TEXTS, size=400, coverage=1.0)
    assert first.fingerprint() == again.fingerprint()
    assert first.size <= 400


# --- pieces ----------------------------------------------------------------------------------------------------------


@given(line=lines)
def test_pieces_are_the_ids_with_their_places(tokenizer: Tokenizer, line: str) -> None:
    pieces = tokenizer.pieces(line)
    assert [piece.id for piece in pieces] == tokenizer.encode(line)
    assert pieces[-1][1:] == ("</s>", len(line), len(line))
    assert all(0 <= piece.start <= piece.end <= len(line) for piece in pieces)
    assert [piece.start for piece in pieces] == sorted(piece.start for piece in pieces)


def test_places_point_into_the_text_as_it_was_given(bpe: Tokenizer, tokenizer: Tokenizer) -> None:
    for made, text in ((bpe, "她看见了Ｔｏｍ，2013年"), (tokenizer, "她看見了Ｔｏｍ，2013年")):
        assert "".join(text[piece.start : piece.end] for piece in made.pieces(text)) == text
        cut = [text[piece.start : piece.end] for piece in made.pieces(text)]
        assert "，" in cut
        assert {"Ｔ", "Ｔｏｍ"} & set(cut)


# --- through files ---------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("model_type", [None, "marian"])
def test_transformers_gives_the_same_ids_and_texts_from_the_folder(
    tmp_path: Path, tokenizer: Tokenizer, model_type: str | None
) -> None:
    tokenizer.save(tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        theirs = AutoTokenizer.from_pretrained(tmp_path)
    else:
        theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (
        tokenizer.pad_id,
        tokenizer.eos_id,
        tokenizer.unk_id,
    )
    assert len(theirs) == tokenizer.size
    for text in TEXTS + ANY + ["雖然下雨，但我很開心。"]:
        ids = tokenizer.encode(text)
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)


def test_a_saved_tokenizer_is_the_same_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.config == tokenizer.config
    assert again.pieces("她没來。") == tokenizer.pieces("她没來。")


def test_a_full_disk_leaves_the_tokenizer_that_was_there(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path)
    other = Tokenizer.train([*TEXTS, "另一个"], size=420, coverage=1.0)
    with files_no_larger_than(1000), pytest.raises(WriteError, match=r"tokenizer\.json could not be written"):
        other.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint() == tokenizer.fingerprint()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_special_tokens_of_other_names_are_read_from_the_settings(tmp_path: Path, bpe: Tokenizer) -> None:
    bpe.save(tmp_path)
    renamed = (tmp_path / "tokenizer.json").read_text().replace("</s>", "[END]")
    (tmp_path / "tokenizer.json").write_text(renamed)
    settings = bpe.config | {"eos_token": {"content": "[END]", "lstrip": False}, "extra": 1}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    other = Tokenizer.load(tmp_path)
    assert other.encode("她没来。") == bpe.encode("她没来。")
    assert other.config == settings


NAMES = {"pad": "<fill>", "eos": "<end>", "unk": "<what>", "bos": "<begin>", "mask": "<hole>"}


def renamed(folder: Path, bpe: Tokenizer, **settings: Any) -> None:
    """A folder whose special tokens have names that only its settings tell."""
    bpe.save(folder)
    held = bpe.inner.to_str()
    for old, new in zip(("<pad>", "</s>", "<unk>", "<0x00>", "<0x01>"), NAMES.values(), strict=True):
        held = held.replace(json.dumps(old), json.dumps(new))
    (folder / "tokenizer.json").write_text(held, "utf-8")
    kept = {"tokenizer_class": "PreTrainedTokenizerFast"} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(kept), "utf-8")


def theirs(folder: Path) -> dict[str, str]:
    return {name: str(token) for name, token in AutoTokenizer.from_pretrained(folder).special_tokens_map.items()}


@pytest.mark.parametrize("listed", [False, True])
def test_special_tokens_of_an_older_folder_are_those_of_its_map(tmp_path: Path, bpe: Tokenizer, listed: bool) -> None:
    """The map goes before the settings, but where these list the added tokens nobody reads it: as there."""
    decoder = {"added_tokens_decoder": {"0": {"content": "<fill>", "special": True}}} if listed else {}
    settings = {"pad_token": "<what>", **({f"{role}_token": name for role, name in NAMES.items()} if listed else {})}
    renamed(tmp_path, bpe, **settings, **decoder)
    wrong = {f"{role}_token": NAMES["pad"] for role in NAMES}
    spelt = {"content": "<end>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    right = {f"{role}_token": name for role, name in NAMES.items()} | {"eos_token": spelt}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(wrong if listed else right), "utf-8")
    ours = Tokenizer.load(tmp_path)
    assert ours.named_tokens == theirs(tmp_path) == {f"{role}_token": name for role, name in NAMES.items()}
    assert {role: ours.token(ours.special(role)) for role in NAMES} == NAMES
    ours.save(tmp_path / "new")
    assert not (tmp_path / "new" / "special_tokens_map.json").exists()
    assert Tokenizer.load(tmp_path / "new").roles == ours.roles and theirs(tmp_path / "new") == ours.named_tokens


def test_tokens_that_nothing_names_are_those_of_bert_where_it_has_them(tmp_path: Path, bpe: Tokenizer) -> None:
    """As in the best known folders of BERT, whose settings say no more than how long a text may be."""
    renamed(tmp_path, bpe, model_max_length=512)
    held = (tmp_path / "tokenizer.json").read_text("utf-8")
    for role, name in (("pad", "[PAD]"), ("unk", "[UNK]")):
        held = held.replace(json.dumps(NAMES[role]), json.dumps(name))
    (tmp_path / "tokenizer.json").write_text(held, "utf-8")
    ours = Tokenizer.load(tmp_path)
    assert {role: ours.token(id) for role, id in ours.roles.items()} == {"pad": "[PAD]", "unk": "[UNK]"}


@pytest.mark.parametrize("file", ["vocab.txt", "sentencepiece.bpe.model"])
def test_an_older_vocabulary_alone_is_told_how_to_become_one_that_is_read(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("[PAD]\n")
    with pytest.raises(
        CheckpointError, match=rf"no tokenizer.json, but the older {file}; let transformers write it: A"
    ):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds list, expected an object"),
        ('{"eos_token": 5}', "eos_token is 5, expected a text"),
        ('{"eos_token": {"lstrip": true}}', "eos_token is {'lstrip': True}, expected a text"),
    ],
)
def test_names_of_tokens_that_are_none_are_one_sentence(
    tmp_path: Path, bpe: Tokenizer, file: str, content: str, told: str
) -> None:
    bpe.save(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError) as wrong:
        Tokenizer.load(tmp_path)
    assert told in str(wrong.value) and "\n" not in str(wrong.value)


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_a_folder_without_a_readable_tokenizer_is_refused(tmp_path: Path, bpe: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer.load(tmp_path)
    bpe.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    with pytest.raises(CheckpointError, match="lacks <end>; see tokenizer_config"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("charsmap", [b"", b"abc", bytes(4), b"\0\4\0\0" + bytes(range(256)) * 4, None, 5])
def test_a_charsmap_that_makes_the_library_panic_is_one_sentence(tmp_path: Path, charsmap: bytes | int | None) -> None:
    Tokenizer.train(TEXTS, size=400, simplify=True, coverage=1.0).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    held = json.loads(path.read_text("utf-8"))
    broken = base64.b64encode(charsmap).decode() if isinstance(charsmap, bytes) else charsmap
    next(step for step in held["normalizer"]["normalizers"] if step["type"] == "Precompiled")[
        "precompiled_charsmap"
    ] = broken
    path.write_text(json.dumps(held), "utf-8")
    with pytest.raises(CheckpointError, match=rf"^{path} is not a tokenizer \("):
        Tokenizer.load(tmp_path)


def test_settings_of_a_tokenizer_that_are_a_list_are_one_sentence(tmp_path: Path, bpe: Tokenizer) -> None:
    bpe.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json holds list, expected an object"):
        Tokenizer.load(tmp_path)


def test_a_training_that_cannot_work_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"A vocabulary of 300 has no room: 259 special tokens and bytes and \d+"):
        Tokenizer.train(TEXTS, size=300)
    with pytest.raises(ArgumentError, match=r"lacks \['</s>'\]"):
        Tokenizer.train(TEXTS, size=400, specials=("<pad>", "<unk>"))
    with pytest.raises(ArgumentError, match=r"kind 'unigam' .* Did you mean 'unigram'\?"):
        Tokenizer.train(TEXTS, size=400, kind="unigam")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"\['我'\] are also words of the text; write them <like this>"):
        Tokenizer.train(TEXTS, size=400, specials=("<pad>", "</s>", "<unk>", "我"))
    with pytest.raises(DataError, match="no text to learn"):
        Tokenizer.train([], size=400)
