"""A table of characters enters, the bytes of a one-pass normalizer leave: traditional Chinese to simplified.

The bytes are a "precompiled charsmap", which `tokenizers` and `transformers` read from tokenizer.json, so that a model
accepts both scripts wherever it is loaded, and nobody but the trainer of a tokenizer needs the table itself.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import groupby

import numpy as np

from polyhead.errors import ArgumentError, extra

# The unified ideographs, as ranges; NFKC turns the other forms into these.
HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0x20000, 0x323B0))

# How traditional text writes what simplified text writes otherwise, beside the characters themselves.
OTHERS = {"妳": "你", "「": "“", "」": "”", "『": "‘", "』": "’"}

# Traditional spellings that no table of single characters can decide, as (pattern, replacement) over simplified text.
# 著 is 着 when it follows a verb (看著), and itself in words about writing and fame (著名, 原著); 画 is 划 in 計畫.
PHRASES = (
    (r"(?<![显名原专巨编译论卓昭遗合新拙所土 ])著(?![名作者称述书录])", "着"),
    (r"甚(?=么)", "什"),
    (r"(?<=[计企规策])画", "划"),
    (r"瞭(?=解)", "了"),
)


def traditional_to_simplified() -> dict[str, str]:
    """Each traditional character with the one simplified character it stands for (needs the extra `zh`).

    A character that is itself the simplified form of another (么) is left alone, so that simplified text stays as it
    is, and twice gives the same as once.
    """
    opencc = extra("opencc", "zh")
    table = dict(OTHERS)
    for name in ("t2s", "hk2s"):
        converter = opencc.OpenCC(name)
        for first, end in HAN:
            for character in map(chr, range(first, end)):
                simplified = converter.convert(character)
                if simplified != character and len(simplified) == 1:
                    table.setdefault(character, simplified)
    simplified = set(table.values())
    return {character: table.get(to, to) for character, to in table.items() if character not in simplified}


def precompile(table: Mapping[str, str]) -> bytes:
    """The charsmap that replaces each single character in `table`, in the layout of sentencepiece.

    uint32 size of the trie in bytes; the trie (see `_double_array`) from UTF-8 keys to byte positions; the
    replacements, each ended by a zero byte.
    """
    if wrong := [key for key in table if len(key) != 1 or key == "\0"]:
        raise ArgumentError(f"A charsmap replaces single characters, but {wrong[0]!r} is a key; shorten it to one.")
    texts, positions = bytearray(), dict[bytes, int]()
    for key, text in sorted(table.items()):
        positions[key.encode()] = len(texts)
        texts += text.encode() + b"\0"
    trie = _double_array(positions)
    return struct.pack("<I", trie.nbytes) + trie.tobytes() + bytes(texts)


def _double_array(values: Mapping[bytes, int]) -> np.ndarray:
    """A trie in one array of uint32 (darts-clone): the child of node n by byte b is unit base(n) ^ b.

    A unit holds in bits 0-7 the byte that leads to it, in bit 8 whether a key ends there, from bit 10 on the distance
    n ^ base(n). Where a key ends, unit base(n) ^ 0 holds its value, with bit 31 set. No two nodes share a base.
    """
    trie = np.zeros(256, dtype="<u4")
    taken, bases = np.zeros(256, dtype=bool), np.zeros(256, dtype=bool)
    taken[0] = True
    starts: dict[int, int] = {}
    nodes = [(0, 0, sorted(values))] if values else []  # unit, depth, keys below
    while nodes:
        unit, depth, keys = nodes.pop(0)
        groups = {byte: list(group) for byte, group in groupby(keys, key=lambda k: k[depth] if depth < len(k) else 0)}
        labels = np.array(list(groups))
        first = starts.get(len(labels), 0)
        while True:  # the first base whose children are all free; a block of 256 at a time, which ^ never leaves
            if first == len(trie):
                trie, taken, bases = np.pad(trie, (0, 256)), np.pad(taken, (0, 256)), np.pad(bases, (0, 256))
            block = np.arange(first, first + 256)
            possible = ~(bases[block] | taken[block[:, None] ^ labels].any(1))
            if possible.any():
                break
            first += 256
        starts[len(labels)] = first  # earlier blocks are nearly full; nodes as wide as this need not look there again
        base = int(block[np.argmax(possible)])
        bases[base] = taken[base ^ labels] = True
        trie[unit] |= (unit ^ base) << 10 | (0 in groups) << 8
        trie[base ^ labels] = labels
        if ends := groups.pop(0, None):
            trie[base] = values[ends[0]] | 1 << 31
        nodes += [(base ^ byte, depth + 1, below) for byte, below in groups.items()]
    return trie
