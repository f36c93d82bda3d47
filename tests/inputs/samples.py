"""A little Chinese and English, made here, and a way to put it into files."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

WHO = {"我": "I", "她": "She", "汤姆": "Tom", "老师": "The teacher", "我们": "We", "他的朋友": "His friend"}
WHEN = {"昨天": "yesterday", "今天早上": "this morning", "在北京": "in Beijing", "2013年": "in 2013"}
WHAT = {"看见了一只猫": "saw a cat", "没来": "didn't come", "读了三本书": "read three books", "喝了茶": "drank tea"}

PAIRS = [
    (f"{who}{when}{what}。", f"{WHO[who]} {WHAT[what]} {WHEN[when]}.") for who, when, what in product(WHO, WHEN, WHAT)
]
TEXTS = [side for pair in PAIRS for side in pair]


def write(path: Path, content: str | bytes) -> Path:
    """A file with this content, packed if its name ends in .gz."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
