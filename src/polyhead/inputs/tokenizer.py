"""Lines enter a training, one vocabulary leaves; then text becomes ids and ids become the same text again.

The whole pipeline lives in tokenizer.json, so `transformers` gives the same ids from the same folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from polyhead.errors import ArgumentError, CheckpointError, DataError, did_you_mean
from polyhead.files import write_text
from polyhead.inputs.charsmap import PHRASES, precompile, traditional_to_simplified
from polyhead.inputs.chat_template import DEFAULT, TEMPLATE, templates_in_files, templates_of

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
SPECIALS = {"pad_token": PAD, "eos_token": EOS, "unk_token": UNK}
USUAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}  # BERT's, which its folders do not name
ROLES = ("pad", "eos", "unk", "bos", "cls", "sep", "mask")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "▁"
SETTINGS = "tokenizer_config.json"
OLD_NAMES = "special_tokens_map.json"  # of special tokens, in folders of before 2024
OLD_FILES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "tokenizer.model")  # read by Python of its own each

# What may never be merged across: runs of Chinese characters, words with the space before them, an apostrophe's
# ending, single digits (numbers are copied digit by digit), runs of punctuation.
CJK = r"\p{Han}\p{Hiragana}\p{Katakana}"
PARTS = "|".join(
    (
        rf"[{CJK}]+",
        r"['\u2019]\p{L}+",
        rf"{SPACE}?[\p{{L}}\p{{M}}&&[^{CJK}]]+",
        rf"{SPACE}?\p{{N}}",
        rf"{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}{SPACE}]+",
        SPACE,
    )
)

Row = Sequence[int] | NDArray[np.integer[Any]]  # ids of one text


class Piece(NamedTuple):
    """A token and the characters [start, end) of the given text that it stands for."""

    id: int
    text: str
    start: int
    end: int


class Reading(NamedTuple):
    """A text, or a question and a text, as a model reads it.

    ids, kinds (0 for the first, 1 for the second), pieces: each token and the characters of its own text that it stands
    for; special tokens lie empty, before or behind. texts: which of the two a token is of, None for special ones.
    """

    ids: list[int]
    kinds: list[int]
    pieces: list[Piece]
    texts: list[int | None]


class Tokenizer:
    """One vocabulary: text to ids and back. Text is normalised here, but not cleaned (see `text.clean`).

    `config` is what tokenizer_config.json says, kept as it was read. It names the special tokens, and its
    split_special_tokens, which is on in all that is trained here, makes a special token that a person types mere text.
    `template`: what chat_template.jinja says, where a chat template stands in a file of its own. `fill`: how many
    tokens `read` fills a text up to, for a model that reads what fills it as well.
    """

    fill: int | None = None

    def __init__(self, inner: tokenizers.Tokenizer, config: Mapping[str, Any], *, template: str | None = None) -> None:
        inner.no_truncation()  # other people's files may ask to cut and to fill up; here nothing is lost or added
        inner.no_padding()
        self.inner = inner
        self.config, self.template = dict(config), template
        inner.encode_special_tokens = bool(config.get("split_special_tokens", False))
        names = {role: spelling(config.get(f"{role}_token", self.usual(f"{role}_token"))) for role in ROLES}
        found = {role: name and inner.token_to_id(name) for role, name in names.items()}
        told = [name for role, name in names.items() if found[role] is None and config.get(f"{role}_token") is not None]
        if missing := [name for name in told if name]:
            raise CheckpointError(f"The tokenizer's vocabulary lacks {', '.join(missing)}; see tokenizer_config.json.")
        self.roles = {role: id for role, id in found.items() if isinstance(id, int)}

    def usual(self, name: str) -> str | None:
        """How a special token is spelled that the settings do not name."""
        theirs = USUAL.get(name)
        return theirs if theirs is not None and theirs in self.specials else SPECIALS.get(name)

    def special(self, role: str) -> int:
        """The id of the token that plays a role, "pad" or "mask"; raises CheckpointError where there is none."""
        if role not in self.roles:
            raise CheckpointError(
                f"The tokenizer has no token for '{role}', only for {', '.join(self.roles) or 'nothing'}; "
                f"name one as {role}_token in tokenizer_config.json."
            )
        return self.roles[role]

    @property
    def pad_id(self) -> int:
        return self.special("pad")

    @property
    def eos_id(self) -> int:
        return self.special("eos")

    @property
    def unk_id(self) -> int:
        return self.special("unk")

    # --- making one ---------------------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        *,
        kind: Literal["bpe", "unigram"] = "bpe",
        size: int,
        simplify: bool = False,
        specials: Sequence[str] = (PAD, EOS, UNK),
        byte_fallback: bool = True,
        coverage: float = 0.9995,
        lower: bool = False,
        first: str | None = None,
        max_length: int = 512,
    ) -> Tokenizer:
        """Learn at most `size` tokens, special ones and bytes included, from lines that are read once.

        The same lines give the same BPE again; a unigram's scores may differ in their last digits.

        simplify: read traditional Chinese as simplified (needs the extra `zh`, here only).
        specials: <pad>, </s>, <unk> in the order of their ids, from 0; more may follow.
        byte_fallback: spell a character outside the vocabulary in its UTF-8 bytes, so that nothing is lost.
        coverage: the rarest characters, which together make up no more than 1 - coverage of the text, stay outside.
        lower: read capitals as small letters.
        first: a special token that opens every text, from whose vector labels of the whole are read.
        """
        if missing := {PAD, EOS, UNK} - set(specials):
            raise ArgumentError(f"specials must hold {PAD}, {EOS} and {UNK}, but lacks {sorted(missing)}.")
        if kind not in ("bpe", "unigram"):
            raise ArgumentError(f"kind '{kind}' is not one of bpe, unigram.{did_you_mean(kind, ('bpe', 'unigram'))}")
        specials = (*specials, *([first] if first is not None and first not in specials else []))
        known = [*specials, *(BYTES if byte_fallback else [])]
        normalizer = _normalizer(traditional_to_simplified() if simplify else {}, lower)
        # The alphabet must be known before the first merge, and lines are read only once, so they wait on disk.
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as spool:
            alphabet, rare = _alphabet(_spool(lines, normalizer, spool), coverage)
            if len(known) + len(alphabet) >= size:
                raise ArgumentError(
                    f"A vocabulary of {size} has no room: {len(known)} special tokens and bytes and {len(alphabet)} "
                    f"characters come first; ask for more than {len(known) + len(alphabet)}, or for fewer characters "
                    f"by a coverage below {coverage}."
                )
            inner = tokenizers.Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
            inner.pre_tokenizer = pre_tokenizers.Split(Regex(PARTS), "isolated")
            how: dict[str, Any] = {"vocab_size": size - len(known), "show_progress": False}
            trainer = trainers.BpeTrainer(**how) if kind == "bpe" else trainers.UnigramTrainer(**how)
            spool.seek(0)
            inner.train_from_iterator((part for line in spool for part in rare.split(line[:-1]) if part), trainer)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **SPECIALS,
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
            **({} if first is None else {"cls_token": first, "sep_token": EOS}),
        }
        return cls(_assemble(inner, known, specials, normalizer, byte_fallback, first), config)

    @classmethod
    def load(cls, folder: str | Path, *, file: str = "tokenizer.json") -> Tokenizer:
        """Read `file` of a folder, and what tokenizer_config.json says about it."""
        path, config = Path(folder) / file, settings_of(folder)
        try:
            inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            inner.encode("我 am 1.")  # a damaged normalizer is met only by text
        except FileNotFoundError:
            raise CheckpointError(f"{folder} holds no {file}{instead(Path(folder))}.") from None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as wrong:  # the Rust library raises plain Exception, and panics with what is none
            raise CheckpointError(f"{path} is not a tokenizer ({wrong}); save it again or fetch it anew.") from None
        if named := templates_in_files(Path(folder)):  # they go before those of tokenizer_config.json
            config = {key: value for key, value in config.items() if key != "chat_template"}
            if set(named) != {DEFAULT}:
                config["chat_template"] = [{"name": name, "template": text} for name, text in named.items()]
                return cls(inner, config)
        return cls(inner, config, template=named.get(DEFAULT))

    def save(self, folder: str | Path, *, file: str = "tokenizer.json") -> None:
        """Write `file` and the tokenizer_config.json that makes `transformers` agree. Raises WriteError."""
        write_text(Path(folder) / file, self.inner.to_str())
        write_text(Path(folder) / SETTINGS, json.dumps(self.config, indent=2) + "\n")
        if self.template is not None:
            write_text(Path(folder) / TEMPLATE, self.template)
        else:
            (Path(folder) / TEMPLATE).unlink(missing_ok=True)  # of an older save, which would be another truth

    def fingerprint(self) -> str:
        """Equal fingerprints, equal ids for every text."""
        text = self.inner.to_str() + str(self.inner.encode_special_tokens)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def templates(self) -> dict[str, str]:
        """The chat templates by name: "default", or as the folder calls them."""
        return templates_of(self.config) if self.template is None else {DEFAULT: self.template}

    @property
    def named_tokens(self) -> dict[str, str]:
        """The special tokens that tokenizer_config.json names: "eos_token" -> "</s>"."""
        told = {f"{role}_token": spelling(self.config.get(f"{role}_token")) for role in ROLES}
        return {name: token for name, token in told.items() if token is not None}

    # --- using it -----------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of a text, </s> at the end."""
        return self.inner.encode(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts."""
        return [encoding.ids for encoding in self.inner.encode_batch_fast(list(texts))]

    def decode(self, ids: Row) -> str:
        """The text of ids, special tokens left out."""
        return self.inner.decode(list(ids), skip_special_tokens=True)

    def decode_batch(self, batch: Sequence[Row]) -> list[str]:
        """The texts of many rows of ids."""
        return self.inner.decode_batch([list(ids) for ids in batch], skip_special_tokens=True)

    def phrases(self, text: str) -> list[list[int]]:
        """The ways to write a text within another, without special tokens: at its beginning, behind a space and, where
        words are written without spaces, right behind a word. Raises ArgumentError for a text that has no tokens."""
        text, found = text.strip(), list[list[int]]()
        glued = "。" if text[:1] >= "\u2e80" else ""  # from here on: Chinese, Japanese and their like
        for before in ("", "a ", glued) if text else ():
            start, whole = (
                self.inner.encode(each, add_special_tokens=False).ids for each in (before.strip(), before + text)
            )
            row = whole[len(start) :]
            if whole[: len(start)] == start and row and row not in found and self.roles.get("unk") not in row:
                found.append(row)
        if not found:
            raise ArgumentError(f"The model has no tokens for '{text}', so no answer of its can hold it.")
        return found

    def pieces(self, text: str) -> list[Piece]:
        """What `encode` gives, each id with its token and its place in `text`; </s> lies empty at the end."""
        return self.read(text).pieces

    def read(self, text: str, second: str | None = None) -> Reading:
        """A text, or two that are read as one, with the special tokens that the model expects around them."""
        encoding = self.inner.encode(text) if second is None else self.inner.encode(text, second)
        texts, pieces, reached = (text, second or ""), list[Piece](), [0, 0]
        for id, token, of, place in zip(
            encoding.ids, encoding.tokens, encoding.sequence_ids, encoding.offsets, strict=True
        ):
            if of is None:  # a special token: at the end of the text that was read last, once all of it was
                side = 1 if second is not None and reached[1] else 0
                place = (len(texts[side]),) * 2 if reached[side] else (0, 0)
            else:
                reached[of] = 1
            pieces.append(Piece(id, token, *place))
        reading = Reading(encoding.ids, encoding.type_ids, pieces, encoding.sequence_ids)
        return reading if self.fill is None or second is not None else self.filled(reading, text, self.fill)

    def filled(self, reading: Reading, text: str, most: int) -> Reading:
        """The reading of a text with padding behind it, up to so many tokens."""
        n = max(0, most - len(reading.ids))
        end = Piece(self.pad_id, self.token(self.pad_id), len(text), len(text))
        return Reading(
            [*reading.ids, *[end.id] * n], [*reading.kinds, *[0] * n], [*reading.pieces, *[end] * n],
            [*reading.texts, *[None] * n],
        )  # fmt: skip

    def token(self, id: int) -> str:
        """The token of an id, as the vocabulary spells it."""
        return self.inner.id_to_token(id) or ""

    @property
    def kind(self) -> str:
        """How its vocabulary was made: "bpe", "unigram", or as other people's files say."""
        return type(self.inner.model).__name__.lower()

    @property
    def simplifies(self) -> bool:
        """Whether traditional Chinese is read as simplified."""
        normalizer = self.inner.normalizer
        return normalizer is not None and "门" in normalizer.normalize_str("門")

    def named(self, token: str) -> int:
        """The id of a special token by its text, such as a language tag."""
        id = self.inner.token_to_id(token)
        if id is None:
            raise ArgumentError(f"The tokenizer has no token '{token}'; its special tokens are {self.specials}.")
        return id

    @property
    def specials(self) -> list[str]:
        """The special tokens, in the order of their ids."""
        added = self.inner.get_added_tokens_decoder()
        return [added[id].content for id in sorted(added)]


def settings_of(folder: str | Path) -> dict[str, Any]:
    """What tokenizer_config.json says of a folder's tokenizer; where it lists no added tokens, as in older folders,
    special_tokens_map.json names the special ones, and goes before it, as in `transformers`. Raises CheckpointError."""
    config = _object(Path(folder) / SETTINGS)
    names = {} if "added_tokens_decoder" in config else _object(Path(folder) / OLD_NAMES)
    for role in ROLES:
        name = names.get(f"{role}_token", config.get(f"{role}_token"))
        if name is not None and spelling(name) is None:
            raise CheckpointError(f"{folder}: {role}_token is {name!r:.80}, expected a text; fetch the folder anew.")
    named = {key: names[key] for role in ROLES if (key := f"{role}_token") in names}
    return config | {key: as_added(name) for key, name in named.items()}


def instead(folder: Path) -> str:
    """What to do about a folder without the file that everything is read from."""
    if old := [name for name in OLD_FILES if (folder / name).exists()]:
        return (
            f", but the older {' and '.join(old)}; let transformers write it:"
            f" AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')"
        )
    return "; give the folder of a saved model"


def as_added(name: Any) -> Any:
    """A token of special_tokens_map.json as tokenizer_config.json spells it."""
    if not isinstance(name, dict):
        return name
    return {"__type": "AddedToken", **{key: value for key, value in name.items() if key != "special"}, "special": True}


def _object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as wrong:
        raise CheckpointError(f"{path} cannot be read as JSON ({wrong}); fetch it anew.") from None
    if not isinstance(held, dict):
        raise CheckpointError(f"{path} holds {type(held).__name__}, expected an object; fetch it anew.")
    return held


def special_names(config: Mapping[str, Any]) -> list[str]:
    """How a tokenizer_config.json calls the tokens for padding, end and unknown."""
    return [spelling(config.get(key, usual)) or usual for key, usual in SPECIALS.items()]


def spelling(name: Any) -> str | None:
    """A token as a tokenizer_config.json names it: its text, or an object that holds it; None for what is neither."""
    text = name.get("content") if isinstance(name, dict) else name
    return text if isinstance(text, str) else None


def _normalizer(table: Mapping[str, str], lower: bool) -> normalizers.Normalizer:
    """Text to the form that is tokenised: NFKC, simplified, a visible space before each word that is not Chinese."""
    steps: list[normalizers.Normalizer] = [normalizers.NFKC(), *([normalizers.Lowercase()] if lower else [])]
    if table:
        steps.append(normalizers.Precompiled(precompile(table)))
        steps += [normalizers.Replace(Regex(pattern), to) for pattern, to in PHRASES]
    steps += [
        normalizers.Prepend(SPACE),
        normalizers.Replace(" ", SPACE),
        normalizers.Replace(Regex(rf"\A{SPACE}(?=[{CJK}\u3000-\u303f])"), ""),  # 我 is one token, first or not
    ]
    return normalizers.Sequence(steps)


def _spool(lines: Iterable[str], normalizer: normalizers.Normalizer, spool: TextIO) -> Counter[str]:
    """Write the lines, normalised, and count their characters."""
    seen = Counter[str]()
    for line in lines:
        text = normalizer.normalize_str(line.replace("\n", " "))
        seen.update(text)
        spool.write(text + "\n")
    return seen


def _alphabet(seen: Counter[str], coverage: float) -> tuple[set[str], re.Pattern[str]]:
    """The characters that make up `coverage` of the text, and a pattern that finds all the others."""
    rest = (1 - coverage) * seen.total()
    rare = set[str]()
    for character, count in sorted(seen.items(), key=lambda item: (item[1], item[0])):
        rest -= count
        if rest < 0:
            break
        rare.add(character)
    if len(rare) == len(seen):
        raise DataError("There is no text to learn a vocabulary from; check the files.")
    return set(seen) - rare, re.compile("[" + re.escape("".join(sorted(rare))) + "]" if rare else r"(?!)")


def _assemble(
    trained: tokenizers.Tokenizer,
    known: Sequence[str],
    specials: Sequence[str],
    normalizer: normalizers.Normalizer,
    byte_fallback: bool,
    first: str | None,
) -> tokenizers.Tokenizer:
    """The learned tokens after the known ones, with everything else that makes a tokenizer."""
    model = json.loads(trained.to_str())["model"]
    if twice := set(known) & set(dict(model["vocab"])):
        raise ArgumentError(f"Special tokens {sorted(twice)} are also words of the text; write them <like this>.")
    if model["type"] == "BPE":
        learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
        ids = {token: id for id, token in enumerate([*known, *learned])}
        merges = [tuple(merge) for merge in model["merges"]]
        core: models.Model = models.BPE(vocab=ids, merges=merges, unk_token=UNK, byte_fallback=byte_fallback)
    else:
        # Known tokens match no part of any text (see PARTS), so that their score is never looked at. The others are
        # rounded, because a file with all their digits is not read back exactly.
        scores = [(token, 0.0) for token in known] + [(token, round(score, 6)) for token, score in model["vocab"]]
        core = models.Unigram(scores, unk_id=known.index(UNK), byte_fallback=byte_fallback)
    inner = tokenizers.Tokenizer(core)
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(PARTS), "isolated")
    around = [EOS] if first is None else [first, EOS]
    inner.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}" if first is None else f"{first} $A {EOS}",
        pair=None if first is None else f"{first} $A {EOS} $B:1 {EOS}:1",
        special_tokens=[(token, known.index(token)) for token in around],
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in specials])
    return inner
