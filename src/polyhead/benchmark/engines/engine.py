"""`python -m polyhead.benchmark.engines.engine NAME`: the process of one engine, which says what is not installed."""

from __future__ import annotations

import sys
from importlib import import_module

from polyhead.processes import serve


def main(name: str) -> None:
    try:
        verbs = import_module(f"polyhead.benchmark.engines.{name}").VERBS
    except ImportError as missing:
        lacks = {"lacks": (missing.name or "").partition(".")[0], "why": str(missing)}
        verbs = {"open": lambda **_: lacks}
    serve(verbs)


if __name__ == "__main__":
    main(sys.argv[1])
